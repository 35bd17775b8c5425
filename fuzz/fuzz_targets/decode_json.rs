//! Any bytes as Json.
#![no_main]

#[path = "../check.rs"]
mod check;

use alluvium_contracts::Encoding;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| check::check(bytes, Encoding::Json));
