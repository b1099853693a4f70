//! Slice kernels of the embedding. Rows are `d` wide; ids are inside the table.

use crate::ops::parallel::for_rows;

/// `y[i] = table[ids[i]]`.
pub fn forward(y: &mut [f32], table: &[f32], ids: &[usize], d: usize) {
    if d == 0 {
        return;
    }
    for_rows(y, d, |start, y| {
        for (row, &id) in y.chunks_exact_mut(d).zip(&ids[start..]) {
            row.copy_from_slice(&table[id * d..(id + 1) * d]);
        }
    });
}

/// `dtable[ids[i]] += dy[i]`, in the order of `i`.
pub fn backward(dtable: &mut [f32], dy: &[f32], ids: &[usize], d: usize) {
    if d == 0 {
        return;
    }
    for (&id, row) in ids.iter().zip(dy.chunks_exact(d)) {
        for (sum, g) in dtable[id * d..(id + 1) * d].iter_mut().zip(row) {
            *sum += g;
        }
    }
}
