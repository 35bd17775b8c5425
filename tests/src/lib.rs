//! What tests and examples of several crates share. The tests themselves live in `tests/`.

pub mod tpch;
