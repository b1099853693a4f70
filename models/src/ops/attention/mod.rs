//! Attention over packed rows (Vaswani et al., 2017), with grouped keys and values (Ainslie et al.,
//! 2023): who sees whom is an [`AttentionPlan`]. Scores are made tile by tile and made again in the
//! backward pass (Dao et al., 2022), so memory grows with the rows, not with their square. Unlike
//! that paper a tile spans all the keys of its queries, so the softmax is not online.

pub mod cpu;
mod plan;
pub mod reference;

use std::sync::Arc;

use dfdx::prelude::*;

use super::Matrix;
use super::tape::{buffer, require, take, view};
pub use plan::{AttentionPlan, PlanError, Segment};

/// How the columns of queries, keys and values divide into heads.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Heads {
    /// Heads of the queries and of the output.
    pub queries: usize,
    /// Heads of the keys and values; divides `queries`. Query head `h` reads head
    /// `h / (queries / keys)`.
    pub keys: usize,
    /// What scores are multiplied with; usually `1 / sqrt(hd)`.
    pub scale: f32,
}

pub(crate) fn on_cpu<T: Tape<f32, Cpu> + Merge<K> + Merge<V>, K, V>(
    q: Matrix<Cpu, T>,
    k: Matrix<Cpu, K>,
    v: Matrix<Cpu, V>,
    plan: &Arc<AttentionPlan>,
    heads: Heads,
) -> Result<Matrix<Cpu, T>, CpuError> {
    timed!("attention");
    let (q, tape) = q.try_contiguous()?.split_tape();
    let ((k, k_tape), (v, v_tape)) = (k.split_tape(), v.split_tape());
    let mut tape = tape.merge(k_tape).merge(v_tape);
    let (t, d) = *q.shape();
    require(heads.keys > 0 && heads.queries.is_multiple_of(heads.keys) && d % heads.queries == 0)?;
    let hd = d / heads.queries;
    require(plan.rows() == t && *k.shape() == (t, heads.keys * hd) && *v.shape() == *k.shape())?;
    let mut out = buffer(t * d);
    let mut lse = buffer(if T::OWNS_TAPE { t * heads.queries } else { 0 });
    cpu::forward(&mut out, &mut lse, view(&q)?, view(&k)?, view(&v)?, plan, heads, hd);
    let out = q.device().try_tensor_from_vec(out, (t, d))?;
    if T::OWNS_TAPE {
        let (handle, plan) = (out.clone(), plan.clone());
        tape.add_backward_op(move |grads| {
            timed!("attention backward");
            let dout = take(grads.get_or_alloc_mut(&handle)?);
            let saved = cpu::Saved { q: view(&q)?, k: view(&k)?, v: view(&v)?, out: view(&handle)?, lse: &lse };
            let mut dq = take(grads.get_or_alloc_mut(&q)?);
            let mut dk = take(grads.get_or_alloc_mut(&k)?);
            let mut dv = take(grads.get_or_alloc_mut(&v)?);
            // One tensor given twice has one gradient, already taken.
            require(dq.len() == t * d && dk.len() == saved.k.len() && dv.len() == dk.len())?;
            cpu::backward([&mut dq, &mut dk, &mut dv], &dout, saved, &plan, heads, hd);
            **grads.get_or_alloc_mut(&q)? = dq;
            **grads.get_or_alloc_mut(&k)? = dk;
            **grads.get_or_alloc_mut(&v)? = dv;
            Ok(())
        });
    }
    Ok(out.put_tape(tape))
}
