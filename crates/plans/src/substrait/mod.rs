//! Plans written as [Substrait](https://substrait.io), for other engines and for keeping.
//!
//! *Invariant:* what is written means what the plan means. What Substrait, or the engine's way of writing it, has no form for is
//! refused by name; the rest is read back at once, and has to have the same columns and to call the same functions.
//! *Invariant:* equal plans have equal bytes, in every process: the engine declares functions in the order of a hash map.

mod error;
mod producer;

use std::collections::HashSet;
use std::sync::Arc;

use alluvium_contracts::SubstraitHash;
use alluvium_functions::Function;
use alluvium_profile::{Query, Session};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DFSchema, DataFusionError};
use datafusion::execution::SessionState;
use datafusion::logical_expr::{EmptyRelation, LogicalPlan, TableScan};
use datafusion_substrait::logical_plan::producer::{SubstraitProducer as _, to_substrait_plan};
use datafusion_substrait::substrait::proto::extensions::SimpleExtensionDeclaration;
use datafusion_substrait::substrait::proto::extensions::simple_extension_declaration::MappingType;
use datafusion_substrait::substrait::proto::{Plan, PlanRel, RelRoot, plan_rel};
use datafusion_substrait::substrait::version;
use prost::Message as _;

pub use self::error::NotCarried;
use self::producer::Producer;
use crate::canonical::canonicalize;
use crate::tables::reads;

/// Who made a plan, as it says itself.
const PRODUCER: &str = "alluvium";

/// A plan in the binary form of Substrait. Equal plans have equal bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubstraitPlan {
    bytes: Vec<u8>,
}

impl SubstraitPlan {
    /// Writes an analyzed plan over tables of `session`. Nothing is executed.
    ///
    /// # Errors
    /// [`NotCarried`], which names what stands in the way.
    pub async fn of(session: &Session, plan: &LogicalPlan) -> Result<Self, NotCarried> {
        let bytes = write(plan, &session.context().state())?;
        for scan in scans(plan) {
            registered(session, &scan).await?;
        }
        let back = session.plan_query(Query::Substrait(bytes.clone())).await;
        let back = back.map_err(|source| NotCarried::Unreadable { source: Box::new(source) })?.plan;
        columns(plan.schema(), back.schema())?;
        if functions(plan) != functions(&back) {
            return Err(NotCarried::lost("which functions it calls"));
        }
        Ok(Self { bytes })
    }

    /// What [`Query::Substrait`] asks, and a file for other engines holds.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The same, without a copy.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// The digest of the bytes.
    #[must_use]
    pub fn hash(&self) -> SubstraitHash {
        SubstraitHash::of(&self.bytes)
    }
}

fn write(plan: &LogicalPlan, state: &SessionState) -> Result<Vec<u8>, NotCarried> {
    let mut producer = Producer::new(state);
    let input = *producer.handle_plan(plan)?;
    let mut extensions: Vec<SimpleExtensionDeclaration> = producer.get_extensions().into();
    extensions.sort_by_key(|declaration| match &declaration.mapping_type {
        Some(MappingType::ExtensionType(declared)) => (0, declared.type_anchor),
        Some(MappingType::ExtensionTypeVariation(declared)) => (1, declared.type_variation_anchor),
        Some(MappingType::ExtensionFunction(declared)) => (2, declared.function_anchor),
        None => (3, 0),
    });
    let root = RelRoot { input: Some(input), names: names(plan.schema(), state)? };
    let plan = Plan {
        version: Some(version::version_with_producer(PRODUCER)),
        extensions,
        relations: vec![PlanRel { rel_type: Some(plan_rel::RelType::Root(root)) }],
        ..Plan::default()
    };
    Ok(plan.encode_to_vec())
}

/// The names of columns, and of fields inside them, in the engine's order.
fn names(schema: &Arc<DFSchema>, state: &SessionState) -> Result<Vec<String>, NotCarried> {
    let nothing = LogicalPlan::EmptyRelation(EmptyRelation { produce_one_row: false, schema: Arc::clone(schema) });
    let plan = to_substrait_plan(&nothing, state)?;
    match plan.relations.into_iter().next().and_then(|relation| relation.rel_type) {
        Some(plan_rel::RelType::Root(root)) => Ok(root.names),
        _ => Err(NotCarried::lost("the names of its columns")),
    }
}

fn scans(plan: &LogicalPlan) -> Vec<TableScan> {
    let mut scans = Vec::new();
    // The closure never fails, so neither does the walk.
    let _ = plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node {
            scans.push(scan.clone());
        }
        Ok(TreeNodeRecursion::Continue)
    });
    scans
}

/// A plan names its tables, so that the name has to mean the table that is scanned.
async fn registered(session: &Session, scan: &TableScan) -> Result<(), NotCarried> {
    match session.context().table_provider(scan.table_name.clone()).await {
        Ok(known) if reads(scan, &known) => Ok(()),
        _ => Err(NotCarried::Table { table: scan.table_name.to_string() }),
    }
}

fn columns(written: &DFSchema, back: &DFSchema) -> Result<(), NotCarried> {
    if written.fields().len() != back.fields().len() {
        return Err(NotCarried::lost("how many columns it has"));
    }
    for (written, back) in written.fields().iter().zip(back.fields()) {
        let is_same = written.name() == back.name()
            && written.data_type() == back.data_type()
            && written.metadata() == back.metadata();
        if !is_same {
            return Err(NotCarried::lost(format!("the name, type or metadata of its column `{}`", written.name())));
        }
    }
    Ok(())
}

fn functions(plan: &LogicalPlan) -> HashSet<Function> {
    canonicalize(plan).functions.into_iter().collect()
}

impl From<DataFusionError> for NotCarried {
    /// What the producer refused comes back through the engine's.
    fn from(error: DataFusionError) -> Self {
        match error {
            DataFusionError::External(inner) => match inner.downcast::<Self>() {
                Ok(refused) => *refused,
                Err(inner) => Self::Unwritable { source: Box::new(DataFusionError::External(inner)) },
            },
            error => Self::Unwritable { source: Box::new(error) },
        }
    }
}
