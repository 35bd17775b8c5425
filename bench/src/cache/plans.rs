//! Planning TPC-H's queries, with their identities, and taking their plans from a store instead.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use alluvium_contracts::{DatasetFormat, DatasetSpec, PlanEncoding, ProfileSpec, SourcePath};
use alluvium_datasets::{Dataset, Pinner, register_dataset};
use alluvium_plans::{Input, PlanStore, plan_view};
use alluvium_profile::{CacheRoot, KvKind, RuntimeProfile};
use alluvium_telemetry::Seam;
use anyhow::{Context, Result, ensure};
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion::dataframe::DataFrameWriteOptions;
use serde_json::{Value, json};

use crate::entries::session;
use crate::{median, now};

/// Columns, each with the first letter of its type: integer, decimal, text, day.
const TABLES: [(&str, &str); 8] = [
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

/// For each query, median seconds of planning alone, of a whole bundle, and of a bundle whose plan was stored; none where it
/// cannot be.
pub async fn planned(queries: &Path, dir: &Path, runs: u32) -> Result<Vec<Value>> {
    std::fs::create_dir(dir)?;
    let session = session()?;
    let pinner = Pinner::new(None, Seam::system());
    let mut inputs = BTreeMap::new();
    for (table, columns) in TABLES {
        let schema = Arc::new(schema(columns)?);
        let file = format!("{table}.parquet");
        let path = dir.join(&file);
        let path = path.to_str().context("the directory is no text")?;
        let frame = session.context().read_batch(RecordBatch::new_empty(schema))?;
        frame.write_parquet(path, DataFrameWriteOptions::new().with_single_file_output(true), None).await?;
        let spec = DatasetSpec::new(DatasetFormat::Parquet, SourcePath::One(file));
        let dataset = Dataset::resolve(table, &spec, dir)?;
        let pinned = register_dataset(&session, &pinner, &dataset).await?;
        inputs.insert(table.to_owned(), Input::Dataset(pinned));
    }
    let profile = RuntimeProfile::from(&ProfileSpec::default());
    let root = CacheRoot::open(&dir.join("root"), &Seam::system())?;
    let store = PlanStore::new(root.cache(KvKind::Plan)?.clone(), &profile)?;
    let plans = store.in_session(&session);
    let mut figures = Vec::new();
    for number in 1..=22 {
        let name = format!("q{number:02}");
        let path = queries.join(format!("{name}.sql"));
        let sql = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let stored = plans.plan_view(&name, &sql, &inputs).await?.artifact();
        let is_stored = stored.plan_encoding == PlanEncoding::Engine;
        let [mut planning, mut bundling, mut replaying] = [const { Vec::new() }; 3];
        // The first round warms up what is made once a process.
        for run in 0..=runs {
            let start = now();
            session.plan_query(&sql).await?;
            let planned = start.elapsed().as_secs_f64();
            let start = now();
            plan_view(&session, &name, &sql, &inputs).await?;
            let bundled = start.elapsed().as_secs_f64();
            let start = now();
            let bundle = plans.plan_view(&name, &sql, &inputs).await?;
            let replayed = start.elapsed().as_secs_f64();
            ensure!(bundle.is_replayed() == is_stored, "{name} was planned anew");
            if run > 0 {
                planning.push(planned);
                bundling.push(bundled);
                replaying.push(replayed);
            }
        }
        figures.push(json!({
            "query": name,
            "plan_seconds": median(planning),
            "bundle_seconds": median(bundling),
            "replay_seconds": is_stored.then(|| median(replaying)),
        }));
    }
    Ok(figures)
}

fn schema(columns: &str) -> Result<Schema> {
    let field = |column: &str| {
        let (letter, name) = column.split_once(' ').context("a column has a letter and a name")?;
        let data_type = match letter {
            "i" => DataType::Int64,
            "d" => DataType::Decimal128(15, 2),
            "y" => DataType::Date32,
            _ => DataType::Utf8,
        };
        Ok(Field::new(name, data_type, false))
    };
    Ok(Schema::new(columns.split(", ").map(field).collect::<Result<Vec<_>>>()?))
}
