//! Table features: what each needs, and which of them this build can read and write.
//!
//! A feature is gated before it is added: adding one that the engine cannot write locks us out of our own table.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::error::PolicyError;
use alluvium_contracts::{DeltaFeature, DeltaWritePolicy, GateMode, TableProtocol};

/// What a feature is in the protocol.
pub(crate) struct FeatureRow {
    pub(crate) feature: DeltaFeature,
    /// Its name in the protocol action.
    pub(crate) protocol_name: &'static str,
    /// Whether readers have to know it as well.
    pub(crate) for_readers: bool,
    /// The property that turns it on.
    pub(crate) property: Option<(&'static str, &'static str)>,
    /// Why this build cannot keep it; `None`: it can.
    pub(crate) refused: Option<&'static str>,
}

const ENGINE: &str = "the engine cannot write tables with it";

/// Every feature that a policy can name. A test holds the engine to the column `refused`.
pub(crate) const FEATURES: [FeatureRow; 20] = {
    use DeltaFeature::*;
    const fn of(
        feature: DeltaFeature,
        protocol_name: &'static str,
        for_readers: bool,
        property: Option<(&'static str, &'static str)>,
        refused: Option<&'static str>,
    ) -> FeatureRow {
        FeatureRow { feature, protocol_name, for_readers, property, refused }
    }
    [
        of(AppendOnly, "appendOnly", false, Some(("delta.appendOnly", "true")), None),
        of(Invariants, "invariants", false, None, None),
        of(CheckConstraints, "checkConstraints", false, None, None),
        of(ChangeDataFeed, "changeDataFeed", false, Some(("delta.enableChangeDataFeed", "true")), None),
        of(GeneratedColumns, "generatedColumns", false, None, None),
        of(AllowColumnDefaults, "allowColumnDefaults", false, None, Some(ENGINE)),
        of(
            ColumnMapping,
            "columnMapping",
            true,
            Some(("delta.columnMapping.mode", "name")),
            Some("files are written with the columns' own names"),
        ),
        of(IdentityColumns, "identityColumns", false, None, Some(ENGINE)),
        of(DeletionVectors, "deletionVectors", true, Some(("delta.enableDeletionVectors", "true")), None),
        of(RowTracking, "rowTracking", false, Some(("delta.enableRowTracking", "true")), Some(ENGINE)),
        of(TimestampNtz, "timestampNtz", true, None, None),
        of(TypeWidening, "typeWidening", true, Some(("delta.enableTypeWidening", "true")), Some(ENGINE)),
        of(DomainMetadata, "domainMetadata", false, None, Some(ENGINE)),
        of(Clustering, "clustering", false, None, Some(ENGINE)),
        of(V2Checkpoints, "v2Checkpoint", true, Some(("delta.checkpointPolicy", "v2")), None),
        of(
            InCommitTimestamps,
            "inCommitTimestamp",
            false,
            Some(("delta.enableInCommitTimestamps", "true")),
            Some(ENGINE),
        ),
        of(VacuumProtocolCheck, "vacuumProtocolCheck", true, None, Some(ENGINE)),
        of(IcebergCompatV1, "icebergCompatV1", false, Some(("delta.enableIcebergCompatV1", "true")), Some(ENGINE)),
        of(IcebergCompatV2, "icebergCompatV2", false, Some(("delta.enableIcebergCompatV2", "true")), Some(ENGINE)),
        of(VariantType, "variantType", true, None, Some("this build writes no variant columns")),
    ]
};

/// The versions and features of a table's protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Protocol {
    pub(crate) min_reader_version: u32,
    pub(crate) min_writer_version: u32,
    /// Empty below reader version 3.
    pub(crate) reader_features: BTreeSet<String>,
    /// Empty below writer version 7.
    pub(crate) writer_features: BTreeSet<String>,
}

/// Features after the gate.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct GatedFeatures {
    pub(crate) enabled: Vec<DeltaFeature>,
    /// With the reasons.
    pub(crate) left_out: BTreeMap<DeltaFeature, &'static str>,
}

/// Keeps the features that this build can keep.
pub(crate) fn gate(policy: &DeltaWritePolicy) -> Result<GatedFeatures, PolicyError> {
    let mut gated = GatedFeatures::default();
    for feature in &policy.enable_features {
        let row = row(*feature);
        match (row.refused, policy.feature_gate) {
            (None, _) if gated.enabled.contains(feature) => {}
            (None, _) => gated.enabled.push(*feature),
            (Some(reason), GateMode::Error) => {
                return Err(PolicyError::UnsupportedFeature { feature: row.protocol_name, reason });
            }
            (Some(reason), gate) => {
                if gate == GateMode::Warn {
                    tracing::warn!(feature = row.protocol_name, reason, "a table feature was left out");
                }
                gated.left_out.insert(*feature, reason);
            }
        }
    }
    gated.enabled.sort_unstable();
    Ok(gated)
}

/// The row of a feature.
pub(crate) fn row(feature: DeltaFeature) -> &'static FeatureRow {
    // There is a row for every feature; a test says so.
    FEATURES.iter().find(|row| row.feature == feature).unwrap_or(&FEATURES[0])
}

/// Whether a table has a feature: in its protocol, and in its properties where one turns it on.
pub(crate) fn feature_is_on(
    feature: DeltaFeature,
    protocol: &Protocol,
    configuration: &BTreeMap<String, String>,
) -> bool {
    let row = row(feature);
    let turned_on = |(key, value)| configuration.get(key).is_some_and(|there: &String| there == value);
    protocol.has(row.protocol_name) && row.property.is_none_or(turned_on)
}

