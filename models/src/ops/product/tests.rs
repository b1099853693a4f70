//! Products against f64 sums, between element types and instruction sets, and whatever the company.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use half::{bf16, f16};
use proptest::prelude::*;

use super::lanes::Element;
use super::*;
use crate::ops::gemm::MatMut;

/// Numbers in [-1, 1) that are exact in bf16 and f16.
fn numbers(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 40) as i32 % 128) as f32 / 128.0
    };
    (0..count).map(|_| next()).collect()
}

/// Numbers that use all of f32's precision.
fn fine(count: usize, seed: u64) -> Vec<f32> {
    let (a, b) = (numbers(count, seed), numbers(count, seed + 77));
    a.iter().zip(b).map(|(a, b)| a + b * 1e-3 + 0.1).collect()
}

fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}

/// One product by [`forward`].
fn run(x: &[f32], w: Elements<'_>, bias: Option<&[f32]>, (m, n, k): (usize, usize, usize)) -> Vec<f32> {
    let mut y = vec![f32::NAN; m * n];
    forward(&mut y, x, &[Part { weight: w, bias, outputs: n }], k);
    y
}

fn check_sizes((m, n, k): (usize, usize, usize)) {
    let (x, w, bias) = (fine(m * k, 1), numbers(n * k, 2), fine(n, 3));
    let half: Vec<bf16> = w.iter().map(|x| bf16::from_f32(*x)).collect();
    let other: Vec<f16> = w.iter().map(|x| f16::from_f32(*x)).collect();
    let y = run(&x, Elements::F32(&w), Some(&bias), (m, n, k));
    assert_eq!(bits(&y), bits(&run(&x, Elements::Bf16(&half), Some(&bias), (m, n, k))));
    assert_eq!(bits(&y), bits(&run(&x, Elements::F16(&other), Some(&bias), (m, n, k))));
    for i in 0..m {
        for j in 0..n {
            let terms = || (0..k).map(|l| f64::from(x[i * k + l]) * f64::from(w[j * k + l]));
            let (exact, size) = (terms().sum::<f64>() + f64::from(bias[j]), terms().map(f64::abs).sum::<f64>());
            let error = (f64::from(y[i * n + j]) - exact).abs();
            assert!(error <= 3e-7 * (size + 1.0) * (1.0 + k as f64 / 1e3), "{m} {n} {k}: {error:e} of {size}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn products_are_sums_whatever_the_type(m in 1usize..20, n in 1usize..75, k in 1usize..200) {
        check_sizes((m, n, k));
    }

    #[test]
    fn a_row_does_not_depend_on_the_others(m in 2usize..120, n in 1usize..40, k in 1usize..70, at in 0usize..120) {
        let (x, w) = (fine(m * k, 5), fine(n * k, 6));
        let all = run(&x, Elements::F32(&w), None, (m, n, k));
        let at = at % m;
        let alone = run(&x[at * k..(at + 1) * k], Elements::F32(&w), None, (1, n, k));
        prop_assert_eq!(bits(&all[at * n..(at + 1) * n]), bits(&alone));
        let some = run(&x[at * k..], Elements::F32(&w), None, (m - at, n, k));
        prop_assert_eq!(bits(&all[at * n..]), bits(&some));
    }
}

#[test]
fn long_sums_go_by_blocks() {
    for k in [BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 17] {
        check_sizes((7, 9, k));
        check_sizes((1, 9, k));
    }
    check_sizes((200, 70, 33));
}

#[test]
fn threads_change_nothing() {
    for (m, n, k) in [(1, 700, 900), (33, 300, 130), (230, 150, 70)] {
        let (x, w) = (fine(m * k, 7), fine(n * k, 8));
        let once = run(&x, Elements::F32(&w), None, (m, n, k));
        for threads in [1, 2, 5] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let again = pool.install(|| run(&x, Elements::F32(&w), None, (m, n, k)));
            assert_eq!(bits(&once), bits(&again), "{threads} threads");
        }
    }
}

#[test]
fn parts_are_products_side_by_side() {
    let (m, k) = (5, 37);
    let x = fine(m * k, 1);
    let (a, b, bias) = (fine(70 * k, 2), numbers(3 * k, 3), fine(70, 4));
    let b: Vec<bf16> = b.iter().map(|x| bf16::from_f32(*x)).collect();
    let parts = [
        Part { weight: Elements::F32(&a), bias: Some(&bias), outputs: 70 },
        Part { weight: Elements::Bf16(&b), bias: None, outputs: 3 },
    ];
    let mut y = vec![0.0; m * 73];
    forward(&mut y, &x, &parts, k);
    let first = run(&x, Elements::F32(&a), Some(&bias), (m, 70, k));
    let second = run(&x, Elements::Bf16(&b), None, (m, 3, k));
    for i in 0..m {
        assert_eq!(y[i * 73..i * 73 + 70], first[i * 70..(i + 1) * 70]);
        assert_eq!(y[i * 73 + 70..(i + 1) * 73], second[i * 3..(i + 1) * 3]);
    }
}

/// Instruction sets against each other: with FMA the same bits, without it about the same.
fn check_sets<E: Element>(w: &[E], (m, n, k): (usize, usize, usize)) {
    let x = fine(m * k, 11);
    let (mut best, mut other, mut plain) = (vec![0.0; m * n], vec![0.0; m * n], vec![0.0; m * n]);
    tiles::product(&mut MatMut::new(&mut best, m, n), &x, w, None, k);
    sets::portable(tiles::Job::new(&mut MatMut::new(&mut plain, m, n), &x, w, None, k));
    if sets::with_avx2(tiles::Job::new(&mut MatMut::new(&mut other, m, n), &x, w, None, k)) {
        assert_eq!(bits(&best), bits(&other));
    }
    assert!(best.iter().zip(&plain).all(|(a, b)| (a - b).abs() <= 2e-4), "{m} {n} {k}");
}

#[test]
fn instruction_sets_agree() {
    for (m, n, k) in [(1, 19, 1100), (2, 8, 64), (3, 7, 45), (7, 33, 129), (13, 21, 300)] {
        let w = numbers(n * k, 9);
        check_sets(&w, (m, n, k));
        check_sets(&w.iter().map(|x| bf16::from_f32(*x)).collect::<Vec<_>>(), (m, n, k));
        check_sets(&w.iter().map(|x| f16::from_f32(*x)).collect::<Vec<_>>(), (m, n, k));
    }
}

#[test]
fn nothing_is_nothing() {
    assert!(run(&[], Elements::F32(&[1.0; 12]), None, (0, 4, 3)).is_empty());
    assert_eq!(run(&[], Elements::F32(&[]), Some(&[2.0, 3.0]), (2, 2, 0)), [2.0, 3.0, 2.0, 3.0]);
}

#[test]
fn numbers_are_widened_exactly() {
    let values = [0.0, -0.0, 1.5, f32::MIN_POSITIVE, f32::INFINITY, 3.0e38];
    let half: Vec<bf16> = values.iter().map(|x| bf16::from_f32(*x)).collect();
    let mut out = [0.0; 2];
    Elements::Bf16(&half).widen_into(2, &mut out);
    assert_eq!(bits(&out), bits(&[1.5, f32::MIN_POSITIVE]));
    let small: Vec<f16> = [1e-7, -6e-5, 65504.0].iter().map(|x| f16::from_f32(*x)).collect();
    let mut out = [0.0; 3];
    Elements::F16(&small).widen_into(0, &mut out);
    assert_eq!(out, [small[0].to_f32(), small[1].to_f32(), 65504.0]);
}

/// One product by [`Packed`].
fn run_packed(x: &[f32], w: &Packed, m: usize) -> Vec<f32> {
    let mut y = vec![f32::NAN; m * w.outputs()];
    w.forward(&mut y, x);
    y
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn packed_products_are_sums_and_rows_are_alone(m in 1usize..110, n in 1usize..150, k in 0usize..90, at in 0usize..110) {
        let (x, w, bias) = (fine(m * k, 1), numbers(n * k, 2), fine(n, 3));
        let part = Part { weight: Elements::F32(&w), bias: Some(&bias), outputs: n };
        let packed = Packed::new(&[part], k);
        let y = run_packed(&x, &packed, m);
        for (i, row) in y.chunks(n).enumerate() {
            for (j, y) in row.iter().enumerate() {
                let terms = || (0..k).map(|l| f64::from(x[i * k + l]) * f64::from(w[j * k + l]));
                let (exact, size) = (terms().sum::<f64>() + f64::from(bias[j]), terms().map(f64::abs).sum::<f64>());
                prop_assert!((f64::from(*y) - exact).abs() <= 1e-6 * (size + 1.0), "{} {} {}", m, n, k);
            }
        }
        let at = at % m;
        prop_assert_eq!(bits(&y[at * n..(at + 1) * n]), bits(&run_packed(&x[at * k..(at + 1) * k], &packed, 1)));
        prop_assert_eq!(bits(&y[at * n..]), bits(&run_packed(&x[at * k..], &packed, m - at)));
        let half: Vec<bf16> = w.iter().map(|x| bf16::from_f32(*x)).collect();
        let half = Packed::new(&[Part { weight: Elements::Bf16(&half), ..part }], k);
        prop_assert_eq!(bits(&y), bits(&run_packed(&x, &half, m)));
    }
}

#[test]
fn packed_products_agree_between_instruction_sets_and_threads() {
    for (m, n, k) in [(1, 200, 2 * BLOCK + 9), (2, 16, 64), (7, 33, 129), (130, 300, 1030)] {
        let (x, w) = (fine(m * k, 4), fine(n * k, 5));
        let packed = Packed::new(&[Part { weight: Elements::F32(&w), bias: None, outputs: n }], k);
        let once = run_packed(&x, &packed, m);
        for threads in [1, 2, 5] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            assert_eq!(bits(&once), bits(&pool.install(|| run_packed(&x, &packed, m))), "{threads} threads");
        }
        let (mut other, mut plain) = (vec![0.0; m * n], vec![0.0; m * n]);
        if sets::with_avx2(packed.job(&mut MatMut::new(&mut other, m, n), &x, 0)) {
            assert_eq!(bits(&once), bits(&other));
        }
        sets::portable(packed.job(&mut MatMut::new(&mut plain, m, n), &x, 0));
        assert!(once.iter().zip(&plain).all(|(a, b)| (a - b).abs() <= 1e-3), "{m} {n} {k}");
    }
}

#[test]
fn packed_parts_stand_side_by_side() {
    let (m, k) = (5, 37);
    let x = fine(m * k, 1);
    let (a, b, bias) = (fine(70 * k, 2), numbers(3 * k, 3), fine(70, 4));
    let first = Part { weight: Elements::F32(&a), bias: Some(&bias), outputs: 70 };
    let second = Part { weight: Elements::F32(&b), bias: None, outputs: 3 };
    let both = run_packed(&x, &Packed::new(&[first, second], k), m);
    let (first, second) = (Packed::new(&[first], k), Packed::new(&[second], k));
    for (i, row) in both.chunks(73).enumerate() {
        let x = &x[i * k..(i + 1) * k];
        assert_eq!(row, [run_packed(x, &first, 1), run_packed(x, &second, 1)].concat());
    }
}
