//! [`Index`]: a persistent map in insertion order.

mod handle;
mod queue;
mod table;
mod txn;

pub use handle::Index;
pub use txn::IndexTxn;
