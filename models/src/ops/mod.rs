//! Differentiable ops of the model, fused where a device has kernels for them. Knows tensors, tapes
//! and slices; nothing of layers, tokens or files.
//!
//! One folder an op: `mod.rs` puts it on dfdx's tape, `cpu.rs` has the kernels on slices (the decode
//! engine calls these directly), `reference.rs` is the same from dfdx's own ops: what a device
//! without kernels runs, and what the tests compare with.
//!
//! | op | formula |
//! |---|---|
//! | [`mod@linear`] | `x wᵀ + b` |
//! | [`mod@lora`] | `y + s x aᵀ bᵀ` |
//! | [`mod@rms_norm`] | `x / sqrt(mean(x²) + eps) * w` |
//! | [`mod@add`] | `x + y` |
//! | [`mod@add_rms_norm`] | `x + y`, and its `rms_norm` |
//! | [`mod@rotary`] | rotation of the halves of each head |
//! | [`mod@swiglu`] | `silu(gate) * up` |
//! | [`mod@gated_mlp`] | `down(silu(gate(x)) * up(x))` |
//! | [`mod@bias_gelu`] | `z Φ(z)`, `z = x + b` |
//! | [`mod@attention`] | `softmax(scale q kᵀ + mask) v` |
//! | [`mod@columns`] | `x[.., a..b]` |
//! | [`mod@embed`] | `table[ids]` |
//! | [`mod@splice`] | rows of `x` replaced by others |
//! | [`mod@gather_rows`] | `x[rows]` |
//! | [`mod@token_logprob`] | `(ln p[target], entropy(p))` |
//! | [`mod@product`] | `x wᵀ + b` with a weight in 16 or 32 bits, for inference |
//!
//! [`mod@recompute`] runs a part of the model again in the backward pass instead of keeping what it computed.
//!
//! [`gemm`] is the product of matrices beneath them. Results are the same, bit for bit, at any
//! number of threads.
//!
//! An op moves the gradient of its own output out of the tape, so after a backward pass only
//! gradients of leaves are there to read.

pub mod add;
pub mod add_rms_norm;
pub mod attention;
pub mod bias_gelu;
pub mod columns;
pub mod embed;
pub mod gated_mlp;
pub mod gather_rows;
pub mod gemm;
pub mod linear;
pub mod lora;
mod parallel;
mod param;
pub mod product;
pub mod recompute;
pub mod rms_norm;
pub mod rotary;
pub(crate) mod simd;
pub mod splice;
pub mod swiglu;
mod tape;
#[cfg(test)]
mod tests;
pub mod token_logprob;

use std::borrow::Cow;
use std::sync::Arc;

use dfdx::prelude::*;

use attention::{AttentionPlan, Heads};
use lora::LowRank;
pub use param::Param;
use product::Elements;
use token_logprob::Choice;

/// A matrix of run-time sizes on device `D`, with tape `T`.
pub type Matrix<D, T = NoneTape> = Tensor<(usize, usize), f32, D, T>;
/// A sum, and its normalisation with the tape: see [`Kernels::add_rms_norm`].
pub type SumAndNorm<D, T> = (Matrix<D>, Matrix<D, T>);

/// A vector of run-time size on device `D`, with tape `T`.
pub type Vector<D, T = NoneTape> = Tensor<(usize,), f32, D, T>;

/// The elements of a weight on the host: lent where they lie there already.
pub enum Lent<'a> {
    /// Lent.
    Here(Elements<'a>),
    /// A copy: from another device, or with other values.
    Copied(Vec<f32>),
}

impl Lent<'_> {
    /// The elements.
    pub fn elements(&self) -> Elements<'_> {
        match self {
            Self::Here(elements) => *elements,
            Self::Copied(values) => Elements::F32(values),
        }
    }
}

