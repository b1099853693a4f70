//! Each op against its composite, values and gradients; the same bits at any number of threads; a
//! benchmark (`cargo test --release -p imagent-models ops::tests::bench -- --ignored --nocapture`).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;
use std::time::Instant;

use dfdx::prelude::*;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::attention::{AttentionPlan, Heads, Segment};
use super::gated_mlp::{self, Map};
use super::gemm::{Mat, MatMut, matmul};
use super::token_logprob::Choice;
use super::{Kernels, Matrix, Param, Vector, seed_gradient};

type Taped = Matrix<Cpu, OwnedTape<f32, Cpu>>;

/// Deterministic inputs.
struct Source(ChaCha8Rng, Cpu);

impl Source {
    fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed), Cpu::default())
    }

    fn values(&mut self, len: usize) -> Vec<f32> {
        (0..len).map(|_| self.0.random_range(-1.5f32..1.5)).collect()
    }

    fn matrix(&mut self, rows: usize, cols: usize) -> Matrix<Cpu> {
        let values = self.values(rows * cols);
        self.1.tensor_from_vec(values, (rows, cols))
    }

    fn vector(&mut self, len: usize) -> Vector<Cpu> {
        let values = self.values(len);
        self.1.tensor_from_vec(values, (len,))
    }
}

/// Values of `f` and gradients of `leaves`, with random weights on the output.
fn run(leaves: &[Matrix<Cpu>], vector: Option<&Vector<Cpu>>, f: impl FnOnce(&[Taped]) -> Taped) -> Vec<Vec<f32>> {
    let taped: Vec<_> = leaves.iter().map(Trace::leaky_trace).collect();
    let out = f(&taped);
    let mut source = Source::new(99);
    let (rows, cols) = *out.shape();
    let mut results = vec![out.as_vec()];
    let gradients = seed_gradient(out, source.values(rows * cols)).unwrap();
    results.extend(leaves.iter().map(|leaf| gradients.get(leaf).as_vec()));
    results.extend(vector.map(|leaf| gradients.get(leaf).as_vec()));
    results
}

fn assert_close(name: &str, fused: &[Vec<f32>], reference: &[Vec<f32>]) {
    assert_eq!(fused.len(), reference.len());
    for (which, (a, b)) in fused.iter().zip(reference).enumerate() {
        assert_eq!(a.len(), b.len());
        let size = b.iter().fold(0.1f32, |m, v| m.max(v.abs()));
        for (i, (x, y)) in a.iter().zip(b).enumerate() {
            assert!((x - y).abs() <= 1e-5 * size, "{name}: result {which} element {i}: {x} != {y} (size {size})");
        }
    }
}

/// A second handle on a leaf, with a tape of its own.
fn again(x: &Taped) -> Taped {
    x.with_empty_tape()
}

#[test]
fn linear_equals_its_composite() {
    for (t, n, k) in [(1, 1, 1), (1, 7, 5), (3, 16, 16), (17, 33, 65), (130, 200, 70), (600, 96, 640)] {
        let mut s = Source::new(t as u64);
        let (x, w, b) = (s.matrix(t, k), s.matrix(n, k), s.vector(n));
        let leaves = [x, w];
        let fused = run(&leaves, Some(&b), |l| Cpu::linear(again(&l[0]), &leaves[1], Some((&b).into())).unwrap());
        let plain =
            run(&leaves, Some(&b), |l| super::linear::reference::linear(again(&l[0]), &leaves[1], Some(&b)).unwrap());
        assert_close("linear", &fused, &plain);
    }
}

#[test]
fn rms_norm_equals_its_composite() {
    for (t, d) in [(1, 1), (3, 31), (64, 128), (700, 96)] {
        let mut s = Source::new(t as u64);
        let (leaves, w) = ([s.matrix(t, d)], s.vector(d));
        let fused = run(&leaves, Some(&w), |l| Cpu::rms_norm(again(&l[0]), &w, 1e-6).unwrap());
        let plain = run(&leaves, Some(&w), |l| super::rms_norm::reference::rms_norm(again(&l[0]), &w, 1e-6).unwrap());
        assert_close("rms_norm", &fused, &plain);
    }
}

