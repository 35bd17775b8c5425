//! `alluvium kv DIR …`: a cache by hand and by script, and everything else of `alluvium-disk-kv-cache` for other
//! languages. Nothing in here knows a pipeline.

pub mod args;
mod codec;
mod commands;
mod describe;
mod document;
mod fault;
mod shell;
mod target;

pub use commands::execute;
