//! What is left of a run to replay it with: looked at by a replay before it executes anything, and by `doctor` of one run after the
//! other.

use std::collections::{BTreeMap, HashMap};
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use alluvium_contracts::{
    CachePolicy, CdfOptions, DeltaInputPin, InputKind, ReplayCheck, ReplayInput, ReplayInputState, RowsDigest, RunId,
    RunManifest, RunView, SourcePath, SourceSpec, UnreplayableRun, ViewResult,
};
use alluvium_datasets::{Dataset, HashError, PinError};
use alluvium_profile::Session;
use alluvium_write_policy::{ReadError, active_files};
use datafusion::arrow::array::AsArray as _;
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::DataFusionError;
use futures::TryStreamExt as _;

use super::difference::of_input;
use crate::error::{RunError, chain};
use crate::manifest::REDACTED_SPEC;
use crate::pipeline::Pipeline;
use crate::project::CHANGES;

/// Manifests that are in memory at a time.
const BATCH: usize = 64;

/// The rows of a view: their digest and their number.
pub(super) type Rows = (RowsDigest, u64);

/// What is left of a run.
pub(super) struct Remains {
    /// What has become of each input.
    pub(super) inputs: Vec<ReplayInput>,
    /// The views whose rows outlived the run, each with the reason if they are gone by now.
    kept: Vec<(String, Option<String>)>,
}

/// Where the rows of a view are.
pub(super) enum RowsLeft {
    /// In the manifest.
    Digested(Rows),
    /// In the first of these tables, at these versions, that can be read.
    Tables(Vec<(PathBuf, u64)>),
}

/// What was looked at already: runs share inputs and entries.
#[derive(Default)]
pub(super) struct Seen {
    inputs: HashMap<String, ReplayInput>,
    tables: HashMap<(PathBuf, u64), Option<String>>,
}

impl Remains {
    pub(super) fn has_unchanged_inputs(&self) -> bool {
        self.inputs.iter().all(|input| input.state == ReplayInputState::Unchanged)
    }

    /// Whether there is anything to compare a replay with.
    pub(super) fn can_be_compared(&self) -> bool {
        self.kept.iter().any(|(_, lost)| lost.is_none())
    }

    /// Why nothing is left of the rows of a view.
    pub(super) fn why_lost(&self, view: &str) -> String {
        let lost = self.kept.iter().find(|(name, _)| name == view).and_then(|(_, lost)| lost.clone());
        lost.unwrap_or_default()
    }

    /// What the run has lost, one line for each input and each view.
    fn losses(self) -> Vec<String> {
        let changed = self.inputs.into_iter().filter(|input| input.state != ReplayInputState::Unchanged);
        let inputs =
            changed.map(|input| format!("{} is {}: {}", input.name, input.state, input.reason.unwrap_or_default()));
        let views = self.kept.into_iter().filter_map(|(view, lost)| Some(format!("view {view}: {}", lost?)));
        inputs.chain(views).collect()
    }
}

