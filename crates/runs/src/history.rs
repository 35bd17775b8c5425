//! Past runs, as the ledgers have them: listed, shown, compared.

mod difference;
mod keep;
mod remains;
mod replay;
mod scratch;

use std::collections::BTreeMap;

use alluvium_contracts::{
    CacheArtifact, CacheInventoryEntry, CacheRunSummary, RunArtifact, RunDifference, RunId, RunList, RunManifest,
    RunRecord, RunResult,
};
use alluvium_ledgers::{LedgerError, LedgerRow, decode_rows};
use futures::TryStreamExt as _;

pub use keep::KeptRun;

use crate::error::{RunError, chain};
use crate::pipeline::Pipeline;

/// A run as a person names it.
///
/// `latest` is the one that began last; anything else is its id, or as much of its beginning or end as no other run has. Ids
/// begin with the time, so that their ends tell runs of one day apart in fewer letters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunName {
    /// The run that began last.
    Latest,
    /// The whole id, or its beginning or end.
    Part(String),
}

impl RunName {
    /// Reads a name.
    ///
    /// # Errors
    /// [`RunError::RunName`] for what is neither `latest` nor a part of an id.
    pub fn parse(text: &str) -> Result<Self, RunError> {
        const SHORTEST: usize = 4;
        let is_part = text.len() >= SHORTEST && text.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
        match text {
            "latest" => Ok(Self::Latest),
            part if is_part => Ok(Self::Part(part.to_ascii_lowercase())),
            other => Err(RunError::RunName { name: other.to_owned() }),
        }
    }
}

impl Pipeline {
    /// The newest `limit` runs of the cache root, whichever project they were of. Runs that were killed are closed first.
    ///
    /// # Errors
    /// [`RunError`] when the ledgers cannot be read.
    ///
    /// # Examples
    /// ```
    /// use alluvium_runs::{OpenOptions, Pipeline, Project, RunOptions, Silent, scaffold};
    ///
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// scaffold(dir.path())?;
    /// let pipeline = Pipeline::open(Project::load(dir.path())?, OpenOptions::default())?;
    /// let (_stop, cancel) = tokio::sync::watch::channel(false);
    /// let first = pipeline.run(RunOptions::default(), &Silent, cancel.clone()).await?;
    /// let second = pipeline.run(RunOptions::default(), &Silent, cancel).await?;
    ///
    /// let list = pipeline.runs(1).await?;
    /// assert_eq!((list.runs[0].run_id, list.omitted_count), (second.run_id, 1));
    /// assert_eq!(list.runs[0].hit_count, first.views.len() as u64);
    /// # Ok(()) }
    /// ```
    pub async fn runs(&self, limit: usize) -> Result<RunList, RunError> {
        let all = "select * from alluvium.cache_runs order by started_unix_ms desc, run_id desc";
        let mut runs = once_each(self.rows_of(all).await?);
        let omitted_count = runs.len().saturating_sub(limit) as u64;
        runs.truncate(limit);
        Ok(RunList { runs, omitted_count })
    }

