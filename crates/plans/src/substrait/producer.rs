//! The engine's writer of Substrait, with what it leaves out refused, and columns of enclosing queries added.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use datafusion::arrow::datatypes::DataType;
use datafusion::common::{Column, DFSchemaRef, JoinConstraint, Result, ScalarValue};
use datafusion::execution::SessionState;
use datafusion::logical_expr::expr::{InSubquery, NullTreatment, SetComparison, WindowFunction};
use datafusion::logical_expr::{
    Aggregate, Cast, Distinct, Expr, Join, LogicalPlan, TableScan, TryCast, WindowFrameBound, WindowFrameUnits,
};
use datafusion_substrait::extensions::Extensions;
use datafusion_substrait::logical_plan::consumer::{
    DefaultSubstraitConsumer, from_literal as read_literal, from_substrait_type,
};
use datafusion_substrait::logical_plan::producer::{
    SubstraitProducer, from_aggregate, from_cast, from_join, from_literal, from_table_scan, from_try_cast,
    from_window_function, to_substrait_rel, to_substrait_rex,
};
use datafusion_substrait::substrait::proto::expression::field_reference::{OuterReference, ReferenceType, RootType};
use datafusion_substrait::substrait::proto::expression::reference_segment::{ReferenceType as Segment, StructField};
use datafusion_substrait::substrait::proto::expression::{FieldReference, ReferenceSegment, RexType};
use datafusion_substrait::substrait::proto::{Expression, Rel};

use super::error::NotCarried;

pub(super) struct Producer<'a> {
    state: &'a SessionState,
    extensions: Extensions,
    /// What the enclosing queries see, outermost first.
    outer: Vec<DFSchemaRef>,
}

impl<'a> Producer<'a> {
    pub(super) fn new(state: &'a SessionState) -> Self {
        Self { state, extensions: Extensions::default(), outer: Vec::new() }
    }

    /// A column of the nearest enclosing query that has it: the planner's own rule.
    fn outer_column(&self, column: &Column) -> Result<Expression> {
        let found = self.outer.iter().rev().zip(1..).find_map(|(schema, steps_out)| {
            let field = i32::try_from(schema.maybe_index_of_column(column)?).ok()?;
            Some((steps_out, field))
        });
        let (steps_out, field) = found.ok_or_else(|| NotCarried::lost(format!("the outer column {column}")))?;
        let segment = Segment::StructField(Box::new(StructField { field, child: None }));
        let reference = FieldReference {
            reference_type: Some(ReferenceType::DirectReference(ReferenceSegment { reference_type: Some(segment) })),
            root_type: Some(RootType::OuterReference(OuterReference { steps_out })),
        };
        Ok(Expression { rex_type: Some(RexType::Selection(Box::new(reference))) })
    }

    /// An expression with a query inside, which sees `schema`.
    fn around(&mut self, expr: &Expr, schema: &DFSchemaRef) -> Result<Expression> {
        self.outer.push(Arc::clone(schema));
        let written = to_substrait_rex(self, expr, schema);
        self.outer.pop();
        written
    }

    /// A written literal has to be the value that it was: seconds, for example, are written in 32 bits.
    fn check_literal(&self, written: &Expression, value: &ScalarValue) -> Result<()> {
        let consumer = DefaultSubstraitConsumer::new(&self.extensions, self.state);
        let back = match &written.rex_type {
            Some(RexType::Literal(written)) => at_once(read_literal(&consumer, written)),
            _ => None,
        };
        match back {
            Some(Ok(Expr::Literal(back, _))) if back == *value => Ok(()),
            _ => Err(NotCarried::no_form(format!("form for this literal of type {}", value.data_type())).into()),
        }
    }

    /// The type of a written cast has to be the one that was asked for.
    fn check_type(&self, written: &Expression, asked: &DataType) -> Result<()> {
        // A typed NULL takes the place of a cast of one; literals are compared as such.
        let Some(RexType::Cast(cast)) = &written.rex_type else {
            return Ok(());
        };
        let consumer = DefaultSubstraitConsumer::new(&self.extensions, self.state);
        let back = cast.r#type.as_ref().map(|written| from_substrait_type(&consumer, written, &[], &mut 0));
        match back {
            Some(Ok(back)) if back == *asked => Ok(()),
            _ => Err(NotCarried::no_form(format!("type {asked} to cast to")).into()),
        }
    }
}