/// The ops of the model. Defaults are composites of dfdx's ops; [`Cpu`] has a kernel for each.
///
/// # Errors
/// Every method fails if memory runs out. Shapes that do not fit are
/// [`CpuError::WrongNumElements`] on `Cpu`, and a panic of dfdx's in the composites.
pub trait Kernels: Device<f32> {
    /// `y[t, n] = x[t, k] w[n, k]ᵀ + b[n]`; the weight has Hugging Face's layout.
    fn linear<'a, T: Tape<f32, Self>>(
        x: Matrix<Self, T>,
        w: impl Into<Param<'a, Matrix<Self>>>,
        b: Option<Param<'a, Vector<Self>>>,
    ) -> Result<Matrix<Self, T>, Self::Err> {
        linear::reference::linear(x, w.into().values, b.map(|b| b.values))
    }

    /// `y[t, n] + s drop(x)[t, k] a[r, k]ᵀ b[n, r]ᵀ`: a low-rank term added to a linear map of `x`, see [`LowRank`].
    fn lora<T: Tape<f32, Self>>(
        y: Matrix<Self, T>,
        x: &Matrix<Self>,
        [a, b]: [&Matrix<Self>; 2],
        how: &LowRank,
    ) -> Result<Matrix<Self, T>, Self::Err> {
        lora::reference::lora(y, x, [a, b], how)
    }

    /// `y[t, d] = x[t, d] / sqrt(mean_d(x²) + eps) * w[d]`.
    fn rms_norm<'a, T: Tape<f32, Self>>(
        x: Matrix<Self, T>,
        w: impl Into<Param<'a, Vector<Self>>>,
        eps: f32,
    ) -> Result<Matrix<Self, T>, Self::Err> {
        rms_norm::reference::rms_norm(x, w.into().values, eps)
    }

    /// `x[t, d] + y[t, d]`.
    ///
    /// A residual connection gives the tape to the branch and adds the trunk without one; the
    /// trunk's gradient is then the sum over both ways:
    ///
    /// ```
    /// use dfdx::prelude::*;
    /// use imagent_models::ops::Kernels;
    /// let device = Cpu::default();
    /// let h = device.tensor_from_vec(vec![1.0, 2.0], (1, 2));
    /// let (trunk, tape) = h.leaky_trace().split_tape();
    /// let branch = Cpu::swiglu(trunk.clone().put_tape(tape), trunk.clone())?;
    /// let sum = Cpu::add(branch, trunk)?;
    /// assert!(sum.sum().backward().get(&h)[[0, 0]] > 2.0);
    /// # Ok::<(), dfdx::tensor::CpuError>(())
    /// ```
    fn add<T: Tape<f32, Self> + Merge<R>, R: Default>(
        x: Matrix<Self, T>,
        y: Matrix<Self, R>,
    ) -> Result<Matrix<Self, T>, Self::Err> {
        add::reference::add(x, y)
    }

    /// `z = x + y`, and `n` as [`Self::rms_norm`] makes it of `z`. The tape goes on with `n`; what joins `z` again brings its
    /// gradient along, as with [`Self::add`].
    fn add_rms_norm<'a, T: Tape<f32, Self> + Merge<R>, R: Default>(
        x: Matrix<Self, T>,
        y: Matrix<Self, R>,
        w: impl Into<Param<'a, Vector<Self>>>,
        eps: f32,
    ) -> Result<SumAndNorm<Self, T>, Self::Err> {
        add_rms_norm::reference::add_rms_norm(x, y, w.into().values, eps)
    }

    /// Rotates each head of `x[t, heads * hd]`: of its halves `x1`, `x2` come
    /// `x1 cos - x2 sin` and `x2 cos + x1 sin` (`rotate_half`). Tables are `[t, hd / 2]`.
    fn rotary<T: Tape<f32, Self>>(
        x: Matrix<Self, T>,
        cos: &Arc<Vec<f32>>,
        sin: &Arc<Vec<f32>>,
        heads: usize,
    ) -> Result<Matrix<Self, T>, Self::Err> {
        rotary::reference::rotary(x, cos, sin, heads)
    }

    /// `silu(gate[t, m]) * up[t, m]` with `silu(x) = x / (1 + e^-x)`.
    fn swiglu<T: Tape<f32, Self> + Merge<R>, R: Default>(
        gate: Matrix<Self, T>,
        up: Matrix<Self, R>,
    ) -> Result<Matrix<Self, T>, Self::Err> {
        swiglu::reference::swiglu(gate, up)
    }

    /// `down(silu(gate(x[t, k])) * up(x))` of the maps `gate`, `up` and `down`.
    fn gated_mlp<T: Tape<f32, Self>>(
        x: Matrix<Self, T>,
        maps: [gated_mlp::Map<'_, Self>; 3],
    ) -> Result<Matrix<Self, T>, Self::Err> {
        gated_mlp::reference::gated_mlp(x, maps)
    }

    /// `z Φ(z)` of `z[t, n] = x[t, n] + b[n]`, exact (erf).
    fn bias_gelu<'a, T: Tape<f32, Self>>(
        x: Matrix<Self, T>,
        b: impl Into<Param<'a, Vector<Self>>>,
    ) -> Result<Matrix<Self, T>, Self::Err> {
        bias_gelu::reference::bias_gelu(x, b.into().values)
    }

    /// `out[t, Hq * hd] = softmax(scale q kᵀ) v` in each head, where the keys of a row are those that
    /// `plan` shows it; `q` is `[t, Hq * hd]`, `k` and `v` are `[t, Hkv * hd]`: three tensors, not one
    /// given twice.
    fn attention<T, K, V>(
        q: Matrix<Self, T>,
        k: Matrix<Self, K>,
        v: Matrix<Self, V>,
        plan: &Arc<AttentionPlan>,
        heads: Heads,
    ) -> Result<Matrix<Self, T>, Self::Err>
    where
        T: Tape<f32, Self> + Merge<K> + Merge<V>,
        K: Tape<f32, Self>,
        V: Tape<f32, Self>,
    {
        attention::reference::attention(q, k, v, plan, heads)
    }

    /// `y[i] = table[ids[i]]`: `[n, d]` of a table `[V, d]`, on the given tape.
    fn embed<'a, T: Tape<f32, Self>>(
        table: impl Into<Param<'a, Matrix<Self>>>,
        ids: &[usize],
        tape: T,
    ) -> Result<Matrix<Self, T>, Self::Err> {
        embed::reference::embed(table.into().values, ids, tape)
    }

    /// `x[t, d]` with row `at[i]` replaced by `rows[i]` (`rows` is `[r, d]`). The gradient of a
    /// replaced row of `x` is 0; of several rows put at one place the last counts.
    fn splice<T: Tape<f32, Self> + Merge<R>, R: Tape<f32, Self>>(
        x: Matrix<Self, T>,
        rows: Matrix<Self, R>,
        at: &[usize],
    ) -> Result<Matrix<Self, T>, Self::Err> {
        splice::reference::splice(x, rows, at)
    }

    /// Neighbouring columns of `x[t, d]`: `[t, columns]`.
    fn columns<T: Tape<f32, Self>>(
        x: Matrix<Self, T>,
        columns: std::ops::Range<usize>,
    ) -> Result<Matrix<Self, T>, Self::Err> {
        columns::reference::columns(x, columns)
    }

    /// `y[i] = x[rows[i]]`: `[r, d]`; a row may be repeated.
    fn gather_rows<T: Tape<f32, Self>>(x: Matrix<Self, T>, rows: &[usize]) -> Result<Matrix<Self, T>, Self::Err> {
        gather_rows::reference::gather_rows(x, rows)
    }

    /// `[n, 2]`: of each row of `x[n, d]`, the log-probability of its target under
    /// `softmax(x headᵀ / temperature)`, suppressed tokens left out, and the entropy of that
    /// distribution, both in nats. `head` is `[V, d]`. A suppressed target has log-probability
    /// `-inf` and no gradient through it. See [`seed_gradient`] for the way back.
    fn token_logprob<'a, T: Tape<f32, Self>>(
        x: Matrix<Self, T>,
        head: impl Into<Param<'a, Matrix<Self>>>,
        choice: &Arc<Choice>,
    ) -> Result<Matrix<Self, T>, Self::Err> {
        token_logprob::reference::token_logprob(x, head.into().values, choice)
    }

    /// [`Kernels::linear`] without a tape, with a weight `[outputs, k]` as it is stored.
    fn product(
        x: Matrix<Self>,
        w: Elements<'_>,
        outputs: usize,
        b: Option<&Vector<Self>>,
    ) -> Result<Matrix<Self>, Self::Err> {
        let w = widened(x.device(), w, outputs)?;
        Self::linear(x, Param::frozen(&w), b.map(Param::frozen))
    }

    /// [`Kernels::token_logprob`] without a tape, with a head `[vocabulary, d]` as it is stored.
    fn token_logprob_of(
        x: Matrix<Self>,
        head: Elements<'_>,
        vocabulary: usize,
        choice: &Arc<Choice>,
    ) -> Result<Matrix<Self>, Self::Err> {
        let head = widened(x.device(), head, vocabulary)?;
        Self::token_logprob(x, Param::frozen(&head), choice)
    }

    /// The elements of a matrix, row after row, on the host.
    fn lend(x: &Matrix<Self>) -> Lent<'_> {
        Lent::Copied(x.as_vec())
    }

    /// The elements of a vector on the host.
    fn lend_vector(x: &Vector<Self>) -> Cow<'_, [f32]> {
        Cow::Owned(x.as_vec())
    }
}

