//! Semantic types of columns: declared, kept with the table, and held against whatever is written.

use alluvium_contracts::{SchemaMode, SemanticStatus, WriteMode};
use alluvium_functions::{Function, SemanticType, functions};
use alluvium_telemetry::Seam;
use datafusion::catalog::TableProvider;
use datafusion::prelude::SessionContext;
use parquet::arrow::parquet_to_arrow_schema;
use serde_json::json;

use super::*;
use crate::{CommitError, GovernedTable, Maintenance, PolicyError, TypeCarrier, WriteError, head_commit, verify_table};

/// A policy that declares `s` to be a node's id.
fn declared(mode: WriteMode) -> DeltaWritePolicy {
    let semantic_types = BTreeMap::from([("s".to_owned(), "NodeId".to_owned())]);
    let keys = if mode == WriteMode::Merge { names(&["n"]) } else { Vec::new() };
    let replace_where = (mode == WriteMode::ReplaceWhere).then(|| "n > 1".to_owned());
    DeltaWritePolicy { mode, semantic_types, keys, replace_where, ..DeltaWritePolicy::default() }
}

/// The same policy as somebody has it who never heard of types.
fn undeclared(mode: WriteMode) -> DeltaWritePolicy {
    DeltaWritePolicy { semantic_types: BTreeMap::new(), ..declared(mode) }
}

/// Rows of `s` and `n`, in which `s` is what is said.
fn typed(semantic_type: Option<SemanticType>, rows: &[(Option<&str>, i64)]) -> RecordBatch {
    let plain = batch(rows);
    let s = match semantic_type {
        Some(semantic_type) => semantic_type.field("s", true),
        None => schema().field(0).clone(),
    };
    let fields = vec![s, schema().field(1).clone()];
    RecordBatch::try_new(Arc::new(Schema::new(fields)), plain.columns().to_vec()).unwrap()
}

fn node(rows: &[(Option<&str>, i64)]) -> RecordBatch {
    typed(Some(SemanticType::NodeId), rows)
}

async fn table() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    land(dir.path(), &declared(WriteMode::Append), vec![node(&[(Some("node:1"), 1), (Some("node:2"), 2)])]).await;
    dir
}

/// What a refused write says of `s`.
fn refusal(error: &CommitError) -> (TypeCarrier, SemanticStatus, Option<String>) {
    let (CommitError::Policy { source } | CommitError::Write { source: WriteError::Policy { source } }) = error else {
        panic!("{error:?}")
    };
    let PolicyError::SemanticTypes { carrier, validation } = source else { panic!("{source:?}") };
    assert_eq!(validation.name, carrier.as_str());
    let column = validation.columns.iter().find(|column| column.expected.column_name == "s").unwrap();
    (*carrier, column.status, column.found_type.clone())
}

/// Everything that a write could touch.
fn state(table: &Path) -> (Vec<PathBuf>, Option<u64>) {
    (data_files(table), head_commit(table).unwrap().map(|head| head.version))
}

const MODES: [WriteMode; 4] = [WriteMode::Append, WriteMode::Overwrite, WriteMode::Merge, WriteMode::ReplaceWhere];

#[tokio::test]
async fn no_mode_takes_rows_without_the_types_of_the_table() {
    let dir = table().await;
    let before = state(dir.path());
    let edge = || typed(Some(SemanticType::EdgeId), &[(Some("edge:3"), 3)]);
    let plain = || typed(None, &[(Some("text"), 3)]);
    for mode in MODES {
        for policy in [declared(mode), undeclared(mode)] {
            let missing = write(dir.path(), &policy, vec![plain()]).await.unwrap_err();
            assert_eq!(refusal(&missing), (TypeCarrier::Rows, SemanticStatus::Missing, None), "{mode}");
            let mismatch = write(dir.path(), &policy, vec![edge()]).await.unwrap_err();
            let found = Some("EdgeId".to_owned());
            assert_eq!(refusal(&mismatch), (TypeCarrier::Rows, SemanticStatus::Mismatch, found), "{mode}");
        }
    }
    let appended = append(dir.path(), schema(), vec![plain()], &metadata("r"), ("app", 1)).await.unwrap_err();
    assert_eq!(refusal(&appended).1, SemanticStatus::Missing);
    assert_eq!(state(dir.path()), before);
    assert_eq!(rows(dir.path()).await, ["node:1|1", "node:2|2"]);
}

