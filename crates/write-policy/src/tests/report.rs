//! The report says what is there, field by field.

use alluvium_contracts::{
    ColumnWriterProperties, Compression, DeltaFeature, FeatureResult, FieldReport, GateMode, RunId, SchemaHash,
    StatsPolicy, WriteMode, WriteOutcome, WriteReport, WriterPropertiesPolicy, canonical_json,
};
use alluvium_telemetry::Seam;
use serde_json::json;

use super::*;

fn run_id() -> RunId {
    "019e3c4a-5b6d-7e8f-9a0b-1c2d3e4f5a6b".parse().unwrap()
}

async fn reported(table: &Path, policy: &DeltaWritePolicy, rows: Vec<RecordBatch>) -> WriteReport {
    let policy = resolve(policy);
    let write = TableWrite::new(table, schema(), vec![stream(rows)], &policy).transaction("app", 7);
    let write = write.on_behalf_of("daily", Some(run_id()));
    write.run_reported(&Seam::system()).await.unwrap().1
}

fn field<'a>(report: &'a WriteReport, name: &str) -> &'a FieldReport {
    report.fields.iter().find(|field| field.field == name).unwrap_or_else(|| panic!("{name} is not reported"))
}

fn rich() -> DeltaWritePolicy {
    DeltaWritePolicy {
        zorder_by: names(&["n"]),
        stats_policy: StatsPolicy::Explicit,
        stats_columns: Some(names(&["n"])),
        enable_features: vec![DeltaFeature::DeletionVectors, DeltaFeature::RowTracking],
        feature_gate: GateMode::Warn,
        mode: WriteMode::Append,
        constraints: BTreeMap::from([("c".to_owned(), "n >= 0".to_owned())]),
        writer_properties: WriterPropertiesPolicy {
            compression: Compression::Zstd,
            dictionary_columns: Some(names(&["s"])),
            bloom_filter_columns: names(&["n"]),
            row_group_max_rows: 500,
            data_page_max_rows: 100,
            columns: BTreeMap::from([(
                "s".to_owned(),
                ColumnWriterProperties { compression: Some(Compression::Uncompressed), ..Default::default() },
            )]),
            ..WriterPropertiesPolicy::default()
        },
        ..DeltaWritePolicy::default()
    }
}

#[tokio::test]
async fn every_field_is_reported_beside_what_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let report = reported(dir.path(), &rich(), vec![numbered(0, 1_200)]).await;
    let mut expected: Vec<String> = Vec::new();
    for (name, value) in serde_json::to_value(rich()).unwrap().as_object().unwrap() {
        match value.as_object().filter(|_| !["constraints", "semantic_types"].contains(&name.as_str())) {
            Some(part) => expected.extend(part.keys().map(|inner| format!("{name}.{inner}"))),
            None => expected.push(name.clone()),
        }
    }
    expected.sort();
    let names: Vec<&str> = report.fields.iter().map(|field| field.field.as_str()).collect();
    assert_eq!(names, expected, "one report for each field of the policy");
    for field in report.fields.iter().filter(|field| field.field != "enable_features") {
        assert!(field.honoured, "{field:?}");
    }
    let features = field(&report, "enable_features");
    assert!(!features.honoured && features.observed == json!(["deletion_vectors"]), "{features:?}");
    for (name, observed) in [
        ("zorder_by", json!(["n"])),
        ("stats_columns", json!(["n"])),
        ("constraints", json!({"c": "n >= 0"})),
        ("writer_properties.compression", json!(["zstd"])),
        ("writer_properties.dictionary_columns", json!(["s"])),
        ("writer_properties.bloom_filter_columns", json!(["n"])),
        ("writer_properties.row_group_max_rows", json!(500)),
        ("writer_properties.statistics_level", json!(["page"])),
    ] {
        assert_eq!(field(&report, name).observed, observed, "{name}");
    }
    assert_eq!(field(&report, "writer_properties.columns").observed["s"]["s"]["compression"], json!(["uncompressed"]));
    assert_eq!((report.row_count, report.file_count, report.attempt_count), (1_200, 1, 1));
    assert_eq!((report.delta_version, report.base_version, report.outcome), (Some(0), None, WriteOutcome::Committed));
    assert_eq!(report.files[0].row_group_count, 3);
    assert_eq!(report.order_version, Some(0));
    let results: Vec<_> = report.protocol.features.iter().map(|feature| (feature.feature, feature.result)).collect();
    assert_eq!(
        results,
        [(DeltaFeature::DeletionVectors, FeatureResult::Enabled), (DeltaFeature::RowTracking, FeatureResult::LeftOut)]
    );
    assert!(report.protocol.before.is_none() && report.protocol.writable);
    assert_eq!((report.dataset_name.as_deref(), report.run_id), (Some("daily"), Some(run_id())));
    assert_eq!(report.protocol.dataset_name.as_deref(), Some("daily"));
    let written: Value =
        serde_json::from_str(actions(dir.path(), 0)["metaData"][0]["schemaString"].as_str().unwrap()).unwrap();
    assert_eq!(report.schema_hash, Some(SchemaHash::of(&canonical_json(&written).unwrap())));
    assert_eq!(report.notices, ["the feature row_tracking was left out: the engine cannot write tables with it"]);

    let again = reported(dir.path(), &rich(), vec![numbered(0, 1)]).await;
    assert_eq!((again.outcome, again.delta_version, again.fields.len()), (WriteOutcome::Unchanged, Some(0), 0));
}

