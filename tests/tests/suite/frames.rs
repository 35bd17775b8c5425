//! `DataFrame::cache` in sessions of ours: a node that materialises when it is executed, once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use alluvium_contracts::ProfileSpec;
use alluvium_delta_cache::FrameCache;
use alluvium_profile::{Query, RuntimeProfile, Session, SessionFactory};
use arrow::array::RecordBatch;
use arrow::util::pretty::pretty_format_batches;
use datafusion::arrow::array::{ArrayRef, Int64Array};
use datafusion::arrow::datatypes::DataType;
use datafusion::logical_expr::{ColumnarValue, Volatility, create_udf};
use datafusion::prelude::{DataFrame, col, lit};

use crate::lab::sessions;

fn session() -> Session {
    sessions().with_extension(Arc::new(FrameCache)).build().unwrap()
}

async fn frame(session: &Session, sql: &str) -> DataFrame {
    session.execute(Query::sql(sql)).await.unwrap()
}

async fn rows(frame: DataFrame) -> (usize, String) {
    let batches: Vec<RecordBatch> = frame.collect().await.unwrap();
    (batches.iter().map(RecordBatch::num_rows).sum(), pretty_format_batches(&batches).unwrap().to_string())
}

/// A frame of the numbers below `n` whose computation counts the rows that it computes.
async fn counted(session: &Session, n: i64) -> (DataFrame, Arc<AtomicUsize>) {
    let computed = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&computed);
    let udf = create_udf(
        "counted",
        vec![DataType::Int64],
        DataType::Int64,
        Volatility::Volatile,
        Arc::new(move |values: &[ColumnarValue]| {
            let values = ColumnarValue::values_to_arrays(values)?;
            counter.fetch_add(values[0].len(), Ordering::Relaxed);
            Ok(ColumnarValue::Array(Arc::clone(&values[0])))
        }),
    );
    let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..n));
    let batch = RecordBatch::try_from_iter([("x", numbers)]).unwrap();
    let frame = session.context().read_batch(batch).unwrap();
    (frame.select(vec![udf.call(vec![col("x")]).alias("x"), lit(1_i64).alias("one")]).unwrap(), computed)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cached_frame_is_computed_when_it_is_executed_and_once() {
    let session = session();
    let (frame, computed) = counted(&session, 1_000).await;
    let cached = frame.cache().await.unwrap();
    assert_eq!(computed.load(Ordering::Relaxed), 0, "asking for it computes nothing");
    let planned = cached.clone().filter(col("x").lt(lit(10_i64))).unwrap().create_physical_plan().await.unwrap();
    assert_eq!(computed.load(Ordering::Relaxed), 0, "nor does planning over it");
    let text = datafusion::physical_plan::displayable(planned.as_ref()).indent(false).to_string();
    assert!(text.contains("MaterializeExec"), "{text}");

    let few = rows(cached.clone().filter(col("x").lt(lit(10_i64))).unwrap()).await;
    assert_eq!((few.0, computed.load(Ordering::Relaxed)), (10, 1_000));
    let (all, count) = tokio::join!(rows(cached.clone()), cached.clone().count());
    assert_eq!((all.0, count.unwrap()), (1_000, 1_000));
    assert_eq!(rows(cached.clone().select(vec![col("one")]).unwrap()).await.0, 1_000);
    assert_eq!(rows(cached.clone().limit(5, Some(7)).unwrap()).await.0, 7);
    assert_eq!(computed.load(Ordering::Relaxed), 1_000, "whoever reads it afterwards reads what is there");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cached_frame_has_the_rows_of_its_query_whatever_its_partitions() {
    let session = session();
    let sql = "select a.x % 7 as k, count(*) as n, sum(b.x) as s
               from generate_series(1, 5000) as a(x) join generate_series(1, 3000) as b(x) on a.x = b.x group by 1";
    let plain = rows(frame(&session, sql).await.sort(vec![col("k").sort(true, false)]).unwrap()).await;
    let cached = frame(&session, sql).await.cache().await.unwrap();
    for _ in 0..2 {
        let sorted = cached.clone().sort(vec![col("k").sort(true, false)]).unwrap();
        assert_eq!(rows(sorted).await, plain);
    }
    let joined = cached.clone().alias("l").unwrap();
    let joined = joined
        .join(cached.clone().alias("r").unwrap(), datafusion::common::JoinType::Inner, &["k"], &["k"], None)
        .unwrap();
    assert_eq!(rows(joined).await.0, 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_that_fails_is_tried_again() {
    let session = session();
    let cached = frame(&session, "select 1 / (x - 2) as y from (values (1), (2)) as t(x)").await.cache().await.unwrap();
    for _ in 0..2 {
        let error = cached.clone().collect().await.unwrap_err().to_string();
        assert!(error.contains("Divide by zero"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cached_frame_is_counted_in_the_memory_of_its_session() {
    let profile = |limit| ProfileSpec { memory_limit_bytes: Some(limit), ..ProfileSpec::default() };
    let session = |limit| {
        let profile = RuntimeProfile::from(&profile(limit));
        SessionFactory::new(profile).with_extension(Arc::new(FrameCache)).build().unwrap()
    };
    let roomy = session(64 << 20);
    let (frame, _) = counted(&roomy, 100_000).await;
    let cached = frame.cache().await.unwrap();
    assert_eq!(cached.clone().count().await.unwrap(), 100_000);
    // Two columns of eight bytes a row.
    let held = reserved(&roomy);
    assert!((1_600_000..3_200_000).contains(&held), "{held}");
    assert_eq!(cached.clone().count().await.unwrap(), 100_000);
    assert_eq!(reserved(&roomy), held, "reading it again holds nothing more");
    drop(cached);
    released(&roomy).await;

    let narrow = session(1 << 20);
    let (frame, _) = counted(&narrow, 100_000).await;
    let refused = frame.cache().await.unwrap().count().await.unwrap_err().to_string();
    assert!(refused.contains("DataFrame::cache"), "{refused}");
    released(&narrow).await;
}

fn reserved(session: &Session) -> usize {
    session.context().runtime_env().memory_pool.reserved()
}

/// Waits until nothing is held: what a query spawned ends a moment after it.
async fn released(session: &Session) {
    for _ in 0..1_000 {
        if reserved(session) == 0 {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    panic!("{} bytes are held by a frame that is gone", reserved(session));
}
