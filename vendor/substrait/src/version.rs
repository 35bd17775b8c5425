//! The version of Substrait that the messages are of.

use crate::proto::Version;

/// The major version.
pub const SUBSTRAIT_MAJOR_VERSION: u32 = 0;
/// The minor version.
pub const SUBSTRAIT_MINOR_VERSION: u32 = 85;
/// The patch version.
pub const SUBSTRAIT_PATCH_VERSION: u32 = 0;

/// The version, without a producer.
pub fn version() -> Version {
    Version {
        major_number: SUBSTRAIT_MAJOR_VERSION,
        minor_number: SUBSTRAIT_MINOR_VERSION,
        patch_number: SUBSTRAIT_PATCH_VERSION,
        ..Version::default()
    }
}

/// The version, with who made the plan.
pub fn version_with_producer(producer: impl Into<String>) -> Version {
    Version { producer: producer.into(), ..version() }
}