#[tokio::test]
async fn every_mode_takes_rows_with_the_types() {
    for mode in MODES {
        let dir = table().await;
        for policy in [declared(mode), undeclared(mode)] {
            land(dir.path(), &policy, vec![node(&[(Some("node:3"), 3)])]).await;
        }
        let written = actions(dir.path(), 2);
        assert!(!written.contains_key("metaData"), "{mode}: a policy that says nothing takes nothing away");
    }
    let dir = table().await;
    let rows_to_append = vec![node(&[(Some("node:3"), 3)])];
    let appended = append(dir.path(), rows_to_append[0].schema(), rows_to_append, &metadata("r"), ("app", 1)).await;
    assert!(matches!(appended, Ok(AppendOutcome::Committed(_))));
    // Rows that are looked for have keys alone.
    let keys = Schema::new(vec![schema().field(1).clone()]);
    let keys = RecordBatch::try_new(Arc::new(keys), vec![Arc::new(Int64Array::from(vec![1]))]).unwrap();
    let delete = DeltaWritePolicy { keys: names(&["n"]), ..declared(WriteMode::Delete) };
    land(dir.path(), &delete, vec![keys]).await;
    assert_eq!(rows(dir.path()).await, ["node:2|2", "node:3|3"]);
}

#[tokio::test]
async fn a_table_that_would_break_its_own_types_is_not_made() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("new");
    for mode in [WriteMode::Append, WriteMode::Overwrite, WriteMode::Error, WriteMode::Ignore] {
        let refused = write(&path, &declared(mode), vec![typed(None, &[(Some("text"), 3)])]).await.unwrap_err();
        assert_eq!(refusal(&refused).1, SemanticStatus::Missing, "{mode}");
        assert!(refused.to_string().contains("policy"), "{refused}");
        assert!(!path.exists(), "{mode}");
    }
    let policy = ResolvedWritePolicy::resolve(&declared(WriteMode::Overwrite), &node(&[]).schema()).unwrap();
    let staged = write_files(&path, schema(), vec![stream(vec![batch(&[(Some("a"), 1)])])], &policy).await;
    assert!(matches!(staged, Err(WriteError::Policy { source: PolicyError::SemanticTypes { .. } })));
}

#[tokio::test]
async fn types_are_in_the_log_the_files_and_what_readers_see() {
    let dir = table().await;
    let log = actions(dir.path(), 0);
    let metadata = &log["metaData"][0];
    assert_eq!(metadata["configuration"]["alluvium.semanticTypes"], json!("{\"s\":\"NodeId\"}"));
    let written: Value = serde_json::from_str(metadata["schemaString"].as_str().unwrap()).unwrap();
    assert_eq!(written["fields"][0]["metadata"], json!({"ARROW:extension:name": "NodeId"}));
    assert_eq!(written["fields"][1]["metadata"], json!({}));
    assert_eq!(log["protocol"][0]["minWriterVersion"], json!(2), "types need nothing of the protocol");

    let footer = footer(&dir.path().join(log["add"][0]["path"].as_str().unwrap()));
    let file = footer.file_metadata();
    let arrow = parquet_to_arrow_schema(file.schema_descr(), file.key_value_metadata()).unwrap();
    assert_eq!(SemanticType::of(arrow.field(0)).unwrap(), Some(SemanticType::NodeId));

    let provider = reader(dir.path()).await;
    assert_eq!(SemanticType::of(provider.schema().field(0)).unwrap(), Some(SemanticType::NodeId));
    land(dir.path(), &undeclared(WriteMode::Append), vec![node(&[(Some("node:3"), 3)])]).await;
    Maintenance::begin(dir.path(), Seam::system()).unwrap().compact(2).await.unwrap();
    assert_eq!(SemanticType::of(reader(dir.path()).await.schema().field(0)).unwrap(), Some(SemanticType::NodeId));
}