#[test]
fn add_rms_norm_equals_its_composite() {
    for (t, d) in [(1, 1), (3, 31), (64, 128), (700, 96)] {
        let mut s = Source::new(t as u64);
        let (leaves, w) = ([s.matrix(t, d), s.matrix(t, d)], s.vector(d));
        // Both results in one, so that the gradients of both come back.
        let fused = run(&leaves, Some(&w), |l| {
            let (z, n) = Cpu::add_rms_norm(again(&l[0]), again(&l[1]), &w, 1e-6).unwrap();
            Cpu::swiglu(n, z).unwrap()
        });
        let plain = run(&leaves, Some(&w), |l| {
            let reference = super::add_rms_norm::reference::add_rms_norm;
            let (z, n) = reference(again(&l[0]), again(&l[1]), &w, 1e-6).unwrap();
            super::swiglu::reference::swiglu(n, z).unwrap()
        });
        assert_close("add_rms_norm", &fused, &plain);
    }
}

#[test]
fn elementwise_ops_equal_their_composites() {
    for (t, d) in [(1, 2), (5, 34), (400, 128)] {
        let mut s = Source::new(t as u64);
        let leaves = [s.matrix(t, d), s.matrix(t, d)];
        let fused = run(&leaves, None, |l| Cpu::add(again(&l[0]), again(&l[1])).unwrap());
        let plain = run(&leaves, None, |l| super::add::reference::add(again(&l[0]), again(&l[1])).unwrap());
        assert_close("add", &fused, &plain);
        let fused = run(&leaves, None, |l| Cpu::swiglu(again(&l[0]), again(&l[1])).unwrap());
        let plain = run(&leaves, None, |l| super::swiglu::reference::swiglu(again(&l[0]), again(&l[1])).unwrap());
        assert_close("swiglu", &fused, &plain);
        let b = s.vector(d);
        let fused = run(&leaves[..1], Some(&b), |l| Cpu::bias_gelu(again(&l[0]), &b).unwrap());
        let plain = run(&leaves[..1], Some(&b), |l| super::bias_gelu::reference::bias_gelu(again(&l[0]), &b).unwrap());
        assert_close("bias_gelu", &fused, &plain);
    }
}

#[test]
fn gated_mlp_equals_its_composite() {
    for (t, k, m, n) in [(1, 1, 1, 1), (1, 9, 20, 7), (5, 34, 50, 34), (1500, 32, 48, 32), (2048, 16, 24, 16)] {
        let mut s = Source::new(t as u64);
        let leaves = [s.matrix(t, k), s.matrix(m, k), s.matrix(m, k), s.matrix(n, m)];
        let biases = [s.vector(m), s.vector(m), s.vector(n)];
        let maps = |with: bool| {
            let map = |i: usize| Map { weight: (&leaves[i + 1]).into(), bias: with.then(|| (&biases[i]).into()) };
            [map(0), map(1), map(2)]
        };
        for with in [false, true] {
            let checked = with.then_some(&biases[1]);
            let fused = run(&leaves, checked, |l| Cpu::gated_mlp(again(&l[0]), maps(with)).unwrap());
            let plain = run(&leaves, checked, |l| gated_mlp::reference::gated_mlp(again(&l[0]), maps(with)).unwrap());
            assert_close("gated_mlp", &fused, &plain);
            let alone = Cpu::gated_mlp(leaves[0].clone(), maps(with)).unwrap().as_vec();
            assert!(alone.iter().zip(&fused[0]).all(|(a, b)| a.to_bits() == b.to_bits()), "without a tape");
        }
    }
}

#[test]
fn gated_mlp_leaves_out_what_is_frozen() {
    let (t, k, m) = (1200, 16, 24);
    let mut s = Source::new(5);
    let (x, w) = (s.matrix(t, k), [s.matrix(m, k), s.matrix(m, k), s.matrix(k, m)]);
    let pass = |learns: [bool; 3]| {
        let map = |i: usize| Map { weight: Param { values: &w[i], learns: learns[i] }, bias: None };
        let out = Cpu::gated_mlp(x.leaky_trace(), [map(0), map(1), map(2)]).unwrap();
        seed_gradient(out, Source::new(6).values(t * k)).unwrap()
    };
    let (all, some) = (pass([true; 3]), pass([false, true, false]));
    assert_eq!(all.get(&x).as_vec(), some.get(&x).as_vec());
    assert_eq!(all.get(&w[1]).as_vec(), some.get(&w[1]).as_vec());
    assert!(all.get(&w[0]).as_vec().iter().any(|&g| g != 0.0));
    let absent = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| some.get(&w[0]).as_vec()));
    assert!(absent.is_err(), "a frozen weight has no gradient");
}

