//! Every field of a declaration and every option of its formats, each with what shows that it is honoured. What there is comes from
//! the contract and from the formats, so a field that is new has to have its case here.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use alluvium_contracts::{DatasetFormat, DatasetSpec, ProfileSpec, SourcePath, contract};
use alluvium_datasets::{Dataset, Pinner, SpecError, check_constraints, register_dataset};
use alluvium_profile::{Query, RuntimeProfile, Session, SessionFactory};
use alluvium_telemetry::Seam;
use arrow::array::{ArrayRef, BinaryArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::Schema;
use arrow::util::pretty::pretty_format_batches;
use datafusion::common::parsers::CompressionTypeVariant;
use deltalake_core::kernel::{DataType, PrimitiveType};
use deltalake_core::protocol::SaveMode;
use deltalake_core::{DeltaTable, DeltaTableBuilder, TableProperty};
use serde_json::{Value, json};
use url::Url;

use crate::options::{compress, int96};
use crate::support::{Project, chain, parquet, parquet_of, sorted};

/// A field, or an option as `options.FORMAT.NAME`: two declarations that differ in it alone, and what only the second shows.
struct Case {
    field: &'static str,
    base: Value,
    changed: Value,
    shows: &'static str,
}

/// The fields of `one`, over those of `base`.
fn with(base: &Value, one: Value) -> Value {
    let mut all = base.clone();
    let (Some(all_fields), Value::Object(one)) = (all.as_object_mut(), one) else { panic!("no objects") };
    all_fields.extend(one);
    all
}

fn column(name: &str, data_type: &str) -> Value {
    json!({ "name": name, "data_type": data_type })
}

fn cases() -> Vec<Case> {
    let csv = json!({ "format": "csv", "path": "a.csv" });
    let files = json!({ "format": "parquet", "path": "a.parquet" });
    let sorted = json!({ "format": "parquet", "path": "nulls.parquet" });
    let parts = json!({ "format": "parquet", "path": "parts" });
    let delta = json!({ "format": "delta", "path": "table" });
    let case = |field, base: &Value, one: Value, other: Value, shows| Case {
        field,
        base: with(base, one),
        changed: with(base, other),
        shows,
    };
    let none = || json!({});
    let (k, v, z) = (|| column("k", "Int64"), || column("v", "Utf8"), || column("z", "Int64"));
    let order = |by: Value| json!({ "ordering": [by] });
    let by = |more: Value| order(with(&json!({ "column": "k" }), more));
    let part = |more: Value| json!({ "partition_columns": [with(&column("p", "Int64"), more)] });
    let constrained = |constraints: Value| json!({ "constraints": constraints });
    let evolved = |columns: Value, evolution: Value| json!({ "schema": columns, "evolution": evolution });
    let scan = |options: Value| json!({ "scan": options });
    let scanned = |more: Value| scan(json!({ "schema": [k(), with(&column("s", "Utf8View"), more)] }));
    let cdf = |options: Value| json!({ "cdf": options });
    let option = |field: &'static str, path: &str, value: &str, shows| {
        let [_, format, name] = field.split('.').collect::<Vec<_>>()[..] else { panic!("{field}") };
        let base = json!({ "format": format, "path": path });
        Case { field, changed: with(&base, json!({ "options": { name: value } })), base, shows }
    };
    let mut int96_tz =
        option("options.parquet.coerce_int96_tz", "int96.parquet", "UTC", "column ts Timestamp(µs, \"UTC\")");
    int96_tz.base["options"] = json!({ "coerce_int96": "us" });
    int96_tz.changed["options"]["coerce_int96"] = json!("us");
    let mut one_record = option("options.json.schema_infer_max_rec", "wide.json", "2", "column b Int64");
    one_record.base["options"] = json!({ "schema_infer_max_rec": "1" });
    vec![
        case(
            "format",
            &json!({ "path": "a.json" }),
            json!({ "format": "csv" }),
            json!({ "format": "json" }),
            "column a Int64",
        ),
        case("path", &files, none(), json!({ "path": "b.parquet" }), "| 7 "),
        case("schema.name", &files, json!({ "schema": [k(), v()] }), json!({ "schema": [k(), z()] }), "refused"),
        case("schema.data_type", &csv, none(), json!({ "schema": [column("a", "Utf8")] }), "column a Utf8"),
        case(
            "schema.nullable",
            &csv,
            json!({ "schema": [column("a", "Int64")] }),
            json!({ "schema": [with(&column("a", "Int64"), json!({ "nullable": false }))] }),
            "column a Int64 not null",
        ),
        case(
            "schema.metadata",
            &csv,
            json!({ "schema": [column("a", "Int64")] }),
            json!({ "schema": [with(&column("a", "Int64"), json!({ "metadata": { "unit": "minutes" } }))] }),
            "unit=minutes",
        ),
        case("partition_columns.name", &parts, part(none()), part(json!({ "name": "q" })), "refused"),
        case(
            "partition_columns.data_type",
            &parts,
            part(none()),
            part(json!({ "data_type": "Utf8" })),
            "column p Utf8",
        ),
        case(
            "partition_columns.nullable",
            &parts,
            part(none()),
            part(json!({ "nullable": false })),
            "column p Int64 not null",
        ),
        case(
            "partition_columns.metadata",
            &parts,
            part(none()),
            part(json!({ "metadata": { "unit": "minutes" } })),
            "unit=minutes",
        ),
        case("ordering.column", &sorted, by(none()), order(json!({ "column": "v" })), "refused"),
        case("ordering.descending", &sorted, by(none()), by(json!({ "descending": true })), "refused"),
        case("ordering.nulls_first", &sorted, by(none()), by(json!({ "nulls_first": false })), "refused"),
        case("constraints.primary_key", &files, none(), constrained(json!({ "primary_key": ["v"] })), "not_null v"),
        case("constraints.not_null", &files, none(), constrained(json!({ "not_null": ["v"] })), "not_null v"),
        case(
            "constraints.check",
            &files,
            none(),
            constrained(json!({ "check": { "below_two": "k < 2" } })),
            "below_two",
        ),
        case(
            "evolution.rename",
            &files,
            evolved(json!([column("key", "Int64")]), none()),
            evolved(json!([column("key", "Int64")]), json!({ "rename": { "k": "key" } })),
            "| 1 ",
        ),
        case(
            "evolution.defaults",
            &files,
            evolved(json!([k(), z()]), none()),
            evolved(json!([k(), z()]), json!({ "defaults": { "z": 9 } })),
            "| 9 ",
        ),
        case(
            "evolution.casts",
            &files,
            json!({ "evolution": {} }),
            json!({ "evolution": { "casts": { "k": "Utf8" } } }),
            "column k Utf8",
        ),
        case(
            "evolution.allow_missing",
            &files,
            evolved(json!([k(), v(), z()]), json!({ "strict": true })),
            evolved(json!([k(), v(), z()]), json!({ "strict": true, "allow_missing": ["z"] })),
            "column z Int64",
        ),
        case(
            "evolution.allow_extra",
            &files,
            evolved(json!([k()]), json!({ "strict": true })),
            evolved(json!([k()]), json!({ "strict": true, "allow_extra": ["v"] })),
            "column k Int64",
        ),
        case(
            "evolution.strict",
            &files,
            evolved(json!([k(), v(), z()]), none()),
            evolved(json!([k(), v(), z()]), json!({ "strict": true })),
            "refused",
        ),
        case("projection_exprs", &files, none(), json!({ "projection_exprs": ["k + 1 as next"] }), "column next"),
        case("version", &delta, none(), json!({ "version": 1 }), "version 1"),
        case("timestamp", &delta, none(), json!({ "timestamp": "1970-01-21T12:00:00Z" }), "version 1"),
        case("scan.file_column_name", &delta, none(), scan(json!({ "file_column_name": "file" })), "column file"),
        case(
            "scan.enable_parquet_pushdown",
            &delta,
            none(),
            scan(json!({ "enable_parquet_pushdown": false })),
            "FilterExec",
        ),
        case(
            "scan.schema_force_view_types",
            &delta,
            none(),
            scan(json!({ "schema_force_view_types": false })),
            "column s Utf8\n",
        ),
        case(
            "scan.wrap_partition_values",
            &delta,
            none(),
            scan(json!({ "wrap_partition_values": true })),
            "Dictionary",
        ),
        case("scan.schema.name", &delta, scanned(none()), scanned(json!({ "name": "z" })), "correct `scan.schema`"),
        case(
            "scan.schema.data_type",
            &delta,
            scanned(none()),
            scanned(json!({ "data_type": "LargeUtf8" })),
            "column s LargeUtf8",
        ),
        case(
            "scan.schema.nullable",
            &delta,
            scanned(none()),
            scanned(json!({ "nullable": false })),
            "column s Utf8View not null",
        ),
        case(
            "scan.schema.metadata",
            &delta,
            scanned(none()),
            scanned(json!({ "metadata": { "unit": "minutes" } })),
            "unit=minutes",
        ),
        case(
            "cdf.starting_version",
            &delta,
            cdf(json!({ "starting_version": 1 })),
            cdf(json!({ "starting_version": 2 })),
            "changes 2 to 2",
        ),
        case(
            "cdf.ending_version",
            &delta,
            cdf(json!({ "starting_version": 1 })),
            cdf(json!({ "starting_version": 1, "ending_version": 1 })),
            "changes 1 to 1",
        ),
        case(
            "cdf.starting_timestamp",
            &delta,
            cdf(json!({ "starting_timestamp": "1970-01-12T00:00:00Z" })),
            cdf(json!({ "starting_timestamp": "1970-01-22T00:00:00Z" })),
            "changes 2 to 2",
        ),
        case(
            "cdf.ending_timestamp",
            &delta,
            cdf(json!({ "starting_version": 1 })),
            cdf(json!({ "starting_version": 1, "ending_timestamp": "1970-01-22T00:00:00Z" })),
            "changes 1 to 1",
        ),
        case(
            "cdf.columns",
            &delta,
            cdf(json!({ "starting_version": 1, "columns": ["k"] })),
            cdf(json!({ "starting_version": 1, "columns": ["k", "_change_type"] })),
            "_change_type",
        ),
        case(
            "cdf.predicate",
            &delta,
            cdf(json!({ "starting_version": 1, "columns": ["s"], "predicate": "k = 1" })),
            cdf(json!({ "starting_version": 1, "columns": ["s"], "predicate": "k = 3" })),
            "changed | c ",
        ),
        case(
            "cdf.allow_out_of_range",
            &delta,
            cdf(json!({ "starting_version": 99 })),
            cdf(json!({ "starting_version": 99, "allow_out_of_range": true })),
            "changes none",
        ),
        case(
            "cdf.required",
            &json!({ "format": "delta", "path": "plain" }),
            cdf(json!({ "starting_version": 0 })),
            cdf(json!({ "starting_version": 0, "required": true })),
            "refused",
        ),
        case("cache", &files, none(), json!({ "cache": "memory" }), "read by MemTable"),
        case(
            "cache_max_columns",
            &files,
            json!({ "cache": "memory" }),
            json!({ "cache": "memory", "cache_max_columns": 1 }),
            "read by FileScan",
        ),
        option("options.csv.comment", "comment.csv", "#", "column a Int64"),
        option("options.csv.compression", "gzip.csv", "gzip", "column a Int64"),
        option("options.csv.delimiter", "semicolons.csv", ";", "column b Int64"),
        option("options.csv.escape", "escape.csv", "\\", "| x\"y "),
        option("options.csv.has_header", "a.csv", "false", "column column_1"),
        option("options.csv.null_regex", "na.csv", "^NA$", "column a Int64"),
        option("options.csv.quote", "quote.csv", "'", "| x,y "),
        option("options.csv.schema_infer_max_rec", "late.csv", "1", "column a Int64"),
        option("options.csv.truncated_rows", "short.csv", "true", "| 3 "),
        option("options.json.compression", "gzip.json", "gzip", "column a Int64"),
        one_record,
        option("options.parquet.binary_as_string", "binary.parquet", "true", "column b Utf8View"),
        option("options.parquet.coerce_int96", "int96.parquet", "us", "column ts Timestamp(µs)"),
        int96_tz,
        option("options.parquet.schema_force_view_types", "b.parquet", "false", "column v Utf8\n"),
        option("options.parquet.skip_metadata", "metadata.parquet", "false", "unit=minutes"),
    ]
}