impl Pipeline {
    /// Which runs of this project can no longer be replayed, and why: by the very look that a [replay](Self::replay) takes before it
    /// executes anything, at every input and at the rows to compare with. [Kept](Self::keep_run) runs are looked at first, then the
    /// newest, until the time is up; how many were is told. A run that left no rows had none to lose.
    ///
    /// Runs of other projects on the same cache root are theirs to ask for. A file is read again where its stamp moved.
    ///
    /// # Errors
    /// [`RunError`] when the ledgers cannot be read or no session can be made.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    ///
    /// use alluvium_runs::{OpenOptions, Pipeline, Project, RunOptions, Silent, scaffold};
    ///
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// scaffold(dir.path())?;
    /// let pipeline = Pipeline::open(Project::load(dir.path())?, OpenOptions::default())?;
    /// let (_stop, cancel) = tokio::sync::watch::channel(false);
    /// pipeline.run(RunOptions::default(), &Silent, cancel).await?;
    ///
    /// let (lost, looked) = pipeline.unreplayable_runs(Duration::from_secs(60)).await?;
    /// assert!(lost.is_empty());
    /// assert_eq!((looked.checked_count, looked.unchecked_count), (1, 0));
    /// # Ok(()) }
    /// ```
    pub async fn unreplayable_runs(&self, within: Duration) -> Result<(Vec<UnreplayableRun>, ReplayCheck), RunError> {
        let watch = self.seam.stopwatch();
        let session = self.sessions.build()?;
        let wanted = self.own_runs().await?;
        let (mut lost, mut checked, mut seen) = (Vec::new(), 0, Seen::default());
        'all: for ids in wanted.chunks(BATCH) {
            let quoted = ids.iter().map(|run_id| format!("'{run_id}'")).collect::<Vec<_>>().join(", ");
            let select = format!("select * from alluvium.run_manifests where run_id in ({quoted})");
            let manifests = self.rows_of::<RunManifest>(&select).await?;
            let manifests: BTreeMap<RunId, RunManifest> =
                manifests.into_iter().map(|manifest| (manifest.run_id, manifest)).collect();
            for manifest in ids.iter().filter_map(|run_id| manifests.get(run_id)) {
                let left = within.saturating_sub(watch.elapsed());
                if left.is_zero() {
                    break 'all;
                }
                let Ok(remains) = tokio::time::timeout(left, self.remains(&session, manifest, &mut seen)).await else {
                    break 'all;
                };
                checked += 1;
                let reasons = remains.losses();
                if !reasons.is_empty() {
                    lost.push(UnreplayableRun { run_id: manifest.run_id, reasons });
                }
            }
        }
        let check = ReplayCheck {
            checked_count: checked,
            unchecked_count: (wanted.len() as u64).saturating_sub(checked),
            limit_ms: u64::try_from(within.as_millis()).unwrap_or(u64::MAX),
        };
        Ok((lost, check))
    }

    /// The runs of this project that have a manifest: those that are kept, then the others, the newest first. A manifest that names no
    /// project may be of this one.
    async fn own_runs(&self) -> Result<Vec<RunId>, RunError> {
        let own = self.project_dir().map(|dir| format!(" or project_dir = '{}'", dir.replace('\'', "''")));
        let kept = self.kept_runs()?.iter().map(|run_id| format!("or run_id = '{run_id}' ")).collect::<String>();
        let select = format!(
            "select run_id from alluvium.run_manifests where project_dir is null{} \
             order by (false {kept}) desc, started_unix_ms desc, run_id desc",
            own.unwrap_or_default()
        );
        let answer = self.sql(&select).await?;
        let batches: Vec<_> = answer.batches.try_collect().await.map_err(RunError::execute)?;
        let mut ids = Vec::new();
        for batch in &batches {
            let column = cast(batch.column(0), &DataType::Utf8).map_err(|error| RunError::execute(error.into()))?;
            let texts = column.as_string::<i32>().iter().flatten();
            let read = texts.map(|text| text.parse().map_err(|error| DataFusionError::External(Box::new(error))));
            ids.extend(read.collect::<Result<Vec<RunId>, _>>().map_err(RunError::execute)?);
        }
        Ok(ids)
    }

    /// What is left of a run. Every file of its inputs is read again where its stamp moved.
    pub(super) async fn remains(&self, session: &Session, manifest: &RunManifest, seen: &mut Seen) -> Remains {
        let inputs = self.replay_inputs(session, manifest, seen).await;
        let mut kept = Vec::new();
        for view in manifest.views.iter().filter(|view| is_kept(view, manifest)) {
            kept.push((view.name.clone(), self.lost_rows(manifest, view, seen).await));
        }
        Remains { inputs, kept }
    }

    /// Where the rows are that a run left of a view: as it digested them then, else in tables, the entry's before the outputs'.
    pub(super) fn rows_left(&self, manifest: &RunManifest, view: &RunView) -> RowsLeft {
        let published = || manifest.outputs.iter().filter(|output| output.view == view.name);
        if let Some(rows) = published().find_map(|output| Some((output.content_hash?, output.row_count?))) {
            return RowsLeft::Digested(rows);
        }
        let dir = self.dir_of(manifest);
        let entry = view.cache_path.as_ref().filter(|_| view.cache_policy == CachePolicy::DeltaStaging);
        let entry = entry.map(|path| (self.root.path().join(path), 0));
        let outputs = published().filter_map(|output| Some((dir.join(&output.path), output.delta_version?)));
        RowsLeft::Tables(entry.into_iter().chain(outputs).collect())
    }

    /// Why nothing is left of the rows of a view; none where something is.
    async fn lost_rows(&self, manifest: &RunManifest, view: &RunView, seen: &mut Seen) -> Option<String> {
        let RowsLeft::Tables(tables) = self.rows_left(manifest, view) else { return None };
        let mut missing = Vec::new();
        for (path, version) in tables {
            let table = (path, version);
            let told = match seen.tables.get(&table) {
                Some(told) => told.clone(),
                None => {
                    let told = missing_files(&table.0, version).await;
                    seen.tables.insert(table.clone(), told.clone());
                    told
                }
            };
            missing.push(format!("{}: {}", table.0.display(), told?));
        }
        Some(format!("nothing is left of its rows: {}", missing.join("; ")))
    }

    /// What has become of each input of a run.
    async fn replay_inputs(&self, session: &Session, manifest: &RunManifest, seen: &mut Seen) -> Vec<ReplayInput> {
        let dir = self.dir_of(manifest);
        let mut inputs = Vec::new();
        for pin in &manifest.delta_inputs {
            // What stands in a manifest has a canonical form.
            let asked = serde_json::to_string(&(&dir, pin, declared(manifest, pin))).unwrap_or_default();
            let input = match seen.inputs.get(&asked) {
                Some(input) => input.clone(),
                None => {
                    let input = self.replay_input(session, manifest, pin, &dir).await;
                    seen.inputs.insert(asked, input.clone());
                    input
                }
            };
            inputs.push(input);
        }
        for name in manifest.resolved_specs.keys().filter_map(|name| name.strip_prefix(REDACTED_SPEC)) {
            let reason = "its declaration names credentials, and those are kept nowhere".to_owned();
            let (name, state) = (name.to_owned(), ReplayInputState::Gone);
            inputs.push(ReplayInput { name, state, reason: Some(reason) });
        }
        inputs
    }

    async fn replay_input(
        &self,
        session: &Session,
        manifest: &RunManifest,
        pin: &DeltaInputPin,
        dir: &Path,
    ) -> ReplayInput {
        let told = |state, reason: String| ReplayInput { name: pin.name.clone(), state, reason: Some(reason) };
        let spec = match source(manifest, pin) {
            Ok(spec) => spec,
            Err(error) => return told(ReplayInputState::Gone, format!("its specification cannot be read: {error}")),
        };
        let (name, is_changes) = source_name(manifest, pin);
        if let Some(narrowed) = over_pinned_files(&spec, pin, dir)
            && let Ok(resolved) = Dataset::of_source(name, &narrowed, dir)
            && let Ok(now) = self.pinner.pin(session.context(), &resolved).await
            && now.digest() == pin.pin
        {
            return ReplayInput { name: pin.name.clone(), state: ReplayInputState::Unchanged, reason: None };
        }
        let resolved = match Dataset::of_source(name, &spec, dir) {
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
            Ok(now) if now.digest() == pin.pin => match missing_of(&spec, pin, dir).await {
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
}

/// Views whose rows outlived their run.
pub(super) fn is_kept(view: &RunView, manifest: &RunManifest) -> bool {
    let was_there = !matches!(view.result, ViewResult::Error | ViewResult::Skipped);
    let published = manifest.outputs.iter().any(|output| output.view == view.name && output.delta_version.is_some());
    was_there && (view.cache_path.is_some() || published)
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

async fn missing_of(spec: &SourceSpec, pin: &DeltaInputPin, dir: &Path) -> Option<String> {
    let (SourcePath::One(path), Some(version)) = (&spec.path, pin.version) else {
        return None;
    };
    missing_files(&dir.join(path), version).await
}

/// The source that a pin is of, and whether it is of that source's changes.
pub(super) fn source_name<'p>(manifest: &RunManifest, pin: &'p DeltaInputPin) -> (&'p str, bool) {
    match pin.name.strip_suffix(CHANGES) {
        Some(name) if !manifest.resolved_specs.contains_key(&format!("source {}", pin.name)) => (name, true),
        _ => (&pin.name, false),
    }
}

/// The source as it was declared.
fn declared<'m>(manifest: &'m RunManifest, pin: &DeltaInputPin) -> Option<&'m serde_json::Value> {
    manifest.resolved_specs.get(&format!("source {}", source_name(manifest, pin).0))
}

/// The source as it was declared, at the version that was read.
pub(super) fn source(manifest: &RunManifest, pin: &DeltaInputPin) -> Result<SourceSpec, serde_json::Error> {
    let (_, is_changes) = source_name(manifest, pin);
    let mut spec: SourceSpec = serde_json::from_value(declared(manifest, pin).cloned().unwrap_or_default())?;
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
pub(super) fn over_pinned_files(spec: &SourceSpec, pin: &DeltaInputPin, dir: &Path) -> Option<SourceSpec> {
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