#[tokio::test]
async fn who_takes_the_schema_declares_anew() {
    let taking = |policy| DeltaWritePolicy { schema_mode: SchemaMode::Overwrite, ..policy };
    let property =
        |dir: &Path, version| actions(dir, version)["metaData"][0]["configuration"]["alluvium.semanticTypes"].clone();
    let dir = table().await;
    let edges = BTreeMap::from([("s".to_owned(), "EdgeId".to_owned())]);
    let edges = taking(DeltaWritePolicy { semantic_types: edges, ..DeltaWritePolicy::default() });
    write(dir.path(), &edges, vec![node(&[(Some("node:1"), 1)])]).await.unwrap_err();
    land(dir.path(), &edges, vec![typed(Some(SemanticType::EdgeId), &[(Some("edge:1"), 1)])]).await;
    assert_eq!(property(dir.path(), 1), json!("{\"s\":\"EdgeId\"}"));
    land(dir.path(), &taking(undeclared(WriteMode::Overwrite)), vec![typed(None, &[(Some("text"), 1)])]).await;
    assert_eq!(property(dir.path(), 2), Value::Null);
    land(dir.path(), &undeclared(WriteMode::Append), vec![typed(None, &[(Some("text"), 2)])]).await;

    // A replacement of the whole table, as outputs are published.
    let policy = ResolvedWritePolicy::resolve(&declared(WriteMode::Overwrite), &node(&[]).schema()).unwrap();
    let rows = node(&[(Some("node:9"), 9)]);
    let staged = write_files(dir.path(), rows.schema(), vec![stream(vec![rows.clone()])], &policy).await.unwrap();
    let replaced = commit_replace(dir.path(), Some(3), rows.schema(), staged, &policy, &metadata("r"), None).await;
    assert!(matches!(replaced, Ok(CommitOutcome::Committed(_))));
    assert_eq!(property(dir.path(), 4), json!("{\"s\":\"NodeId\"}"));
}

#[tokio::test]
async fn what_is_declared_later_has_to_be_so_already() {
    let dir = tempfile::tempdir().unwrap();
    land(dir.path(), &undeclared(WriteMode::Append), vec![typed(None, &[(Some("text"), 1)])]).await;
    for mode in MODES {
        let refused = write(dir.path(), &declared(mode), vec![node(&[(Some("node:2"), 2)])]).await.unwrap_err();
        assert_eq!(refusal(&refused), (TypeCarrier::Table, SemanticStatus::Missing, None), "{mode}");
    }
    let typed_table = tempfile::tempdir().unwrap();
    land(typed_table.path(), &undeclared(WriteMode::Append), vec![node(&[(Some("node:1"), 1)])]).await;
    land(typed_table.path(), &declared(WriteMode::Append), vec![node(&[(Some("node:2"), 2)])]).await;
    let refused = write(typed_table.path(), &undeclared(WriteMode::Append), vec![typed(None, &[(Some("x"), 1)])]).await;
    assert_eq!(refusal(&refused.unwrap_err()).1, SemanticStatus::Missing);
    let other = BTreeMap::from([("s".to_owned(), "EdgeId".to_owned())]);
    let other = DeltaWritePolicy { semantic_types: other, ..undeclared(WriteMode::Append) };
    let refused = write(typed_table.path(), &other, vec![typed(Some(SemanticType::EdgeId), &[(Some("x"), 1)])]).await;
    assert_eq!(refusal(&refused.unwrap_err()).0, TypeCarrier::Table);
}

#[tokio::test]
async fn a_table_grows_with_its_types() {
    let dir = table().await;
    let mut policy = DeltaWritePolicy { schema_mode: SchemaMode::Merge, ..declared(WriteMode::Append) };
    policy.semantic_types.insert("e".to_owned(), "EdgeId".to_owned());
    let column = |field: Field| {
        let fields = vec![schema().field(1).clone(), field];
        let values: Vec<ArrayRef> =
            vec![Arc::new(Int64Array::from(vec![3])), Arc::new(StringArray::from(vec!["edge:3"]))];
        RecordBatch::try_new(Arc::new(Schema::new(fields)), values).unwrap()
    };
    let plain = column(Field::new("e", DataType::Utf8, true));
    assert!(write(dir.path(), &policy, vec![plain]).await.unwrap_err().is_input());
    // Without `s`, which is NULL then.
    land(dir.path(), &policy, vec![column(SemanticType::EdgeId.field("e", true))]).await;
    let schema = reader(dir.path()).await.schema();
    let types: Vec<_> = schema.fields().iter().map(|field| SemanticType::of(field).unwrap()).collect();
    assert_eq!(types, [Some(SemanticType::NodeId), None, Some(SemanticType::EdgeId)]);
}

