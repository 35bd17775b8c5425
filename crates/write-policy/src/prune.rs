//! What bounds of columns decide, and which files of a table can hold rows that go, by the bounds and the partition values in
//! its log.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{
    BinaryExpr, Column, InListExpr, IsNotNullExpr, IsNullExpr, Literal, NotExpr, lit,
};
use datafusion::physical_optimizer::pruning::PruningPredicateBuilder;

use crate::policy::EXACT_DIGITS;
use crate::rewrite::Gone;
use crate::table::Loaded;

/// Of each file of a version, in the log's order, whether it has to be looked at. Whatever cannot be decided has to.
pub(crate) fn may_hold(loaded: &Loaded, columns: &SchemaRef, gone: &Gone) -> Vec<bool> {
    let files = loaded.state.log_data();
    let every = vec![true; files.num_files()];
    let Some((expression, read)) = bounds(gone, columns) else { return every };
    if !decided_by_bounds(&expression) || !read.fields().iter().all(|field| is_bounded(field.data_type())) {
        return every;
    }
    let predicate = PruningPredicateBuilder::new().with_file_schema(read).try_build(expression);
    match predicate.and_then(|predicate| predicate.prune(&files)) {
        Ok(kept) if kept.len() == every.len() => kept,
        _ => every,
    }
}

/// Whether minima and maxima of columns, where they are exact, tell that no row passes `condition`, as the engine's
/// `PruningPredicate` takes them to.
///
/// That compares the bounds of what is done to a column, and not all of it keeps the order: `CAST(ts AS TIME)` begins anew each
/// day, `CAST(i AS BOOLEAN)` is the same on both sides of 0, and `-i` of the least integer is that integer. So only columns as
/// they are count, beside constants: comparisons, lists, tests for NULL, columns of truth values, and AND and OR of these.
#[must_use]
pub fn decided_by_bounds(condition: &Arc<dyn PhysicalExpr>) -> bool {
    use Operator::{And, Eq, Gt, GtEq, IsDistinctFrom, IsNotDistinctFrom, Lt, LtEq, NotEq, Or};
    let is_column = |expression: &Arc<dyn PhysicalExpr>| expression.downcast_ref::<Column>().is_some();
    let is_constant = |expression: &Arc<dyn PhysicalExpr>| expression.downcast_ref::<Literal>().is_some();
    if let Some(binary) = condition.downcast_ref::<BinaryExpr>() {
        let (left, right) = (binary.left(), binary.right());
        return match binary.op() {
            And | Or => decided_by_bounds(left) && decided_by_bounds(right),
            Eq | NotEq | Lt | LtEq | Gt | GtEq | IsDistinctFrom | IsNotDistinctFrom => {
                is_column(left) && is_constant(right) || is_constant(left) && is_column(right)
            }
            _ => false,
        };
    }
    if let Some(list) = condition.downcast_ref::<InListExpr>() {
        return is_column(list.expr()) && list.list().iter().all(is_constant);
    }
    let tested = (condition.downcast_ref().map(IsNullExpr::arg))
        .or_else(|| condition.downcast_ref().map(IsNotNullExpr::arg))
        .or_else(|| condition.downcast_ref().map(NotExpr::arg));
    tested.map_or_else(|| is_column(condition) || is_constant(condition), is_column)
}

/// Whether the log's bounds of such a column hold for all of its values. Those of numbers with a point leave NaN out, and
/// those of timestamps may be cut to milliseconds; long decimals went through a double.
fn is_bounded(data_type: &DataType) -> bool {
    use DataType::*;
    matches!(data_type, Boolean | Int8 | Int16 | Int32 | Int64 | Utf8 | Date32)
        || matches!(data_type, Decimal128(precision, _) if *precision <= EXACT_DIGITS)
}

/// A condition that is true of every row that goes, and the columns that it reads.
fn bounds(gone: &Gone, columns: &SchemaRef) -> Option<(Arc<dyn PhysicalExpr>, SchemaRef)> {
    match gone {
        Gone::Where(condition) => Some((condition.expression(), condition.schema())),
        Gone::Keys(checks) => {
            let keys = checks.keys()?;
            let name = keys.columns().first()?;
            let field: &Field = columns.field_with_name(name).ok()?;
            let (least, most) = keys.first_bounds()?;
            if least.data_type() != *field.data_type() {
                return None;
            }
            let beside = |operator, value: ScalarValue| -> Arc<dyn PhysicalExpr> {
                Arc::new(BinaryExpr::new(Arc::new(Column::new(name, 0)), operator, lit(value)))
            };
            let within = BinaryExpr::new(beside(Operator::GtEq, least), Operator::And, beside(Operator::LtEq, most));
            Some((Arc::new(within), Arc::new(Schema::new(vec![field.clone()]))))
        }
    }
}