#[test]
fn rotary_equals_its_composite() {
    for (t, heads, hd) in [(1, 1, 2), (7, 3, 10), (300, 4, 32)] {
        let mut s = Source::new(t as u64);
        let leaves = [s.matrix(t, heads * hd)];
        let angles: Vec<f32> = s.values(t * hd / 2);
        let cos = Arc::new(angles.iter().map(|a| a.cos()).collect::<Vec<_>>());
        let sin = Arc::new(angles.iter().map(|a| a.sin()).collect::<Vec<_>>());
        let fused = run(&leaves, None, |l| Cpu::rotary(again(&l[0]), &cos, &sin, heads).unwrap());
        let plain = run(&leaves, None, |l| super::rotary::reference::rotary(again(&l[0]), &cos, &sin, heads).unwrap());
        assert_close("rotary", &fused, &plain);
    }
}

#[test]
fn row_ops_equal_their_composites() {
    let mut s = Source::new(1);
    let leaves = [s.matrix(50, 12), s.matrix(3, 12)];
    let ids: Vec<usize> = (0..70).map(|i| i * 7 % 23).collect();
    let fused = run(&leaves[..1], None, |_| Cpu::embed(&leaves[0], &ids, OwnedTape::default()).unwrap());
    let plain =
        run(&leaves[..1], None, |_| super::embed::reference::embed(&leaves[0], &ids, OwnedTape::default()).unwrap());
    assert_close("embed", &fused, &plain);
    let fused = run(&leaves[..1], None, |l| Cpu::gather_rows(again(&l[0]), &ids).unwrap());
    assert_close("gather_rows", &fused, &plain);
    for at in [[4, 0, 49], [7, 7, 2]] {
        let fused = run(&leaves, None, |l| Cpu::splice(again(&l[0]), again(&l[1]), &at).unwrap());
        let plain = run(&leaves, None, |l| super::splice::reference::splice(again(&l[0]), again(&l[1]), &at).unwrap());
        assert_close("splice", &fused, &plain);
        assert!(fused[1][at[0] * 12..][..12].iter().all(|&g| g == 0.0));
    }
}

fn plans() -> Vec<Arc<AttentionPlan>> {
    let plan = |segments: Vec<Segment>| {
        let rows = segments.last().unwrap().queries.end;
        Arc::new(AttentionPlan::new(segments, rows).unwrap())
    };
    let (causal, full, branch) = (Segment::causal, Segment::full, Segment::branch);
    vec![
        plan(vec![causal(0..1)]),
        plan(vec![causal(0..150)]),
        plan(vec![causal(0..5), causal(5..70), causal(70..71), full(71..90)]),
        plan((0..7).map(|i| full(i * 16..(i + 1) * 16)).collect()),
        plan(vec![full(0..64), full(64..100), full(100..101), full(101..180)]),
        plan(vec![
            causal(0..70),
            branch(0..70, 70..140),
            branch(0..70, 140..145),
            branch(0..70, 145..146),
            causal(146..160),
        ]),
        plan(vec![
            causal(0..4),
            branch(0..4, 4..9),
            branch(4..7, 9..12),
            Segment { causal: false, ..branch(2..9, 12..20) },
        ]),
    ]
}

#[test]
fn attention_equals_its_composite() {
    for (queries, keys, hd) in [(1, 1, 8), (4, 4, 16), (6, 2, 10), (4, 1, 33)] {
        for (i, plan) in plans().iter().enumerate() {
            let mut s = Source::new(i as u64);
            let t = plan.rows();
            let heads = Heads { queries, keys, scale: 1.0 / (hd as f32).sqrt() };
            let leaves = [s.matrix(t, queries * hd), s.matrix(t, keys * hd), s.matrix(t, keys * hd)];
            let fused =
                run(&leaves, None, |l| Cpu::attention(again(&l[0]), again(&l[1]), again(&l[2]), plan, heads).unwrap());
            let plain = run(&leaves, None, |l| {
                super::attention::reference::attention(again(&l[0]), again(&l[1]), again(&l[2]), plan, heads).unwrap()
            });
            assert_close(&format!("attention plan {i}, {heads:?}"), &fused, &plain);
        }
    }
}

