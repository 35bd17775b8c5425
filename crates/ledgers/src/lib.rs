#![doc = include_str!("../README.md")]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod drain;
mod error;
mod event;
mod hits;
mod ledger;
mod ledgers;
mod lock;
mod loss;
mod operation;
mod queue;
mod rows;
mod run;
mod run_row;
mod table;
mod upkeep;
mod view;

#[cfg(test)]
mod tests;

pub use drain::DrainReport;
pub use error::LedgerError;
pub use ledger::Ledger;
pub use ledgers::Ledgers;
pub use loss::LedgerLoss;
pub use queue::{CursorMove, KilledRun, Testimony};
pub use rows::{LedgerRow, decode_rows};
pub use run::RunGuard;
pub use view::LedgerView;
