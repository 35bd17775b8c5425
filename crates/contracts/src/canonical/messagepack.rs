//! The bytes of canonical MessagePack.

use std::cmp::Ordering;

use super::encoder::{Container, Form};

pub(super) struct MessagePack;

/// Drops what `rmp` returns: a vector takes every byte.
fn written<T, E>(_: Result<T, E>) {}

impl Form for MessagePack {
    fn null(out: &mut Vec<u8>) {
        written(rmp::encode::write_nil(out));
    }

    fn boolean(out: &mut Vec<u8>, value: bool) {
        written(rmp::encode::write_bool(out, value));
    }

    fn integer(out: &mut Vec<u8>, value: i64) {
        written(rmp::encode::write_sint(out, value));
    }

    fn float(out: &mut Vec<u8>, value: f64) {
        written(rmp::encode::write_f64(out, value));
    }

    fn text(out: &mut Vec<u8>, value: &str) {
        written(rmp::encode::write_str(out, value));
    }

    fn open(out: &mut Vec<u8>, kind: Container, length: usize) {
        // Four thousand million parts do not fit into any document that is read back.
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        match kind {
            Container::List => written(rmp::encode::write_array_len(out, length)),
            Container::Object => written(rmp::encode::write_map_len(out, length)),
        }
    }

    fn separate(_: &mut Vec<u8>) {}

    fn assign(_: &mut Vec<u8>) {}

    fn close(_: &mut Vec<u8>, _: Container) {}

    fn compare(a: &str, b: &str) -> Ordering {
        a.cmp(b)
    }
}
