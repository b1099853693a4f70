//! Pictures named by a sum of their bytes, and JPEG files that lie: for the tests of the library and of the program.

/// FNV-1a of 64 bits.
pub(crate) fn sum(bytes: &[u8]) -> String {
    let step = |value: u64, &byte: &u8| (value ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
    format!("{:016x}", bytes.iter().fold(0xcbf2_9ce4_8422_2325, step))
}

/// A JPEG file whose header says another size.
pub(crate) fn with_size(mut bytes: Vec<u8>, width: u16, height: u16) -> Vec<u8> {
    let start = bytes.windows(2).position(|pair| pair == [0xff, 0xc0] || pair == [0xff, 0xc2]).unwrap();
    bytes[start + 5..start + 7].copy_from_slice(&height.to_be_bytes());
    bytes[start + 7..start + 9].copy_from_slice(&width.to_be_bytes());
    bytes
}