#[tokio::test]
async fn what_is_not_there_is_reported_as_not_there() {
    let dir = tempfile::tempdir().unwrap();
    land(dir.path(), &DeltaWritePolicy { mode: WriteMode::Append, ..rich() }, vec![numbered(0, 10)]).await;
    let report = reported(dir.path(), &rich(), vec![numbered(10, 20)]).await;
    assert_eq!(report.base_version, Some(0));
    let lost = report.notices.iter().find(|notice| notice.contains("was in order of n and is no more"));
    assert!(lost.is_some(), "{:?}", report.notices);
    let order = field(&report, "zorder_by");
    assert!(!order.honoured && order.observed == json!([]), "the first write's files are beside them: {order:?}");
    assert_eq!(report.protocol.features[0].result, FeatureResult::Present);
    // A write of nothing but what the table was asked to be has nothing to add.
    let silent = DeltaWritePolicy { zorder_by: names(&["n"]), ..DeltaWritePolicy::default() };
    let dir = tempfile::tempdir().unwrap();
    for n in [0, 1] {
        let policy = resolve(&silent);
        let write = TableWrite::new(dir.path(), schema(), vec![stream(vec![numbered(n, 10)])], &policy);
        let (_, report) = write.run_reported(&Seam::system()).await.unwrap();
        assert_eq!(report.notices, Vec::<String>::new());
    }
    let capped = DeltaWritePolicy {
        stats_policy: StatsPolicy::Explicit,
        stats_columns: Some(names(&["n", "s"])),
        stats_max_columns: 1,
        ..DeltaWritePolicy::default()
    };
    let policy = resolve(&capped);
    let write = TableWrite::new(dir.path(), schema(), vec![stream(vec![numbered(0, 10)])], &policy);
    let (_, report) = write.run_reported(&Seam::system()).await.unwrap();
    assert_eq!(report.notices[0], "the log has no statistics of s: `stats_max_columns` was reached");
    // A page cannot be as small as this.
    let mut tiny = rich();
    tiny.writer_properties.data_page_size_bytes = 1;
    let dir = tempfile::tempdir().unwrap();
    let report = reported(dir.path(), &tiny, vec![numbered(0, 1_000)]).await;
    assert!(!field(&report, "writer_properties.data_page_size_bytes").honoured);
}
