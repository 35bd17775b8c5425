//! Ledgers and outboxes that two builds share: a contract gains optional fields from one to the next, or a version.

use std::sync::Arc;

use alluvium_contracts::{CacheInventoryEntry, LedgerEvent, RunManifest};
use alluvium_disk_kv_cache::{Order, StoreError};
use alluvium_write_policy::{AppendOutcome, append_or_create};
use arrow::array::{Array, ArrayRef, AsArray as _, ListArray, RecordBatch, StringArray, StructArray, new_null_array};
use arrow::datatypes::{DataType, Field, Schema};

use super::support::{Root, batches, event, full_entry, manifest, names, select, sql, views};
use crate::upkeep::policy;
use crate::{Ledger, Ledgers};

/// Rows of a ledger as this build writes them.
async fn rows_of(ledger: Ledger, event: LedgerEvent) -> RecordBatch {
    let root = Root::new();
    let ledgers = root.ledgers();
    ledgers.record(&[event]).unwrap();
    ledgers.drain().await.unwrap();
    batches(&ledgers, &format!("select * from {ledger}")).await.remove(0)
}

/// The ledger as another build made it, with `rows` in it.
async fn made_by_another(root: &Root, ledger: Ledger, rows: RecordBatch) {
    let dir = root.dir_of(ledger);
    let (schema, nothing, first) = (rows.schema(), Default::default(), policy());
    let appended = append_or_create(&dir, schema, vec![rows], &first, &nothing, ("other", 1)).await;
    assert!(matches!(appended.unwrap().outcome, AppendOutcome::Committed(_)));
}

fn without_column(rows: &RecordBatch, name: &str) -> RecordBatch {
    let mut rows = rows.clone();
    rows.remove_column(rows.schema().index_of(name).unwrap());
    rows
}

/// As if the structs in the lists of a column had one field fewer, or one that nobody here knows.
fn with_fields(rows: &RecordBatch, column: &str, change: impl Fn(&mut Vec<Field>, &mut Vec<ArrayRef>)) -> RecordBatch {
    let at = rows.schema().index_of(column).unwrap();
    let list = rows.column(at).as_list::<i32>();
    let (fields, mut columns, nulls) = list.values().as_struct().clone().into_parts();
    let mut fields: Vec<Field> = fields.iter().map(|field| field.as_ref().clone()).collect();
    change(&mut fields, &mut columns);
    let structs = StructArray::new(fields.into(), columns, nulls);
    let element = Arc::new(Field::new("element", structs.data_type().clone(), false));
    let list = ListArray::new(element, list.offsets().clone(), Arc::new(structs), list.nulls().cloned());
    let mut fields: Vec<Field> = rows.schema().fields().iter().map(|field| field.as_ref().clone()).collect();
    fields[at] = Field::new(column, list.data_type().clone(), false);
    let mut columns = rows.columns().to_vec();
    columns[at] = Arc::new(list);
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
}

fn no_notices(ledgers: &Ledgers) {
    assert_eq!(ledgers.take_notices(), Vec::<String>::new());
}

#[tokio::test]
async fn a_ledger_that_lacks_a_newer_column_is_read_with_nulls_and_gains_it() {
    let root = Root::new();
    let old = full_entry(root.seam.run_id());
    // From the middle of the columns, so that it is at the end of those of the table afterwards.
    let rows =
        without_column(&rows_of(Ledger::CacheInventory, LedgerEvent::CacheInventory(old.clone())).await, "reason");
    made_by_another(&root, Ledger::CacheInventory, rows).await;
    let ledgers = root.ledgers();
    let all = "select * from cache_inventory order by reason nulls first";
    let old = CacheInventoryEntry { reason: None, ..old };
    assert_eq!(select::<CacheInventoryEntry>(&ledgers, all).await, std::slice::from_ref(&old));
    assert_eq!(sql(&ledgers, "select view_name from cache_inventory where reason is not null").await.len(), 0);

    let new = CacheInventoryEntry { reason: Some("new".to_owned()), ..full_entry(root.seam.run_id()) };
    for (appended, expected) in [(1, vec![old.clone(), new.clone()]), (2, vec![old, new.clone(), new.clone()])] {
        ledgers.record(&[LedgerEvent::CacheInventory(new.clone())]).unwrap();
        let report = ledgers.drain().await.unwrap();
        assert_eq!(report.notices, Vec::<String>::new());
        assert_eq!(select::<CacheInventoryEntry>(&ledgers, all).await, expected, "after {appended}");
    }
    let table = ledgers.table(Ledger::CacheInventory).await.unwrap();
    assert_eq!(table.schema(), Ledger::CacheInventory.schema(), "in this build's order");
    no_notices(&ledgers);
    assert!(names(ledgers.path()).iter().all(|name| !name.contains("damaged")));
}