#[test]
fn a_shared_prefix_equals_separate_sequences() {
    let (prompt, answers, heads) = (20, [30, 9], Heads { queries: 4, keys: 2, scale: 0.3 });
    let mut s = Source::new(5);
    let t = prompt + answers[0] + answers[1];
    let [q, k, v] = [s.matrix(t, 32), s.matrix(t, 16), s.matrix(t, 16)];
    let attend = |rows: &[usize], segments: Vec<Segment>| {
        let plan = Arc::new(AttentionPlan::new(segments, rows.len()).unwrap());
        let pick = |x: &Matrix<Cpu>| Cpu::gather_rows(x.clone(), rows).unwrap();
        Cpu::attention(pick(&q), pick(&k), pick(&v), &plan, heads).unwrap().as_vec()
    };
    let all: Vec<usize> = (0..t).collect();
    let shared = attend(
        &all,
        vec![
            Segment::causal(0..prompt),
            Segment::branch(0..prompt, prompt..prompt + answers[0]),
            Segment::branch(0..prompt, prompt + answers[0]..t),
        ],
    );
    let mut start = prompt;
    for len in answers {
        let rows: Vec<usize> = (0..prompt).chain(start..start + len).collect();
        let alone = attend(&rows, vec![Segment::causal(0..rows.len())]);
        for (a, b) in alone[prompt * 32..].iter().zip(&shared[start * 32..]) {
            assert!((a - b).abs() < 1e-5);
        }
        start += len;
    }
}

fn choice(n: usize, vocabulary: usize) -> Arc<Choice> {
    let targets = (0..n).map(|i| (i * 37 + 5) % vocabulary).collect();
    Arc::new(Choice { targets, temperature: 0.7, suppress: vec![0, vocabulary / 2] })
}

#[test]
fn token_logprob_equals_its_composite() {
    for (n, d, vocabulary) in [(1, 8, 5), (40, 16, 301), (600, 32, 8000)] {
        let mut s = Source::new(n as u64);
        // Small logits: their rounding is part of both results, and grows with them.
        let leaves = [s.matrix(n, d) * 0.25, s.matrix(vocabulary, d)];
        let mut choice = Arc::unwrap_or_clone(choice(n, vocabulary));
        choice.targets.iter_mut().for_each(|t| *t += usize::from(choice.suppress.contains(t)));
        let fused =
            run(&leaves, None, |l| Cpu::token_logprob(again(&l[0]), &leaves[1], &Arc::new(choice.clone())).unwrap());
        let plain = run(&leaves, None, |l| {
            super::token_logprob::reference::token_logprob(again(&l[0]), &leaves[1], &choice).unwrap()
        });
        assert_close(&format!("token_logprob {n} {vocabulary}"), &fused, &plain);
    }
}

#[test]
fn a_suppressed_target_has_no_gradient() {
    let mut s = Source::new(3);
    let (x, head) = (s.matrix(2, 4), s.matrix(9, 4));
    let choice = Arc::new(Choice { targets: vec![2, 3], temperature: 1.0, suppress: vec![2] });
    for fused in [true, false] {
        let out = if fused {
            Cpu::token_logprob(x.leaky_trace(), &head, &choice).unwrap()
        } else {
            super::token_logprob::reference::token_logprob(x.leaky_trace(), &head, &choice).unwrap()
        };
        let values = out.as_vec();
        assert_eq!(values[0], f32::NEG_INFINITY);
        assert!(values[1..].iter().all(|v| v.is_finite()));
        let gradients = seed_gradient(out, vec![1.0, 0.0, 1.0, 0.5]).unwrap();
        let dx = gradients.get(&x).as_vec();
        assert!(dx[..4].iter().all(|&g| g == 0.0) && dx[4..].iter().all(|g| g.is_finite() && *g != 0.0));
        assert!(gradients.get(&head).as_vec().iter().all(|g| g.is_finite()));
    }
}

