//! What a run tells while it goes on.

use alluvium_contracts::{OutputReport, RunId, ViewReport};

/// One step of a run.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Progress {
    /// The run begins; every selected view, in topological order.
    RunStarted {
        /// The run.
        run_id: RunId,
        /// The views.
        views: Vec<String>,
    },
    /// A view is being computed.
    ViewStarted {
        /// The view.
        name: String,
    },
    /// A view is done, one way or another.
    ViewFinished(ViewReport),
    /// An output is done, one way or another.
    OutputFinished(OutputReport),
}

/// Watches a run. Called from the run's own task: be quick.
pub trait Observer: Send + Sync {
    /// One step happened.
    fn notify(&self, progress: &Progress);
}

/// Watches nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Observer for Silent {
    fn notify(&self, _: &Progress) {}
}