/// The files and tables of all cases.
async fn project() -> Project {
    let project = Project::new();
    let numbers = |values: &[Option<i64>]| Arc::new(Int64Array::from(values.to_vec())) as ArrayRef;
    let texts = |values: &[Option<&str>]| Arc::new(StringArray::from(values.to_vec())) as ArrayRef;
    let k = numbers(&[Some(1), Some(2), Some(3)]);
    let v = texts(&[Some("x"), Some("y"), None]);
    project.write("a.parquet", parquet(&[("k", Arc::clone(&k)), ("v", Arc::clone(&v))]));
    project.write("b.parquet", parquet(&[("k", numbers(&[Some(7)])), ("v", texts(&[Some("z")]))]));
    project.write("nulls.parquet", parquet(&[("k", numbers(&[None, Some(1), Some(2)])), ("v", v)]));
    project.write("parts/p=5/a.parquet", parquet(&[("k", k)]));
    project.write("binary.parquet", parquet(&[("b", Arc::new(BinaryArray::from_vec(vec![b"x"])))]));
    let plain = RecordBatch::try_from_iter([("k", numbers(&[Some(1)]))]).unwrap();
    let field = plain.schema().field(0).clone().with_metadata([("unit".to_owned(), "minutes".to_owned())].into());
    let columns = plain.columns().to_vec();
    project.write(
        "metadata.parquet",
        parquet_of(&RecordBatch::try_new(Schema::new(vec![field]).into(), columns).unwrap()),
    );
    project.write("int96.parquet", int96());
    for (name, content) in [
        ("a.csv", "a\n1\n"),
        ("a.json", "{\"a\": 1}\n"),
        ("comment.csv", "#x\na\n#y\n1\n"),
        ("semicolons.csv", "a;b\n1;2\n"),
        ("escape.csv", "a,b\n\"x\\\"y\",2\n"),
        ("na.csv", "a,b\nNA,x\n2,y\n"),
        ("quote.csv", "a,b\n'x,y',2\n"),
        ("late.csv", "a\n1\nx\n"),
        ("short.csv", "a,b\n1,2\n3\n"),
        ("wide.json", "{\"a\": 1}\n{\"a\": 2, \"b\": 3}\n"),
    ] {
        project.write(name, content);
    }
    for (name, content) in [("gzip.csv", "a\n1\n"), ("gzip.json", "{\"a\": 1}\n")] {
        project.write(name, compress(CompressionTypeVariant::GZIP, content).await);
    }
    table(&project.data().join("table"), true).await;
    table(&project.data().join("plain"), false).await;
    project
}