impl SubstraitProducer for Producer<'_> {
    fn register_function(&mut self, name: String) -> u32 {
        self.extensions.register_function(&name)
    }

    fn register_type(&mut self, name: String) -> u32 {
        self.extensions.register_type(&name)
    }

    fn get_extensions(self) -> Extensions {
        self.extensions
    }

    /// The engine prints what it cannot write whole, tables, options and all.
    fn handle_plan(&mut self, plan: &LogicalPlan) -> Result<Box<Rel>> {
        let part = match plan {
            LogicalPlan::Projection(_)
            | LogicalPlan::Filter(_)
            | LogicalPlan::Window(_)
            | LogicalPlan::Aggregate(_)
            | LogicalPlan::Sort(_)
            | LogicalPlan::Join(_)
            | LogicalPlan::Repartition(_)
            | LogicalPlan::Union(_)
            | LogicalPlan::TableScan(_)
            | LogicalPlan::EmptyRelation(_)
            | LogicalPlan::SubqueryAlias(_)
            | LogicalPlan::Limit(_)
            | LogicalPlan::Values(_)
            | LogicalPlan::Distinct(Distinct::All(_)) => return to_substrait_rel(self, plan),
            LogicalPlan::Distinct(Distinct::On(_)) => "DISTINCT ON",
            LogicalPlan::Subquery(_) => "LATERAL",
            LogicalPlan::Unnest(_) => "unnest",
            LogicalPlan::RecursiveQuery(_) => "recursive query",
            LogicalPlan::Extension(_) => "node of an extension",
            LogicalPlan::Statement(_)
            | LogicalPlan::Explain(_)
            | LogicalPlan::Analyze(_)
            | LogicalPlan::Dml(_)
            | LogicalPlan::Ddl(_)
            | LogicalPlan::Copy(_)
            | LogicalPlan::DescribeTable(_) => "statement that is no query",
        };
        Err(NotCarried::no_form(part).into())
    }

    fn handle_table_scan(&mut self, scan: &TableScan) -> Result<Box<Rel>> {
        match scan.fetch {
            Some(_) => Err(NotCarried::no_form("limit inside a scan").into()),
            None => from_table_scan(self, scan),
        }
    }

    fn handle_join(&mut self, join: &Join) -> Result<Box<Rel>> {
        match join.join_constraint {
            JoinConstraint::Using => Err(NotCarried::no_form("JOIN USING").into()),
            JoinConstraint::On if join.null_aware => Err(NotCarried::no_form("null-aware join").into()),
            JoinConstraint::On => from_join(self, join),
        }
    }

    fn handle_aggregate(&mut self, aggregate: &Aggregate) -> Result<Box<Rel>> {
        for expr in &aggregate.aggr_expr {
            if let Expr::AggregateFunction(call) = without_name(expr)
                && call.params.null_treatment == Some(NullTreatment::IgnoreNulls)
            {
                return Err(NotCarried::no_form("IGNORE NULLS").into());
            }
        }
        from_aggregate(self, aggregate)
    }

    fn handle_window_function(&mut self, call: &WindowFunction, schema: &DFSchemaRef) -> Result<Expression> {
        let params = &call.params;
        let frame = &params.window_frame;
        let part = match () {
            () if params.null_treatment == Some(NullTreatment::IgnoreNulls) => "IGNORE NULLS",
            () if params.distinct => "DISTINCT in a window function",
            () if params.filter.is_some() => "FILTER in a window function",
            () if frame.units == WindowFrameUnits::Groups => "GROUPS frame",
            () if !is_carried(&frame.start_bound) || !is_carried(&frame.end_bound) => {
                "window frame with such bounds, only with positive whole numbers"
            }
            () => return from_window_function(self, call, schema),
        };
        Err(NotCarried::no_form(part).into())
    }

    #[expect(deprecated, reason = "a match without a wildcard arm has to name the deprecated variant too")]
    fn handle_expr(&mut self, expr: &Expr, schema: &DFSchemaRef) -> Result<Expression> {
        let part = match expr {
            Expr::OuterReferenceColumn(_, column) => return self.outer_column(column),
            Expr::Exists(_) | Expr::ScalarSubquery(_) => return self.around(expr, schema),
            Expr::InSubquery(InSubquery { expr: compared, .. })
            | Expr::SetComparison(SetComparison { expr: compared, .. }) => match compared.contains_outer() {
                false => return self.around(expr, schema),
                // It does not see what the query inside sees.
                true => "comparison of an outer column with a query",
            },
            Expr::Alias(alias) if alias.metadata.as_ref().is_some_and(|metadata| !metadata.is_empty()) => {
                return Err(NotCarried::lost(format!("the metadata of the column `{}`", alias.name)).into());
            }
            Expr::Literal(_, Some(metadata)) if !metadata.is_empty() => {
                return Err(NotCarried::lost("the metadata of a literal").into());
            }
            Expr::Alias(_)
            | Expr::Column(_)
            | Expr::Literal(_, _)
            | Expr::BinaryExpr(_)
            | Expr::Like(_)
            | Expr::Not(_)
            | Expr::IsNotNull(_)
            | Expr::IsNull(_)
            | Expr::IsTrue(_)
            | Expr::IsFalse(_)
            | Expr::IsUnknown(_)
            | Expr::IsNotTrue(_)
            | Expr::IsNotFalse(_)
            | Expr::IsNotUnknown(_)
            | Expr::Negative(_)
            | Expr::Between(_)
            | Expr::Case(_)
            | Expr::Cast(_)
            | Expr::TryCast(_)
            | Expr::ScalarFunction(_)
            | Expr::AggregateFunction(_)
            | Expr::WindowFunction(_)
            | Expr::InList(_) => return to_substrait_rex(self, expr, schema),
            Expr::SimilarTo(_) => "SIMILAR TO",
            Expr::ScalarVariable(_, _) => "variable",
            Expr::Placeholder(_) => "parameter without a value",
            Expr::Wildcard { .. } => "wildcard",
            Expr::GroupingSet(_) => "grouping set but in GROUP BY",
            Expr::Unnest(_) => "unnest",
            Expr::HigherOrderFunction(_) | Expr::Lambda(_) | Expr::LambdaVariable(_) => "lambda",
        };
        Err(NotCarried::no_form(part).into())
    }

    fn handle_literal(&mut self, value: &ScalarValue) -> Result<Expression> {
        let written = from_literal(self, value)?;
        self.check_literal(&written, value)?;
        Ok(written)
    }

    fn handle_cast(&mut self, cast: &Cast, schema: &DFSchemaRef) -> Result<Expression> {
        let written = from_cast(self, cast, schema)?;
        self.check_type(&written, cast.field.data_type())?;
        Ok(written)
    }

    fn handle_try_cast(&mut self, cast: &TryCast, schema: &DFSchemaRef) -> Result<Expression> {
        let written = from_try_cast(self, cast, schema)?;
        self.check_type(&written, cast.field.data_type())?;
        Ok(written)
    }
}