    /// Everything that the ledgers hold of one run. One that cannot be read, but for that of runs, is named in the record.
    ///
    /// # Errors
    /// [`RunError::UnknownRun`] and [`RunError::AmbiguousRun`] for the name, others when the ledgers cannot be read.
    ///
    /// # Examples
    /// ```
    /// use alluvium_contracts::CacheScope;
    /// use alluvium_runs::{OpenOptions, Pipeline, Project, RunName, RunOptions, Silent, scaffold};
    ///
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// scaffold(dir.path())?;
    /// let pipeline = Pipeline::open(Project::load(dir.path())?, OpenOptions::default())?;
    /// let (_stop, cancel) = tokio::sync::watch::channel(false);
    /// let run = pipeline.run(RunOptions::default(), &Silent, cancel).await?;
    ///
    /// let record = pipeline.run_record(&RunName::Latest).await?;
    /// assert_eq!(record.summary.write_count, run.views.len() as u64);
    /// assert_eq!(record.entries.len(), run.views.len() + run.outputs.len());
    /// let manifest = record.manifest.ok_or("every run leaves a manifest")?;
    /// let published = manifest.commits.iter().filter(|commit| commit.cache_scope == CacheScope::Output);
    /// assert_eq!(published.count(), run.outputs.len());
    /// # Ok(()) }
    /// ```
    pub async fn run_record(&self, run: &RunName) -> Result<RunRecord, RunError> {
        let summary = self.find_run(run).await?;
        let of = |table: &str, order: &str| {
            // An id is hexadecimal digits and hyphens.
            format!("select * from alluvium.{table} where run_id = '{}' order by {order}", summary.run_id)
        };
        let mut unread = Vec::new();
        let manifests: Vec<RunManifest> =
            self.known_rows(&of("run_manifests", "finished_unix_ms"), &mut unread).await?;
        let entries: Vec<CacheInventoryEntry> =
            self.known_rows(&of("cache_inventory", "event_time_unix_ms"), &mut unread).await?;
        let artifacts: Vec<CacheArtifact> =
            self.known_rows(&of("cache_artifacts", "event_time_unix_ms, name"), &mut unread).await?;
        let artifacts = artifacts.into_iter().map(|artifact| RunArtifact {
            name: artifact.name,
            artifact_kind: artifact.artifact_kind,
            artifact_id: artifact.artifact_id,
        });
        let manifest = manifests.into_iter().next_back();
        Ok(RunRecord { summary, manifest, entries, artifacts: artifacts.collect(), unread })
    }

    /// How one run differs from an earlier one, by their manifests.
    ///
    /// # Errors
    /// [`RunError::NoManifest`] where one of them has none, and what [`run_record`](Self::run_record) fails with.
    ///
    /// # Examples
    /// ```
    /// use alluvium_runs::{OpenOptions, Pipeline, Project, RunName, RunOptions, Silent, scaffold};
    ///
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// scaffold(dir.path())?;
    /// let pipeline = Pipeline::open(Project::load(dir.path())?, OpenOptions::default())?;
    /// let (_stop, cancel) = tokio::sync::watch::channel(false);
    /// let first = pipeline.run(RunOptions::default(), &Silent, cancel.clone()).await?;
    ///
    /// let file = dir.path().join("views/daily_revenue.sql");
    /// std::fs::write(&file, std::fs::read_to_string(&file)?.replace("sum(", "max("))?;
    /// let pipeline = Pipeline::open(Project::load(dir.path())?, OpenOptions::default())?;
    /// pipeline.run(RunOptions::default(), &Silent, cancel).await?;
    ///
    /// let first = RunName::parse(&first.run_id.to_string())?;
    /// let difference = pipeline.diff_runs(&first, &RunName::Latest).await?;
    /// assert!(difference.inputs.is_empty() && difference.environment.is_empty());
    /// assert_eq!(difference.queries[0].component, "view daily_revenue: sql");
    /// # Ok(()) }
    /// ```
    pub async fn diff_runs(&self, before: &RunName, after: &RunName) -> Result<RunDifference, RunError> {
        let before = self.manifest_of(before).await?;
        let after = self.manifest_of(after).await?;
        Ok(difference::difference(&before, &after))
    }

    /// The manifest of a run.
    ///
    /// # Errors
    /// As [`diff_runs`](Self::diff_runs).
    pub async fn manifest_of(&self, run: &RunName) -> Result<RunManifest, RunError> {
        let run_id = self.find_run(run).await?.run_id;
        let select = format!("select * from alluvium.run_manifests where run_id = '{run_id}'");
        self.rows_of(&select).await?.pop().ok_or(RunError::NoManifest { run_id })
    }