async fn open(path: &Path) -> DeltaTable {
    DeltaTableBuilder::from_url(Url::from_directory_path(path).unwrap()).unwrap().load().await.unwrap()
}

/// (1, a) and (2, b) in version 1, (3, c) in version 2; the versions are ten days apart.
async fn table(path: &Path, has_changes: bool) {
    std::fs::create_dir(path).unwrap();
    let made = DeltaTableBuilder::from_url(Url::from_directory_path(path).unwrap()).unwrap().build().unwrap();
    made.create()
        .with_column("k", DataType::Primitive(PrimitiveType::Long), true, None)
        .with_column("s", DataType::Primitive(PrimitiveType::String), true, None)
        .with_partition_columns(["s"])
        .with_configuration_property(TableProperty::EnableChangeDataFeed, Some(has_changes.to_string()))
        .await
        .unwrap();
    for (keys, texts) in [(vec![1, 2], vec!["a", "b"]), (vec![3], vec!["c"])] {
        let columns: [(&str, ArrayRef, bool); 2] =
            [("k", Arc::new(Int64Array::from(keys)), true), ("s", Arc::new(StringArray::from(texts)), true)];
        let batch = RecordBatch::try_from_iter_with_nullable(columns).unwrap();
        open(path).await.write([batch]).with_save_mode(SaveMode::Append).await.unwrap();
    }
    for (version, day) in [(0, 10), (1, 20), (2, 30)] {
        let commit = path.join(format!("_delta_log/{version:020}.json"));
        let times = std::fs::FileTimes::new().set_modified(UNIX_EPOCH + Duration::from_secs(86_400 * day));
        std::fs::File::options().write(true).open(commit).unwrap().set_times(times).unwrap();
    }
}

