//! Running a past run again, over the inputs that it read, beside what it left.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use alluvium_contracts::{
    CacheArtifact, CachePolicy, CdfOptions, DeltaInputPin, InputKind, LedgerEvent, PipelineSpec, ReplayDocument,
    ReplayInput, ReplayInputState, ReplayResult, ReplayedView, RowsDigest, RunId, RunManifest, RunView, SourcePath,
    SourceSpec, Stability, UnreplayableRun, ViewResult, ViewSpec,
};
use alluvium_datasets::{Dataset, HashError, PinError};
use alluvium_delta_cache::rows_digest;
use alluvium_plans::engine_versions;
use alluvium_profile::Session;
use alluvium_write_policy::{ReadError, active_files};
use datafusion::common::utils::quote_identifier;
use fail::fail_point;
use tokio::sync::watch;

use super::RunName;
use super::difference::of_input;
use crate::error::{RunError, chain};
use crate::manifest::REDACTED_SPEC;
use crate::pipeline::{OpenOptions, Pipeline};
use crate::progress::Silent;
use crate::project::{CHANGES, Project};
use crate::run::RunOptions;

/// The rows of a view: their digest and their number.
type Rows = (RowsDigest, u64);

impl Pipeline {
    /// Carries a run out again, by its manifest: its queries over its inputs, each as it was pinned, into a cache root that is made
    /// in `scratch` (by default where the system keeps temporary files) and deleted afterwards. Then compares the rows of every view
    /// that the run kept, as its entry or as a version of its output, with those that the replay gave. What came of it is recorded
    /// among the run's documents.
    ///
    /// An input that is not what it was makes the run `unreplayable`: nothing is executed then, and each such input is named. So does one
    /// that changes while it is replayed: then nothing is compared. Files that
    /// came beside those that it read are no change of it, but for a source with partition columns. A run that kept the rows of no view
    /// is `unreplayable`, too. Views that had no rows in the run are named in the notices.
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
    /// assert!(pipeline.unreplayable_runs(20).await?.is_empty());
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
        let mut inputs = self.replay_inputs(&manifest).await?;
        let mut notices = self.replay_notices(&manifest);
        notices.extend(uncompared(&manifest));
        let is_unchanged =
            |inputs: &[ReplayInput]| inputs.iter().all(|input| input.state == ReplayInputState::Unchanged);
        fail_point!("replay.inputs.compared");
        let mut views = Vec::new();
        if is_unchanged(&inputs) {
            let (compared, read) = self.replay_views(&manifest, scratch, cancel).await?;
            // What was read is what was pinned for that, which may have become another since it was looked at; or has by now.
            inputs = self.replay_inputs(&manifest).await?;
            tell_reread(&mut inputs, &manifest.delta_inputs, &read);
            views = if is_unchanged(&inputs) { compared } else { views };
        }
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

    /// Which of the newest `limit` runs, and of those that are [kept](Self::keep_run), can no longer be replayed, newest first, and why:
    /// input by input, and the views of which nothing is left to compare with. Nothing is executed; a file is read again where its
    /// stamp moved.
    ///
    /// # Errors
    /// [`RunError`] when the ledgers cannot be read or no session can be made.
    pub async fn unreplayable_runs(&self, limit: usize) -> Result<Vec<UnreplayableRun>, RunError> {
        let newest = format!("select run_id from alluvium.run_manifests order by started_unix_ms desc limit {limit}");
        let kept = self.kept_runs()?.iter().map(|run_id| format!(" or run_id = '{run_id}'")).collect::<String>();
        let select = format!(
            "select * from alluvium.run_manifests where run_id in ({newest}){kept} order by started_unix_ms desc"
        );
        let mut lost = Vec::new();
        for manifest in self.rows_of::<RunManifest>(&select).await? {
            let inputs = self.replay_inputs(&manifest).await?;
            let mut reasons: Vec<_> = inputs
                .into_iter()
                .filter(|input| input.state != ReplayInputState::Unchanged)
                .map(|input| format!("{} is {}: {}", input.name, input.state, input.reason.unwrap_or_default()))
                .collect();
            let bare: Vec<_> = manifest.views.iter().filter(|view| self.has_lost_rows(view, &manifest)).collect();
            if !bare.is_empty() {
                let names = bare.into_iter().map(|view| view.name.as_str()).collect::<Vec<_>>().join(", ");
                reasons.push(format!("nothing is left to compare with of {names}"));
            }
            if !reasons.is_empty() {
                lost.push(UnreplayableRun { run_id: manifest.run_id, reasons });
            }
        }
        Ok(lost)
    }

