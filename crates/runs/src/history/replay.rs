//! Running a past run again, over the inputs that it read, beside what it left.

use std::collections::BTreeMap;
use std::path::Path;

use alluvium_contracts::{
    CacheArtifact, CachePolicy, DeltaInputPin, LedgerEvent, PipelineSpec, ReplayDocument, ReplayInput,
    ReplayInputState, ReplayResult, ReplayedView, RunId, RunManifest, RunView, Stability, ViewResult, ViewSpec,
};
use alluvium_delta_cache::rows_digest;
use alluvium_plans::engine_versions;
use alluvium_profile::Session;
use datafusion::common::utils::quote_identifier;
use fail::fail_point;
use tokio::sync::watch;

use super::RunName;
use super::remains::{Rows, RowsLeft, Seen, is_kept, over_pinned_files, source, source_name};
use super::scratch::Scratch;
use crate::error::{RunError, chain};
use crate::pipeline::{OpenOptions, Pipeline};
use crate::progress::Silent;
use crate::project::Project;
use crate::run::RunOptions;

impl Pipeline {
    /// Carries a run out again, by its manifest: its queries over its inputs, each as it was pinned, into a cache root that is made
    /// in `scratch` (by default where the system keeps temporary files) and deleted afterwards. Then compares the rows of every view
    /// that the run kept, as its entry or as a version of its output, with those that the replay gave. What came of it is recorded
    /// among the run's documents.
    ///
    /// An input that is not what it was makes the run `unreplayable`: nothing is executed then, and each such input is named. So does one
    /// that changes while it is replayed: then nothing is compared. Files that
    /// came beside those that it read are no change of it, but for a source with partition columns. A run that kept the rows of no view,
    /// or of whose rows nothing is left, is `unreplayable`, too. Views that had no rows in the run, or of which it kept none, are named in
    /// the notices.
    ///
    /// Paths are those of the run's own project, whichever project of the cache root it is asked of. A manifest pins the settings that may
    /// change rows, and names the engine: of both the notices say what is another today, and so does the reason of rows that are `different`.
    /// All else of the profile (memory, partitions, limits) moves no rows, and is this project's of today.
    ///
    /// # Examples
    /// ```
    /// use alluvium_contracts::ReplayResult;
    /// use alluvium_runs::{OpenOptions, Pipeline, Project, RunName, RunOptions, Silent, scaffold};
    ///
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// scaffold(dir.path())?;
    /// let pipeline = Pipeline::open(Project::load(dir.path())?, OpenOptions::default())?;
    /// let (_stop, cancel) = tokio::sync::watch::channel(false);
    /// pipeline.run(RunOptions::default(), &Silent, cancel.clone()).await?;
    ///
    /// let replayed = pipeline.replay(&RunName::Latest, None, cancel).await?;
    /// assert_eq!(replayed.result, ReplayResult::Same);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// What [`manifest_of`](Self::manifest_of) fails with; [`RunError::Replay`] when the scratch root cannot be made or the manifest
    /// makes no pipeline; what [`run`](Self::run) fails with.
    pub async fn replay(
        &self,
        run: &RunName,
        scratch: Option<&Path>,
        cancel: watch::Receiver<bool>,
    ) -> Result<ReplayDocument, RunError> {
        let manifest = self.manifest_of(run).await?;
        let session = self.sessions.build()?;
        let mut remains = self.remains(&session, &manifest, &mut Seen::default()).await;
        let environment = self.environment_changes(&manifest);
        fail_point!("replay.inputs.compared");
        let mut views = Vec::new();
        if remains.has_unchanged_inputs() {
            if remains.can_be_compared() {
                let (compared, read) = self.replay_views(&manifest, scratch, cancel).await?;
                // What was read is what was pinned for that, which may have become another since it was looked at; or has by now.
                remains = self.remains(&session, &manifest, &mut Seen::default()).await;
                tell_reread(&mut remains.inputs, &manifest.delta_inputs, &read);
                views = compared;
            } else {
                let lost = |view: &RunView| compared(view, Err(remains.why_lost(&view.name)), Err(String::new()));
                views = manifest.views.iter().filter(|view| is_kept(view, &manifest)).map(lost).collect();
            }
        }
        if !remains.has_unchanged_inputs() {
            views.clear();
        }
        if !environment.is_empty() {
            for view in views.iter_mut().filter(|view| view.result == ReplayResult::Different) {
                view.reason = Some(format!("what it runs on is not what it was: {}", environment.join("; ")));
            }
        }
        let notices = environment.into_iter().chain(uncompared(&manifest)).collect();
        let inputs = remains.inputs;
        let replayable = views.iter().map(|view| view.result).max_by_key(|result| badness(*result));
        let result = match inputs.iter().find(|input| input.state != ReplayInputState::Unchanged) {
            Some(_) => ReplayResult::Unreplayable,
            // A run that left nothing to compare is not the same as anything.
            None => replayable.unwrap_or(ReplayResult::Unreplayable),
        };
        let document = ReplayDocument { run_id: manifest.run_id, result, inputs, views, notices };
        let kept = CacheArtifact::of(manifest.run_id, self.seam.unix_ms(), "replay", document.clone());
        match kept {
            Ok(artifact) => self.ledgers.record(&[LedgerEvent::CacheArtifacts(artifact)])?,
            Err(error) => tracing::warn!(target: "alluvium.runs", %error, "a replay could not be recorded"),
        }
        Ok(document)
    }

