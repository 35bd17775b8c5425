//! Pins and scans against real files, with a clock that stands where a test puts it and a store that counts.

#![allow(clippy::unwrap_used)]
#![allow(clippy::disallowed_methods, reason = "bare sessions: the factory lies in a crate beside this one")]

mod changes;
mod constraints;
mod ddl;
mod declared;
mod delta;
mod delta_files;
mod every_field;
mod evolution;
mod external;
mod files;
mod identity;
mod introspection;
mod options;
mod pinned_files;
mod predicates;
mod projection;
mod support;