    /// What has become of each input of a run. Every file is read again where its stamp moved.
    async fn replay_inputs(&self, manifest: &RunManifest) -> Result<Vec<ReplayInput>, RunError> {
        let session = self.sessions.build()?;
        let mut inputs = Vec::new();
        for pin in &manifest.delta_inputs {
            inputs.push(self.replay_input(&session, manifest, pin).await);
        }
        for name in manifest.resolved_specs.keys().filter_map(|name| name.strip_prefix(REDACTED_SPEC)) {
            let reason = "its declaration names credentials, and those are kept nowhere".to_owned();
            let (name, state) = (name.to_owned(), ReplayInputState::Gone);
            inputs.push(ReplayInput { name, state, reason: Some(reason) });
        }
        Ok(inputs)
    }

    async fn replay_input(&self, session: &Session, manifest: &RunManifest, pin: &DeltaInputPin) -> ReplayInput {
        let told = |state, reason: String| ReplayInput { name: pin.name.clone(), state, reason: Some(reason) };
        let spec = match source(manifest, pin) {
            Ok(spec) => spec,
            Err(error) => return told(ReplayInputState::Gone, format!("its specification cannot be read: {error}")),
        };
        let (name, is_changes) = source_name(manifest, pin);
        if let Some(narrowed) = over_pinned_files(&spec, pin, self.project.dir())
            && let Ok(resolved) = Dataset::of_source(name, &narrowed, self.project.dir())
            && let Ok(now) = self.pinner.pin(session.context(), &resolved).await
            && now.digest() == pin.pin
        {
            return ReplayInput { name: pin.name.clone(), state: ReplayInputState::Unchanged, reason: None };
        }
        let resolved = match Dataset::of_source(name, &spec, self.project.dir()) {
            Ok(resolved) => resolved,
            Err(error) => return told(ReplayInputState::Changed, chain(&error)),
        };
        let pinned = async {
            let now = self.pinner.pin(session.context(), &resolved).await?;
            Ok(if is_changes { now.changes_input(session.context())?.unwrap_or(now) } else { now })
        };
        match pinned.await {
            // That every file of its changes is there was found out when they were pinned.
            Ok(now) if now.digest() == pin.pin && is_changes => {
                ReplayInput { name: pin.name.clone(), state: ReplayInputState::Unchanged, reason: None }
            }
            Ok(now) if now.digest() == pin.pin => match self.missing_of(&spec, pin).await {
                Some(missing) => told(ReplayInputState::Gone, missing),
                None => ReplayInput { name: pin.name.clone(), state: ReplayInputState::Unchanged, reason: None },
            },
            Ok(now) => {
                let mut now = now.artifact();
                now.path.clone_from(&pin.path);
                let changes = of_input(pin, &now);
                let lines: Vec<_> = changes
                    .iter()
                    // It follows from the others.
                    .filter(|change| !change.component.ends_with(": pin") || changes.len() == 1)
                    .map(ToString::to_string)
                    .collect();
                told(ReplayInputState::Changed, lines.join("; "))
            }
            Err(error) => {
                let state = if is_gone(&error) { ReplayInputState::Gone } else { ReplayInputState::Changed };
                told(state, chain(&error))
            }
        }
    }