    /// What is not as it was of the engine, and of the settings that may change rows.
    fn environment_changes(&self, manifest: &RunManifest) -> Vec<String> {
        let differing = |what: &str, then: &BTreeMap<String, String>, now: &BTreeMap<String, String>| {
            alluvium_plans::changes(then, now).into_iter().map(|change| format!("{what} {change}")).collect::<Vec<_>>()
        };
        let mut notices = differing("engine", &manifest.engine_versions, &engine_versions());
        if let Ok(session) = self.sessions.build() {
            notices.extend(differing("setting", &manifest.semantic_settings, &session.semantic_settings()));
        }
        notices
    }

    /// The views beside what the run left of them, and what was read for that.
    async fn replay_views(
        &self,
        manifest: &RunManifest,
        scratch: Option<&Path>,
        cancel: watch::Receiver<bool>,
    ) -> Result<(Vec<ReplayedView>, Vec<DeltaInputPin>), RunError> {
        let run_id = manifest.run_id;
        let scratch = Scratch::make(scratch)
            .map_err(failed(run_id, "no scratch directory can be made; name one that can be written"))?;
        let dir = self.dir_of(manifest);
        let spec = remembered(manifest, &dir, &self.project)
            .map_err(failed(run_id, "its manifest makes no pipeline; it may be a newer version's"))?;
        let project = Project::remembered(&dir, spec)
            .map_err(failed(run_id, "its manifest makes no pipeline; it may be a newer version's"))?;
        let options = OpenOptions {
            cache_root: Some(scratch.path().join("root")),
            sessions: Some(self.sessions.clone()),
            seam: Some(self.seam.clone()),
            ..OpenOptions::default()
        };
        let again = Pipeline::open(project, options).map_err(failed(run_id, "its scratch root cannot be opened"))?;
        let options = RunOptions { keep_going: true, ..RunOptions::default() };
        // Boxed: a run within a run would make the future as large as both.
        let document = Box::pin(again.run(options, &Silent, cancel)).await?;
        fail_point!("replay.run.ended");
        let read = again.manifest_of(&RunName::Latest).await?.delta_inputs;
        let session = self.sessions.build()?;
        // No entry goes while its rows are compared.
        let _reading = self.cache.begin_reading()?;
        let mut views = Vec::new();
        for view in manifest.views.iter().filter(|view| is_kept(view, manifest)) {
            let expected = self.rows_then(&session, manifest, view).await;
            let report = document.views.iter().find(|report| report.name == view.name);
            let found = match report.map(|report| (report.result, &report.reason)) {
                Some((ViewResult::Error | ViewResult::Skipped, reason)) => {
                    Err(reason.clone().unwrap_or_else(|| "it failed".to_owned()))
                }
                _ => rows_now(&again, &view.name).await.map_err(|error| chain(&error)),
            };
            views.push(compared(view, expected, found));
        }
        Ok((views, read))
    }