    async fn find_run(&self, run: &RunName) -> Result<CacheRunSummary, RunError> {
        let (condition, name) = match run {
            RunName::Latest => ("true".to_owned(), "latest"),
            RunName::Part(part) => (format!("starts_with(run_id, '{part}') or ends_with(run_id, '{part}')"), &**part),
        };
        let select = format!(
            "select * from alluvium.cache_runs where {condition} order by started_unix_ms desc, run_id desc limit {}",
            2 * MOST_NAMED
        );
        let mut found = once_each(self.rows_of(&select).await?);
        found.truncate(match run {
            RunName::Latest => 1,
            RunName::Part(_) => MOST_NAMED,
        });
        match (found.pop(), found.as_slice()) {
            (Some(one), []) => Ok(one),
            (None, _) => Err(RunError::UnknownRun { name: name.to_owned() }),
            (Some(another), others) => {
                let candidates: Vec<RunId> = others.iter().chain([&another]).map(|summary| summary.run_id).collect();
                Err(RunError::AmbiguousRun { name: name.to_owned(), candidates })
            }
        }
    }

    /// As [`rows_of`](Self::rows_of), but of a ledger that cannot be read `unread` gains why.
    async fn known_rows<R: LedgerRow>(&self, select: &str, unread: &mut Vec<String>) -> Result<Vec<R>, RunError> {
        match self.rows_of(select).await {
            Err(RunError::Ledger(error @ (LedgerError::NewerFormat { .. } | LedgerError::Unreadable { .. }))) => {
                unread.push(chain(&error));
                Ok(Vec::new())
            }
            rows => rows,
        }
    }

    /// The rows of a query that answers with every column of a ledger.
    async fn rows_of<R: LedgerRow>(&self, select: &str) -> Result<Vec<R>, RunError> {
        let answer = self.sql(select).await?;
        let batches: Vec<_> = answer.batches.try_collect().await.map_err(RunError::execute)?;
        let rows: Result<Vec<Vec<R>>, LedgerError> = batches.iter().map(decode_rows).collect();
        Ok(rows?.into_iter().flatten().collect())
    }
}

/// One summary for each run, in order. Earlier builds closed a run again that had ended, where the queue store was put back from a copy: how
/// it ended says the summary that is not `killed`.
fn once_each(summaries: Vec<CacheRunSummary>) -> Vec<CacheRunSummary> {
    let mut places = BTreeMap::new();
    let mut runs: Vec<CacheRunSummary> = Vec::new();
    for summary in summaries {
        let place = *places.entry(summary.run_id).or_insert(runs.len());
        match runs.get_mut(place) {
            None => runs.push(summary),
            Some(run) if run.result == RunResult::Killed && summary.result != RunResult::Killed => *run = summary,
            Some(_) => {}
        }
    }
    runs
}

/// Runs that a refusal of an ambiguous name lists.
const MOST_NAMED: usize = 5;

#[cfg(test)]
mod tests {
    use alluvium_contracts::Contract as _;

    use super::*;

    #[test]
    fn a_run_with_two_summaries_is_one_run_that_ended() {
        let [one, two] = ["1", "2"].map(|n| format!("01890a5d-ac96-774b-bcce-b302099a805{n}").parse().unwrap());
        let of = |run_id: RunId, result, finished_unix_ms| CacheRunSummary {
            run_id,
            result,
            finished_unix_ms,
            ..CacheRunSummary::example()
        };
        let (killed, ended) = (RunResult::Killed, RunResult::Succeeded);
        let found = once_each(vec![of(two, killed, 4), of(one, killed, 3), of(two, ended, 2), of(one, killed, 1)]);
        assert_eq!(found, [of(two, ended, 2), of(one, killed, 3)]);
        assert_eq!(once_each(vec![of(one, ended, 2), of(one, killed, 3)]), [of(one, ended, 2)]);
    }

    #[test]
    fn a_name_is_latest_or_part_of_an_id() {
        assert_eq!(RunName::parse("latest").unwrap(), RunName::Latest);
        assert_eq!(RunName::parse("01AF-").unwrap(), RunName::Part("01af-".to_owned()));
        for wrong in ["", "01a", "newest", "0123'; drop", "01af ", "%"] {
            let error = RunName::parse(wrong).unwrap_err();
            assert!(error.is_input(), "{wrong}");
            assert!(error.to_string().contains("latest"), "{error}");
        }
    }
}
