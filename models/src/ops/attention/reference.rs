//! Attention from dfdx's own ops, by way of the whole matrix of scores.

use dfdx::prelude::*;

use super::{AttentionPlan, Heads};
use crate::ops::Matrix;

/// Masked attention of each head: see [`Kernels::attention`](crate::ops::Kernels::attention).
pub fn attention<D: Device<f32>, T, K, V>(
    q: Matrix<D, T>,
    k: Matrix<D, K>,
    v: Matrix<D, V>,
    plan: &AttentionPlan,
    heads: Heads,
) -> Result<Matrix<D, T>, D::Err>
where
    T: Tape<f32, D> + Merge<K> + Merge<V>,
    K: Tape<f32, D>,
    V: Tape<f32, D>,
{
    let (t, d) = *q.shape();
    let device = q.device().clone();
    let hd = d / heads.queries;
    let shape = (heads.queries, t, t);
    let q = split(q, heads.queries, hd)?;
    let k = repeat(split(k, heads.keys, hd)?, heads)?.try_permute::<(usize, usize, usize), Axes3<0, 2, 1>>()?;
    let v = repeat(split(v, heads.keys, hd)?, heads)?;
    let mask = device.try_tensor_from_vec(mask(plan), (t, t))?;
    let scores = q.try_matmul(k)?.try_mul(heads.scale)?;
    let scores = scores.try_add(mask.try_broadcast_like::<_, Axis<0>>(&shape)?)?;
    let out = scores.try_softmax::<Axis<2>>()?.try_matmul(v)?;
    out.try_permute::<(usize, usize, usize), Axes3<1, 0, 2>>()?.try_reshape_like(&(t, d))
}

type Tensor3<D, T> = Tensor<(usize, usize, usize), f32, D, T>;

/// `[t, heads * hd]` as `[heads, t, hd]`.
fn split<D: Device<f32>, T: Tape<f32, D>>(x: Matrix<D, T>, heads: usize, hd: usize) -> Result<Tensor3<D, T>, D::Err> {
    let t = x.shape().0;
    x.try_reshape_like(&(t, heads, hd))?.try_permute::<_, Axes3<1, 0, 2>>()
}

/// Each key head as often as query heads read it.
fn repeat<D: Device<f32>, T: Tape<f32, D>>(x: Tensor3<D, T>, heads: Heads) -> Result<Tensor3<D, T>, D::Err> {
    let group = heads.queries / heads.keys;
    let index = (0..heads.queries).map(|h| h / group).collect();
    let index = x.device().try_tensor_from_vec(index, (heads.queries,))?;
    x.try_gather(index)
}

/// 0 where row `i` sees row `j`, -1e30 elsewhere.
fn mask(plan: &AttentionPlan) -> Vec<f32> {
    let t = plan.rows();
    let mut mask = vec![-1e30; t * t];
    for segment in plan.segments() {
        for (i, query) in segment.queries.clone().enumerate() {
            let own = segment.queries.start..segment.queries.start + segment.own_keys(i + 1);
            mask[query * t..][segment.prefix.clone()].fill(0.0);
            mask[query * t..][own].fill(0.0);
        }
    }
    mask
}
