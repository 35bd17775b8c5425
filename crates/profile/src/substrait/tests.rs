//! Plans of the engine's own writer, whole and tampered with.

use std::sync::Arc;

use alluvium_contracts::{ProfileSpec, SqlPolicy};
use datafusion::arrow::array::{Int64Array, RecordBatch, StringArray};
use datafusion::arrow::util::pretty::pretty_format_batches;
use datafusion::datasource::MemTable;
use datafusion_substrait::logical_plan::producer::to_substrait_plan;
use datafusion_substrait::substrait::proto::expression::{MaskExpression, RexType, mask_expression};
use datafusion_substrait::substrait::proto::extensions::AdvancedExtension;
use datafusion_substrait::substrait::proto::extensions::simple_extension_declaration::MappingType;
use datafusion_substrait::substrait::proto::function_argument::ArgType;
use datafusion_substrait::substrait::proto::read_rel::{LocalFiles, ReadType};
use datafusion_substrait::substrait::proto::rel::RelType;
use datafusion_substrait::substrait::proto::rel_common::{Emit, EmitKind};
use datafusion_substrait::substrait::proto::{
    Expression, FilterRel, FunctionOption, PlanRel, ProjectRel, ReadRel, Rel, RelCommon, SetRel, plan_rel,
};

use super::*;
use crate::{Query, RuntimeProfile, Session, SessionFactory};

/// `t (a, s)` of three rows, and `Other (a)`. Their tables ignore filters.
fn session() -> Session {
    let spec = ProfileSpec { target_partitions: Some(1), ..ProfileSpec::default() };
    let session = SessionFactory::new(RuntimeProfile::from(&spec)).build().unwrap();
    let numbers = Arc::new(Int64Array::from(vec![Some(1), Some(2), None]));
    let texts = Arc::new(StringArray::from(vec!["x", "y", "y"]));
    let batch = RecordBatch::try_from_iter([("a", numbers.clone() as _), ("s", texts as _)]).unwrap();
    let other = RecordBatch::try_from_iter([("a", numbers as _)]).unwrap();
    for (name, batch) in [("t", batch), ("Other", other)] {
        let table = MemTable::try_new(batch.schema(), vec![vec![batch]]).unwrap();
        #[expect(clippy::disallowed_methods, reason = "this table is the fixture")]
        session.context().register_table(TableReference::bare(name), Arc::new(table)).unwrap();
    }
    session
}

async fn plan(session: &Session, sql: &str) -> Plan {
    let planned = session.plan_query(sql).await.unwrap().plan;
    *to_substrait_plan(&planned, &session.context().state()).unwrap()
}

fn asked(plan: &Plan) -> Query {
    Query::Substrait(plan.encode_to_vec())
}

async fn rows(session: &Session, query: impl Into<Query>) -> String {
    let batches = session.execute(query).await.unwrap().collect().await.unwrap();
    pretty_format_batches(&batches).unwrap().to_string()
}

