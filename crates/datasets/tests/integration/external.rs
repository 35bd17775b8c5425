//! `CREATE EXTERNAL TABLE` as a user's SQL: the same datasets as a host registers, under the SQL policy, and no credential shown.

use std::sync::Arc;

use alluvium_contracts::{ProfileSpec, SqlPolicy};
use alluvium_datasets::{
    Dataset, ExternalDatasets, PinnedDataset, Pinner, create_external_table, parse_create_external_table,
};
use alluvium_profile::{Query, QueryError, RuntimeProfile, Session, SessionFactory};
use alluvium_telemetry::Seam;
use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::ipc::writer::FileWriter;
use arrow::util::pretty::pretty_format_batches;
use deltalake_core::DeltaTableBuilder;
use deltalake_core::protocol::SaveMode;
use url::Url;

use crate::support::{Project, chain, parquet, sorted};

fn factory(project: &Project, policy: SqlPolicy) -> SessionFactory {
    let profile = RuntimeProfile::from(&ProfileSpec { sql_policy: Some(policy), ..ProfileSpec::default() });
    let tables = ExternalDatasets::new(Pinner::new(None, Seam::system()), project.data());
    SessionFactory::new(profile).with_extension(Arc::new(tables))
}

fn admin(project: &Project) -> Session {
    factory(project, SqlPolicy::Admin).build().unwrap()
}

async fn ask(session: &Session, sql: &str) -> Result<String, QueryError> {
    let rows = session.execute(Query::sql(sql)).await?.collect().await.unwrap();
    Ok(sorted(&pretty_format_batches(&rows).unwrap().to_string()))
}

fn numbers(values: &[i64]) -> ArrayRef {
    Arc::new(Int64Array::from(values.to_vec()))
}

/// A table of two versions: `k` = 1, then `k` = 2 too.
async fn delta(project: &Project, name: &str) {
    let path = project.data().join(name);
    std::fs::create_dir_all(&path).unwrap();
    for key in [1, 2] {
        let url = Url::from_directory_path(&path).unwrap();
        let table = match DeltaTableBuilder::from_url(url.clone()).unwrap().load().await {
            Ok(table) => table,
            Err(_) => DeltaTableBuilder::from_url(url).unwrap().build().unwrap(),
        };
        let batch = RecordBatch::try_from_iter([("k", numbers(&[key]))]).unwrap();
        let write = table.write([batch]).with_save_mode(SaveMode::Append);
        write.with_configuration([("delta.enableChangeDataFeed".to_owned(), Some("true".to_owned()))]).await.unwrap();
    }
}

#[tokio::test]
async fn a_session_registers_every_format_that_this_build_reads() {
    let project = Project::new();
    project.write("a.parquet", parquet(&[("k", numbers(&[1, 2]))]));
    project.write("a.csv", "k;s\n1;x\n2;NA\n");
    project.write("a.json", "{\"k\":1}\n{\"k\":2}\n");
    let batch = RecordBatch::try_from_iter([("k", numbers(&[1, 2]))]).unwrap();
    let mut arrow = FileWriter::try_new(Vec::new(), &batch.schema()).unwrap();
    arrow.write(&batch).unwrap();
    project.write("a.arrow", arrow.into_inner().unwrap());
    delta(&project, "d").await;
    let session = admin(&project);
    for sql in [
        "create external table parquet stored as parquet location 'a.parquet'",
        "create external table csv (k bigint, s varchar) stored as csv location 'a.csv' \
         options ('delimiter' ';', 'format.null_regex' '^NA$')",
        "create external table json stored as json location 'a.json'",
        "create external table arrow stored as arrow location 'a.arrow'",
        "create external table delta stored as delta location 'd'",
        "create external table was stored as delta location 'd' options ('version' '0')",
        // Scan options and changes are fields of the declaration.
        "create external table named stored as delta location 'd' options \
         ('alluvium.spec' '{\"scan\":{\"file_column_name\":\"f\"},\"cdf\":{\"starting_version\":1}}')",
    ] {
        ask(&session, sql).await.unwrap_or_else(|error| panic!("{sql}: {}", chain(&error)));
    }
    for (table, sum) in [("parquet", 3), ("csv", 3), ("json", 3), ("arrow", 3), ("delta", 3), ("was", 1), ("named", 3)]
    {
        let found = ask(&session, &format!("select sum(k) as n from {table}")).await.unwrap();
        assert_eq!(found, format!("| n |\n| {sum} |"), "{table}");
    }
    assert_eq!(ask(&session, "select count(s) as n from csv").await.unwrap(), "| n |\n| 1 |");
    assert_eq!(ask(&session, "select count(distinct f) as n from named").await.unwrap(), "| n |\n| 2 |");
    assert_eq!(ask(&session, "select k from named__cdf").await.unwrap(), "| k |\n| 2 |");
    // What the host would have registered: text as text, which the engine's own planner would have made a view.
    let fields =
        ask(&session, "select data_type from information_schema.columns where column_name = 's'").await.unwrap();
    assert_eq!(fields, "| data_type |\n| Utf8      |");

    let avro = ask(&session, "create external table a stored as avro location 'a.avro'").await.unwrap_err();
    assert!(chain(&avro).contains("avro files cannot be read by this build"), "{}", chain(&avro));
}