#[test]
fn token_logprob_agrees_with_doubles() {
    let (n, d, vocabulary, tau) = (9, 24, 5000, 0.7f64);
    let mut s = Source::new(8);
    let (x, head) = (s.matrix(n, d), s.matrix(vocabulary, d));
    let choice = choice(n, vocabulary);
    let out = Cpu::token_logprob(x.clone(), &head, &choice).unwrap().as_vec();
    let (x, head) = (x.as_vec(), head.as_vec());
    for i in 0..n {
        let dot = |v: usize| -> f64 { (0..d).map(|j| f64::from(x[i * d + j]) * f64::from(head[v * d + j])).sum() };
        let z: Vec<f64> = (0..vocabulary).filter(|v| !choice.suppress.contains(v)).map(|v| dot(v) / tau).collect();
        let lse = z.iter().map(|z| z.exp()).sum::<f64>().ln();
        let entropy = lse - z.iter().map(|z| (z - lse).exp() * z).sum::<f64>();
        let logprob = dot(choice.targets[i]) / tau - lse;
        assert!((f64::from(out[2 * i]) - logprob).abs() < 2e-6 * logprob.abs().max(1.0), "{} {logprob}", out[2 * i]);
        assert!((f64::from(out[2 * i + 1]) - entropy).abs() < 2e-6 * entropy.max(1.0), "{} {entropy}", out[2 * i + 1]);
    }
}

fn with_threads<R: Send>(threads: usize, f: impl FnOnce() -> R + Send) -> R {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(f)
}

/// A small layer through every op: values and all gradients.
fn layer() -> Vec<Vec<f32>> {
    let (t, d, m, hd) = (400, 64, 192, 16);
    let mut s = Source::new(21);
    let heads = Heads { queries: 4, keys: 2, scale: 0.25 };
    let plan = Arc::new(
        AttentionPlan::new(
            vec![Segment::causal(0..150), Segment::branch(0..150, 150..300), Segment::full(300..400)],
            t,
        )
        .unwrap(),
    );
    let table = s.matrix(500, d);
    let ids: Vec<usize> = (0..t).map(|i| i * 31 % 97).collect();
    let [wq, wk, wv] = [s.matrix(d, d), s.matrix(d / 2, d), s.matrix(d / 2, d)];
    let mlp = [s.matrix(m, d), s.matrix(m, d), s.matrix(d, m)];
    let (norm, bias) = (s.vector(d), s.vector(d));
    let cos = Arc::new(s.values(t * hd / 2));
    let image = s.matrix(20, d);
    let at: Vec<usize> = (30..50).collect();
    let x = Cpu::embed(&table, &ids, OwnedTape::default()).unwrap();
    let x = Cpu::splice(x, image.clone(), &at).unwrap();
    let (h, tape) = x.split_tape();
    let x = Cpu::rms_norm(h.clone().put_tape(tape), &norm, 1e-6).unwrap();
    let k = Cpu::linear(x.with_empty_tape(), &wk, None).unwrap();
    let v = Cpu::linear(x.with_empty_tape(), &wv, None).unwrap();
    let q = Cpu::rotary(Cpu::linear(x, &wq, Some((&bias).into())).unwrap(), &cos, &cos, 4).unwrap();
    let (h, n) = Cpu::add_rms_norm(Cpu::attention(q, k, v, &plan, heads).unwrap(), h, &norm, 1e-6).unwrap();
    let maps = mlp.each_ref().map(|w| Map { weight: w.into(), bias: None });
    let f = Cpu::gated_mlp(n, maps).unwrap();
    let x = Cpu::bias_gelu(Cpu::add(f, h).unwrap(), &bias).unwrap();
    let x = Cpu::gather_rows(x, &ids).unwrap();
    let out = Cpu::token_logprob(x, &table, &choice(t, 500)).unwrap();
    let mut results = vec![out.as_vec()];
    let g = seed_gradient(out, s.values(2 * t)).unwrap();
    results.extend([&table, &wq, &wk, &wv, &mlp[0], &mlp[1], &mlp[2], &image].map(|w| g.get(w).as_vec()));
    results.extend([&norm, &bias].map(|w| g.get(w).as_vec()));
    results
}

#[test]
fn threads_do_not_change_a_bit() {
    let one = with_threads(1, layer);
    assert!(one.iter().all(|r| r.iter().all(|v| v.is_finite() || *v == f32::NEG_INFINITY)));
    for threads in [2, 3] {
        let many = with_threads(threads, layer);
        for (a, b) in one.iter().zip(&many) {
            assert!(a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits()));
        }
    }
}

