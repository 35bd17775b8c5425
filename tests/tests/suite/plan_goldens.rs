//! Plan goldens: the plan bundle of every view of the flights example and of every TPC-H query, as checked-in documents. A
//! plan fingerprint that moves is a diff to be reviewed.
//!
//! TPC-H's tables are empty files with its schemas: to build a bundle nothing is executed, and a pin is a pin.

use std::path::Path;
use std::sync::Arc;

use alluvium_contracts::{Contract, Envelope, PlanBundleArtifact};
use alluvium_runs::{OpenOptions, Pipeline};
use arrow::datatypes::{DataType, Field, Schema};
use insta::assert_json_snapshot;
use parquet::arrow::ArrowWriter;
use serde_json::{Value, json};

use crate::lab::{Lab, results};

/// Columns, each with the first letter of its type: integer, decimal, text, day.
const TPCH: [(&str, &str); 8] = [
    ("region", "i r_regionkey, t r_name, t r_comment"),
    ("nation", "i n_nationkey, t n_name, i n_regionkey, t n_comment"),
    ("supplier", "i s_suppkey, t s_name, t s_address, i s_nationkey, t s_phone, d s_acctbal, t s_comment"),
    (
        "customer",
        "i c_custkey, t c_name, t c_address, i c_nationkey, t c_phone, d c_acctbal, t c_mktsegment, t c_comment",
    ),
    (
        "part",
        "i p_partkey, t p_name, t p_mfgr, t p_brand, t p_type, i p_size, t p_container, d p_retailprice, t p_comment",
    ),
    ("partsupp", "i ps_partkey, i ps_suppkey, i ps_availqty, d ps_supplycost, t ps_comment"),
    (
        "orders",
        "i o_orderkey, i o_custkey, t o_orderstatus, d o_totalprice, y o_orderdate, t o_orderpriority, t o_clerk, \
         i o_shippriority, t o_comment",
    ),
    (
        "lineitem",
        "i l_orderkey, i l_partkey, i l_suppkey, i l_linenumber, d l_quantity, d l_extendedprice, d l_discount, d l_tax, \
         t l_returnflag, t l_linestatus, y l_shipdate, y l_commitdate, y l_receiptdate, t l_shipinstruct, t l_shipmode, \
         t l_comment",
    ),
];

fn schema(columns: &str) -> Schema {
    let field = |column: &str| {
        let (letter, name) = column.split_once(' ').unwrap();
        let data_type = match letter {
            "i" => DataType::Int64,
            "d" => DataType::Decimal128(15, 2),
            "t" => DataType::Utf8,
            "y" => DataType::Date32,
            other => panic!("{other}"),
        };
        Field::new(name, data_type, false)
    };
    Schema::new(columns.split(", ").map(field).collect::<Vec<_>>())
}

fn tpch() -> Lab {
    let mut toml = String::new();
    for (table, _) in TPCH {
        toml.push_str(&format!("[sources.{table}]\nformat = \"parquet\"\npath = \"{table}.parquet\"\n"));
    }
    for query in 1..=22 {
        toml.push_str(&format!("[views.q{query:02}]\nfile = \"q{query:02}.sql\"\n"));
    }
    // Substrait knows no JOIN USING; our own canonical plan does.
    toml.push_str("[views.joined_using]\nsql = \"select o_orderkey, a.o_custkey from orders as a ");
    toml.push_str("join orders as b using (o_orderkey)\"\n");
    let lab = Lab::new(&toml);
    for (table, columns) in TPCH {
        let file = std::fs::File::create(lab.path(&format!("{table}.parquet"))).unwrap();
        ArrowWriter::try_new(file, Arc::new(schema(columns)), None).unwrap().close().unwrap();
    }
    let queries = Path::new(env!("CARGO_MANIFEST_DIR")).join("tpch");
    for query in 1..=22 {
        let name = format!("q{query:02}.sql");
        std::fs::copy(queries.join(&name), lab.path(&name)).unwrap();
    }
    lab
}

/// Every bundle of `pipeline`, by view, in its envelope. What all bundles have in common (some hundred settings, and the
/// versions of the engine) is a golden of its own.
async fn documents(pipeline: &Pipeline) -> (Vec<(String, Value)>, Value) {
    let mut common = None;
    let bundles = pipeline.bundles(&[]).await.unwrap();
    let documents = bundles.into_iter().map(|bundle| {
        let name = bundle.view_name.clone();
        let bytes = Envelope::new(bundle).to_canonical_json().unwrap();
        // What a reader gets is what was meant.
        Envelope::<PlanBundleArtifact>::from_json(&bytes).unwrap();
        let mut document: Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(document["kind"], PlanBundleArtifact::KIND);
        let components = &mut document["payload"]["components"];
        let shared = json!([components["semantic_settings"].take(), components["engine_versions"].take()]);
        components["semantic_settings"] = json!("see the golden `common`");
        components["engine_versions"] = json!("see the golden `common`");
        assert_eq!(common.get_or_insert_with(|| shared.clone()), &shared, "{name}");
        (name, document)
    });
    let documents = documents.collect();
    (documents, common.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn golden_plan_bundles_of_tpch() {
    let (documents, common) = documents(&tpch().open()).await;
    assert_eq!(documents.len(), 23);
    assert_json_snapshot!("common", common);
    for (name, document) in documents {
        assert_eq!(document["payload"]["cacheable"], true, "{name}: {}", document["payload"]["reasons"]);
        assert_json_snapshot!(format!("tpch_{name}"), document);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn golden_plan_bundles_of_flights() {
    let root = tempfile::tempdir().unwrap();
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/flights");
    let options = OpenOptions { cache_root: Some(root.path().to_owned()), ..OpenOptions::default() };
    let (documents, _) = documents(&Lab::open_with(&project, options)).await;
    assert_eq!(documents.len(), 10);
    for (name, document) in documents {
        assert_json_snapshot!(format!("flights_{name}"), document);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn building_a_bundle_computes_nothing_and_says_what_stands_behind_each_name() {
    let lab = Lab::new(
        "[sources.t]\nformat = \"parquet\"\npath = [\"t.parquet\", \"u.parquet\"]\n\
         [views.a]\nsql = \"select k from t\"\n[views.b]\nsql = \"select k, now() as at from a\"\n\
         [views.c]\nsql = \"select k from b\"\n",
    );
    lab.parquet("t.parquet", &[(1, "a")]);
    lab.parquet("u.parquet", &[(2, "b")]);
    let bundles = lab.open().bundles(&[]).await.unwrap();
    let [a, b, c] = bundles.as_slice() else { panic!("{bundles:?}") };

    assert_eq!(a.pins[0].path.as_deref(), Some("t.parquet, u.parquet"));
    assert_eq!((a.pins[0].files.len(), a.pins[0].file_count), (2, Some(2)));
    assert_eq!(a.pins[0].size_bytes, Some(a.pins[0].files.iter().map(|file| file.size_bytes).sum()));
    assert_eq!(b.pins[0].cache_key, a.cache_key);
    assert_eq!((a.cacheable, b.cacheable, c.cacheable), (true, false, false));
    // What reads an uncacheable view has no pin for it, and says so.
    assert!(c.pins.is_empty() && c.reasons[0].contains("uncacheable view b"), "{c:?}");
    assert_eq!(results(&lab.run().await), ["a: write", "b: computed", "c: computed"]);
}
