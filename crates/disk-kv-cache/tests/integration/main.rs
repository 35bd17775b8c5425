//! Behaviour of whole stores: against a model, across threads and processes, and with bad files.

#![allow(clippy::unwrap_used)]

mod child;
mod damage;
mod growth;
mod handles;
mod model;
mod processes;
mod system;
