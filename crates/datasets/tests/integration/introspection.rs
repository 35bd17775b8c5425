//! What a session tells of itself: constraints and defaults, the engine's caches, answers about schemas.

use std::sync::Arc;
use std::time::Duration;

use alluvium_contracts::{
    ConstraintSpec, DatasetFormat, DatasetSpec, EngineCachePreset, EvolutionSpec, ProfileSpec, SqlPolicy,
};
use alluvium_datasets::{
    ConstraintKind, Dataset, EngineCacheFunctions, Pinner, SchemaIntrospection, SchemaQuestion, register_dataset,
};
use alluvium_profile::{CacheRoot, KvKind, Query, RuntimeProfile, Session, SessionFactory};
use alluvium_telemetry::{Clock, Seam};
use arrow::array::{ArrayRef, Int64Array};
use arrow::util::pretty::pretty_format_batches;
use datafusion::catalog::MemTable;
use serde_json::json;

use crate::support::{Project, columns, dataset, parquet, sorted};

fn profile(change: impl FnOnce(&mut ProfileSpec)) -> RuntimeProfile {
    let mut spec = ProfileSpec { sql_policy: Some(SqlPolicy::Admin), ..ProfileSpec::default() };
    change(&mut spec);
    RuntimeProfile::from(&spec)
}

fn session(change: impl FnOnce(&mut ProfileSpec)) -> Session {
    SessionFactory::new(profile(change)).with_extension(Arc::new(EngineCacheFunctions)).build().unwrap()
}

async fn ask(session: &Session, sql: &str) -> String {
    let frame = session.execute(Query::sql(sql)).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    sorted(&pretty_format_batches(&frame.collect().await.unwrap()).unwrap().to_string())
}

fn numbers(values: std::ops::Range<i64>) -> ArrayRef {
    Arc::new(Int64Array::from_iter_values(values))
}

async fn register(session: &Session, project: &Project, name: &str, spec: &DatasetSpec) {
    let dataset = Dataset::resolve(name, spec, &project.data()).unwrap();
    register_dataset(session, &Pinner::new(None, Seam::system()), &dataset).await.unwrap();
}

/// A dataset with one of everything.
fn constrained(project: &Project) -> DatasetSpec {
    project.write("k.parquet", parquet(&[("a", numbers(0..3)), ("b", numbers(0..3))]));
    DatasetSpec {
        schema: Some(columns(&[("a", "Int64"), ("b", "Int64"), ("c", "Utf8")])),
        constraints: ConstraintSpec {
            primary_key: vec!["b".to_owned(), "a".to_owned()],
            not_null: vec!["a".to_owned()],
            check: [("low".to_owned(), "a < 9".to_owned())].into(),
        },
        evolution: Some(EvolutionSpec {
            defaults: [("c".to_owned(), json!("it's"))].into(),
            ..EvolutionSpec::default()
        }),
        ..dataset(DatasetFormat::Parquet, "k.parquet")
    }
}

const CONSTRAINTS: &str = "select constraint_name as n, constraint_type as t, column_name as c, ordinal_position as p, \
     expression as e, declared_by as d from alluvium.table_constraints where table_name = 't'";

#[tokio::test]
async fn constraints_and_defaults_of_a_declaration_are_rows() {
    let project = Project::new();
    let session = session(|_| {});
    let spec = constrained(&project);
    register(&session, &project, "t", &spec).await;
    let expected = "\
| n           | t           | c | p | e       | d           |
| default c   | DEFAULT     | c |   | 'it''s' | declaration |
| low         | CHECK       |   |   | a < 9   | declaration |
| not_null a  | NOT NULL    | a |   |         | declaration |
| primary_key | PRIMARY KEY | a | 2 |         | declaration |
| primary_key | PRIMARY KEY | b | 1 |         | declaration |";
    assert_eq!(ask(&session, CONSTRAINTS).await, expected);
    // A plan may be executed when its session is gone.
    let plan = {
        let other = self::session(|_| {});
        register(&other, &project, "t", &spec).await;
        let frame = other.execute(Query::sql(CONSTRAINTS)).await.unwrap();
        (frame.create_physical_plan().await.unwrap(), other.context().task_ctx())
    };
    let late = datafusion::physical_plan::collect(plan.0, plan.1).await.unwrap();
    assert_eq!(sorted(&pretty_format_batches(&late).unwrap().to_string()), expected);
    // They are of the table that was described, not of its name.
    let again = session.context().deregister_table("t").unwrap().unwrap();
    assert_eq!(ask(&session, "select count(*) as n from alluvium.table_constraints").await, "| n |\n| 0 |");
    session.context().register_table("t", again).unwrap();
    let other = MemTable::try_new(parquet_schema(), vec![vec![]]).unwrap();
    session.context().deregister_table("t").unwrap();
    session.context().register_table("t", Arc::new(other)).unwrap();
    assert_eq!(ask(&session, "select count(*) as n from alluvium.table_constraints").await, "| n |\n| 0 |");
}

