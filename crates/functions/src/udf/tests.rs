//! The functions in SQL, through the engine.

use arrow::array::{Array as _, ArrayRef, RecordBatch, StringArray};
use arrow::util::display::array_value_to_string;
use datafusion::error::DataFusionError;
use datafusion::prelude::SessionContext;

use super::*;
use crate::version::Function;
use crate::{Part, SemanticType, SpanError, prefixed_hash64, stable_id};

#[expect(clippy::disallowed_methods, reason = "a session of the test's own, as a user of the crate has one")]
async fn run(sql: &str) -> Result<Vec<RecordBatch>, DataFusionError> {
    let session = SessionContext::new();
    for function in functions() {
        if let Function::Scalar(function) = function.function() {
            session.register_udf(function.as_ref().clone());
        }
    }
    session.sql(sql).await?.collect().await
}

/// The values of the first column, in order; a NULL is empty.
async fn values(sql: &str) -> Vec<String> {
    let batches = run(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    let column = |batch: &RecordBatch| -> Vec<String> {
        (0..batch.num_rows()).map(|row| array_value_to_string(batch.column(0), row).unwrap()).collect()
    };
    batches.iter().flat_map(column).collect()
}

/// The value of one expression over a literal, and the same as a column that the planner cannot fold.
async fn value(expression: &str) -> String {
    let folded = values(&format!("select {expression}")).await.remove(0);
    let column = values(&format!("select {expression} from (values (1), (1)) as t(one) where one > 0")).await;
    assert_eq!([&folded, &folded], [&column[0], &column[1]], "{expression}");
    folded
}

async fn refused(expression: &str) -> String {
    run(&format!("select {expression}")).await.expect_err(expression).to_string()
}

/// Ids lie in tables: whoever has to change one of these lines adds a function instead.
#[tokio::test]
async fn ids_are_what_they_always_were() {
    let pinned = [
        ("stable_id('NodeId', 'src/lib.rs', 42)", "node:361e3e702a9be2ae5ad18271e60fd3a0"),
        ("stable_id('EdgeId', 'a', 'b')", "edge:21b9c68c834bbc9901f94d8b09144fb1"),
        ("stable_id('SpanId', 'src/lib.rs', 3, 7)", "span:d32bc1f5e25d6f17d79daf244eddf402"),
        ("span_id('src/lib.rs', span_make(3, 7))", "span:d32bc1f5e25d6f17d79daf244eddf402"),
        ("stable_id('NodeId', '')", "node:d3880a5b93036646bb038a9895a4f1ac"),
        ("stable_id('NodeId', 'Ærø ☃')", "node:0aca9c433dd971a287dac05e3918acd9"),
        ("stable_id('NodeId', true, false)", "node:1e7667447111960cb753208943820db0"),
        ("stable_id('NodeId', date '1969-12-31')", "node:aab683050908f142aafb552a4da68cc2"),
        ("stable_id('NodeId', x'00ff')", "node:300ed5c8312691805f65d43eab23335e"),
        ("stable_id('NodeId', -9223372036854775807)", "node:458fe374c6184207fd312919e8524a8a"),
        ("prefixed_hash64('sym', 'alluvium', 1)", "sym:31fe82d39e8c217d"),
        ("prefixed_hash128('', 'alluvium', 1)", ":31fe82d39e8c217dc660e16e01bb37f1"),
    ];
    let mut found = Vec::new();
    for (expression, _) in pinned {
        found.push((expression, value(expression).await));
    }
    assert_eq!(found, pinned.map(|(expression, id)| (expression, id.to_owned())));
}

#[tokio::test]
async fn sql_and_rust_give_the_same_ids() {
    let node = stable_id(SemanticType::NodeId, &[Part::Text("a"), Part::Integer(7), Part::Boolean(true)]);
    assert_eq!(value("stable_id('NodeId', 'a', 7, true)").await, node);
    assert_eq!(value("prefixed_hash64('p', 'a')").await, prefixed_hash64("p", &[Part::Text("a")]));
    assert_eq!(
        value("span_id('f', span_make(1, 2))").await,
        stable_id(SemanticType::SpanId, &[Part::Text("f"), Part::Integer(1), Part::Integer(2)])
    );
}

#[tokio::test]
async fn how_a_value_is_laid_out_does_not_matter() {
    let alike = |types: &'static [&'static str], value: &'static str| async move {
        let mut ids = Vec::new();
        for data_type in types {
            let cast = format!("arrow_cast({value}, '{data_type}')");
            ids.extend(values(&format!("select stable_id('NodeId', {cast})")).await);
            ids.extend(
                values(&format!(
                    "select stable_id('NodeId', {}) from (values ({value})) as t(v)",
                    cast.replace(value, "v")
                ))
                .await,
            );
        }
        assert!(ids.iter().all(|id| *id == ids[0] && id.len() == 37), "{ids:?}");
    };
    alike(
        &["Utf8", "LargeUtf8", "Utf8View", "Dictionary(Int8, Utf8)", "Dictionary(Int32, LargeUtf8)"],
        "'a long enough text'",
    )
    .await;
    alike(&["Int8", "Int16", "Int32", "Int64", "UInt8", "UInt16", "UInt32", "UInt64"], "7").await;
    alike(&["Binary", "LargeBinary", "BinaryView", "FixedSizeBinary(2)"], "x'0a0b'").await;

    let prefixes =
        ["Utf8", "LargeUtf8", "Utf8View"].map(|text| format!("prefixed_hash64(arrow_cast('p', '{text}'), 'a')"));
    for prefix in prefixes {
        assert_eq!(value(&prefix).await, prefixed_hash64("p", &[Part::Text("a")]));
    }
}

