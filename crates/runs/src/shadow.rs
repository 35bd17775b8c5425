//! Hits that are computed all the same, to be compared with their entries.

use std::collections::BTreeSet;

use alluvium_contracts::ShadowResult;
use alluvium_delta_cache::{CacheError, Entry, Shadow};

use crate::decide::{Decisions, ViewDecision};
use crate::error::chain;
use crate::execute::Attempt;
use crate::report::ViewOutcome;

impl Attempt<'_> {
    /// Computes a hit to compare it, and serves it if it holds what it should; writes it anew if not.
    pub(crate) async fn shadowed(&self, decision: &ViewDecision, entry: &Entry) -> Result<ViewOutcome, CacheError> {
        let Decisions { session, reading, .. } = self.decisions;
        let bundle = &decision.bundle;
        let watch = self.pipeline.seam.stopwatch();
        self.fill_sources(bundle.name()).await?;
        let before_publish = || self.decisions.recheck(bundle.name());
        let shadow = self.pipeline.cache.shadow(session, bundle, entry, reading, &before_publish).await;
        let (shadow, reason) = match shadow {
            Ok(Shadow::Agrees) => (Some(ShadowResult::Agrees), None),
            Ok(Shadow::Unstable) => {
                let reason = "computed all the same it has other rows, as an unstable view may";
                (Some(ShadowResult::Unstable), Some(reason.to_owned()))
            }
            Ok(Shadow::Differs(how)) => {
                let reason = self.distrust(bundle.name(), &how);
                let mut outcome = self.write(decision, entry.key, true, reason).await?;
                outcome.report.shadow = Some(ShadowResult::Differs);
                return Ok(outcome);
            }
            // Says nothing about the entry.
            Err(error @ (CacheError::Compute { .. } | CacheError::Read { .. })) => {
                (None, Some(format!("its shadow computation failed, and its entry stands: {}", chain(&error))))
            }
            Err(error) => return Err(error),
        };
        let mut outcome = self.serve(decision)?;
        outcome.report.shadow = shadow;
        outcome.report.reason = reason;
        outcome.report.duration_ms = watch.elapsed_ms();
        Ok(outcome)
    }

    /// What is to be told of an exact entry that held other rows than its view: what was computed from it, too.
    fn distrust(&self, view: &str, how: &str) -> String {
        let readers = self.decisions.graph.readers();
        let (mut below, mut next) = (BTreeSet::new(), vec![view]);
        while let Some(view) = next.pop() {
            next.extend(readers.get(view).into_iter().flatten().filter(|reader| below.insert(**reader)));
        }
        let below: Vec<&str> = below.into_iter().filter(|reader| !self.is_computed(reader)).collect();
        let consequence = match below.as_slice() {
            [] => String::new(),
            below => format!(
                "; entries that were computed from it may be wrong too, `--fresh` with `--select` computes them: {}",
                below.join(", ")
            ),
        };
        format!("its entry had {how}{consequence}")
    }
}
