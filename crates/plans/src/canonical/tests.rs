//! Two queries of different meaning have two canonical texts.

use std::collections::BTreeMap;
use std::sync::Arc;

use alluvium_contracts::ProfileSpec;
use alluvium_profile::{RuntimeProfile, Session, SessionFactory};
use datafusion::arrow::datatypes::{DataType, Field, Schema};

use super::canonicalize;
use crate::{PublishedSchema, ViewRef};

fn session() -> Session {
    let session = SessionFactory::new(RuntimeProfile::from(&ProfileSpec::default())).build().unwrap();
    let number = |name: &str| Field::new(name, DataType::Int64, true);
    let list = DataType::List(Arc::new(number("item")));
    let pair = DataType::Struct(vec![number("p"), number("q")].into());
    let text = |name: &str| Field::new(name, DataType::Utf8, true);
    let tables = [
        (
            "t",
            vec![
                number("a"),
                number("b"),
                number("c"),
                text("d"),
                Field::new("xs", list, true),
                Field::new("s", pair, true),
            ],
        ),
        ("u", vec![number("a"), number("e"), number("f")]),
        ("w", vec![number("a"), number("e"), number("g")]),
    ];
    for (name, fields) in tables {
        let table = Arc::new(ViewRef::new(name, Arc::new(Schema::new(fields))));
        #[expect(clippy::disallowed_methods, reason = "an empty table to plan over, not a dataset")]
        session.context().register_table(name, table).unwrap();
    }
    session
}

#[tokio::test]
async fn queries_of_different_meaning_have_different_texts() {
    let session = session();
    let paragraphs: Vec<&str> = include_str!("alike.sql").split("\n\n").skip(1).collect();
    assert!(paragraphs.len() > 20, "{paragraphs:?}");
    for paragraph in paragraphs {
        let mut seen = BTreeMap::new();
        for sql in paragraph.lines().filter(|line| !line.starts_with("--")) {
            let planned = session.plan_query(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
            let canonical = canonicalize(&planned.plan);
            assert!(canonical.denials.is_empty(), "{sql}: {:?}", canonical.denials);
            let columns = PublishedSchema::of(planned.plan.schema()).unwrap().canonical();
            let other = seen.insert((canonical.text, columns), sql);
            assert!(other.is_none(), "one identity for\n  {}\n  {sql}", other.unwrap_or_default());
        }
    }
}

/// What the text leaves out means nothing.
#[tokio::test]
async fn queries_of_one_meaning_that_have_one_text() {
    let session = session();
    let alike = [
        [
            "select sum(a) over (order by b) as r from t",
            "select sum(a) over (order by b range unbounded preceding) as r from t",
        ],
        [
            "select a from t where exists (select 1 from u where u.a = a)",
            "select a from t where exists (select 1 from u as t where t.a = a)",
        ],
        [
            "with x as (select b as r from t) select r from x",
            "with x as (select a as r from t), y as (select b as r from t) select r from y",
        ],
        ["select 1e0 as r from t", "select 1.0 as r /* one */ from t as u"],
    ];
    for [one, other] in alike {
        let (one, other) = (session.plan_query(one).await.unwrap(), session.plan_query(other).await.unwrap());
        assert_eq!(canonicalize(&one.plan).text, canonicalize(&other.plan).text);
    }
}