/// The least protocol that says `features`, on top of what `before` says already.
///
/// A feature brings the table to versions 3 and 7, where every feature is named: nothing is on that nobody asked for.
/// What the older writer version stood for is spelt out then.
pub(crate) fn protocol(before: Option<&Protocol>, features: &[&str], has_invariants: bool) -> Protocol {
    let mut protocol = before.cloned().unwrap_or(Protocol {
        min_reader_version: 1,
        min_writer_version: 2,
        reader_features: BTreeSet::new(),
        writer_features: BTreeSet::new(),
    });
    let implied = implied_features(protocol.min_writer_version);
    let missing = |feature: &&str| !protocol.writer_features.contains(*feature) && !implied.contains(feature);
    if !features.iter().any(missing) {
        return protocol;
    }
    if protocol.min_writer_version < 7 {
        if before.is_some() {
            // Somebody may rely on what the table's version stood for.
            protocol.writer_features.extend(implied.iter().map(|feature| (*feature).to_owned()));
        } else if has_invariants {
            protocol.writer_features.insert("invariants".to_owned());
        }
        protocol.min_writer_version = 7;
    }
    for feature in features {
        protocol.writer_features.insert((*feature).to_owned());
        let for_readers = FEATURES.iter().any(|row| row.protocol_name == *feature && row.for_readers);
        if for_readers {
            if protocol.min_reader_version == 2 {
                protocol.reader_features.insert("columnMapping".to_owned());
            }
            protocol.min_reader_version = 3;
            protocol.reader_features.insert((*feature).to_owned());
        }
    }
    protocol
}

/// What a writer version below 7 stands for.
fn implied_features(min_writer_version: u32) -> &'static [&'static str] {
    const LEGACY: [&str; 7] = [
        "appendOnly",
        "invariants",
        "checkConstraints",
        "changeDataFeed",
        "generatedColumns",
        "columnMapping",
        "identityColumns",
    ];
    match min_writer_version {
        2 => &LEGACY[..2],
        3 => &LEGACY[..3],
        4 => &LEGACY[..5],
        5 => &LEGACY[..6],
        6 => &LEGACY,
        _ => &[],
    }
}

impl Protocol {
    /// From the `protocol` action, as JSON.
    pub(crate) fn from_action(action: &Value) -> Self {
        let version = |key| action[key].as_u64().and_then(|version| u32::try_from(version).ok()).unwrap_or_default();
        let names = |key| {
            let list = action[key].as_array().cloned().unwrap_or_default();
            list.iter().filter_map(|name| name.as_str().map(str::to_owned)).collect()
        };
        Self {
            min_reader_version: version("minReaderVersion"),
            min_writer_version: version("minWriterVersion"),
            reader_features: names("readerFeatures"),
            writer_features: names("writerFeatures"),
        }
    }

    /// As the `protocol` action.
    pub(crate) fn to_action(&self) -> Value {
        let mut action =
            json!({"minReaderVersion": self.min_reader_version, "minWriterVersion": self.min_writer_version});
        if self.min_reader_version >= 3 {
            action["readerFeatures"] = json!(self.reader_features);
        }
        if self.min_writer_version >= 7 {
            action["writerFeatures"] = json!(self.writer_features);
        }
        action
    }

    /// As a report has it.
    pub(crate) fn to_contract(&self) -> TableProtocol {
        TableProtocol {
            min_reader_version: self.min_reader_version,
            min_writer_version: self.min_writer_version,
            reader_features: self.reader_features.iter().cloned().collect(),
            writer_features: self.writer_features.iter().cloned().collect(),
        }
    }

    /// Whether a writer of this table has to know `feature`.
    pub(crate) fn has(&self, feature: &str) -> bool {
        self.writer_features.contains(feature) || implied_features(self.min_writer_version).contains(&feature)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_feature_has_a_row() {
        assert_eq!(FEATURES.len(), DeltaFeature::ALL.len());
        for feature in DeltaFeature::ALL {
            assert_eq!(row(*feature).feature, *feature);
        }
    }

    #[test]
    fn a_protocol_says_what_was_asked_and_no_more() {
        let plain = protocol(None, &[], false);
        assert_eq!((plain.min_reader_version, plain.min_writer_version), (1, 2));
        assert_eq!(protocol(None, &["appendOnly"], false), plain, "version 2 has it");
        let feed = protocol(None, &["changeDataFeed"], false);
        assert_eq!((feed.min_reader_version, feed.min_writer_version), (1, 7));
        assert_eq!(feed.writer_features, BTreeSet::from(["changeDataFeed".to_owned()]));
        let ntz = protocol(Some(&feed), &["timestampNtz"], false);
        assert_eq!((ntz.min_reader_version, ntz.min_writer_version), (3, 7));
        assert_eq!(ntz.reader_features, BTreeSet::from(["timestampNtz".to_owned()]));
        let kept = protocol(Some(&plain), &["changeDataFeed"], false);
        assert!(kept.writer_features.contains("appendOnly"), "a table keeps what its version stood for: {kept:?}");
        assert_eq!(Protocol::from_action(&kept.to_action()), kept);
    }

    #[test]
    fn the_gate_refuses_or_leaves_out() {
        let policy = |feature_gate| DeltaWritePolicy {
            enable_features: vec![DeltaFeature::RowTracking, DeltaFeature::ChangeDataFeed],
            feature_gate,
            ..DeltaWritePolicy::default()
        };
        let error = gate(&policy(GateMode::Error)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "`enable_features` asks for `rowTracking`: the engine cannot write tables with it; drop it, or set `feature_gate` to `warn` or `ignore`"
        );
        for mode in [GateMode::Warn, GateMode::Ignore] {
            let gated = gate(&policy(mode)).unwrap();
            assert_eq!(gated.enabled, [DeltaFeature::ChangeDataFeed]);
            assert!(gated.left_out.contains_key(&DeltaFeature::RowTracking));
        }
    }
}
