//! Slice kernel of the gradient of a gather; its forward is that of the embedding.

use crate::ops::parallel::for_rows;

/// `dx[rows[i]] += dy[i]`: in parallel over the rows of `dx`, each in the order of `i`.
pub fn backward(dx: &mut [f32], dy: &[f32], rows: &[usize], d: usize) {
    if d == 0 {
        return;
    }
    let (starts, sources) = sources(rows, dx.len() / d);
    for_rows(dx, d, |start, dx| {
        for (t, sum) in dx.chunks_exact_mut(d).enumerate() {
            let range = starts[start + t]..starts[start + t + 1];
            for &i in &sources[range] {
                for (s, g) in sum.iter_mut().zip(&dy[i * d..(i + 1) * d]) {
                    *s += g;
                }
            }
        }
    });
}

/// For each row `t` of `count`, the places `i` with `rows[i] = t`: `sources[starts[t]..starts[t + 1]]`.
fn sources(rows: &[usize], count: usize) -> (Vec<usize>, Vec<usize>) {
    let mut starts = vec![0; count + 1];
    for &row in rows {
        starts[row + 1] += 1;
    }
    for t in 0..count {
        starts[t + 1] += starts[t];
    }
    let mut next = starts.clone();
    let mut sources = vec![0; rows.len()];
    for (i, &row) in rows.iter().enumerate() {
        sources[next[row]] = i;
        next[row] += 1;
    }
    (starts, sources)
}