/// A weight `[rows, ..]` as a tensor.
fn widened<D: Device<f32>>(device: &D, w: Elements<'_>, rows: usize) -> Result<Matrix<D>, D::Err> {
    device.try_tensor_from_vec(w.widened(), (rows, w.len() / rows.max(1)))
}

impl Kernels for Cpu {
    fn linear<'a, T: Tape<f32, Self>>(
        x: Matrix<Self, T>,
        w: impl Into<Param<'a, Matrix<Self>>>,
        b: Option<Param<'a, Vector<Self>>>,
    ) -> Result<Matrix<Self, T>, CpuError> {
        linear::on_cpu(x, w.into(), b)
    }

    fn lora<T: Tape<f32, Self>>(
        y: Matrix<Self, T>,
        x: &Matrix<Self>,
        [a, b]: [&Matrix<Self>; 2],
        how: &LowRank,
    ) -> Result<Matrix<Self, T>, CpuError> {
        lora::on_cpu(y, x, [a, b], how)
    }

    fn rms_norm<'a, T: Tape<f32, Self>>(
        x: Matrix<Self, T>,
        w: impl Into<Param<'a, Vector<Self>>>,
        eps: f32,
    ) -> Result<Matrix<Self, T>, CpuError> {
        rms_norm::on_cpu(x, w.into(), eps)
    }

    fn add<T: Tape<f32, Self> + Merge<R>, R: Default>(
        x: Matrix<Self, T>,
        y: Matrix<Self, R>,
    ) -> Result<Matrix<Self, T>, CpuError> {
        add::on_cpu(x, y)
    }

    fn add_rms_norm<'a, T: Tape<f32, Self> + Merge<R>, R: Default>(
        x: Matrix<Self, T>,
        y: Matrix<Self, R>,
        w: impl Into<Param<'a, Vector<Self>>>,
        eps: f32,
    ) -> Result<SumAndNorm<Self, T>, CpuError> {
        add_rms_norm::on_cpu(x, y, w.into(), eps)
    }

    fn rotary<T: Tape<f32, Self>>(
        x: Matrix<Self, T>,
        cos: &Arc<Vec<f32>>,
        sin: &Arc<Vec<f32>>,
        heads: usize,
    ) -> Result<Matrix<Self, T>, CpuError> {
        rotary::on_cpu(x, cos, sin, heads)
    }

    fn swiglu<T: Tape<f32, Self> + Merge<R>, R: Default>(
        gate: Matrix<Self, T>,
        up: Matrix<Self, R>,
    ) -> Result<Matrix<Self, T>, CpuError> {
        swiglu::on_cpu(gate, up)
    }

    fn gated_mlp<T: Tape<f32, Self>>(
        x: Matrix<Self, T>,
        maps: [gated_mlp::Map<'_, Self>; 3],
    ) -> Result<Matrix<Self, T>, CpuError> {
        gated_mlp::on_cpu(x, maps)
    }

    fn bias_gelu<'a, T: Tape<f32, Self>>(
        x: Matrix<Self, T>,
        b: impl Into<Param<'a, Vector<Self>>>,
    ) -> Result<Matrix<Self, T>, CpuError> {
        bias_gelu::on_cpu(x, b.into())
    }

    fn attention<T, K, V>(
        q: Matrix<Self, T>,
        k: Matrix<Self, K>,
        v: Matrix<Self, V>,
        plan: &Arc<AttentionPlan>,
        heads: Heads,
    ) -> Result<Matrix<Self, T>, CpuError>
    where
        T: Tape<f32, Self> + Merge<K> + Merge<V>,
        K: Tape<f32, Self>,
        V: Tape<f32, Self>,
    {
        attention::on_cpu(q, k, v, plan, heads)
    }

    fn embed<'a, T: Tape<f32, Self>>(
        table: impl Into<Param<'a, Matrix<Self>>>,
        ids: &[usize],
        tape: T,
    ) -> Result<Matrix<Self, T>, CpuError> {
        embed::on_cpu(table.into(), ids, tape)
    }

    fn splice<T: Tape<f32, Self> + Merge<R>, R: Tape<f32, Self>>(
        x: Matrix<Self, T>,
        rows: Matrix<Self, R>,
        at: &[usize],
    ) -> Result<Matrix<Self, T>, CpuError> {
        splice::on_cpu(x, rows, at)
    }

    fn columns<T: Tape<f32, Self>>(
        x: Matrix<Self, T>,
        columns: std::ops::Range<usize>,
    ) -> Result<Matrix<Self, T>, CpuError> {
        columns::on_cpu(x, columns)
    }

    fn gather_rows<T: Tape<f32, Self>>(x: Matrix<Self, T>, rows: &[usize]) -> Result<Matrix<Self, T>, CpuError> {
        gather_rows::on_cpu(x, rows)
    }

    fn token_logprob<'a, T: Tape<f32, Self>>(
        x: Matrix<Self, T>,
        head: impl Into<Param<'a, Matrix<Self>>>,
        choice: &Arc<Choice>,
    ) -> Result<Matrix<Self, T>, CpuError> {
        token_logprob::on_cpu(x, head.into(), choice)
    }

    fn product(
        x: Matrix<Self>,
        w: Elements<'_>,
        outputs: usize,
        b: Option<&Vector<Self>>,
    ) -> Result<Matrix<Self>, CpuError> {
        product::on_cpu(&x.try_contiguous()?, w, outputs, b)
    }

    fn token_logprob_of(
        x: Matrix<Self>,
        head: Elements<'_>,
        vocabulary: usize,
        choice: &Arc<Choice>,
    ) -> Result<Matrix<Self>, CpuError> {
        token_logprob::stored_on_cpu(&x.try_contiguous()?, head, vocabulary, choice)
    }

    fn lend(x: &Matrix<Self>) -> Lent<'_> {
        tape::view(x).map_or_else(|_| Lent::Copied(x.as_vec()), |values| Lent::Here(Elements::F32(values)))
    }

    fn lend_vector(x: &Vector<Self>) -> Cow<'_, [f32]> {
        tape::view1(x).map_or_else(|_| Cow::Owned(x.as_vec()), Cow::Borrowed)
    }
}

#[cfg(feature = "cuda")]
impl Kernels for dfdx::tensor::Cuda {}

/// Runs the backward pass from `seed[n, m]`, the gradient of a loss by each element of `out`, and
/// returns the gradients of the leaves. The loss itself is never computed: whoever saw the values of
/// `out` knows it.
///
/// # Errors
/// If `seed` has not as many elements as `out`, or an op of the tape fails.
pub fn seed_gradient<D: Device<f32>>(
    out: Matrix<D, OwnedTape<f32, D>>,
    seed: Vec<f32>,
) -> Result<Gradients<f32, D>, D::Err> {
    let shape = *out.shape();
    let seed = out.device().try_tensor_from_vec(seed, shape)?;
    out.try_mul(seed)?.try_sum::<Rank0, _>()?.try_backward()
}
