//! Values that the examples of contracts share.

use uuid::Uuid;

use crate::ids::{RootId, RunId};

/// 2026-01-15 06:00 UTC.
pub(super) const UNIX_MS: i64 = 1_768_456_800_000;

pub(super) const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

pub(super) fn run_id() -> RunId {
    RunId::from_uuid(Uuid::from_u128(0x019b_bfd4_1f00_7def_8123_4567_89ab_cdef))
}

pub(super) fn root_id() -> RootId {
    RootId::from_uuid(Uuid::from_u128(0x5b1f_0c8e_3a52_4d8f_9c60_2f6f_0d1f_2a33))
}

pub(super) fn names<const N: usize>(names: [&str; N]) -> Vec<String> {
    names.map(str::to_owned).into()
}
