//! Plans in the engine's own encoding. A table is its name: a plan that is read scans what the session has under it now.

use std::sync::Arc;

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::TableProvider;
use datafusion::common::{Result, TableReference, not_impl_err, plan_err};
use datafusion::execution::TaskContext;
use datafusion::logical_expr::{Extension, LogicalPlan};
use datafusion_proto::bytes::{
    logical_plan_from_bytes_with_extension_codec, logical_plan_to_bytes_with_extension_codec,
};
use datafusion_proto::logical_plan::LogicalExtensionCodec;

use crate::tables::{Tables, is_same};

/// # Errors
/// Where the engine has no encoding for a part of the plan, or it scans what is not among `tables`.
pub(super) fn encode(plan: &LogicalPlan, tables: Tables) -> Result<Vec<u8>> {
    Ok(logical_plan_to_bytes_with_extension_codec(plan, &ByName(tables))?.to_vec())
}

/// # Errors
/// Where a table is missing or has not the columns that it had, or a function is missing.
pub(super) fn decode(bytes: &[u8], tables: Tables, context: &TaskContext) -> Result<LogicalPlan> {
    logical_plan_from_bytes_with_extension_codec(bytes, context, &ByName(tables))
}

/// Functions need nothing here: the engine writes their names, and finds them in the session.
#[derive(Debug)]
struct ByName(Tables);

impl LogicalExtensionCodec for ByName {
    fn try_decode(&self, _: &[u8], _: &[LogicalPlan], _: &TaskContext) -> Result<Extension> {
        not_impl_err!("nodes of extensions are not stored")
    }

    fn try_encode(&self, node: &Extension, _: &mut Vec<u8>) -> Result<()> {
        not_impl_err!("the node {} of an extension is not stored", node.node.name())
    }

    fn try_decode_table_provider(
        &self,
        _: &[u8],
        name: &TableReference,
        schema: SchemaRef,
        _: &TaskContext,
    ) -> Result<Arc<dyn TableProvider>> {
        match self.0.named(name) {
            Some(table) if table.schema() == schema => Ok(Arc::clone(table)),
            Some(_) => plan_err!("the table {name} has other columns than it had"),
            None => plan_err!("there is no table {name}"),
        }
    }

    fn try_encode_table_provider(
        &self,
        name: &TableReference,
        node: Arc<dyn TableProvider>,
        _: &mut Vec<u8>,
    ) -> Result<()> {
        match self.0.named(name) {
            Some(table) if is_same(table, &node) => Ok(()),
            _ => plan_err!("the table {name} is no input of the view"),
        }
    }
}