#[test]
fn a_row_of_a_product_does_not_depend_on_the_others() {
    for (n, k) in [
        (2, 5),
        (5, 1),
        (7, 2),
        (16, 16),
        (33, 100),
        (64, 128),
        (128, 64),
        (384, 128),
        (500, 512),
        (1100, 300),
        (96, 1176),
    ] {
        let mut s = Source::new((n * k) as u64);
        let (a, b) = (s.values(70 * k), s.values(n * k));
        for transposed in [false, true] {
            let b = if transposed { Mat::new(&b, n, k).t() } else { Mat::new(&b, k, n) };
            let product = |m: usize, first: usize| {
                let mut out = vec![0.0; m * n];
                matmul(MatMut::new(&mut out, m, n), Mat::new(&a[first * k..], m, k), b, false);
                out
            };
            let all = product(70, 0);
            for m in 1..70 {
                for first in [0, 70 - m] {
                    let some = product(m, first);
                    let same = some.iter().zip(&all[first * n..]).all(|(x, y)| x.to_bits() == y.to_bits());
                    assert!(same, "m {m}, n {n}, k {k}, transposed {transposed}, first {first}");
                }
            }
        }
    }
}

/// Seconds of the fastest of some runs.
fn time(mut f: impl FnMut()) -> f64 {
    f();
    let run = |_| {
        let start = Instant::now();
        f();
        start.elapsed().as_secs_f64()
    };
    (0..20).map(run).fold(f64::MAX, f64::min)
}

#[test]
#[ignore = "a benchmark"]
fn bench_products() {
    let mut s = Source::new(1);
    for (name, m, n, k) in [
        ("y", 5000, 384, 128),
        ("dx", 5000, 128, 384),
        ("dw", 384, 128, 5000),
        ("y", 1500, 128, 1176),
        ("y", 300, 384, 128),
        ("y", 64, 384, 128),
        ("y", 16, 384, 128),
        ("y", 1, 384, 128),
    ] {
        let (a, b, mut c) = (s.values(m * k), s.values(n * k), vec![0.0; m * n]);
        for threads in [1, 2] {
            let (a, b, c) = (&a, &b, &mut c);
            let seconds = with_threads(threads, move || {
                time(|| {
                    let (a, b) = match name {
                        "y" => (Mat::new(a, m, k), Mat::new(b, n, k).t()),
                        "dx" => (Mat::new(a, m, k), Mat::new(b, k, n)),
                        _ => (Mat::new(a, k, m).t(), Mat::new(b, k, n)),
                    };
                    matmul(MatMut::new(c, m, n), a, b, false);
                })
            });
            let flops = 2.0 * (m * n * k) as f64;
            println!(
                "{name:3} {m}x{n}x{k} threads {threads}: {:8.1} us {:6.1} GFLOP/s",
                seconds * 1e6,
                flops / seconds / 1e9
            );
        }
    }
}

#[test]
#[ignore = "a benchmark"]
fn bench_attention() {
    let (causal, branch) = (Segment::causal, Segment::branch);
    let mut group = vec![causal(0..200)];
    group.extend((0..8).map(|i| branch(0..200, 200 + i * 100..300 + i * 100)));
    let cases = [
        ("windows of 64", (0..78).map(|i| Segment::full(i * 64..(i + 1) * 64)).collect::<Vec<_>>()),
        ("16 causal of 300", (0..16).map(|i| causal(i * 300..(i + 1) * 300)).collect()),
        ("prompt 200, 8 branches of 100", group),
        ("one image of 1500", vec![Segment::full(0..1500)]),
    ];
    for (name, segments) in cases {
        for (queries, keys, hd) in [(4, 4, 32), (4, 2, 64)] {
            let t = segments.last().unwrap().queries.end;
            let scores: usize = segments
                .iter()
                .map(|s| {
                    let l = s.queries.len();
                    l * s.prefix.len() + if s.causal { l * (l + 1) / 2 } else { l * l }
                })
                .sum();
            let plan = Arc::new(AttentionPlan::new(segments.clone(), t).unwrap());
            let heads = Heads { queries, keys, scale: 0.2 };
            let flops = 4.0 * (scores * queries * hd) as f64;
            for threads in [1, 2] {
                let plan = plan.clone();
                let (forward, both) = with_threads(threads, move || {
                    let mut s = Source::new(1);
                    let [q, k, v] = [s.matrix(t, queries * hd), s.matrix(t, keys * hd), s.matrix(t, keys * hd)];
                    let forward = time(|| drop(Cpu::attention(q.clone(), k.clone(), v.clone(), &plan, heads).unwrap()));
                    let both = time(|| {
                        let out = Cpu::attention(q.leaky_trace(), k.clone(), v.clone(), &plan, heads).unwrap();
                        drop(seed_gradient(out, vec![1.0; t * queries * hd]).unwrap());
                    });
                    (forward, both)
                });
                println!(
                    "{name}, t {t} heads {queries}/{keys} hd {hd} threads {threads}: forward {:.0} us {:.1} GFLOP/s; with backward {:.0} us {:.1} GFLOP/s",
                    forward * 1e6,
                    flops / forward / 1e9,
                    both * 1e6,
                    3.5 * flops / both / 1e9
                );
            }
        }
    }
}

