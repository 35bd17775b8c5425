//! Plan bundles as documents: everything that the identity of a view is made of.

use alluvium_contracts::PlanBundleArtifact;
use alluvium_telemetry::Redactor;

use crate::decide::Decisions;
use crate::error::RunError;
use crate::execute::Outcomes;
use crate::manifest::written;
use crate::pipeline::Pipeline;
use crate::run::RunOptions;

impl Pipeline {
    /// The plan bundle of each selected view and of its ancestors, in topological order; of all views when nothing is
    /// selected. Sources are pinned and views planned; nothing is computed.
    ///
    /// # Errors
    /// [`RunError`] when the pipeline is wrong or its sources cannot be pinned.
    pub async fn bundles(&self, select: &[String]) -> Result<Vec<PlanBundleArtifact>, RunError> {
        let options = RunOptions { select: select.to_vec(), ..RunOptions::default() };
        let decisions = Decisions::take(self, &options, &Outcomes::default()).await?;
        let redactor = Redactor::default();
        let bundles = decisions.graph.order.iter().filter_map(|view| {
            let mut bundle = decisions.views.get(view)?.bundle.artifact();
            for pin in &mut bundle.pins {
                pin.path = self
                    .project
                    .source_of(&pin.name)
                    .map(|(_, source)| redactor.kept(&written(&source.path)).into_owned());
            }
            Some(bundle)
        });
        Ok(bundles.collect())
    }
}