fn parquet_schema() -> arrow::datatypes::SchemaRef {
    use arrow::datatypes::{DataType, Field, Schema};
    Arc::new(Schema::new(vec![Field::new("a", DataType::Int64, true)]))
}

#[tokio::test]
async fn constraints_and_defaults_of_a_delta_log_are_rows() {
    use deltalake_core::kernel::{DataType, StructField};
    use deltalake_core::operations::create::CreateBuilder;
    let project = Project::new();
    let path = project.data().join("t");
    std::fs::create_dir(&path).unwrap();
    let number = |name: &str, nullable| StructField::new(name, DataType::LONG, nullable);
    let invariant = number("i", true).with_metadata([("delta.invariants", r#"{"expression":{"expression":"i > 3"}}"#)]);
    let default = number("d", true).with_metadata([("CURRENT_DEFAULT", "7")]);
    let table = CreateBuilder::new()
        .with_location(path.to_str().unwrap())
        .with_columns([number("k", false), invariant, default])
        .await
        .unwrap();
    table.add_constraint().with_constraint("positive", "k > 0").await.unwrap();
    let session = session(|_| {});
    let spec = DatasetSpec {
        constraints: ConstraintSpec { primary_key: vec!["k".to_owned()], ..ConstraintSpec::default() },
        ..dataset(DatasetFormat::Delta, "t")
    };
    register(&session, &project, "t", &spec).await;
    let expected = "\
| n           | t           | c | p | e     | d           |
| default d   | DEFAULT     | d |   | 7     | delta_log   |
| invariant i | CHECK       | i |   | i > 3 | delta_log   |
| not_null k  | NOT NULL    | k |   |       | schema      |
| positive    | CHECK       |   |   | k > 0 | delta_log   |
| primary_key | PRIMARY KEY | k | 1 |       | declaration |";
    assert_eq!(ask(&session, CONSTRAINTS).await, expected);
}

#[tokio::test]
async fn caches_are_told_as_they_are_when_a_query_is_executed() {
    let project = Project::new();
    let file = project.write("d/a.parquet", parquet(&[("k", numbers(0..3))]));
    let session = session(|spec| spec.engine_caches.preset = Some(EngineCachePreset::AlwaysLatest));
    // Planned before anything was read.
    let early = session.execute(Query::sql("select count(*) as n from metadata_cache()")).await.unwrap();
    let early = early.create_physical_plan().await.unwrap();
    // The engine's own table lists files and keeps statistics, as ours does not.
    let create = format!("create external table t stored as parquet location '{}/'", file.parent().unwrap().display());
    session.execute(Query::sql(create)).await.unwrap();
    ask(&session, "select sum(k) from t").await;
    let found = datafusion::physical_plan::collect(early, session.context().task_ctx()).await.unwrap();
    let found = pretty_format_batches(&found).unwrap().to_string();
    assert!(found.contains("| 1 |"), "rows are made at execution: {found}");

    let size = std::fs::metadata(&file).unwrap().len();
    let footer = format!(
        "select substring(path, length(path) - 8) = 'a.parquet' as p, file_size_bytes = {size} as s, size_bytes > 0 as b, \
         file_modified is not null as m, expires_in_seconds is null as e from metadata_cache()"
    );
    assert_eq!(
        ask(&session, &footer).await,
        "| p    | s    | b    | m    | e    |\n| true | true | true | true | true |"
    );
    let statistics =
        ask(&session, "select row_count as r, column_count as c, size_bytes > 0 as b from statistics_cache()").await;
    assert_eq!(statistics, "| r | c | b    |\n| 3 | 1 | true |");
    let listing = "select file_count as n, file_size_bytes > 0 as s, expires_in_seconds > 0 and expires_in_seconds <= 30 as e \
         from list_files_cache()";
    assert_eq!(ask(&session, listing).await, "| n | s    | e    |\n| 1 | true | true |");
    const HITS: &str = "select sum(hits) as n from metadata_cache()";
    let before = ask(&session, HITS).await;
    ask(&session, "select max(k) from t where k > 0").await;
    assert_ne!(ask(&session, HITS).await, before, "hits are counted");

    let refused = session.execute(Query::sql("select * from metadata_cache('x')")).await;
    assert!(refused.is_err(), "it takes no arguments");
    // Nothing is remembered by default, and nothing is told of another session.
    let other = self::session(|_| {});
    for function in ["metadata_cache", "statistics_cache", "list_files_cache", "predicate_cache"] {
        assert_eq!(ask(&other, &format!("select count(*) as n from {function}()")).await, "| n |\n| 0 |", "{function}");
    }
}

#[tokio::test]
async fn the_predicate_cache_tells_of_executed_scans() {
    let project = Project::new();
    project.write("a.parquet", parquet(&[("k", numbers(0..1_000)), ("v", numbers(0..1_000))]));
    let session = session(|spec| spec.parquet.pushdown_filters = Some(true));
    register(&session, &project, "t", &dataset(DatasetFormat::Parquet, "a.parquet")).await;
    const TOLD: &str =
        "select scan as s, file_count as f, records > 0 as r, inner_records > 0 as i from predicate_cache()";
    assert_eq!(ask(&session, "select count(*) as n from predicate_cache()").await, "| n |\n| 0 |");
    let filtered = "select k, v from t where k % 7 = 0";
    // Planned and never executed: it has counted nothing.
    session.execute(Query::sql(filtered)).await.unwrap().create_physical_plan().await.unwrap();
    assert_eq!(ask(&session, "select count(*) as n from predicate_cache()").await, "| n |\n| 0 |");
    ask(&session, filtered).await;
    assert_eq!(ask(&session, TOLD).await, "| s | f | r    | i    |\n| 2 | 1 | true | true |");
    let path = ask(&session, "select first_file from predicate_cache()").await;
    assert!(path.contains("a.parquet"), "{path}");
}

#[tokio::test]
async fn answers_about_schemas_are_kept_and_never_stale() {
    let project = Project::new();
    project.write("a.parquet", parquet(&[("k", numbers(0..3))]));
    let root = CacheRoot::open(&project.dir.path().join("root"), &Seam::system()).unwrap();
    let profile = profile(|_| {});
    let cache = root.cache(KvKind::Schema).unwrap().clone();
    let introspection = SchemaIntrospection::new(cache.clone(), &profile);
    let session = session(|_| {});
    let text = async |question| {
        let answer = introspection.ask(&session, question).await.unwrap();
        sorted(&pretty_format_batches(&[answer]).unwrap().to_string())
    };
    for question in SchemaQuestion::ALL {
        let first = text(question).await;
        assert_eq!(text(question).await, first, "{question:?}");
    }
    assert_eq!(introspection.hits_and_misses(), (3, 3));
    assert!(!text(SchemaQuestion::Tables).await.contains("| t "));

    // A registration changes every answer that it has a part in, at once.
    let spec = constrained(&project);
    register(&session, &project, "t", &spec).await;
    assert!(text(SchemaQuestion::Tables).await.contains("| t "));
    assert!(text(SchemaQuestion::Columns).await.contains("| c "));
    assert!(text(SchemaQuestion::Constraints).await.contains("primary_key"));
    // The same columns under other constraints, and the same name with other columns.
    session.context().deregister_table("t").unwrap();
    register(&session, &project, "t", &DatasetSpec { constraints: ConstraintSpec::default(), ..spec.clone() }).await;
    assert!(!text(SchemaQuestion::Constraints).await.contains("primary_key"));
    session.context().deregister_table("t").unwrap();
    register(&session, &project, "t", &dataset(DatasetFormat::Parquet, "a.parquet")).await;
    assert!(!text(SchemaQuestion::Columns).await.contains("| c "));

    // Another session with the same tables, and another process's handle, are answered from what is kept.
    let (_, misses) = introspection.hits_and_misses();
    let twin = self::session(|_| {});
    register(&twin, &project, "t", &dataset(DatasetFormat::Parquet, "a.parquet")).await;
    let other = SchemaIntrospection::new(cache.clone(), &profile);
    other.ask(&twin, SchemaQuestion::Columns).await.unwrap();
    assert_eq!(other.hits_and_misses(), (1, 0));
    // Another profile has answers of its own.
    let limited = self::profile(|spec| spec.batch_size = Some(7));
    let apart = SchemaIntrospection::new(cache, &limited);
    apart.ask(&twin, SchemaQuestion::Columns).await.unwrap();
    assert_eq!(apart.hits_and_misses(), (0, 1));
    // By hand: all of the profile's, and only those.
    assert!(introspection.invalidate().unwrap() >= 6);
    text(SchemaQuestion::Columns).await;
    assert_eq!(introspection.hits_and_misses().1, misses + 1);
    apart.ask(&twin, SchemaQuestion::Columns).await.unwrap();
    assert_eq!(apart.hits_and_misses(), (1, 1));
}

/// Time that a test moves.
#[derive(Debug, Default)]
struct Moved(std::sync::atomic::AtomicU64);

impl Clock for Moved {
    fn since_epoch(&self) -> Duration {
        Duration::from_secs(1_800_000_000 + self.0.load(std::sync::atomic::Ordering::SeqCst))
    }

    fn monotonic(&self) -> Duration {
        self.since_epoch()
    }
}

#[tokio::test]
async fn answers_about_schemas_live_as_long_as_their_kind_says() {
    let project = Project::new();
    let clock = Arc::new(Moved::default());
    let seam = Seam::system().with_clock(Arc::clone(&clock) as Arc<dyn Clock>);
    for (name, ttl, seconds) in [("preset", None, 300), ("shorter", Some(7), 7), ("endless", Some(0), u64::MAX)] {
        let profile = profile(|spec| spec.kv.schema.ttl_seconds = ttl);
        let root = CacheRoot::open_with(&project.dir.path().join(name), profile.kv_settings(), &seam).unwrap();
        let cache = root.cache(KvKind::Schema).unwrap().clone();
        let introspection = SchemaIntrospection::new(cache, &profile);
        let session = session(|_| {});
        let asked = async |later: u64| {
            clock.0.fetch_add(later, std::sync::atomic::Ordering::SeqCst);
            introspection.ask(&session, SchemaQuestion::Columns).await.unwrap();
            introspection.hits_and_misses()
        };
        assert_eq!(asked(0).await, (0, 1), "{name}");
        let almost = seconds.min(1_000_000) - 1;
        assert_eq!(asked(almost).await, (1, 1), "{name}");
        // It was stored once; asking does not prolong it.
        let (hits, misses) = asked(1).await;
        assert_eq!((hits, misses), if seconds == u64::MAX { (2, 1) } else { (1, 2) }, "{name}");
        assert_eq!(asked(0).await, (hits + 1, misses), "{name}: the new answer is kept");
    }
}

#[tokio::test]
async fn every_constraint_of_a_pin_is_told() {
    let project = Project::new();
    let pinned = project.pin_spec(&constrained(&project)).await;
    let kinds: Vec<_> = pinned.table_constraints().iter().map(|constraint| constraint.kind).collect();
    use ConstraintKind::{Check, Default, NotNull, PrimaryKey};
    assert_eq!(kinds, [PrimaryKey, PrimaryKey, NotNull, Check, Default]);
}