async fn rows(session: &Session, sql: &str) -> String {
    let answered = async {
        let frame = session.execute(Query::sql(sql)).await.map_err(|error| chain(&error))?;
        let rows = frame.collect().await.map_err(|error| chain(&error))?;
        pretty_format_batches(&rows).map_err(|error| error.to_string())
    };
    match answered.await {
        Ok(rows) => rows.to_string(),
        Err(error) => format!("failed: {error}"),
    }
}

/// Everything that can be seen of a dataset: what it is read by, columns, rows, plan of a filter, violations, changes.
async fn seen(project: &Project, declared: &Value) -> String {
    let spec: DatasetSpec = serde_json::from_value(declared.clone()).unwrap();
    let session = SessionFactory::new(RuntimeProfile::from(&ProfileSpec::default())).build().unwrap();
    let dataset = match Dataset::resolve("t", &spec, &project.data()) {
        Ok(dataset) => dataset,
        Err(error) => return format!("refused: {}", chain(&error)),
    };
    let registered = register_dataset(&session, &Pinner::new(None, Seam::system()), &dataset).await;
    let pinned = match registered {
        Ok(pinned) => pinned,
        Err(error) => return format!("refused: {}", chain(&error)),
    };
    let provider = format!("{:?}", session.context().table_provider("t").await.unwrap());
    let mut seen = format!("read by {}\nversion {:?}\n", provider.split(' ').next().unwrap(), pinned.delta_version());
    seen = seen.replace("Some(", "").replace(')', "");
    for field in pinned.schema().fields() {
        let null = if field.is_nullable() { "" } else { " not null" };
        seen += &format!("column {} {}{null}\n", field.name(), field.data_type());
        field.metadata().iter().for_each(|(key, value)| seen += &format!("{key}={value}\n"));
    }
    seen += &sorted(&rows(&session, "select * from t").await);
    seen += &rows(&session, "explain select * from t where k = 2").await;
    if let Err(error) = check_constraints(session.context(), &pinned).await {
        seen += &format!("\nviolated {}", chain(&error));
    }
    if let Some(changes) = pinned.changes() {
        let range = changes.range().map_or_else(|| "none".to_owned(), |(start, end)| format!("{start} to {end}"));
        seen += &format!("\nchanges {range}\n");
        let changed = sorted(&rows(&session, "select * from t__cdf").await);
        changed.lines().for_each(|line| seen += &format!("changed {line}\n"));
    }
    seen
}

