//! The ledgers over real stores, tables and processes.

mod crash;
mod damage;
mod drain;
mod rows;
mod runs;
mod support;