#[tokio::test]
async fn a_column_has_an_id_a_row() {
    let ids =
        values("select stable_id('NodeId', t, n) from (values ('a', 1), ('b', null), (null, 3), ('d', 4)) as v(t, n)")
            .await;
    let id = |text, number| stable_id(SemanticType::NodeId, &[Part::Text(text), Part::Integer(number)]);
    assert_eq!(ids, [id("a", 1), String::new(), String::new(), id("d", 4)]);
    let hashes = values("select prefixed_hash64(p, 1) from (values ('x'), (null), ('y')) as v(p)").await;
    let hash = |prefix| prefixed_hash64(prefix, &[Part::Integer(1)]);
    assert_eq!(hashes, [hash("x"), String::new(), hash("y")]);
}

#[tokio::test]
async fn null_in_null_out() {
    for expression in [
        "stable_id('NodeId', null)",
        "stable_id('NodeId', 'a', arrow_cast(null, 'Int32'))",
        "prefixed_hash64(null, 'a')",
        "prefixed_hash128('a', null)",
        "span_id(null, span_make(1, 2))",
        "span_id('f', null)",
        "span_id('f', named_struct('start', 1, 'end', null))",
        "span_make(null, 1)",
        "span_make(1, null)",
        "span_start(null)",
        "span_end(span_make(null, 1))",
        "span_len(named_struct('start', null, 'end', 3))",
        "span_contains(span_make(1, 2), null)",
        "span_contains(null, 1)",
        "span_contains(null, span_make(1, 2))",
        "span_overlaps(span_make(1, 2), span_make(1, null))",
    ] {
        assert_eq!(value(&format!("{expression} is null")).await, "true", "{expression}");
    }
}

