//! Any bytes as TOML.
#![no_main]

#[path = "../check.rs"]
mod check;
#[path = "../check_toml.rs"]
mod check_toml;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| check_toml::check_toml(bytes));
