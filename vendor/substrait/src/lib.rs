//! The protobuf messages of [Substrait](https://substrait.io): what `datafusion-substrait` uses of the published crate
//! `substrait` 0.63.0, under the same names. Why it stands in for that crate is in the README.

// Generated, and held to no lint of ours.
#[allow(clippy::all, missing_docs)]
pub mod proto;
pub mod version;
