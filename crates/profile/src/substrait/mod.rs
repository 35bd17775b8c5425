//! Plans that come as [Substrait](https://substrait.io): read under the same rules as SQL.
//!
//! The engine's reader does the work; what it would read and ignore, so that other rows came than the plan asks for, is refused
//! here by name, and so is what could make a small plan large.

mod consumer;
mod error;

use std::any::Any;
use std::panic::AssertUnwindSafe;

use datafusion::common::{DataFusionError, TableReference};
use datafusion::execution::SessionState;
use datafusion::logical_expr::LogicalPlan;
use datafusion_substrait::extensions::Extensions;
use datafusion_substrait::substrait::proto::Plan;
use datafusion_substrait::substrait::version;
use futures::FutureExt as _;
use prost::Message as _;

use self::consumer::{Consumer, Tables};
pub use self::error::SubstraitError;
use crate::query_error::QueryError;

/// The largest plan that is read, in bytes. How deep one may be nested is bounded by protobuf: 100 messages.
const LARGEST_BYTES: usize = 8 << 20;

/// The engine's plan of `bytes`, over the tables of the session. Not analyzed.
pub(crate) async fn to_plan(bytes: &[u8], state: &SessionState) -> Result<LogicalPlan, QueryError> {
    read(bytes, state, &Tables::registered()).await
}

/// The tables that a plan names, sorted. Nothing needs to be registered.
pub(crate) fn tables(bytes: &[u8], state: &SessionState) -> Result<Vec<TableReference>, QueryError> {
    let tables = Tables::declared();
    // Nobody is asked for a table, so that nothing has to be waited for.
    match read(bytes, state, &tables).now_or_never() {
        Some(Ok(_)) => Ok(tables.into_named()),
        Some(Err(error)) => Err(error),
        None => Err(SubstraitError::Malformed { message: "reading it has to wait for something".to_owned() }.into()),
    }
}

async fn read(bytes: &[u8], state: &SessionState, tables: &Tables) -> Result<LogicalPlan, QueryError> {
    let plan = decode(bytes)?;
    let extensions = Extensions::try_from(&plan.extensions).map_err(|error| QueryError::plan(error, None))?;
    if !extensions.type_variations.is_empty() {
        return Err(SubstraitError::unsupported("a type variation of its own").into());
    }
    let consumer = Consumer::new(&extensions, state, tables);
    // The engine's reader takes for granted that the parts of a message are there and that positions are in range. What is not
    // checked before it gets them ends here, not with the process.
    let read = AssertUnwindSafe(consumer.plan(&plan)).catch_unwind().await;
    match read {
        Ok(Ok(plan)) => Ok(consumer::in_one_order(plan).map_err(|error| QueryError::plan(error, None))?),
        Ok(Err(error)) => Err(refusal(error)),
        Err(panic) => Err(SubstraitError::Malformed { message: message(panic.as_ref()) }.into()),
    }
}

fn decode(bytes: &[u8]) -> Result<Plan, SubstraitError> {
    if bytes.len() > LARGEST_BYTES {
        return Err(SubstraitError::TooLarge { size_bytes: bytes.len(), limit_bytes: LARGEST_BYTES });
    }
    let plan = Plan::decode(bytes).map_err(|source| SubstraitError::NotAPlan { source: Box::new(source) })?;
    let known = version::version();
    // What a later version means differently, or says in fields that are unknown here, would be passed over.
    match &plan.version {
        Some(found) if (found.major_number, found.minor_number) <= (known.major_number, known.minor_number) => {}
        found => {
            return Err(SubstraitError::Version {
                found: found.as_ref().map(error::version),
                known: error::version(&known),
            });
        }
    }
    if plan.relations.len() != 1 {
        return Err(SubstraitError::unsupported(format!("{} relations where one is expected", plan.relations.len())));
    }
    if plan.advanced_extensions.as_ref().is_some_and(|extension| extension.enhancement.is_some()) {
        return Err(SubstraitError::unsupported("an enhancement of the plan"));
    }
    Ok(plan)
}

/// What this module refused comes back through the engine's reader.
fn refusal(error: DataFusionError) -> QueryError {
    match error {
        DataFusionError::External(inner) => match inner.downcast::<SubstraitError>() {
            Ok(refused) => (*refused).into(),
            Err(inner) => QueryError::plan(DataFusionError::External(inner), None),
        },
        error => QueryError::plan(error, None),
    }
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("the engine does not say what").to_owned()
}

#[cfg(test)]
mod tests;