async fn reader(table: &Path) -> Arc<dyn TableProvider> {
    let url = Url::from_directory_path(table).unwrap();
    let table = DeltaTableBuilder::from_url(url).unwrap().load().await.unwrap();
    table.table_provider().await.unwrap()
}

/// Runs one statement over the governed table as `t`.
#[expect(clippy::disallowed_methods, reason = "a session of the test's own, as a user of the crate has one")]
async fn sql(table: &Path, statement: &str) -> Result<Vec<RecordBatch>, DataFusionError> {
    let session = SessionContext::new();
    for function in functions() {
        if let Function::Scalar(function) = function.function() {
            session.register_udf(function.as_ref().clone());
        }
    }
    session.register_table("t", Arc::new(GovernedTable::new(table, reader(table).await)))?;
    session.sql(statement).await?.collect().await
}

#[tokio::test]
async fn insert_goes_by_the_types_of_the_statement() {
    let dir = table().await;
    let before = state(dir.path());
    for plain in [
        "insert into t values ('text', 3)",
        "insert into t select stable_id('EdgeId', 'a', 'b'), 3",
        "insert into t select prefixed_hash64('node', 1), 3",
        "insert overwrite t values ('text', 3)",
        "insert into t (n) values (3)",
        "insert into t select s || 'x', n from t",
        "insert into t select arrow_cast(s, 'LargeUtf8'), 5 from t where n = 2",
    ] {
        let error = sql(dir.path(), plain).await.expect_err(plain);
        let DataFusionError::External(source) = error.find_root() else { panic!("{plain}: {error:?}") };
        assert_eq!(refusal(source.downcast_ref::<CommitError>().unwrap()).0, TypeCarrier::Rows, "{plain}");
        assert_eq!(state(dir.path()), before, "{plain}");
    }
    for named in [
        "insert into t select stable_id('NodeId', s), n + 2 from t where n = 1",
        "insert into t (n, s) select n + 3, s from t where n = 1",
        "insert into t select with_metadata(s || 'x', 'ARROW:extension:name', 'NodeId'), 6 from t where n = 2",
    ] {
        sql(dir.path(), named).await.unwrap_or_else(|error| panic!("{named}: {error}"));
    }
    assert_eq!(rows(dir.path()).await.len(), 2 + 3);
}

#[tokio::test]
async fn a_property_that_nobody_can_read_stops_writers() {
    let protocol = json!({"protocol": {"minReaderVersion": 1, "minWriterVersion": 2}});
    let properties = json!({"alluvium.semanticTypes": "[1]"});
    let dir = foreign(&[protocol.clone(), foreign_metadata(properties, json!({}))]);
    let refused = write(dir.path(), &undeclared(WriteMode::Append), vec![typed(None, &[(Some("x"), 1)])]).await;
    assert!(matches!(
        refused,
        Err(CommitError::Policy { source: PolicyError::Value { field: "alluvium.semanticTypes", .. } })
    ));
    // Somebody else took the type from the column: `verify` says so.
    let properties = json!({"alluvium.semanticTypes": "{\"n\":\"NodeId\"}"});
    let dir = foreign(&[protocol, foreign_metadata(properties, json!({}))]);
    let verification = verify_table(dir.path(), None).await.unwrap();
    let policy = verification.checks.iter().find(|check| check.name == "policy").unwrap();
    assert!(policy.message.contains("semantic_types"), "{policy:?}");
}

#[tokio::test]
async fn the_report_says_what_is_declared_and_carried() {
    let dir = tempfile::tempdir().unwrap();
    let rows = node(&[(Some("node:1"), 1)]);
    let policy = ResolvedWritePolicy::resolve(&declared(WriteMode::Append), &rows.schema()).unwrap();
    let write = TableWrite::new(dir.path(), rows.schema(), vec![stream(vec![rows])], &policy);
    let (_, report) = write.run_reported(&Seam::system()).await.unwrap();
    let field = report.fields.iter().find(|report| report.field == "semantic_types").unwrap();
    assert!(field.honoured);
    assert_eq!((&field.requested, &field.observed), (&json!({"s": "NodeId"}), &json!({"s": "NodeId"})));
    let plain = ResolvedWritePolicy::resolve(&undeclared(WriteMode::Append), &node(&[]).schema()).unwrap();
    assert_ne!(policy.layout_hash(), plain.layout_hash(), "declaring is a change of the table");
}
