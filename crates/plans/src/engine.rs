//! The versions of what computes rows: an upgrade of any of them is a new identity.

use std::collections::BTreeMap;

/// Ours: raised by hand when a change of Alluvium alone makes the same plan give other rows.
pub const ROWS_EPOCH: u32 = 2;

/// The linked engine, by component. Each version is read from the linked crate itself, never written down here.
#[must_use]
pub fn engine_versions() -> BTreeMap<String, String> {
    let parquet = parquet::file::properties::WriterProperties::default().created_by().to_owned();
    [
        ("datafusion", datafusion::DATAFUSION_VERSION.to_owned()),
        ("arrow", arrow::ARROW_VERSION.to_owned()),
        ("parquet", parquet),
        ("deltalake", deltalake_core::crate_version().to_owned()),
        // What chrono-tz is used for here is its data: the release of the time zone database inside it.
        ("time zones", chrono_tz::IANA_TZDB_VERSION.to_owned()),
        ("rows epoch", ROWS_EPOCH.to_string()),
    ]
    .into_iter()
    .map(|(component, version)| (component.to_owned(), version))
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_version_is_known() {
        for (component, version) in engine_versions() {
            assert!(version.chars().any(|c| c.is_ascii_digit()), "{component}: {version}");
        }
    }
}
