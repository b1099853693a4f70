//! The inverse transform of a block, by integers as in libjpeg's `jidctint` (Loeffler, Ligtenberg, Moschytz 1989).

use std::num::Wrapping;

use super::entropy::Block;

/// Bits behind the point of the constants.
const CONST: usize = 13;
/// Bits behind the point that the first pass keeps.
const KEPT: usize = 2;

/// Sums wrap, so that no file can make them fail; those of a real picture are far from it.
type Number = Wrapping<i32>;

const fn number(x: i32) -> Number {
    Wrapping(x)
}

/// Eight samples of a row or column, scaled by 2^[`CONST`].
fn transform(x: [Number; 8]) -> [Number; 8] {
    let z = (x[2] + x[6]) * number(4433);
    let (even2, even3) = (z - x[6] * number(15137), z + x[2] * number(6270));
    let (even0, even1) = ((x[0] + x[4]) << CONST, (x[0] - x[4]) << CONST);
    let even = [even0 + even3, even1 + even2, even1 - even2, even0 - even3];
    let z5 = (x[7] + x[3] + x[5] + x[1]) * number(9633);
    let z1 = (x[7] + x[1]) * number(-7373);
    let z2 = (x[5] + x[3]) * number(-20995);
    let z3 = (x[7] + x[3]) * number(-16069) + z5;
    let z4 = (x[5] + x[1]) * number(-3196) + z5;
    let odd = [
        x[1] * number(12299) + z1 + z4,
        x[3] * number(25172) + z2 + z3,
        x[5] * number(16819) + z2 + z4,
        x[7] * number(2446) + z1 + z3,
    ];
    let mut out = [number(0); 8];
    for i in 0..4 {
        out[i] = even[i] + odd[i];
        out[7 - i] = even[i] - odd[i];
    }
    out
}

fn round(x: Number, bits: usize) -> i32 {
    ((x + number(1 << (bits - 1))) >> bits).0
}

/// Writes the samples of a block to `out`, whose rows are `stride` apart.
pub(super) fn inverse(block: &Block, quantization: &[u16; 64], out: &mut [u8], stride: usize) {
    let mut work = [number(0); 64];
    for column in 0..8 {
        let x = std::array::from_fn(|row| {
            let at = 8 * row + column;
            number(i32::from(block[at].wrapping_mul(quantization[at] as i16)))
        });
        for (row, value) in transform(x).into_iter().enumerate() {
            // Sixteen bits between the passes, as libjpeg-turbo's vector code has.
            work[8 * row + column] = number(round(value, CONST - KEPT).clamp(-32768, 32767));
        }
    }
    for (row, x) in work.as_chunks::<8>().0.iter().enumerate() {
        let line = &mut out[row * stride..row * stride + 8];
        for (sample, value) in line.iter_mut().zip(transform(*x)) {
            *sample = (round(value, CONST + KEPT + 3) + 128).clamp(0, 255) as u8;
        }
    }
}
