//! Every option, with rows or a schema that are wrong if it is ignored.

use std::sync::Arc;

use alluvium_contracts::SourceFormat::{Csv, Json, Parquet};
use arrow::array::{BinaryArray, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use bytes::Bytes;
use datafusion::common::parsers::CompressionTypeVariant;
use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use datafusion::prelude::SessionConfig;
use futures::{StreamExt, TryStreamExt};
use parquet::data_type::{Int96, Int96Type};
use parquet::file::writer::SerializedFileWriter;

use crate::support::{Project, chain, parquet, parquet_of, query, source, with_options};

/// The rows of one CSV file.
async fn csv(content: &str, options: &[(&str, &str)]) -> String {
    let project = Project::new();
    project.write("a", content);
    project.rows(&with_options(Csv, "a", options)).await
}

#[tokio::test]
async fn csv_delimiter() {
    assert_eq!(csv("a;b\n1;2\n", &[("delimiter", ";")]).await, "| a | b |\n| 1 | 2 |");
}

#[tokio::test]
async fn csv_has_header() {
    assert_eq!(csv("1,2\n", &[("has_header", "false")]).await, "| column_1 | column_2 |\n| 1        | 2        |");
}

#[tokio::test]
async fn csv_quote() {
    assert_eq!(csv("a,b\n'x,y',2\n", &[("quote", "'")]).await, "| a   | b |\n| x,y | 2 |");
}

#[tokio::test]
async fn csv_escape() {
    assert_eq!(csv("a,b\n\"x\\\"y\",2\n", &[("escape", "\\")]).await, "| a   | b |\n| x\"y | 2 |");
}

#[tokio::test]
async fn csv_comment() {
    assert_eq!(csv("#x\na\n#y\n1\n", &[("comment", "#")]).await, "| a |\n| 1 |");
}

#[tokio::test]
async fn csv_truncated_rows() {
    assert_eq!(csv("a,b\n1,2\n3\n", &[("truncated_rows", "true")]).await, "| a | b |\n| 1 | 2 |\n| 3 |   |");
}

#[tokio::test]
async fn csv_schema_infer_max_rec() {
    let project = Project::new();
    project.write("a", "a\n1\nx\n");
    let schema = async |records: &str| {
        let pinned = project.pin(&with_options(Csv, "a", &[("schema_infer_max_rec", records)])).await;
        pinned.components()["schema"].clone()
    };
    assert_eq!(schema("0").await, "a: Utf8");
    assert_eq!(schema("1").await, "a: Int64");
    assert_eq!(schema("2").await, "a: Utf8");
}

/// The engine would infer numbers, and then fail on `NA` or take it for a text.
#[tokio::test]
async fn csv_null_regex() {
    let content = "n,t,u\nNA,NA,\n2,x,y\n";
    assert_eq!(
        csv(content, &[("null_regex", "^NA$")]).await,
        "| n | t | u |\n|   |   |   |\n| 2 | x | y |",
        "an empty text is a text then"
    );
    let project = Project::new();
    project.write("a", content);
    let pinned = project.pin(&with_options(Csv, "a", &[("null_regex", "^NA$")])).await;
    assert_eq!(pinned.components()["schema"], "n: Int64, t: Utf8, u: Utf8");
    let sql = "select count(n) as n, count(t) as t, count(u) as u, max(u || t) as j, count(*) filter (where u = '') as e from t";
    assert!(project.query(&pinned, sql).await.contains("| 1 | 1 | 2 | yx | 1 |"));
}

/// Our own reader of such files: all other options hold, in every batch, with projections, limits and many files.
#[tokio::test]
async fn csv_null_regex_together_with_the_others() {
    let mut project = Project::with(SessionConfig::new().with_target_partitions(2).with_batch_size(3));
    let options = [
        ("null_regex", "^(-|)$"),
        ("delimiter", ";"),
        ("quote", "'"),
        ("escape", "\\"),
        ("comment", "#"),
        ("truncated_rows", "true"),
        ("compression", "gzip"),
    ];
    let mut content = "k;v;w\n".to_owned();
    for row in 0..100 {
        content += &match row % 5 {
            0 => format!("{row};-;x\n"),
            1 => format!("#comment\n{row};'a;\\'\n';y\n"),
            2 => format!("{row};b\n"),
            3 => format!("{row};'';-\n"),
            _ => format!("{row};c;z\n"),
        };
    }
    project.write("1", compress(CompressionTypeVariant::GZIP, content.trim_end()).await);
    project.write("2", compress(CompressionTypeVariant::GZIP, "k;v;w\n1000;-;-").await);
    project.write("3", compress(CompressionTypeVariant::GZIP, "k;v;w").await);
    for _ in 0..2 {
        let pinned = project.pin(&with_options(Csv, "*", &options)).await;
        let sql = "select count(*) as n, sum(k) as s, count(v) as v, count(w) as w, \
                   count(*) filter (where v = e'a;\\'\\n') as q, count(*) filter (where v = '') as e from t";
        let found = project.query(&pinned, sql).await;
        assert!(found.contains("| 101 | 5950 | 60 | 60 | 20 | 0 |"), "{found}");
        let found =
            project.query(&pinned, "select w, 'x' as x, k + 1 as l from t where k = 1000 or k = 4 order by k").await;
        assert!(found.contains("| z | x | 5    |\n|   | x | 1001 |"), "{found}");
        let limited = project.query(&pinned, "select count(*) as n from (select * from t limit 7)").await;
        assert!(limited.contains("| 7 |"), "{limited}");
        project.restart();
    }
}

/// Split into byte ranges, a quoted line break would begin a row.
#[tokio::test]
async fn a_csv_file_is_never_split() {
    let mut config = SessionConfig::new().with_target_partitions(4);
    config.options_mut().optimizer.repartition_file_min_size = 1;
    let project = Project::with(config);
    let rows: String = (0..50).map(|row| format!("{row},\"a\nb\"\n")).collect();
    project.write("a", format!("k,v\n{rows}"));
    let pinned = project.pin(&source(Csv, "a")).await;
    project.ctx.register_table("t", pinned.provider().unwrap()).unwrap();
    let frame = project.ctx.sql("select k from t where v <> ''").await.unwrap();
    let mut scan = frame.create_physical_plan().await.unwrap();
    while let [child] = scan.children()[..] {
        scan = Arc::clone(child);
    }
    assert_eq!(scan.properties().partitioning.partition_count(), 1);
    let found = project.query(&pinned, "select count(*) as n, sum(k) as s, min(v) as v from t").await;
    assert!(found.contains("| 50 | 1225 | a "), "{found}");
}

/// `content`, compressed.
pub async fn compress(variant: CompressionTypeVariant, content: &str) -> Vec<u8> {
    let content = Bytes::copy_from_slice(content.as_bytes());
    let stream = futures::stream::iter([Ok(content)]).boxed();
    let stream = FileCompressionType::from(variant).convert_to_compress_stream(stream).unwrap();
    stream.try_collect::<Vec<_>>().await.unwrap().concat()
}

#[tokio::test]
async fn csv_and_json_compression() {
    for (name, variant) in [
        ("gzip", CompressionTypeVariant::GZIP),
        ("bzip2", CompressionTypeVariant::BZIP2),
        ("xz", CompressionTypeVariant::XZ),
        ("zstd", CompressionTypeVariant::ZSTD),
    ] {
        let project = Project::new();
        project.write("csv", compress(variant, "a\n1\n").await);
        project.write("json", compress(variant, "{\"a\": 1}\n").await);
        for (format, path) in [(Csv, "csv"), (Json, "json")] {
            let rows = project.rows(&with_options(format, path, &[("compression", name)])).await;
            assert_eq!(rows, "| a |\n| 1 |", "{name} {path}");
        }
    }
}

#[tokio::test]
async fn json_schema_infer_max_rec() {
    let project = Project::new();
    project.write("a", "{\"a\": 1}\n{\"a\": 2, \"b\": 3}\n");
    let all = project.rows(&source(Json, "a")).await;
    assert_eq!(all, "| a | b |\n| 1 |   |\n| 2 | 3 |");
    let one = project.rows(&with_options(Json, "a", &[("schema_infer_max_rec", "1")])).await;
    assert_eq!(one, "| a |\n| 1 |\n| 2 |");
}

#[tokio::test]
async fn parquet_schema_force_view_types() {
    let project = Project::new();
    project.write("a", parquet(&[("s", Arc::new(StringArray::from(vec!["x"])))]));
    for (value, schema) in [("true", "s: Utf8View"), ("false", "s: Utf8")] {
        let pinned = project.pin(&with_options(Parquet, "a", &[("schema_force_view_types", value)])).await;
        assert_eq!(pinned.components()["schema"], schema);
        let found = project.query(&pinned, "select arrow_typeof(s) as ty, s from t").await;
        assert!(found.contains(&format!("| {} | x |", &schema[3..])), "{found}");
    }
    assert_eq!(project.pin(&source(Parquet, "a")).await.components()["schema"], "s: Utf8View");
}

#[tokio::test]
async fn parquet_binary_as_string() {
    let project = Project::new();
    project.write("a", parquet(&[("b", Arc::new(BinaryArray::from_vec(vec![b"x"])))]));
    assert_eq!(project.pin(&source(Parquet, "a")).await.components()["schema"], "b: BinaryView");
    let text = with_options(Parquet, "a", &[("binary_as_string", "true")]);
    assert_eq!(project.pin(&text).await.components()["schema"], "b: Utf8View");
    assert_eq!(project.rows(&text).await, "| b |\n| x |");
}

#[tokio::test]
async fn parquet_skip_metadata() {
    let project = Project::new();
    let field = Field::new("a", DataType::Utf8View, true).with_metadata([("f".to_owned(), "1".to_owned())].into());
    let schema = Schema::new(vec![field]).with_metadata([("s".to_owned(), "2".to_owned())].into());
    let values = Arc::new(arrow::array::StringViewArray::from(vec!["x"]));
    project.write("a", parquet_of(&RecordBatch::try_new(Arc::new(schema), vec![values]).unwrap()));
    assert_eq!(project.pin(&source(Parquet, "a")).await.components()["schema"], "a: Utf8View");
    let kept = with_options(Parquet, "a", &[("skip_metadata", "false")]);
    assert_eq!(project.pin(&kept).await.components()["schema"], r#"{"s":"2"} a: Utf8View {"f":"1"}"#);
    assert_eq!(project.rows(&kept).await, "| a |\n| x |");

    // Files that disagree can only be read without.
    let schema = Schema::new(vec![Field::new("a", DataType::Utf8View, true)]);
    let schema = schema.with_metadata([("s".to_owned(), "other".to_owned())].into());
    let values = Arc::new(arrow::array::StringViewArray::from(vec!["y"]));
    project.write("b", parquet_of(&RecordBatch::try_new(Arc::new(schema), vec![values]).unwrap()));
    let error = chain(&project.try_pin(&with_options(Parquet, "*", &[("skip_metadata", "false")])).await.unwrap_err());
    assert!(error.contains("/a and ") && error.contains("/b differ in the metadata `s`"), "{error}");
    assert_eq!(project.rows(&source(Parquet, "*")).await, "| a |\n| x |\n| y |");
}

/// A file of one time, in the 96 bits that Parquet once had for it.
pub fn int96() -> Vec<u8> {
    let schema = parquet::schema::parser::parse_message_type("message m { REQUIRED INT96 ts; }").unwrap();
    let mut bytes = Vec::new();
    let mut writer = SerializedFileWriter::new(&mut bytes, Arc::new(schema), Arc::default()).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    // 3000-01-01, which nanoseconds in 64 bits cannot say.
    let mut day = Int96::new();
    day.set_data(0, 0, 2_816_788);
    column.typed::<Int96Type>().write_batch(&[day], None, None).unwrap();
    column.close().unwrap();
    group.close().unwrap();
    writer.close().unwrap();
    bytes
}

#[tokio::test]
async fn parquet_coerce_int96() {
    let project = Project::new();
    project.write("a", int96());
    let schema = async |options: &[(&str, &str)]| {
        project.pin(&with_options(Parquet, "a", options)).await.components()["schema"].clone()
    };
    assert_eq!(schema(&[]).await, "ts: Timestamp(ns) not null");
    let micros = [("coerce_int96", "us")];
    assert_eq!(schema(&micros).await, "ts: Timestamp(us) not null");
    assert_eq!(
        project.rows(&with_options(Parquet, "a", &micros)).await.lines().nth(1),
        Some("| 3000-01-01T00:00:00 |")
    );
    let utc = [("coerce_int96", "us"), ("coerce_int96_tz", "UTC")];
    assert_eq!(schema(&utc).await, "ts: Timestamp(us, \"UTC\") not null");
    assert_eq!(project.rows(&with_options(Parquet, "a", &utc)).await.lines().nth(1), Some("| 3000-01-01T00:00:00Z |"));
}

/// What can change rows or types is the pin's, whatever the session says; the rest is the session's.
#[tokio::test]
async fn the_sessions_settings_change_no_rows_and_no_pin() {
    let project = Project::new();
    project.write("p", parquet(&[("s", Arc::new(StringArray::from(vec!["x"])))]));
    project.write("c", "1,2\n");
    let mut config = SessionConfig::new().with_target_partitions(7);
    config.options_mut().execution.parquet.schema_force_view_types = false;
    config.options_mut().execution.parquet.pushdown_filters = true;
    config.options_mut().catalog.has_header = false;
    config.options_mut().catalog.newlines_in_values = false;
    let other = Project::with(config);
    for (format, path) in [(Parquet, "p"), (Csv, "c")] {
        let path = project.data().join(path);
        let source = source(format, path.to_str().unwrap());
        let (one, two) = (project.pin(&source).await, other.pin(&source).await);
        assert_eq!((one.digest(), one.components()), (two.digest(), two.components()));
        let rows = query(&other.ctx, one.provider().unwrap(), "select * from t").await.unwrap();
        assert_eq!(rows, project.query(&one, "select * from t").await);
    }
}
