//! The ledgers over real stores, tables and processes.

mod artifacts;
mod builds;
mod copies;
mod crash;
mod damage;
mod drain;
mod hits;
mod rows;
mod runs;
mod support;
mod views;
