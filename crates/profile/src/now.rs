//! `now()` in microseconds: the engine's has nanoseconds, and no Delta table can hold them.

use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::functions::datetime::expr_fn::date_trunc;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::prelude::lit;

/// The plan with every `now()` (and `current_timestamp`, the same function) cut to microseconds; names and types stay.
pub(crate) fn in_microseconds(plan: LogicalPlan) -> Result<LogicalPlan> {
    let cut = |plan: LogicalPlan| {
        let names = NamePreserver::new(&plan);
        let cut = plan.map_expressions(|expr| {
            let name = names.save(&expr);
            Ok(expr.transform_up(cut_now)?.update_data(|expr| name.restore(expr)))
        })?;
        match cut.transformed {
            true => cut.map_data(LogicalPlan::recompute_schema),
            false => Ok(cut),
        }
    };
    Ok(plan.transform_up_with_subqueries(cut)?.data)
}

fn cut_now(expr: Expr) -> Result<Transformed<Expr>> {
    Ok(match &expr {
        Expr::ScalarFunction(call) if call.func.name() == "now" => {
            Transformed::yes(date_trunc(lit("microsecond"), expr))
        }
        _ => Transformed::no(expr),
    })
}
