//! What EXPLAIN shows of a COPY: its target and options without credentials.

use std::sync::Arc;

use alluvium_telemetry::{REDACTED, Redactor};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::Result;
use datafusion::logical_expr::{Explain, LogicalPlan, PlanType, ToStringifiedPlan as _};

/// The plan, with what it is to explain as it may be shown. What is explained is not executed, so it needs no credentials.
pub(crate) fn without_credentials(plan: LogicalPlan) -> Result<LogicalPlan> {
    let LogicalPlan::Explain(explain) = plan else {
        return Ok(plan);
    };
    let shown = explain.plan.as_ref().clone().transform_down(|node| match node {
        LogicalPlan::Copy(mut copy) => {
            copy.output_url = Redactor::default().kept(&copy.output_url).into_owned();
            copy.options = copy.options.into_iter().map(|(name, value)| shown(name, value)).collect();
            Ok(Transformed::yes(LogicalPlan::Copy(copy)))
        }
        other => Ok(Transformed::no(other)),
    })?;
    if !shown.transformed {
        return Ok(LogicalPlan::Explain(explain));
    }
    let plan = Arc::new(shown.data);
    let stringified_plans = vec![plan.to_stringified(PlanType::InitialLogicalPlan)];
    Ok(LogicalPlan::Explain(Explain { plan, stringified_plans, ..explain }))
}

/// An option, whose name may say that its value is a credential.
fn shown(name: String, value: String) -> (String, String) {
    let redactor = Redactor::default();
    let mut named = serde_json::json!({ name.as_str(): value });
    redactor.json(&mut named);
    let is_secret = named.get(&name).is_some_and(|value| value == REDACTED);
    let value = if is_secret { REDACTED.to_owned() } else { redactor.kept(&value).into_owned() };
    (name, value)
}

#[cfg(test)]
mod tests {
    use alluvium_contracts::{ProfileSpec, SqlPolicy};
    use datafusion::arrow::util::pretty::pretty_format_batches;

    use crate::{Query, RuntimeProfile, SessionFactory};

    #[tokio::test]
    async fn explain_shows_the_target_of_a_copy_without_its_credentials() {
        let spec = ProfileSpec { sql_policy: Some(SqlPolicy::Write), ..ProfileSpec::default() };
        let session = SessionFactory::new(RuntimeProfile::from(&spec)).build().unwrap();
        let rows = async |sql: &str| {
            let frame = session.execute(Query::sql(sql)).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
            pretty_format_batches(&frame.collect().await.unwrap()).unwrap().to_string()
        };
        let copy = "copy (select 1 as k) to 's3://key:hunter2@bucket/x.csv' stored as csv options \
                    ('aws_secret_access_key' 'hunter2', 'format.delimiter' ';')";
        for explain in ["explain", "explain verbose"] {
            let shown = rows(&format!("{explain} {copy}")).await;
            assert!(!shown.contains("hunter2"), "{shown}");
            for part in ["bucket/x.csv", "aws_secret_access_key [redacted]", "delimiter ;"] {
                assert!(shown.contains(part), "{part}: {shown}");
            }
        }
    }
}
