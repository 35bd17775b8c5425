#![doc = include_str!("../README.md")]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod drain;
mod error;
mod ledger;
mod ledgers;
mod lock;
mod queue;
mod rows;
mod run;
mod table;
mod upkeep;

#[cfg(test)]
mod tests;

pub use drain::DrainReport;
pub use error::LedgerError;
pub use ledger::Ledger;
pub use ledgers::Ledgers;
pub use run::RunGuard;
