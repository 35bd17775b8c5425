//! The columns of outputs, held against the semantic types that they have to carry.

use alluvium_contracts::{DeltaWritePolicy, RunId, SemanticStatus, SemanticValidation, Severity};
use alluvium_functions::{column_spec, validate};
use alluvium_plans::PlanBundle;

use crate::pipeline::Pipeline;

/// What the columns of `view` carry, where `policy` asks for anything: the document that refuses the output, or that goes with it.
pub(crate) fn semantic_validation(
    output: &str,
    policy: &DeltaWritePolicy,
    view: &PlanBundle,
    run_id: Option<RunId>,
) -> Option<SemanticValidation> {
    let types = &policy.semantic_types;
    let specs: Vec<_> = types.iter().map(|(column, semantic_type)| column_spec(column, semantic_type)).collect();
    (!specs.is_empty()).then(|| validate(output, run_id, &specs, view.published().arrow()))
}

impl Pipeline {
    /// Tells whoever listens of an output's columns, before one that breaks its types is refused.
    pub(crate) fn tell_semantics(&self, output: &str, policy: &DeltaWritePolicy, view: &PlanBundle) {
        if !self.diagnostics.is_enabled() {
            return;
        }
        if let Some(validation) = semantic_validation(output, policy, view, None) {
            let severity = match validation.status {
                SemanticStatus::Ok => Severity::Info,
                SemanticStatus::Missing | SemanticStatus::Mismatch => Severity::Error,
            };
            self.diagnostics.event(&validation, severity);
        }
    }
}
