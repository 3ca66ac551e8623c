//! Unsigned varints: seven bits a byte, least significant first, the high bit says "more follows".
//!
//! The same rule as in bodies (see [`body`](crate::body)); this copy exists because records are
//! walked by the million and must not pay for a general deserializer.

use bytes::{BufMut, BytesMut};

/// Bytes of the longest varint: 64 bits in groups of seven.
pub const MAX_LEN: usize = 10;

/// Bytes that `value` takes.
#[inline]
pub fn len(value: u64) -> usize {
    let bits = 64 - (value | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

/// Appends `value`.
pub fn put(out: &mut BytesMut, mut value: u64) {
    while value >= 0x80 {
        out.put_u8(low_byte(value) | 0x80);
        value >>= 7;
    }
    out.put_u8(low_byte(value));
}

fn low_byte(value: u64) -> u8 {
    value.to_le_bytes()[0]
}

/// Takes one varint off the front; `None` if it is cut short or exceeds 64 bits.
#[inline]
pub fn take(input: &mut &[u8]) -> Option<u64> {
    // Nearly all are of one or two bytes.
    match **input {
        [first, ref rest @ ..] if first < 0x80 => {
            *input = rest;
            Some(u64::from(first))
        }
        [first, second, ref rest @ ..] if second < 0x80 => {
            *input = rest;
            Some(u64::from(first & 0x7f) | u64::from(second) << 7)
        }
        _ => take_long(input),
    }
}

fn take_long(input: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for (index, &byte) in input.iter().enumerate().take(MAX_LEN) {
        let bits = u64::from(byte & 0x7f);
        if index == MAX_LEN - 1 && byte > 1 {
            return None;
        }
        value |= bits << (7 * index);
        if byte < 0x80 {
            *input = &input[index + 1..];
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_varint_is_what_postcard_writes_and_reads() {
        for value in (0..64).flat_map(|bit| [(1 << bit) - 1, 1_u64 << bit, u64::MAX >> bit]) {
            let mut out = BytesMut::new();
            put(&mut out, value);
            assert_eq!(out, postcard::to_stdvec(&value).unwrap(), "{value}");
            assert_eq!(out.len(), len(value), "{value}");
            let mut input = &out[..];
            assert_eq!(take(&mut input), Some(value));
            assert!(input.is_empty());
        }
    }

    #[test]
    fn a_cut_or_overlong_varint_is_refused() {
        for bytes in [&[][..], &[0x80], &[0xff; 9], &[0xff; 11]] {
            assert_eq!(take(&mut &bytes[..]), None, "{bytes:02x?}");
        }
        let mut too_large = [0xff; 10];
        too_large[9] = 2;
        assert_eq!(take(&mut &too_large[..]), None);
    }
}
