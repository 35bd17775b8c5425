//! What [`Deque`](crate::Deque), [`Index`](crate::Index) and [`WorkQueue`](crate::WorkQueue) share: how values become
//! bytes, what goes wrong, and iteration in batches.

mod error;
mod iter;
mod sealed;
mod value;

pub use error::{CollectionError, ValueError};
pub(crate) use iter::BATCH;
pub use iter::CollectionIter;
pub(crate) use sealed::{corrupt, number, open, seal};
pub use value::{Record, Value};
