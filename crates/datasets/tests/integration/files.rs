//! Which files a source means, how several become one table, and what is said of those that cannot.

use std::sync::Arc;

use alluvium_contracts::SourceFormat::{Csv, Json, Parquet};
use alluvium_contracts::{SourcePath, SourceSpec};
use alluvium_datasets::PinError;
use arrow::array::{ArrayRef, Int32Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};

use crate::support::{Project, chain, parquet, parquet_of, source, with_options};

fn ints(values: &[i64]) -> ArrayRef {
    Arc::new(Int64Array::from(values.to_vec()))
}

async fn refused(project: &Project, source: &SourceSpec) -> (PinError, String) {
    let error = project.try_pin(source).await.unwrap_err();
    let text = chain(&error);
    (error, text)
}

#[tokio::test]
async fn any_name_can_be_read() {
    let project = Project::new();
    for (format, content) in
        [(Csv, b"a\n1\n".to_vec()), (Json, b"{\"a\":1}".to_vec()), (Parquet, parquet(&[("a", ints(&[1]))]))]
    {
        for name in
            ["with space", "50%", "a%20b", "a#b", "what?", "[x]", "ünïcode ☃", "a+b&c=d", "~", "x.weird", "back\\slash"]
        {
            let dir = format!("{}/{name}", format.as_str());
            project.write(&format!("{dir}/{name}"), &content);
            for path in [format!("{dir}/{name}"), dir] {
                if path.contains('=') && path.ends_with("a+b&c=d") {
                    continue;
                }
                let rows = project.rows(&source(format, &path)).await;
                assert_eq!(rows, "| a |\n| 1 |", "{format:?} {path}");
            }
        }
    }
}

#[tokio::test]
async fn a_directory_is_every_data_file_in_it() {
    let project = Project::new();
    for (file, content) in [("d/1.csv", "a\n1\n"), ("d/sub/2", "a\n2\n"), ("d/.x", "?"), ("d/_SUCCESS", "")] {
        project.write(file, content);
    }
    assert_eq!(project.rows(&source(Csv, "d")).await, "| a |\n| 1 |\n| 2 |");
    let pinned = project.pin(&source(Csv, "d")).await;
    assert_eq!((pinned.file_count(), pinned.size_bytes()), (2, 8));
}

#[tokio::test]
async fn what_matches_nothing_names_pattern_and_directory() {
    let project = Project::new();
    let (_, error) = refused(&project, &source(Csv, "2001-*.csv")).await;
    let directory = project.data().display().to_string();
    assert!(error.contains("`2001-*.csv` matches no file in") && error.contains(&directory), "{error}");
}

#[tokio::test]
async fn links_are_followed_and_a_file_is_read_once() {
    let project = Project::new();
    let file = project.write("real", "a\n1\n");
    std::os::unix::fs::symlink(&file, project.data().join("link")).unwrap();
    let pinned = project.pin(&source(Csv, "*")).await;
    assert_eq!((pinned.file_count(), project.rows(&source(Csv, "link")).await.as_str()), (1, "| a |\n| 1 |"));
    // Retargeted after it was pinned: the pinned file is read.
    let link = project.pin(&source(Csv, "link")).await;
    std::fs::remove_file(project.data().join("link")).unwrap();
    std::os::unix::fs::symlink(project.write("other", "a\n2\n"), project.data().join("link")).unwrap();
    assert!(project.query(&link, "select a from t").await.contains("| 1 |"));
    assert_ne!(project.pin(&source(Csv, "link")).await.digest(), link.digest());
}

#[tokio::test]
async fn parquet_files_are_united_by_name() {
    let project = Project::new();
    let not_null = Schema::new(vec![Field::new("b", DataType::Int64, false), Field::new("a", DataType::Int64, false)]);
    let batch = RecordBatch::try_new(Arc::new(not_null), vec![ints(&[2]), ints(&[1])]).unwrap();
    project.write("1.parquet", parquet_of(&batch));
    let pinned = project.pin(&source(Parquet, "*.parquet")).await;
    assert_eq!(pinned.components()["schema"], "b: Int64 not null, a: Int64 not null");
    project.write("2.parquet", parquet(&[("a", ints(&[3])), ("c", ints(&[4]))]));
    let pinned = project.pin(&source(Parquet, "*.parquet")).await;
    // `b` is required where it is, but not everywhere.
    assert_eq!(pinned.components()["schema"], "b: Int64, a: Int64, c: Int64");
    assert_eq!(project.rows(&source(Parquet, "*.parquet")).await, "| b | a | c |\n|   | 3 | 4 |\n| 2 | 1 |   |");
    let found =
        project.query(&pinned, "select count(*) as n, count(b) as b, count(c) as c from t where c is null").await;
    assert!(found.contains("| 1 | 1 | 0 |"), "{found}");
}

#[tokio::test]
async fn types_that_do_not_merge_name_both_files() {
    let project = Project::new();
    project.write("1", parquet(&[("a", ints(&[1]))]));
    project.write("2", parquet(&[("a", ints(&[1]))]));
    project.write("3", parquet(&[("a", Arc::new(Int32Array::from(vec![1])))]));
    let (_, error) = refused(&project, &source(Parquet, "*")).await;
    assert!(error.contains("column `a` is Int64 in") && error.contains("/1 but Int32 in"), "{error}");

    for (name, content) in [("a.json", "{\"a\": 1}\n"), ("b.json", "{\"a\": [1]}\n")] {
        project.write(name, content);
    }
    let (_, error) = refused(&project, &source(Json, "*.json")).await;
    assert!(error.contains("/a.json but List(item: Int64) in") && error.contains("/b.json"), "{error}");
}