    /// The rows that the run left of a view; or why there are none any more.
    async fn rows_then(&self, session: &Session, manifest: &RunManifest, view: &RunView) -> Result<Rows, String> {
        let tables = match self.rows_left(manifest, view) {
            RowsLeft::Digested(rows) => return Ok(rows),
            RowsLeft::Tables(tables) => tables,
        };
        let mut missing = Vec::new();
        for (path, version) in tables {
            match self.rows_at(session, &view.name, &path, version).await {
                Ok(rows) => return Ok(rows),
                Err(error) => missing.push(format!("{} at version {version}: {}", path.display(), chain(&error))),
            }
        }
        Err(format!("nothing is left of its rows: {}", missing.join("; ")))
    }

    async fn rows_at(&self, session: &Session, name: &str, path: &Path, version: u64) -> Result<Rows, RunError> {
        let path = path.display().to_string();
        let table = self.delta_table(session, name, &path, Some(version)).await?;
        let rows = session.context().read_table(table).map_err(RunError::execute)?;
        rows_digest(rows.execute_stream().await.map_err(RunError::execute)?).await.map_err(RunError::execute)
    }
}

/// Says of inputs which of them were read with another content than `then`.
fn tell_reread(inputs: &mut [ReplayInput], then: &[DeltaInputPin], read: &[DeltaInputPin]) {
    // The same files may be called otherwise where they are named one by one.
    let content = |pin: &DeltaInputPin| {
        let files = pin.files.iter();
        let mut files: Vec<_> = files.map(|file| (file.content_digest, file.object_version.clone())).collect();
        files.sort_unstable();
        (pin.version, pin.commit_digest, files)
    };
    for input in inputs.iter_mut().filter(|input| input.state == ReplayInputState::Unchanged) {
        let of = |pins: &'_ [DeltaInputPin]| pins.iter().find(|pin| pin.name == input.name).cloned();
        if let (Some(then), Some(read)) = (of(then), of(read))
            && then.pin != read.pin
            && content(&then) != content(&read)
        {
            input.state = ReplayInputState::Changed;
            input.reason = Some("it changed while the run was replayed, and was read so".to_owned());
        }
    }
}

async fn rows_now(again: &Pipeline, view: &str) -> Result<Rows, RunError> {
    let answer = again.sql(&format!("select * from {}", quote_identifier(view))).await?;
    rows_digest(answer.batches).await.map_err(RunError::execute)
}

/// What a run left nothing to compare of, by name: views that gave it no rows, and views of which it kept none.
fn uncompared(manifest: &RunManifest) -> Vec<String> {
    let is_bare = !manifest.views.iter().any(|view| is_kept(view, manifest));
    let without_rows = manifest.resolved_sql.keys().filter_map(|name| {
        let why = match manifest.views.iter().find(|view| view.name == *name) {
            None => "the run came to no rows of it".to_owned(),
            Some(RunView { result: ViewResult::Skipped, .. }) => "the run skipped it".to_owned(),
            Some(RunView { result: ViewResult::Error, reasons, .. }) => match reasons.last() {
                Some(reason) => format!("it failed in the run: {reason}"),
                None => "it failed in the run".to_owned(),
            },
            Some(view) if is_kept(view, manifest) => return None,
            Some(_) => "the run kept no rows of it".to_owned(),
        };
        Some(format!("`{name}` is not compared: {why}"))
    });
    is_bare
        .then(|| "nothing is compared: the run kept the rows of no view".to_owned())
        .into_iter()
        .chain(without_rows)
        .collect()
}