#[tokio::test]
async fn spans_in_sql() {
    for (expression, expected) in [
        ("span_make(2, 5)", "{start: 2, end: 5}"),
        ("span_make(arrow_cast(2, 'UInt8'), arrow_cast(2, 'UInt64'))", "{start: 2, end: 2}"),
        ("span_start(span_make(2, 5))", "2"),
        ("span_end(span_make(2, 5))", "5"),
        ("span_len(span_make(2, 5))", "3"),
        ("span_len(named_struct('start', arrow_cast(2, 'Int32'), 'end', 4))", "2"),
        ("span_contains(span_make(2, 5), 2)", "true"),
        ("span_contains(span_make(2, 5), 5)", "false"),
        ("span_contains(span_make(2, 5), span_make(3, 5))", "true"),
        ("span_contains(span_make(2, 5), span_make(3, 6))", "false"),
        ("span_overlaps(span_make(2, 5), span_make(4, 6))", "true"),
        ("span_overlaps(span_make(2, 5), span_make(5, 6))", "false"),
    ] {
        assert_eq!(value(expression).await, expected, "{expression}");
    }
    let rows = "(values (2, 5, 3), (0, 0, 0), (1, null, 1), (1, 4, null)) as v(s, e, o)";
    let made = values(&format!("select span_make(s, e) from {rows}")).await;
    assert_eq!(made, ["{start: 2, end: 5}", "{start: 0, end: 0}", "", "{start: 1, end: 4}"]);
    let inside = values(&format!("select span_contains(span_make(s, e), o) from {rows}")).await;
    assert_eq!(inside, ["true", "false", "", ""]);
    let overlap = values(&format!("select span_overlaps(span_make(s, e), span_make(o, e)) from {rows}")).await;
    assert_eq!(overlap, ["true", "false", "", ""]);
}

#[tokio::test]
async fn a_range_that_is_none_is_an_error() {
    for broken in ["span_make(5, 2)", "span_len(named_struct('start', -1, 'end', 2))"] {
        let sql = format!("select {broken} from (values (1)) as t(one)");
        let error = run(&sql).await.unwrap_err();
        let DataFusionError::External(source) = error.find_root() else { panic!("{error:?}") };
        assert!(source.downcast_ref::<SpanError>().is_some(), "{error}");
    }
}

#[tokio::test]
async fn what_is_no_argument_is_named() {
    for (expression, said) in [
        ("stable_id('Nodeid', 1)", "`Nodeid` is no semantic type"),
        ("stable_id(concat('Node', 'Id', arrow_typeof(random())), 1)", "first argument"),
        ("stable_id('NodeId')", "at least one part"),
        ("stable_id()", "at least one part"),
        ("stable_id('NodeId', 1.5)", "cast to text"),
        ("stable_id('NodeId', now())", "cast to text"),
        ("stable_id(1, 1)", "takes text"),
        ("prefixed_hash64(1, 1)", "takes text"),
        ("span_make('a', 1)", "whole numbers"),
        ("span_make(1)", "span_make(start, end)"),
        ("span_len(1)", "struct of the whole numbers"),
        ("span_len(named_struct('end', 1, 'start', 1))", "struct of the whole numbers"),
        ("span_overlaps(span_make(1, 2), 1)", "struct of the whole numbers"),
        ("span_id('f', 1)", "struct of the whole numbers"),
        ("span_id('f')", "a file and a span"),
    ] {
        let error = refused(expression).await;
        assert!(error.contains(said), "{expression}: {error}");
    }
}

#[tokio::test]
async fn a_column_of_ids_carries_their_type() {
    let batches = run(
        "select stable_id('NodeId', t) as node, stable_id('EdgeId', 'a') as edge, span_id(t, span_make(1, 2)) as span,
                prefixed_hash64('p', t) as hash from (values ('a'), (null)) as v(t)",
    )
    .await
    .unwrap();
    let schema = batches[0].schema();
    let types: Vec<_> = schema.fields().iter().map(|field| SemanticType::of(field).unwrap()).collect();
    assert_eq!(types, [Some(SemanticType::NodeId), Some(SemanticType::EdgeId), Some(SemanticType::SpanId), None]);
    assert!(schema.field(0).is_nullable() && !schema.field(1).is_nullable());
    let texts: Vec<&ArrayRef> = batches[0].columns().iter().collect();
    assert!(texts.iter().all(|column| column.as_any().is::<StringArray>()));
}

#[test]
fn every_function_is_immutable_strict_and_documented() {
    let names: Vec<&str> = functions().iter().map(|function| function.function().name()).collect();
    assert_eq!(names.len(), 10, "{names:?}");
    for function in functions() {
        assert_eq!(function.version().to_string(), "alluvium v1");
        let Function::Scalar(udf) = function.function() else { panic!("{function:?}") };
        assert_eq!(udf.signature().volatility, datafusion_expr::Volatility::Immutable);
        assert!(udf.is_strict());
        assert!(udf.documentation().unwrap().syntax_example.starts_with(udf.name()));
    }
}