#[tokio::test]
async fn corrupt_files_are_named() {
    let project = Project::new();
    let good = parquet(&[("a", ints(&[1]))]);
    project.write("good", &good);
    for (name, content) in [("cut", &good[..good.len() - 3]), ("text", b"hello, world"), ("empty", b"")] {
        project.write(name, content);
        let source =
            SourceSpec { path: SourcePath::Many(vec!["good".to_owned(), name.to_owned()]), ..source(Parquet, "") };
        let (error, text) = refused(&project, &source).await;
        assert!(matches!(&error, PinError::Unreadable { path, .. } if path.ends_with(name)), "{text}");
        assert!(text.contains("cannot be read as parquet: check that the file is whole"), "{text}");
    }
    project.write("bad.json", "{\"a\": 1}\n{");
    let (_, error) = refused(&project, &source(Json, "bad.json")).await;
    assert!(error.contains("bad.json cannot be read as json"), "{error}");
    project.write("bad.csv", "a,b\n1\n");
    let (_, error) = refused(&project, &source(Csv, "bad.csv")).await;
    assert!(error.contains("bad.csv cannot be read as csv"), "{error}");
}

#[tokio::test]
async fn csv_files_with_other_headers_are_refused() {
    let project = Project::new();
    project.write("1", "a,b\n1,2\n");
    project.write("2", "b,a\n3,4\n");
    let (_, error) = refused(&project, &source(Csv, "*")).await;
    assert!(error.contains(r#"/2 are ["b", "a"], but those of "#) && error.contains(r#"/1 are ["a", "b"]"#), "{error}");
    // Beyond the sample, too, where inference looks at the first file only.
    let (_, error) = refused(&project, &with_options(Csv, "*", &[("schema_infer_max_rec", "1")])).await;
    assert!(error.contains(r#"["b", "a"]"#), "{error}");
    project.write("2", "a\n3\n");
    refused(&project, &source(Csv, "*")).await;
    let rows = project.rows(&with_options(Csv, "*", &[("truncated_rows", "true")])).await;
    assert_eq!(rows, "| a | b |\n| 1 | 2 |\n| 3 |   |");
    // Without a header the number of columns has to be the same.
    let headless = [("has_header", "false")];
    refused(&project, &with_options(Csv, "*", &headless)).await;
}

/// As the null type that the engine infers, the late value would be dropped without a word.
#[tokio::test]
async fn a_column_without_a_value_in_the_sample_keeps_its_late_ones() {
    let project = Project::new();
    project.write("a.csv", "a,b\n1,\n2,late\n");
    let csv = with_options(Csv, "a.csv", &[("schema_infer_max_rec", "1")]);
    assert_eq!(project.rows(&csv).await, "| a | b    |\n| 1 |      |\n| 2 | late |");
    project.write("a.json", "{\"a\":1,\"b\":null}\n{\"a\":2,\"b\":\"late\"}\n");
    let json = with_options(Json, "a.json", &[("schema_infer_max_rec", "1")]);
    assert_eq!(project.rows(&json).await, "| a | b    |\n| 1 |      |\n| 2 | late |");
}

#[tokio::test]
async fn empty_files() {
    let project = Project::new();
    project.write("empty", "");
    for format in [Csv, Json] {
        let (_, error) = refused(&project, &source(format, "empty")).await;
        assert!(error.contains("its files are empty"), "{error}");
    }
    project.write("d/0.csv", "");
    project.write("d/1.csv", "a,b\n1,2\n");
    project.write("d/2.csv", "");
    project.write("d/3.csv", "a,b\n");
    assert_eq!(project.rows(&source(Csv, "d")).await, "| a | b |\n| 1 | 2 |");
    project.write("j/0.json", "");
    project.write("j/1.json", "{\"a\": 1}");
    assert_eq!(project.rows(&source(Json, "j")).await, "| a |\n| 1 |");
    assert_eq!(project.pin(&source(Csv, "d/3.csv")).await.components()["schema"], "a: Utf8, b: Utf8");
    project.write("none.parquet", parquet(&[("s", Arc::new(StringArray::new_null(0)))]));
    assert_eq!(project.rows(&source(Parquet, "none.parquet")).await, "| s |");
}

#[tokio::test]
async fn a_file_that_is_gone_fails_the_scan() {
    let project = Project::new();
    project.write("1.csv", "a\n1\n");
    let two = project.write("2.csv", "a\n2\n");
    let pinned = project.pin(&source(Csv, "*.csv")).await;
    std::fs::remove_file(two).unwrap();
    let error = crate::support::query(&project.ctx, pinned.provider().unwrap(), "select * from t").await.unwrap_err();
    assert!(error.to_string().contains("2.csv"), "{error}");
}

#[tokio::test]
async fn two_columns_of_one_name_are_refused() {
    let project = Project::new();
    let fields = vec![Field::new("a", DataType::Int64, true), Field::new("a", DataType::Int64, true)];
    let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), vec![ints(&[1]), ints(&[2])]).unwrap();
    project.write("twice.parquet", parquet_of(&batch));
    let (error, text) = refused(&project, &source(Parquet, "twice.parquet")).await;
    assert!(matches!(error, PinError::DuplicateColumn { .. }), "{text}");
    assert!(text.contains("`a`") && text.contains("twice.parquet"), "{text}");
}
