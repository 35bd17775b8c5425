//! Why a run, a plan or a query could not be carried out as a whole.
//!
//! A view that fails while it runs is no such error: it is a result in the run's document.

use alluvium_contracts::RunId;
use alluvium_datasets::{ConstraintError, PinError, SpecError};
use alluvium_delta_cache::CacheError;
use alluvium_ledgers::LedgerError;
use alluvium_plans::PlanError;
use alluvium_profile::{QueryError, SessionError};
use alluvium_telemetry::Redactor;
use alluvium_write_policy::{MaintenanceError, PolicyError};
use datafusion::common::DataFusionError;
use datafusion::common::utils::quote_identifier;

use crate::locate::meant;
use crate::project::Project;

/// A run, plan or query was refused or broken off.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// A selected view is not in the pipeline.
    #[error("there is no view `{name}`{}", suggestion.as_ref().map(|name| format!("; did you mean `{name}`?")).unwrap_or_default())]
    UnknownView {
        /// The name that was given.
        name: String,
        /// The likeliest view.
        suggestion: Option<String>,
    },
    /// A view has no such column.
    #[error("view `{view}` has no column `{column}`{}", suggestion.as_ref().map(|name| format!("; did you mean `{name}`?")).unwrap_or_default())]
    UnknownColumn {
        /// The view.
        view: String,
        /// The column that was asked for.
        column: String,
        /// The likeliest column.
        suggestion: Option<String>,
    },
    /// What was given names no run.
    #[error(
        "`{name}` names no run: give `latest`, a run id, or at least 4 letters of its beginning or end; `alluvium runs ls` lists them"
    )]
    RunName {
        /// What was given.
        name: String,
    },
    /// The ledgers have no such run.
    #[error(
        "there is no run `{name}` in the ledgers of this cache root; `alluvium runs ls` lists those that there are"
    )]
    UnknownRun {
        /// The name that was given.
        name: String,
    },
    /// Several runs are meant.
    #[error("several runs are called `{name}`, give more of the id: {}", candidates.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))]
    AmbiguousRun {
        /// The name that was given.
        name: String,
        /// Some of them, newest first.
        candidates: Vec<RunId>,
    },
    /// A run left no manifest.
    #[error("run {run_id} has no manifest: it was of an older version, or its ledger was damaged and set aside")]
    NoManifest {
        /// The run.
        run_id: RunId,
    },
    /// A run cannot be carried out again.
    #[error("run {run_id} cannot be replayed: {why}")]
    Replay {
        /// The run.
        run_id: RunId,
        /// What is in the way.
        why: &'static str,
        /// The cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Views read each other in a circle.
    #[error("{place}: the views form a cycle: {}", path.join(" → "))]
    Cycle {
        /// `file:line` of one of them.
        place: String,
        /// The circle, beginning and ending with the same view.
        path: Vec<String>,
    },
    /// A view reads a table by a qualified name.
    #[error("{place}: view `{view}` reads `{table}`: a view reads the sources and views of its pipeline, by their bare names, and neither outputs nor ledgers{}", instead.as_ref().map(|name| format!("; read `{name}`")).unwrap_or_default())]
    Qualified {
        /// File, line and column.
        place: String,
        /// The view.
        view: String,
        /// The table as it was written.
        table: String,
        /// What to read instead, where that is clear.
        instead: Option<String>,
    },
    /// A view's SQL is wrong.
    #[error("{place}: view `{view}`")]
    Query {
        /// File, line and column.
        place: String,
        /// The view.
        view: String,
        /// What is wrong.
        #[source]
        source: QueryError,
    },
    /// A view cannot be planned for another reason than its SQL.
    #[error("{place}")]
    Plan {
        /// The file.
        place: String,
        /// What is wrong.
        #[source]
        source: PlanError,
    },
    /// A source's declaration is wrong.
    #[error("{place}: source `{name}`")]
    Source {
        /// `file:line`.
        place: String,
        /// The source.
        name: String,
        /// What is wrong.
        #[source]
        source: SpecError,
    },
    /// A source's files cannot be pinned.
    #[error("{place}: source `{name}` cannot be read")]
    Pin {
        /// `file:line`.
        place: String,
        /// The source.
        name: String,
        /// Which file, and why.
        #[source]
        source: PinError,
    },
    /// A source's rows are not what its `constraints` declare, or cannot be held against them.
    #[error("{place}: source `{name}`")]
    Constraints {
        /// `file:line`.
        place: String,
        /// The source.
        name: String,
        /// Which constraints, how many rows, and some of them.
        #[source]
        source: ConstraintError,
    },
    /// The SQL that was asked is wrong.
    #[error("the query is wrong")]
    Sql {
        /// What is wrong.
        #[source]
        source: QueryError,
    },
    /// The SQL that was asked failed.
    #[error("the query failed")]
    Execute {
        /// The engine's error.
        #[source]
        source: Box<DataFusionError>,
    },
    /// The working directory cannot be told, and a path is relative to it.
    #[error("the working directory cannot be told; give the project's directory as an absolute path")]
    Directory {
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// An output cannot be written as its policy says.
    #[error("{place}: the write policy of output `{output}`")]
    Policy {
        /// `file:line`.
        place: String,
        /// The output.
        output: String,
        /// What is wrong.
        #[source]
        source: PolicyError,
    },
    /// What is kept of a table cannot be changed.
    #[error("a table that a run is kept for cannot be changed; mend what is said and try again")]
    Maintenance(#[from] MaintenanceError),
    /// No session.
    #[error("no session could be made")]
    Session(#[from] SessionError),
    /// The caches cannot be used.
    #[error("the cache failed")]
    Cache(#[from] CacheError),
    /// The ledgers cannot be used.
    #[error("the ledgers failed")]
    Ledger(#[from] LedgerError),
}

impl RunError {
    /// Whether the user's input is wrong (the command line exits with 2) rather than the machine or the data.
    #[must_use]
    pub const fn is_input(&self) -> bool {
        match self {
            Self::UnknownView { .. }
            | Self::RunName { .. }
            | Self::UnknownRun { .. }
            | Self::AmbiguousRun { .. }
            | Self::NoManifest { .. }
            | Self::UnknownColumn { .. }
            | Self::Cycle { .. }
            | Self::Qualified { .. }
            | Self::Query { .. }
            | Self::Plan { .. }
            | Self::Source { .. }
            | Self::Pin { .. }
            | Self::Sql { .. }
            | Self::Policy { .. }
            | Self::Session(SessionError::Setting { .. }) => true,
            Self::Cache(error) => error.is_input(),
            Self::Constraints { source, .. } => {
                matches!(source, ConstraintError::UnknownColumn { .. } | ConstraintError::Check { .. })
            }
            Self::Directory { .. }
            | Self::Replay { .. }
            | Self::Execute { .. }
            | Self::Maintenance(_)
            | Self::Session(_)
            | Self::Ledger(_) => false,
        }
    }

    /// A word of few values, for `error.type`: of the vocabulary of `alluvium-telemetry`.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::UnknownView { .. }
            | Self::RunName { .. }
            | Self::UnknownRun { .. }
            | Self::AmbiguousRun { .. }
            | Self::NoManifest { .. }
            | Self::UnknownColumn { .. }
            | Self::Cycle { .. }
            | Self::Qualified { .. }
            | Self::Query { .. }
            | Self::Plan { .. }
            | Self::Source { .. }
            | Self::Sql { .. } => "pipeline",
            Self::Pin { .. } => "pin",
            Self::Constraints { .. } => "constraint",
            Self::Policy { .. } => "policy",
            Self::Execute { .. } => "compute",
            Self::Directory { .. } | Self::Replay { .. } | Self::Maintenance(_) => "io",
            Self::Session(_) => "session",
            Self::Cache(error) => error.kind(),
            Self::Ledger(_) => "ledger",
        }
    }

    /// A query error of a view, with its place in the user's files.
    pub(crate) fn query(project: &Project, view: &str, mut source: QueryError) -> Self {
        let position = source.position().map(|position| (position.line, position.column));
        let place = project.sql_place(view, position);
        let spec = project.spec();
        if let QueryError::UnknownTable { table, .. } = &source
            && let Some((_, bare)) = table.rsplit_once('.')
        {
            let named = spec.sources.contains_key(bare) || spec.views.contains_key(bare);
            let published = spec.outputs.get(bare).map(|output| output.view.clone());
            let instead = if named { Some(bare.to_owned()) } else { published };
            let instead = instead.filter(|name| name != view);
            return Self::Qualified { place, view: view.to_owned(), table: table.clone(), instead };
        }
        // The session knows only what the pipeline's views mention; the pipeline knows more.
        if let QueryError::UnknownTable { table, suggestion: suggestion @ None, .. } = &mut source {
            let known = spec.sources.keys().chain(spec.views.keys()).map(String::as_str);
            *suggestion =
                meant(table, known.filter(|name| *name != view)).map(|name| quote_identifier(&name).into_owned());
        }
        Self::Query { place, view: view.to_owned(), source }
    }

    pub(crate) fn plan(project: &Project, view: &str, source: PlanError) -> Self {
        match source {
            PlanError::Query { source, .. } => Self::query(project, view, source),
            source => Self::Plan { place: project.sql_place(view, None), source },
        }
    }

    pub(crate) const fn directory(source: std::io::Error) -> Self {
        Self::Directory { source }
    }

    /// An error of the cache about an output, with its place in the user's file.
    pub(crate) fn output(project: &Project, error: CacheError) -> Self {
        match error {
            CacheError::Policy { output, source } => {
                Self::Policy { place: project.place("outputs", &output), output, source }
            }
            error => Self::Cache(error),
        }
    }

    pub(crate) fn execute(source: DataFusionError) -> Self {
        Self::Execute { source: Box::new(source) }
    }
}

/// An error and everything under it, on one line, as ledgers and reports may keep it: without credentials.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let text = cause.to_string();
        // An engine that repeats its cause in its own words says nothing new.
        if !line.contains(&text) {
            line.push_str(": ");
            line.push_str(&text);
        }
        source = cause.source();
    }
    Redactor::default().kept(&line).into_owned()
}
