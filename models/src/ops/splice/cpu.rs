//! Slice kernels of the splice. Rows are `d` wide; `owners[t]` is the row put at `t`, if any.

/// `y[t] = rows[owners[t]]` where a row is put.
pub fn forward(y: &mut [f32], rows: &[f32], owners: &[Option<usize>], d: usize) {
    for (t, i) in placed(owners) {
        y[t * d..(t + 1) * d].copy_from_slice(&rows[i * d..(i + 1) * d]);
    }
}

/// `drows[owners[t]] += dy[t]` where a row is put.
pub fn backward_rows(drows: &mut [f32], dy: &[f32], owners: &[Option<usize>], d: usize) {
    for (t, i) in placed(owners) {
        add(&mut drows[i * d..(i + 1) * d], &dy[t * d..(t + 1) * d]);
    }
}

/// `dx[t] += dy[t]` where no row is put.
pub fn backward_input(dx: &mut [f32], dy: &[f32], owners: &[Option<usize>], d: usize) {
    for (t, _) in owners.iter().enumerate().filter(|(_, owner)| owner.is_none()) {
        add(&mut dx[t * d..(t + 1) * d], &dy[t * d..(t + 1) * d]);
    }
}

fn placed(owners: &[Option<usize>]) -> impl Iterator<Item = (usize, usize)> {
    owners.iter().enumerate().filter_map(|(t, owner)| owner.map(|i| (t, i)))
}

fn add(sum: &mut [f32], row: &[f32]) {
    for (s, g) in sum.iter_mut().zip(row) {
        *s += g;
    }
}
