//! The ten digits as a 5×7 bitmap font, drawn with 2×2 image pixels for each font pixel.

/// Width of a digit in image pixels.
pub const WIDTH: u32 = 10;
/// Height of a digit in image pixels.
pub const HEIGHT: u32 = 14;
/// Side of a font pixel in image pixels.
pub const SCALE: u32 = 2;

/// Seven rows of five bits a digit; the highest of the five is the leftmost.
const GLYPHS: [[u8; 7]; 10] = [
    [0b01110, 0b10001, 0b10011, 0b10101, 0b11001, 0b10001, 0b01110],
    [0b00100, 0b01100, 0b00100, 0b00100, 0b00100, 0b00100, 0b01110],
    [0b01110, 0b10001, 0b00001, 0b00010, 0b00100, 0b01000, 0b11111],
    [0b11111, 0b00010, 0b00100, 0b00010, 0b00001, 0b10001, 0b01110],
    [0b00010, 0b00110, 0b01010, 0b10010, 0b11111, 0b00010, 0b00010],
    [0b11111, 0b10000, 0b11110, 0b00001, 0b00001, 0b10001, 0b01110],
    [0b00110, 0b01000, 0b10000, 0b11110, 0b10001, 0b10001, 0b01110],
    [0b11111, 0b00001, 0b00010, 0b00100, 0b01000, 0b01000, 0b01000],
    [0b01110, 0b10001, 0b10001, 0b01110, 0b10001, 0b10001, 0b01110],
    [0b01110, 0b10001, 0b10001, 0b01111, 0b00001, 0b00010, 0b01100],
];

/// The rows of a digit's bitmap; of a number above 9, those of its last digit.
///
/// ```
/// assert_eq!(imagent_data::world::font::glyph(7)[0], 0b11111);
/// ```
pub fn glyph(digit: u8) -> [u8; 7] {
    GLYPHS[usize::from(digit % 10)]
}

/// Whether the digit's bitmap is set at image pixel (x, y), counted from the digit's top left corner.
pub fn is_set(digit: u8, x: u32, y: u32) -> bool {
    x < WIDTH && y < HEIGHT && glyph(digit)[(y / SCALE) as usize] >> (4 - x / SCALE) & 1 == 1
}