#[test]
#[ignore = "a benchmark"]
fn bench_ops() {
    let (t, d, m) = (5000, 128, 384);
    let plain = |name: &str, forward: &mut dyn FnMut(), both: &mut dyn FnMut()| {
        println!("{name}: forward {:.0} us, with backward {:.0} us", time(forward) * 1e6, time(both) * 1e6);
    };
    let mut s = Source::new(1);
    let (x, w, norm) = (s.matrix(t, d), s.matrix(m, d), s.vector(d));
    let (wide, down) = ([s.matrix(m, d), s.matrix(m, d)], s.matrix(d, m));
    let tables = Arc::new(s.values(t * 16));
    let ids: Vec<usize> = (0..t).map(|i| i * 31 % t).collect();
    let back = |out: Taped| drop(out.sum::<Rank0, _>().backward());
    plain("sum 5000x128", &mut || drop(x.clone().sum::<Rank0, _>()), &mut || back(x.leaky_trace()));
    plain("linear 5000x384x128", &mut || drop(Cpu::linear(x.clone(), &w, None).unwrap()), &mut || {
        back(Cpu::linear(x.leaky_trace(), &w, None).unwrap())
    });
    plain("rms_norm 5000x128", &mut || drop(Cpu::rms_norm(x.clone(), &norm, 1e-6).unwrap()), &mut || {
        back(Cpu::rms_norm(x.leaky_trace(), &norm, 1e-6).unwrap())
    });
    plain("add 5000x128", &mut || drop(Cpu::add(x.clone(), x.clone()).unwrap()), &mut || {
        back(Cpu::add(x.leaky_trace(), x.clone()).unwrap())
    });
    plain("rotary 5000x128", &mut || drop(Cpu::rotary(x.clone(), &tables, &tables, 4).unwrap()), &mut || {
        back(Cpu::rotary(x.leaky_trace(), &tables, &tables, 4).unwrap())
    });
    let maps = [&wide[0], &wide[1], &down].map(|w| Map { weight: w.into(), bias: None });
    plain("gated_mlp 5000x128x384", &mut || drop(Cpu::gated_mlp(x.clone(), maps).unwrap()), &mut || {
        back(Cpu::gated_mlp(x.leaky_trace(), maps).unwrap())
    });
    plain("bias_gelu 5000x128", &mut || drop(Cpu::bias_gelu(x.clone(), &norm).unwrap()), &mut || {
        back(Cpu::bias_gelu(x.leaky_trace(), &norm).unwrap())
    });
    plain("gather_rows 5000x128", &mut || drop(Cpu::gather_rows(x.clone(), &ids).unwrap()), &mut || {
        back(Cpu::gather_rows(x.leaky_trace(), &ids).unwrap())
    });
    let (rows, head) = (s.matrix(1000, d), s.matrix(8192, d));
    let choice = choice(1000, 8192);
    plain(
        "token_logprob 1000x8192x128",
        &mut || drop(Cpu::token_logprob(rows.clone(), &head, &choice).unwrap()),
        &mut || back(Cpu::token_logprob(rows.leaky_trace(), &head, &choice).unwrap()),
    );
}

#[test]
fn the_layout_of_a_factor_does_not_change_a_bit() {
    for (m, n, k) in [(1, 40, 30), (2, 8, 5), (13, 384, 128), (64, 16, 700), (300, 100, 64)] {
        let mut s = Source::new(m as u64);
        let (a, b) = (s.values(m * k), s.values(n * k));
        let transposed: Vec<f32> = (0..k * n).map(|i| b[i % n * k + i / n]).collect();
        let product = |b: Mat<'_>| {
            let mut out = vec![0.0; m * n];
            matmul(MatMut::new(&mut out, m, n), Mat::new(&a, m, k), b, false);
            out
        };
        assert_eq!(product(Mat::new(&b, n, k).t()), product(Mat::new(&transposed, k, n)));
    }
}