    async fn missing_of(&self, spec: &SourceSpec, pin: &DeltaInputPin) -> Option<String> {
        let (SourcePath::One(path), Some(version)) = (&spec.path, pin.version) else {
            return None;
        };
        missing_files(&self.project.dir().join(path), version).await
    }

    /// What else is not as it was.
    fn replay_notices(&self, manifest: &RunManifest) -> Vec<String> {
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
        let scratch = match scratch {
            Some(dir) => tempfile::Builder::new().prefix("alluvium-replay-").tempdir_in(dir),
            None => tempfile::Builder::new().prefix("alluvium-replay-").tempdir(),
        };
        let scratch =
            scratch.map_err(failed(run_id, "no scratch directory can be made; name one that can be written"))?;
        let spec = remembered(manifest, &self.project)
            .map_err(failed(run_id, "its manifest makes no pipeline; it may be a newer version's"))?;
        let project = Project::remembered(self.project.dir(), spec)
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

    /// The rows that the run left of a view: as it digested them then, else as they are in a table; or why there are none any more.
    async fn rows_then(&self, session: &Session, manifest: &RunManifest, view: &RunView) -> Result<Rows, String> {
        let published = || manifest.outputs.iter().filter(|output| output.view == view.name);
        if let Some(rows) = published().find_map(|output| Some((output.content_hash?, output.row_count?))) {
            return Ok(rows);
        }
        let entry = view.cache_path.as_ref().filter(|_| view.cache_policy == CachePolicy::DeltaStaging);
        let entry = entry.map(|path| (self.root.path().join(path), 0));
        let tables =
            published().filter_map(|output| Some((self.project.dir().join(&output.path), output.delta_version?)));
        let mut missing = Vec::new();
        for (path, version) in entry.into_iter().chain(tables) {
            match self.rows_at(session, &view.name, &path, version).await {
                Ok(rows) => return Ok(rows),
                Err(error) => missing.push(format!("{} at version {version}: {}", path.display(), chain(&error))),
            }
        }
        Err(format!("nothing is left of its rows: {}", missing.join("; ")))
    }

    /// Whether the run kept rows of a view of which nothing is there any more.
    fn has_lost_rows(&self, view: &RunView, manifest: &RunManifest) -> bool {
        let mut published = manifest.outputs.iter().filter(|output| output.view == view.name);
        let is_there = published.any(|output| {
            let digested = output.content_hash.is_some() && output.row_count.is_some();
            digested || (output.delta_version.is_some() && self.project.dir().join(&output.path).is_dir())
        });
        let entry = view.cache_path.as_ref().filter(|_| view.cache_policy == CachePolicy::DeltaStaging);
        is_kept(view, manifest) && !is_there && !entry.is_some_and(|path| self.root.path().join(path).is_dir())
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

/// Views whose rows outlived their run.
fn is_kept(view: &RunView, manifest: &RunManifest) -> bool {
    let was_there = !matches!(view.result, ViewResult::Error | ViewResult::Skipped);
    let published = manifest.outputs.iter().any(|output| output.view == view.name && output.delta_version.is_some());
    was_there && (view.cache_path.is_some() || published)
}

/// What a run left nothing to compare of, by name: views that gave it no rows; and where it kept the rows of none, every view.
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
            Some(_) if is_bare => "the run kept no rows of it".to_owned(),
            Some(_) => return None,
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

fn is_gone(error: &PinError) -> bool {
    match error {
        PinError::Locate { .. } | PinError::NotADeltaTable { .. } | PinError::DeltaVersion { .. } => true,
        PinError::Hash { source, .. } => matches!(source, HashError::NotFound { .. }),
        _ => false,
    }
}

/// What a vacuum took of a version whose commit is still there.
pub(super) async fn missing_files(table: &Path, version: u64) -> Option<String> {
    let files = match active_files(table, version).await {
        Ok(files) => files,
        // Its files do not tell by their paths alone; the replay will say what it cannot read.
        Err(ReadError::NotPlainFiles { .. }) => return None,
        Err(error) => return Some(chain(&error)),
    };
    let missing: Vec<_> = files.iter().filter(|file| !table.join(&file.path).is_file()).collect();
    let first = missing.first()?;
    let (count, all) = (missing.len(), files.len());
    Some(format!("{count} of the {all} data files of version {version} were deleted, {} among them", first.path))
}

/// The source that a pin is of, and whether it is of that source's changes.
pub(super) fn source_name<'p>(manifest: &RunManifest, pin: &'p DeltaInputPin) -> (&'p str, bool) {
    match pin.name.strip_suffix(CHANGES) {
        Some(name) if !manifest.resolved_specs.contains_key(&format!("source {}", pin.name)) => (name, true),
        _ => (&pin.name, false),
    }
}

/// The source as it was declared, at the version that was read.
fn source(manifest: &RunManifest, pin: &DeltaInputPin) -> Result<SourceSpec, serde_json::Error> {
    let (name, is_changes) = source_name(manifest, pin);
    let declared = manifest.resolved_specs.get(&format!("source {name}")).cloned().unwrap_or_default();
    let mut spec: SourceSpec = serde_json::from_value(declared)?;
    // What a consumer was given then is that range now.
    spec.cdf_consumer = None;
    spec.cdf = spec.cdf.filter(|_| is_changes).map(|cdf| match &pin.cdf_range {
        Some(range) => CdfOptions {
            starting_version: Some(range.starting_version),
            ending_version: Some(range.ending_version),
            starting_timestamp: None,
            ending_timestamp: None,
            ..cdf
        },
        None => CdfOptions {
            starting_version: pin.version.map(|version| version + 1),
            starting_timestamp: None,
            ending_version: None,
            ending_timestamp: None,
            allow_out_of_range: true,
            ..cdf
        },
    });
    spec.version = spec.version.or(pin.version);
    // What a time meant then is that version now.
    spec.timestamp = spec.timestamp.filter(|_| spec.version.is_none());
    Ok(spec)
}

/// The source over the very files that were pinned, where they still have their names: what has come to a directory or matches a glob
/// since then is not what the run read. `None` where they cannot be named one by one.
fn over_pinned_files(spec: &SourceSpec, pin: &DeltaInputPin, dir: &Path) -> Option<SourceSpec> {
    let SourcePath::One(declared) = &spec.path else { return None };
    // The values of partition columns are told by the way from the directory to its files.
    if pin.kind != InputKind::Files || !spec.partition_columns.is_empty() || dir.join(declared).is_file() {
        return None;
    }
    // A pin calls files as they are called below the directory, or below the part of a glob before its first wildcard.
    let is_fixed = |part: &Component<'_>| !part.as_os_str().as_encoded_bytes().iter().any(|byte| b"*?[".contains(byte));
    let below: PathBuf = match dir.join(declared).is_dir() {
        true => declared.into(),
        false => Path::new(declared).components().take_while(is_fixed).collect(),
    };
    let files = pin.files.iter().map(|file| {
        let file = below.join(&file.path);
        file.to_str().filter(|_| dir.join(&file).is_file()).map(str::to_owned)
    });
    Some(SourceSpec { path: SourcePath::Many(files.collect::<Option<_>>()?), ..spec.clone() })
}

/// The pipeline of a manifest: every view kept as an entry, whatever its policy was, because views give equal rows under each.
fn remembered(manifest: &RunManifest, today: &Project) -> Result<PipelineSpec, serde_json::Error> {
    // Sorted, so that a source whose changes were read too has the declaration of those.
    let sources = manifest.delta_inputs.iter().map(|pin| {
        let (name, _) = source_name(manifest, pin);
        let spec = source(manifest, pin)?;
        Ok((name.to_owned(), over_pinned_files(&spec, pin, today.dir()).unwrap_or(spec)))
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
    use alluvium_contracts::Contract as _;

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