/// Why a plan is not taken, with what lies behind it.
async fn refused(session: &Session, query: Query) -> String {
    let error = session.plan_query(query).await.unwrap_err();
    let mut text = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

fn root(plan: &mut Plan) -> &mut Rel {
    match &mut plan.relations[0].rel_type {
        Some(plan_rel::RelType::Root(root)) => root.input.as_mut().unwrap(),
        other => panic!("{other:?}"),
    }
}

fn project(rel: &mut Rel) -> &mut ProjectRel {
    match &mut rel.rel_type {
        Some(RelType::Project(rel)) => rel,
        other => panic!("{other:?}"),
    }
}

fn filter(rel: &mut Rel) -> &mut FilterRel {
    match &mut rel.rel_type {
        Some(RelType::Filter(rel)) => rel,
        other => panic!("{other:?}"),
    }
}

fn read_rel(rel: &mut Rel) -> &mut ReadRel {
    match &mut rel.rel_type {
        Some(RelType::Read(rel)) => rel,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_plan_gives_the_rows_of_its_sql() {
    let session = session();
    for sql in [
        "select * from t",
        "select a + 1 as b, upper(s) as u from t where a > 1 or s like 'x%' order by b",
        "select s, count(*) as n, sum(a) as total from t group by s order by s",
        "select x.a, y.s from t as x join t as y on x.a = y.a and x.s = y.s order by 1",
        "select a, row_number() over (order by a) as r, sum(a) over (partition by s) as p from t order by r",
        "select a from t union all select a + 10 from t union all select a from \"Other\" order by a",
        "select distinct s from t order by s limit 1",
        "select * from t where a in (select max(a) from \"Other\")",
        "select 1 as one, 'x' as x",
        "select * from (values (1, 'a'), (2, 'b')) as v(n, m) order by n",
    ] {
        let plan = plan(&session, sql).await;
        assert_eq!(rows(&session, asked(&plan)).await, rows(&session, sql).await, "{sql}");
        let planned = session.plan_query(asked(&plan)).await.unwrap();
        assert_eq!(planned.tables, session.plan_query(sql).await.unwrap().tables.clone(), "{sql}");
    }
}

#[tokio::test]
async fn the_tables_of_a_plan_are_known_before_they_are_registered() {
    let sql = "select t.a from t where exists (select 1 from \"Other\" as o where o.a > 1)";
    let bytes = asked(&plan(&session(), sql).await);
    let empty = SessionFactory::new(RuntimeProfile::from(&ProfileSpec::default())).build().unwrap();
    assert_eq!(empty.referenced_tables_of(&bytes).unwrap(), ["Other", "t"]);
    let text = refused(&empty, bytes.clone()).await;
    assert_eq!(text, "unknown table `t`");
    // A similar one is suggested.
    let mut plan = plan(&session(), "select a from \"Other\"").await;
    match &mut read_rel(project(root(&mut plan)).input.as_mut().unwrap()).read_type {
        Some(ReadType::NamedTable(named)) => named.names = vec!["Othr".to_owned()],
        other => panic!("{other:?}"),
    }
    assert_eq!(refused(&session(), asked(&plan)).await, "unknown table `Othr`: did you mean `\"Other\"`?");
}

#[tokio::test]
async fn what_the_engine_would_pass_over_is_done_or_refused() {
    let session = session();
    let filtered = plan(&session, "select a, s from t where a > 1").await;
    // The table ignores filters: the engine alone would answer all three rows.
    let mut pushed = filtered.clone();
    let condition = filter(project(root(&mut pushed)).input.as_mut().unwrap()).condition.take();
    let mut scan = *filter(project(root(&mut pushed)).input.as_mut().unwrap()).input.take().unwrap();
    read_rel(&mut scan).filter = condition;
    project(root(&mut pushed)).input = Some(Box::new(scan));
    assert_eq!(rows(&session, asked(&pushed)).await, rows(&session, "select a, s from t where a > 1").await);

    let read = |plan: &mut Plan, change: &dyn Fn(&mut ReadRel)| {
        change(read_rel(filter(project(root(plan)).input.as_mut().unwrap()).input.as_mut().unwrap()));
    };
    let mask = |field| MaskExpression {
        select: Some(mask_expression::StructSelect {
            struct_items: vec![mask_expression::StructItem { field, child: None }],
        }),
        maintain_singular_struct: false,
    };
    type Change = Box<dyn Fn(&mut Plan)>;
    let cases: Vec<(&str, Change)> = vec![
        (
            "enhancement of a relation",
            Box::new(move |plan| {
                let enhancement = Some(Default::default());
                read(plan, &|rel| {
                    rel.advanced_extension =
                        Some(AdvancedExtension { enhancement: enhancement.clone(), ..AdvancedExtension::default() });
                });
            }),
        ),
        (
            "reading files by their names",
            Box::new(move |plan| {
                read(plan, &|rel| rel.read_type = Some(ReadType::LocalFiles(LocalFiles::default())));
            }),
        ),
        ("a column that is not there", Box::new(move |plan| read(plan, &|rel| rel.projection = Some(mask(7))))),
        (
            "option `overflow`",
            Box::new(|plan| {
                let condition = filter(project(root(plan)).input.as_mut().unwrap()).condition.as_mut().unwrap();
                let Some(RexType::ScalarFunction(call)) = &mut condition.rex_type else { panic!() };
                call.options =
                    vec![FunctionOption { name: "overflow".to_owned(), preference: vec!["ERROR".to_owned()] }];
            }),
        ),
        (
            "Unsupported function name: \"gtt\"",
            Box::new(|plan| {
                let Some(MappingType::ExtensionFunction(declared)) = &mut plan.extensions[0].mapping_type else {
                    panic!()
                };
                declared.name = "gtt".to_owned();
            }),
        ),
        ("2 relations", Box::new(|plan| plan.relations.push(PlanRel::default()))),
        ("it is of no version", Box::new(|plan| plan.version = None)),
        (
            "it is of version 0.86.0, and up to 0.85.0 is read",
            Box::new(|plan| plan.version.as_mut().unwrap().minor_number += 1),
        ),
        ("writing to a table", Box::new(|plan| root(plan).rel_type = Some(RelType::Write(Box::default())))),
        ("a relation is empty", Box::new(|plan| root(plan).rel_type = None)),
        (
            "parts do not fit together",
            Box::new(|plan| {
                // Where the engine's reader does not look.
                let emit_kind = Some(EmitKind::Emit(Emit { output_mapping: vec![99] }));
                let common = Some(RelCommon { emit_kind, ..RelCommon::default() });
                filter(project(root(plan)).input.as_mut().unwrap()).common = common;
            }),
        ),
    ];
    for (what, change) in cases {
        let mut changed = filtered.clone();
        change(&mut changed);
        assert_ne!(changed, filtered, "{what}");
        let text = refused(&session, asked(&changed)).await;
        assert!(text.contains(what), "{what}: {text}");
        // No policy lets it through.
        let admin = session.with_sql_policy(SqlPolicy::Admin).execute(asked(&changed)).await;
        assert!(admin.is_err(), "{what}");
    }
}

#[tokio::test]
async fn bytes_that_were_damaged_are_an_error_or_another_plan_and_never_a_panic() {
    let session = session();
    let bytes = plan(&session, "select s, count(*) as n from t where a > 1 group by s").await.encode_to_vec();
    for cut in 0..bytes.len() {
        assert!(session.plan_query(Query::Substrait(bytes[..cut].to_vec())).await.is_err(), "cut at {cut}");
    }
    for (at, flip) in (0..bytes.len()).flat_map(|at| [0x01, 0x10, 0x80].map(|flip| (at, flip))) {
        let mut bytes = bytes.clone();
        bytes[at] ^= flip;
        let _either = session.plan_query(Query::Substrait(bytes)).await;
    }
    let error = refused(&session, Query::Substrait(b"select 1".to_vec())).await;
    assert!(error.starts_with("the Substrait plan cannot be read: it is no plan in the binary form"), "{error}");
}

#[tokio::test]
async fn a_small_plan_stays_small_and_a_large_one_is_refused() {
    let session = session();
    let mut xor = plan(&session, "select a from t where (a > 1) = (a > 1)").await;
    for declared in &mut xor.extensions {
        if let Some(MappingType::ExtensionFunction(declared)) = &mut declared.mapping_type
            && declared.name == "equal"
        {
            declared.name = "xor".to_owned();
        }
    }
    let condition = filter(project(root(&mut xor)).input.as_mut().unwrap()).condition.as_mut().unwrap();
    let link = condition.clone();
    for _ in 0..24 {
        let mut longer = link.clone();
        let Some(RexType::ScalarFunction(call)) = &mut longer.rex_type else { panic!() };
        call.arguments[0].arg_type = Some(ArgType::Value(Expression::clone(condition)));
        **condition = *longer;
    }
    // The engine's own reader would make 2^24 expressions of it.
    session.plan_query(asked(&xor)).await.unwrap();

    let mut deep = plan(&session, "select a from t where a > 1").await;
    let mut link = *project(root(&mut deep)).input.clone().unwrap();
    for _ in 0..25 {
        let mut outer = *project(root(&mut deep)).input.clone().unwrap();
        filter(&mut outer).input = Some(Box::new(link));
        link = outer;
    }
    project(root(&mut deep)).input = Some(Box::new(link.clone()));
    session.plan_query(asked(&deep)).await.unwrap();
    for _ in 0..30 {
        let mut outer = link.clone();
        filter(&mut outer).input = Some(Box::new(link));
        link = outer;
    }
    project(root(&mut deep)).input = Some(Box::new(link));
    let text = refused(&session, asked(&deep)).await;
    assert!(text.contains("nested more than 100 messages deep"), "{text}");

    let mut wide = plan(&session, "select a from t").await;
    let branch = root(&mut wide).clone();
    let set = SetRel { inputs: vec![branch; 2_001], op: 6, ..SetRel::default() };
    root(&mut wide).rel_type = Some(RelType::Set(set));
    let text = refused(&session, asked(&wide)).await;
    assert!(text.contains("more than 2000 inputs"), "{text}");

    let mut copied = plan(&session, &format!("select concat({}) as c from t", vec!["s"; 2_000].join(", "))).await;
    let common = project(root(&mut copied)).common.as_mut().unwrap();
    common.emit_kind = Some(EmitKind::Emit(Emit { output_mapping: vec![2; 100_000] }));
    let text = refused(&session, asked(&copied)).await;
    assert!(text.contains("used this often"), "{text}");

    let text = refused(&session, Query::Substrait(vec![0; LARGEST_BYTES + 1])).await;
    assert!(text.contains("8388609 bytes, and 8388608 are read"), "{text}");
}

#[tokio::test]
async fn window_functions_are_read_in_one_order() {
    let session = session();
    let over = ["order by a", "order by s", "partition by s order by a", "partition by a"];
    let calls = over.map(|over| format!("sum(a) over ({over}), count(*) over ({over})")).join(", ");
    let query = asked(&plan(&session, &format!("select {calls} from t")).await);
    let first = session.plan_query(query.clone()).await.unwrap().plan.display_indent().to_string();
    for _ in 0..20 {
        let again = session.plan_query(query.clone()).await.unwrap().plan.display_indent().to_string();
        assert_eq!(again, first);
    }
}