/// The value of a future that has nothing to wait for.
fn at_once<T>(future: impl Future<Output = T>) -> Option<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

fn without_name(expr: &Expr) -> &Expr {
    match expr {
        Expr::Alias(alias) => without_name(&alias.expr),
        expr => expr,
    }
}

/// The engine writes any other offset as no bound at all, and reads none that is not positive.
fn is_carried(bound: &WindowFrameBound) -> bool {
    match bound {
        WindowFrameBound::CurrentRow => true,
        WindowFrameBound::Preceding(offset) | WindowFrameBound::Following(offset) => {
            offset.is_null() || whole(offset).is_some_and(|offset| offset > 0)
        }
    }
}

fn whole(value: &ScalarValue) -> Option<i64> {
    match value {
        ScalarValue::UInt8(value) => value.map(i64::from),
        ScalarValue::UInt16(value) => value.map(i64::from),
        ScalarValue::UInt32(value) => value.map(i64::from),
        ScalarValue::UInt64(value) => value.and_then(|value| i64::try_from(value).ok()),
        ScalarValue::Int8(value) => value.map(i64::from),
        ScalarValue::Int16(value) => value.map(i64::from),
        ScalarValue::Int32(value) => value.map(i64::from),
        ScalarValue::Int64(value) => *value,
        _ => None,
    }
}