#[tokio::test]
async fn fields_within_columns_come_and_go_as_columns_do() {
    let root = Root::new();
    let of_old = root.seam.run_id();
    let rows = rows_of(Ledger::RunManifests, LedgerEvent::RunManifests(Box::new(manifest(of_old)))).await;
    let rows = with_fields(&rows, "outputs", |fields, columns| {
        let at = fields.iter().position(|field| field.name() == "written_by").unwrap();
        fields.remove(at);
        columns.remove(at);
    });
    let rows = with_fields(&rows, "views", |fields, columns| {
        fields.insert(1, Field::new("shard", DataType::Utf8, true));
        columns.insert(1, new_null_array(&DataType::Utf8, columns[0].len()));
    });
    made_by_another(&root, Ledger::RunManifests, rows).await;
    let ledgers = root.ledgers();
    let mut old = manifest(of_old);
    assert!(old.outputs.iter().any(|output| output.written_by.is_some()), "there is something to lack");
    old.outputs.iter_mut().for_each(|output| output.written_by = None);

    // More than enough to put files together that have the field and that do not.
    let mut expected = vec![old];
    for number in 0..34 {
        assert_eq!(select::<RunManifest>(&ledgers, "select * from run_manifests order by run_id").await, expected);
        let new = manifest(root.seam.run_id());
        expected.push(new.clone());
        ledgers.record(&[LedgerEvent::RunManifests(Box::new(new))]).unwrap();
        assert_eq!(ledgers.drain().await.unwrap().notices, Vec::<String>::new(), "{number}");
    }
    let dir = root.dir_of(Ledger::RunManifests);
    let head = alluvium_write_policy::head_commit(&dir).unwrap().unwrap().version;
    assert!(alluvium_write_policy::active_files(&dir, head).await.unwrap().len() < 10);
    no_notices(&ledgers);
}

#[tokio::test]
async fn a_ledger_of_a_later_build_is_read_as_far_as_it_is_known_and_written() {
    let root = Root::new();
    let rows = rows_of(Ledger::CacheInventory, event(root.seam.run_id(), "later")).await;
    let mut fields: Vec<Field> = rows.schema().fields().iter().map(|field| field.as_ref().clone()).collect();
    fields.insert(3, Field::new("trace_id", DataType::Utf8, true));
    let mut columns = rows.columns().to_vec();
    columns.insert(3, Arc::new(StringArray::from(vec!["t1"])));
    made_by_another(
        &root,
        Ledger::CacheInventory,
        RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap(),
    )
    .await;
    let ledgers = root.ledgers();
    ledgers.record(&[event(root.seam.run_id(), "earlier")]).unwrap();
    assert_eq!(ledgers.drain().await.unwrap().notices, Vec::<String>::new());
    assert_eq!(views(&ledgers).await, ["earlier", "later"]);
    assert_eq!(ledgers.table(Ledger::CacheInventory).await.unwrap().schema(), Ledger::CacheInventory.schema());
    // The later build finds what it wrote.
    let dir = root.dir_of(Ledger::CacheInventory);
    let described = alluvium_write_policy::inspect_table(&dir, None).await.unwrap();
    assert!(format!("{described:?}").contains("trace_id"));
}

/// An older build takes events out that it does not know; it blocks none, and loses none.
#[tokio::test]
async fn events_of_a_newer_contract_wait_for_a_build_that_knows_them() {
    let root = Root::new();
    let run_id = root.seam.run_id();
    let ledgers = root.ledgers();
    ledgers.record(&[event(run_id, "a"), event(run_id, "newer"), event(run_id, "b")]).unwrap();
    // What a later version of the contract would look like to this build.
    let swapped = |from: &str, to: &str| {
        root.queue()
            .write::<_, StoreError>(|txn| {
                let mut entries = Vec::new();
                for table in ["outbox", "meta"] {
                    let scan = txn.scan(table, .., Order::Ascending)?;
                    entries.extend(
                        scan.map(|entry| entry.map(|(key, bytes)| (table, key.to_vec(), bytes.to_vec())).unwrap()),
                    );
                }
                for (table, key, bytes) in entries {
                    let text = String::from_utf8_lossy(&bytes).into_owned();
                    if text.contains("\"newer\"") && text.contains(from) {
                        txn.put(table, &key, text.replace(from, to).as_bytes())?;
                    }
                }
                Ok(())
            })
            .unwrap();
    };
    swapped("\"version\":1", "\"version\":2");
    let report = ledgers.drain().await.unwrap();
    assert_eq!((report.waiting, report.rejected, report.rows[&Ledger::CacheInventory]), (1, 0, 2));
    assert!(report.notices.len() == 1 && report.notices[0].contains("version 2"), "{:?}", report.notices);
    assert_eq!((ledgers.pending().unwrap(), ledgers.waiting().unwrap()), (0, 1));
    drop(ledgers);

    // Others go on, and pass its number.
    let ledgers = root.ledgers();
    ledgers.record(&[event(run_id, "c")]).unwrap();
    assert!(ledgers.drain().await.unwrap().notices.is_empty(), "told once");
    assert_eq!(ledgers.waiting().unwrap(), 1);
    drop(ledgers);

    swapped("\"version\":2", "\"version\":1");
    let ledgers = root.ledgers();
    assert_eq!((ledgers.pending().unwrap(), ledgers.waiting().unwrap()), (1, 0));
    ledgers.drain().await.unwrap();
    assert_eq!(views(&ledgers).await, ["a", "b", "c", "newer"]);
}
