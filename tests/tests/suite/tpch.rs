//! TPC-H as a pipeline: its 22 queries as views, over empty tables or over a few thousand rows.

use std::fmt::Display;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow::csv::ReaderBuilder;
use arrow::datatypes::{DataType, Field, Schema};
use parquet::arrow::ArrowWriter;
use tpchgen::csv::{CustomerCsv, LineItemCsv, NationCsv, OrderCsv, PartCsv, PartSuppCsv, RegionCsv, SupplierCsv};
use tpchgen::distribution::Distributions;
use tpchgen::generators::{
    CustomerGenerator, LineItemGenerator, NationGenerator, OrderGenerator, PartGenerator, PartSuppGenerator,
    RegionGenerator, SupplierGenerator,
};
use tpchgen::text::TextPool;

use crate::lab::Lab;

/// The scale of the tables with rows: 6,000 in the largest.
const SCALE: f64 = 0.001;

/// What comments are drawn from. The generator's own default is 300 MB, and takes a minute without optimisation.
const TEXT_BYTES: i32 = 1 << 20;

/// Columns, each with the first letter of its type: integer, decimal, text, day.
pub const TPCH: [(&str, &str); 8] = [
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

/// Over tables without rows.
pub fn empty() -> Lab {
    lab(|_| String::new())
}

/// Over tables with rows, the same each time.
pub fn generated() -> Lab {
    generated_at(SCALE)
}

/// Over tables of a scale; at 1 the largest has 6,000,000 rows.
pub fn generated_at(scale: f64) -> Lab {
    let (words, texts) = (Distributions::static_default(), TextPool::new(TEXT_BYTES, Distributions::static_default()));
    macro_rules! rows {
        ($generator:ident, $csv:ident) => {{
            let rows = $generator::new_with_distributions_and_text_pool(scale, 1, 1, words, &texts);
            lines(rows.iter().map($csv::new))
        }};
    }
    lab(|table| match table {
        "region" => {
            lines(RegionGenerator::new_with_distributions_and_text_pool(words, &texts).iter().map(RegionCsv::new))
        }
        "nation" => {
            lines(NationGenerator::new_with_distributions_and_text_pool(words, &texts).iter().map(NationCsv::new))
        }
        "supplier" => rows!(SupplierGenerator, SupplierCsv),
        "customer" => rows!(CustomerGenerator, CustomerCsv),
        "part" => rows!(PartGenerator, PartCsv),
        "partsupp" => lines(PartSuppGenerator::new_with_text_pool(scale, 1, 1, &texts).iter().map(PartSuppCsv::new)),
        "orders" => rows!(OrderGenerator, OrderCsv),
        "lineitem" => rows!(LineItemGenerator, LineItemCsv),
        other => panic!("{other}"),
    })
}

fn lines(rows: impl Iterator<Item = impl Display>) -> String {
    rows.map(|row| format!("{row}\n")).collect()
}

fn lab(csv_of: impl Fn(&str) -> String) -> Lab {
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
        let (schema, csv) = (Arc::new(schema(columns)), csv_of(table));
        let file = File::create(lab.path(&format!("{table}.parquet"))).unwrap();
        let mut writer = ArrowWriter::try_new(file, Arc::clone(&schema), None).unwrap();
        for batch in ReaderBuilder::new(schema).build(csv.as_bytes()).unwrap() {
            writer.write(&batch.unwrap()).unwrap();
        }
        writer.close().unwrap();
    }
    let queries = Path::new(env!("CARGO_MANIFEST_DIR")).join("tpch");
    for query in 1..=22 {
        let name = format!("q{query:02}.sql");
        std::fs::copy(queries.join(&name), lab.path(&name)).unwrap();
    }
    lab
}