#[tokio::test]
async fn it_is_the_dataset_that_the_statement_says_or_nothing() {
    let project = Project::new();
    project.write("a.parquet", parquet(&[("k", numbers(&[1]))]));
    project.write("b.parquet", parquet(&[("k", numbers(&[2]))]));
    delta(&project, "d").await;
    let session = admin(&project);
    let refused = async |sql: &str| match ask(&session, sql).await {
        Ok(rows) => panic!("{sql}: {rows}"),
        Err(error) => {
            assert!(matches!(error, QueryError::ExternalTable { .. }), "{error:?}");
            chain(&error)
        }
    };
    let create = "create external table t stored as parquet location 'a.parquet'";
    ask(&session, create).await.unwrap();
    assert!(refused(create).await.contains("a table of this name is there"));
    ask(&session, &create.replace("table t", "table if not exists t")).await.unwrap();
    let replace = create.replace("create", "create or replace");
    // What fails leaves what is there, and what does not takes its place.
    let missing = refused(&replace.replace("a.parquet", "none.parquet")).await;
    assert!(missing.contains("matches no file"), "{missing}");
    assert_eq!(ask(&session, "select k from t").await.unwrap(), "| k |\n| 1 |");
    ask(&session, &replace.replace("a.parquet", "b.parquet")).await.unwrap();
    assert_eq!(ask(&session, "select k from t").await.unwrap(), "| k |\n| 2 |");

    for (sql, expected) in [
        ("create external table u (k varchar) stored as delta location 'd'", "the column `k`"),
        ("create external table u (x bigint) stored as delta location 'd'", "the column `k` beyond `schema`"),
        ("create external table u stored as delta location 'd' options ('version' '9')", "has no version 9"),
        (
            "create external table u stored as delta location 'd' options ('timestamp' '2001-01-01T00:00:00Z')",
            "2001-01-01",
        ),
        ("create external table u stored as delta location 'd' options ('versoin' '1')", "no option `versoin`"),
        ("create unbounded external table u stored as csv location 'a'", "UNBOUNDED"),
        ("create external table s.u stored as parquet location 'a.parquet'", "the default schema"),
    ] {
        let error = refused(sql).await;
        assert!(error.contains(expected), "{sql}: {error}");
    }
    assert!(ask(&session, "select * from u").await.is_err());
}

#[tokio::test]
async fn only_the_admin_policy_lets_it_through() {
    let project = Project::new();
    project.write("a.parquet", parquet(&[("k", numbers(&[1]))]));
    let sql = "create external table t stored as parquet location 'a.parquet'";
    for policy in [SqlPolicy::ReadOnly, SqlPolicy::Service, SqlPolicy::Write] {
        let session = factory(&project, policy).build().unwrap();
        for sql in [sql.to_owned(), format!("explain {sql}")] {
            let refused = ask(&session, &sql).await.unwrap_err();
            assert!(
                matches!(refused, QueryError::Forbidden { needed: SqlPolicy::Admin, .. }),
                "{policy} {sql}: {refused}"
            );
        }
        assert!(ask(&session, "select * from t").await.is_err());
    }
    // A session of another policy than its factory's.
    assert!(ask(&admin(&project).with_sql_policy(SqlPolicy::Write), sql).await.is_err());
}

