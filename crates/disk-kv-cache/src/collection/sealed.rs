//! Values under a checksum, so that flipped bits are an error and never a wrong value.

use twox_hash::XxHash3_64;

use super::CollectionError;

const SUM: usize = size_of::<u64>();

/// The value to store under `key`: a checksum over both, then the value.
pub(crate) fn seal(key: &[u8], value: &[u8]) -> Vec<u8> {
    let mut sealed = Vec::with_capacity(SUM + value.len());
    sealed.extend_from_slice(&sum(key, value).to_be_bytes());
    sealed.extend_from_slice(value);
    sealed
}

/// The value that was sealed under `key`.
pub(crate) fn open<'v>(table: &'static str, key: &[u8], sealed: &'v [u8]) -> Result<&'v [u8], CollectionError> {
    match sealed.split_first_chunk::<SUM>() {
        Some((stored, value)) if u64::from_be_bytes(*stored) == sum(key, value) => Ok(value),
        _ => Err(corrupt(table, key)),
    }
}

/// A number that was stored as 8 bytes, big end first, as a key or within a value of `table`.
pub(crate) fn number(table: &'static str, bytes: &[u8]) -> Result<u64, CollectionError> {
    bytes.try_into().map(u64::from_be_bytes).map_err(|_| corrupt(table, bytes))
}

pub(crate) fn corrupt(table: &'static str, key: &[u8]) -> CollectionError {
    CollectionError::Corrupt { table, key: key.to_vec() }
}

fn sum(key: &[u8], value: &[u8]) -> u64 {
    XxHash3_64::oneshot_with_seed(XxHash3_64::oneshot(key), value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_bit_and_a_moved_value_is_found() {
        let sealed = seal(b"key", b"value");
        assert_eq!(open("t", b"key", &sealed).unwrap(), b"value");
        for bit in 0..sealed.len() * 8 {
            let mut bad = sealed.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(open("t", b"key", &bad), Err(CollectionError::Corrupt { .. })), "bit {bit}");
        }
        assert!(open("t", b"kex", &sealed).is_err());
        for len in 0..sealed.len() {
            assert!(open("t", b"key", &sealed[..len]).is_err(), "{len} bytes");
        }
    }
}
