//! The low-rank term of an adapted linear map (Hu et al., arXiv 2106.09685): `y + s drop(x) aᵀ bᵀ`.

pub mod cpu;
pub mod reference;

use std::sync::Arc;

use dfdx::prelude::*;

use super::Matrix;
use super::parallel::accumulate;
use super::tape::{require, take, view};

/// How a low-rank term is added.
#[derive(Clone, Debug, PartialEq)]
pub struct LowRank {
    /// What the term is multiplied with: `alpha / rank`.
    pub scale: f32,
    /// What is dropped of the input; `None` keeps it whole.
    pub dropout: Option<Dropout>,
}

/// Which elements of an input are dropped: element `(i, j)` is a function of `key`, `rows[i]` and `j`, so that neither the
/// thread that asks nor the place of a row in its pass matters. What is kept is divided by `1 − rate`.
#[derive(Clone, Debug, PartialEq)]
pub struct Dropout {
    /// Probability of each element to be dropped, in `[0, 1)`.
    pub rate: f32,
    /// Names seed, step and module.
    pub key: u64,
    /// Names each row.
    pub rows: Arc<Vec<u64>>,
}

pub(crate) fn on_cpu<T: Tape<f32, Cpu>>(
    y: Matrix<Cpu, T>,
    x: &Matrix<Cpu>,
    [a, b]: [&Matrix<Cpu>; 2],
    how: &LowRank,
) -> Result<Matrix<Cpu, T>, CpuError> {
    timed!("lora");
    let (y, mut tape) = y.try_contiguous()?.split_tape();
    let ((t, n), (t2, k), (r, k2), (n2, r2)) = (*y.shape(), *x.shape(), *a.shape(), *b.shape());
    require(t == t2 && k == k2 && n == n2 && r == r2)?;
    require(how.dropout.as_ref().is_none_or(|dropout| dropout.rows.len() == t))?;
    let mut out = view(&y)?.to_vec();
    let low = cpu::forward(&mut out, view(x)?, [view(a)?, view(b)?], how, [t, n, k, r]);
    let out = y.device().try_tensor_from_vec(out, (t, n))?;
    if T::OWNS_TAPE {
        let (base, ghost, x, a, b, how) = (y.ghost(), out.ghost(), x.clone(), a.clone(), b.clone(), how.clone());
        tape.add_backward_op(move |grads| {
            timed!("lora backward");
            let dy = take(grads.get_or_alloc_mut(&ghost)?);
            cpu::backward_b(grads.get_or_alloc_mut(&b)?, &dy, &low, [t, n, r]);
            let dlow = cpu::backward_low(&dy, view(&b)?, how.scale, [t, n, r]);
            cpu::backward_a(grads.get_or_alloc_mut(&a)?, &dlow, view(&x)?, &how, [t, k, r]);
            cpu::backward_input(grads.get_or_alloc_mut(&x)?, &dlow, view(&a)?, &how, [t, k, r]);
            accumulate(grads.get_or_alloc_mut(&base)?, &dy);
            Ok(())
        });
    }
    Ok(out.put_tape(tape))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use imagent_core::derive;

    use super::*;
    use crate::ops::{Kernels, Param, seed_gradient};

    const SIZES: [[usize; 4]; 3] = [[1, 3, 2, 1], [17, 33, 65, 4], [300, 96, 640, 8]];

    fn matrix(rows: usize, columns: usize, seed: u64) -> Matrix<Cpu> {
        let value = |i: usize| (derive(seed, &[i as u64]) >> 40) as f32 / (1u64 << 23) as f32 - 1.0;
        Cpu::default().tensor_from_vec((0..rows * columns).map(value).collect(), (rows, columns))
    }

    fn how(rows: usize, rate: f32) -> LowRank {
        let rows = Arc::new((0..rows as u64).map(|row| derive(7, &[row])).collect());
        LowRank { scale: 0.75, dropout: (rate > 0.0).then_some(Dropout { rate, key: 3, rows }) }
    }

    type Op = fn(
        Matrix<Cpu, OwnedTape<f32, Cpu>>,
        &Matrix<Cpu>,
        [&Matrix<Cpu>; 2],
        &LowRank,
    ) -> Result<Matrix<Cpu, OwnedTape<f32, Cpu>>, CpuError>;

    /// Value and gradients by base, input, `a` and `b`.
    fn run(op: Op, [t, n, k, r]: [usize; 4], rate: f32) -> Vec<Vec<f32>> {
        let (y, x, a, b) = (matrix(t, n, 1), matrix(t, k, 2), matrix(r, k, 3), matrix(n, r, 4));
        let out = op(y.leaky_trace(), &x, [&a, &b], &how(t, rate)).unwrap();
        let value = out.as_vec();
        let gradients = seed_gradient(out, matrix(t, n, 5).as_vec()).unwrap();
        let leaves = [&y, &x, &a, &b].map(|leaf| gradients.get(leaf).as_vec());
        std::iter::once(value).chain(leaves).collect()
    }

    #[test]
    fn equals_the_composite_with_its_gradients() {
        for sizes in SIZES {
            for rate in [0.0, 0.3] {
                let (ours, theirs) = (run(on_cpu, sizes, rate), run(reference::lora, sizes, rate));
                for (which, (a, b)) in ours.iter().zip(&theirs).enumerate() {
                    let size = b.iter().fold(0.1f32, |most, value| most.max(value.abs()));
                    let far = a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0f32, f32::max);
                    assert!(a.len() == b.len() && far <= 1e-5 * size, "{sizes:?} rate {rate}: result {which} by {far}");
                }
            }
        }
    }

    #[test]
    fn the_same_bits_at_any_number_of_threads() {
        let with = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| run(on_cpu, [2000, 96, 640, 8], 0.1))
        };
        let one = with(1);
        assert!(one == with(2) && one == with(3));
    }

    #[test]
    fn elements_are_dropped_at_the_rate_and_by_name_alone() {
        let (t, k) = (500, 64);
        let how = how(t, 0.25);
        let dropout = how.dropout.unwrap();
        let mut x = vec![1.0; t * k];
        cpu::drop_elements(&mut x, &dropout, k);
        let dropped = x.iter().filter(|&&value| value == 0.0).count() as f64 / (t * k) as f64;
        // Four standard deviations of 32,000 draws.
        assert!((dropped - 0.25).abs() < 0.01, "{dropped}");
        assert!(x.iter().all(|&value| value == 0.0 || value == 1.0 / 0.75));
        let one = Dropout { rows: Arc::new(vec![dropout.rows[7]]), ..dropout.clone() };
        let mut row = vec![1.0; k];
        cpu::drop_elements(&mut row, &one, k);
        assert_eq!(row, x[7 * k..8 * k], "a row keeps its mask wherever it stands");
        let mut other = vec![1.0; t * k];
        cpu::drop_elements(&mut other, &Dropout { key: 4, ..dropout }, k);
        assert_ne!(x, other);
    }

    #[test]
    fn a_frozen_weight_gets_no_gradient_and_the_input_the_same() {
        let (x, w, head) = (matrix(40, 30, 1), matrix(20, 30, 2), matrix(9, 20, 3));
        let run = |frozen: bool| {
            let param = |w| if frozen { Param::frozen(w) } else { Param::from(w) };
            let y = Cpu::linear(x.leaky_trace(), param(&w), None).unwrap();
            let choice = crate::ops::token_logprob::Choice { targets: vec![1; 40], temperature: 1.0, suppress: vec![] };
            let out = Cpu::token_logprob(y, param(&head), &Arc::new(choice)).unwrap();
            seed_gradient(out, matrix(40, 2, 4).as_vec()).unwrap()
        };
        let (all, frozen) = (run(false), run(true));
        assert_eq!(all.get(&x).as_vec(), frozen.get(&x).as_vec());
        for weight in [&w, &head] {
            assert!(all.get(weight).as_vec().iter().any(|&value| value != 0.0));
            let absent = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| frozen.get(weight)));
            assert!(absent.is_err(), "there is a gradient of a frozen weight");
        }
    }
}