/// The fields of a contract's object that hold no fields themselves, as paths.
fn fields(schema: &Value, place: &Value, prefix: &str, found: &mut BTreeSet<String>) {
    let alternatives = [place].into_iter().chain(place["anyOf"].as_array().into_iter().flatten());
    let named = alternatives.chain([&place["items"]]).find_map(|place| place["$ref"].as_str());
    let object = named.map_or(place, |name| &schema["$defs"][name.rsplit('/').next().unwrap()]);
    match object["properties"].as_object() {
        Some(properties) => {
            for (name, place) in properties {
                let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
                fields(schema, place, &path, found);
            }
        }
        None => {
            found.insert(prefix.to_owned());
        }
    }
}

/// All fields, with the options of each format in the place of `options`.
fn declarable() -> BTreeSet<String> {
    let schema = contract("dataset_spec").unwrap().schema().to_value();
    let mut found = BTreeSet::new();
    fields(&schema, &schema["$defs"]["DatasetSpec"], "", &mut found);
    assert!(found.remove("options"), "{found:?}");
    for format in DatasetFormat::ALL {
        let mut spec = DatasetSpec::new(*format, SourcePath::One("a".to_owned()));
        spec.options.insert("no_such_option".to_owned(), String::new());
        match Dataset::resolve("t", &spec, Path::new("/")) {
            Err(SpecError::UnknownOption { known, .. }) => {
                found.extend(known.iter().map(|name| format!("options.{format}.{name}")));
            }
            // Avro is refused before its options are looked at.
            Err(SpecError::FormatNotBuilt { .. }) => {}
            other => panic!("{format}: {other:?}"),
        }
    }
    found
}

#[test]
fn every_field_and_option_has_a_case() {
    let cases: BTreeSet<String> = cases().iter().map(|case| case.field.to_owned()).collect();
    assert_eq!(cases, declarable());
}

#[tokio::test]
async fn every_field_and_option_is_honoured() {
    let project = project().await;
    let mut wrong = Vec::new();
    for Case { field, base, changed, shows } in cases() {
        let (before, after) = (seen(&project, &base).await, seen(&project, &changed).await);
        if before.contains(shows) || !after.contains(shows) {
            wrong.push(format!("{field}: {shows:?} is to come with it\n{before}\n---\n{after}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n======\n"));
}