fn compared(view: &RunView, expected: Result<Rows, String>, found: Result<Rows, String>) -> ReplayedView {
    let reasons = || match view.reasons.as_slice() {
        // The manifest of a killed run knows of its views what commits say.
        [] => "two executions may give other rows".to_owned(),
        reasons => reasons.join("; "),
    };
    let may_differ = match view.stability {
        Some(Stability::Exact) => view.cache_key.is_none().then(reasons),
        Some(Stability::Unstable) => Some(reasons()),
        None => Some("the run was killed before it recorded whether its rows must be the same each time".to_owned()),
    };
    let (result, reason) = match (&expected, &found) {
        (Ok(expected), Ok(found)) if expected == found => (ReplayResult::Same, None),
        (Ok(_), Ok(_)) => match may_differ {
            Some(why) => (ReplayResult::Unstable, Some(why)),
            None => (ReplayResult::Different, None),
        },
        (Err(why), _) => (ReplayResult::Unreplayable, Some(why.clone())),
        (_, Err(why)) => (ReplayResult::Unreplayable, Some(why.clone())),
    };
    let of = |rows: &Result<Rows, String>| rows.as_ref().ok().copied();
    ReplayedView {
        name: view.name.clone(),
        result,
        expected_content_hash: of(&expected).map(|rows| rows.0),
        content_hash: of(&found).map(|rows| rows.0),
        expected_row_count: of(&expected).map(|rows| rows.1),
        row_count: of(&found).map(|rows| rows.1),
        reason,
    }
}

const fn badness(result: ReplayResult) -> u8 {
    match result {
        ReplayResult::Same => 0,
        ReplayResult::Unstable => 1,
        ReplayResult::Unreplayable => 2,
        ReplayResult::Different => 3,
    }
}

/// The pipeline of a manifest: every view kept as an entry, whatever its policy was, because views give equal rows under each.
fn remembered(manifest: &RunManifest, dir: &Path, today: &Project) -> Result<PipelineSpec, serde_json::Error> {
    // Sorted, so that a source whose changes were read too has the declaration of those.
    let sources = manifest.delta_inputs.iter().map(|pin| {
        let (name, _) = source_name(manifest, pin);
        let spec = source(manifest, pin)?;
        Ok((name.to_owned(), over_pinned_files(&spec, pin, dir).unwrap_or(spec)))
    });
    let views = manifest.resolved_sql.iter().map(|(name, sql)| {
        let view = ViewSpec { sql: Some(sql.clone()), cache: CachePolicy::DeltaStaging, ..ViewSpec::default() };
        (name.clone(), view)
    });
    Ok(PipelineSpec {
        profile: today.spec().profile.clone(),
        sources: sources.collect::<Result<_, serde_json::Error>>()?,
        views: views.collect(),
        outputs: BTreeMap::new(),
    })
}

fn failed<E: std::error::Error + Send + Sync + 'static>(
    run_id: RunId,
    why: &'static str,
) -> impl FnOnce(E) -> RunError {
    move |error| RunError::Replay { run_id, why, source: Box::new(error) }
}

#[cfg(test)]
mod tests {
    use alluvium_contracts::{Contract as _, RowsDigest};

    use super::*;

    /// A killed run may have come to say nothing of a view but that it was there.
    #[test]
    fn only_rows_that_have_to_be_the_same_are_different() {
        let rows = |text: &[u8]| Ok((RowsDigest::of(text), 1));
        let view = RunManifest::example().views.remove(0);
        let result = |stability| {
            let view =
                RunView { stability, cache_key: Some(alluvium_contracts::CacheKey::of(b"view")), ..view.clone() };
            let replayed = compared(&view, rows(b"then"), rows(b"now"));
            assert!(replayed.result == ReplayResult::Different || replayed.reason.is_some(), "{replayed:?}");
            replayed.result
        };
        assert_eq!(result(Some(Stability::Exact)), ReplayResult::Different);
        assert_eq!(result(Some(Stability::Unstable)), ReplayResult::Unstable);
        assert_eq!(result(None), ReplayResult::Unstable);
    }
}