/// Everything of a failure that a person may come to see.
fn shown(error: &QueryError) -> String {
    format!("{} {error:?} {error:#?}", chain(error))
}

#[tokio::test]
async fn cloud_stores_are_refused_by_name_and_no_credential_is_shown() {
    const SECRET: &str = "wJalrXUtnFEMI";
    let project = Project::new();
    let session = admin(&project);
    for (sql, named) in [
        ("stored as delta location 's3://bucket/t'", "s3://bucket/t"),
        ("stored as parquet location 's3://id:SECRET@bucket/t'", "s3://bucket/t"),
        ("stored as csv location 'https://host/t.csv?X-Amz-Signature=SECRET'", "https://host/t.csv"),
        ("stored as delta location 't' options ('aws_secret_access_key' 'SECRET')", "'aws_secret_access_key'"),
        (
            "stored as delta location 't' options ('format.azure_storage_sas_token' 'SECRET')",
            "'azure_storage_sas_token'",
        ),
        ("stored as json location 't' options ('google_service_account_key' 'SECRET')", "'google_service_account_key'"),
        ("stored as delta location 't' options (aws_access_key_id SECRET)", "'aws_access_key_id'"),
        ("stored as delta location 't' options ('alluvium.spec' '{\"options\":{\"secret\":\"SECRET\"}}')", "'secret'"),
        (
            "stored as delta location 't' options ('alluvium.spec' '{\"options\":\"token=SECRET\"}')",
            "cloud stores are not in this build",
        ),
        // Texts that do not parse: the parser would show what it stumbles over.
        ("stored as delta location 't' options ('aws_secret_access_key' = 'SECRET')", "does not parse"),
        ("stored as delta location 't' options ('aws_secret_access_key' 'x' 'SECRET')", "does not parse"),
        ("stored as delta location 't' options ('aws_secret_access_key' x SECRET)", "does not parse"),
    ] {
        let sql = format!("create external table t {sql}").replace("SECRET", SECRET);
        let error = ask(&session, &sql).await.unwrap_err();
        let text = shown(&error);
        assert!(text.contains(named) && !text.contains(SECRET), "{sql}: {text}");
        // The host's way.
        let parsed = parse_create_external_table(&sql);
        assert!(!format!("{parsed:?}").contains(SECRET), "{parsed:?}");
        if let Ok(created) = parsed {
            let error = Dataset::resolve("t", &created.spec, &project.data()).unwrap_err();
            assert!(!format!("{error} {error:?}").contains(SECRET), "{error:?}");
        }
    }
    assert!(!format!("{session:?}").contains(SECRET));
}

#[tokio::test]
async fn what_is_emitted_for_a_pinned_dataset_is_what_a_session_takes() {
    let project = Project::new();
    let texts: ArrayRef = Arc::new(StringArray::from(vec!["x"]));
    project.write("a.parquet", parquet(&[("k", numbers(&[1])), ("s", texts)]));
    let spec = parse_create_external_table(
        "create external table \"T t\" (k bigint not null, s varchar, primary key (k), constraint low check (k < 9)) \
         stored as parquet location 'a.parquet' with order (k)",
    );
    let spec = spec.unwrap().spec;
    let session = admin(&project);
    ask(&session, &create_external_table("T t", &spec)).await.unwrap();
    let dataset = Dataset::resolve("T t", &spec, &project.data()).unwrap();
    let pinned: PinnedDataset = Pinner::new(None, Seam::system()).pin(session.context(), &dataset).await.unwrap();
    let provider = session.context().table_provider("\"T t\"").await.unwrap();
    assert_eq!(provider.schema(), *pinned.schema());
    assert_eq!(ask(&session, "select * from \"T t\"").await.unwrap(), "| k | s |\n| 1 | x |");
}
