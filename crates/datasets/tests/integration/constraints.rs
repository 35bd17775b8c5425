//! Constraints, checked on demand: counted, sampled, and never believed.

use std::sync::Arc;

use alluvium_contracts::DatasetFormat::{Csv, Parquet};
use alluvium_contracts::{ConstraintSpec, DatasetCache, DatasetSpec, ProfileSpec};
use alluvium_datasets::{ConstraintError, Dataset, Pinner, Violation, check_constraints, register_dataset};
use alluvium_profile::{Query, RuntimeProfile, SessionFactory};
use alluvium_telemetry::Seam;
use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};

use crate::support::{Project, chain, dataset, parquet};

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn declared(constraints: ConstraintSpec) -> DatasetSpec {
    DatasetSpec { constraints, ..dataset(Parquet, "a") }
}

async fn violations(project: &Project, constraints: ConstraintSpec) -> Vec<Violation> {
    let pinned = project.pin_spec(&declared(constraints)).await;
    match check_constraints(&project.ctx, &pinned).await {
        Ok(()) => Vec::new(),
        Err(ConstraintError::Violated { violations, .. }) => violations,
        Err(error) => panic!("{}", chain(&error)),
    }
}

fn project() -> Project {
    let project = Project::new();
    let keys: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), Some(2), Some(2), Some(2), None, Some(3), Some(3)]));
    let texts: ArrayRef = Arc::new(StringArray::from(vec!["a", "b", "b", "c", "d", "e", "e"]));
    project.write("a", parquet(&[("k", keys), ("S", texts)]));
    project
}

#[tokio::test]
async fn each_is_counted_and_sampled() {
    let project = project();
    let found =
        violations(&project, ConstraintSpec { not_null: names(&["k", "S"]), ..ConstraintSpec::default() }).await;
    let [null] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!(
        (null.constraint.as_str(), null.row_count, null.sample.as_slice()),
        ("not_null k", 1, &["(k=NULL, S=d)".to_owned()][..])
    );

    let mut found =
        violations(&project, ConstraintSpec { primary_key: names(&["k"]), ..ConstraintSpec::default() }).await;
    found[1].sample.sort();
    assert_eq!(found[0].constraint, "not_null k");
    assert_eq!((found[1].constraint.as_str(), found[1].row_count), ("primary_key", 5));
    assert_eq!(found[1].sample, ["(k=2)", "(k=3)"]);
    let two =
        violations(&project, ConstraintSpec { primary_key: names(&["S", "k"]), ..ConstraintSpec::default() }).await;
    assert_eq!(two.iter().find(|violation| violation.constraint == "primary_key").unwrap().row_count, 4);

    // NULL passes a check.
    let check = |condition: &str| ConstraintSpec {
        check: [("small".to_owned(), condition.to_owned())].into(),
        ..ConstraintSpec::default()
    };
    let found = violations(&project, check("k < 3 and \"S\" <> 'zz'")).await;
    assert_eq!((found[0].constraint.as_str(), found[0].row_count), ("check small", 2));
    assert_eq!(found[0].sample, ["(k=3, S=e)", "(k=3, S=e)"]);
    assert_eq!(violations(&project, check("k < 4")).await, []);
    assert_eq!(violations(&project, ConstraintSpec::default()).await, []);

    let pinned = project.pin_spec(&declared(ConstraintSpec { primary_key: names(&["k"]), ..check("k < 3") })).await;
    let error = check_constraints(&project.ctx, &pinned).await.unwrap_err().to_string();
    assert!(
        error.contains("`primary_key` in 5 rows, such as (k=") && error.contains("`check small` in 2 rows"),
        "{error}"
    );
    assert_eq!(pinned.digest(), project.pin_spec(&dataset(Parquet, "a")).await.digest(), "they move no rows");
}

#[tokio::test]
async fn what_cannot_be_checked_is_named() {
    let project = project();
    let refused = async |constraints: ConstraintSpec| {
        let pinned = project.pin_spec(&declared(constraints)).await;
        chain(&check_constraints(&project.ctx, &pinned).await.unwrap_err())
    };
    let error = refused(ConstraintSpec { not_null: names(&["s"]), ..ConstraintSpec::default() }).await;
    assert!(error.contains("name the column `s`"), "{error}");
    for (condition, expected) in [
        ("k >", "cannot be planned"),
        ("random() < 2", "calls `random`"),
        ("sum(k) > 0", "an aggregate"),
        ("k + 1", "failed"),
    ] {
        let check = [("c".to_owned(), condition.to_owned())].into();
        let error = refused(ConstraintSpec { check, ..ConstraintSpec::default() }).await;
        assert!(error.contains(expected), "{condition}: {error}");
    }
}

#[tokio::test]
async fn a_dataset_in_memory_is_read_once_unless_it_is_too_wide() {
    let project = Project::new();
    let path = project.write("a.csv", "k,s\n1,x\n");
    let session = SessionFactory::new(RuntimeProfile::from(&ProfileSpec::default())).build().unwrap();
    let pinner = Pinner::new(None, Seam::system());
    let spec = DatasetSpec { cache: DatasetCache::Memory, ..dataset(Csv, "a.csv") };
    for (name, max_columns) in [("kept", 2), ("wide", 1)] {
        let spec = DatasetSpec { cache_max_columns: max_columns, ..spec.clone() };
        let declared = Dataset::resolve(name, &spec, &project.data()).unwrap();
        register_dataset(&session, &pinner, &declared).await.unwrap();
    }
    std::fs::remove_file(path).unwrap();
    let count = async |table: &str| {
        let frame = session.execute(Query::sql(format!("select s from {table}"))).await.unwrap();
        frame.collect().await.map(|batches| batches.iter().map(RecordBatch::num_rows).sum::<usize>())
    };
    assert_eq!(count("kept").await.unwrap(), 1);
    assert!(count("wide").await.is_err());
    let staged = DatasetSpec { cache: DatasetCache::DeltaStaging, ..spec };
    let staged = Dataset::resolve("staged", &staged, &project.data()).unwrap();
    let refused = register_dataset(&session, &pinner, &staged).await.unwrap_err().to_string();
    assert!(refused.contains("`DeltaCache::register_dataset`"), "{refused}");
    let idle = DatasetSpec { cache_max_columns: 3, ..dataset(Csv, "a.csv") };
    assert!(crate::support::undeclarable(&idle).contains("`cache_max_columns` cannot be honoured"));
}
