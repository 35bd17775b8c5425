//! Outputs: views published as Delta tables that others read.
//!
//! An output is up to date only if the head of its table is a commit of ours with the view's key and layout, and the
//! files that it names are there. It is replaced by compare-and-swap on the version that was seen; whoever loses the
//! race looks again before it tries again.

mod files;
mod target;
mod turn;

use std::collections::BTreeMap;
use std::sync::Arc;

use alluvium_contracts::{
    ArtifactId, CacheCommitMetadata, CacheKey, CacheOperation, CacheOutcome, CachePolicy, CacheScope,
    DeltaStatsDecision, ForeignCommit, LineageSummary, LookupResult, MissExplanation, RunId, WriteReport,
};
use alluvium_plans::{PlanBundle, explain};
use alluvium_profile::Session;
use alluvium_write_policy::{
    CommitOutcome, Committed, ReaderColumn, ResolvedWritePolicy, WriteOverrides, commit_replace, head_commit,
    pending_stats, report_committed, write_files_with,
};
use arrow::datatypes::SchemaRef;
use datafusion::catalog::TableProvider;
use datafusion::physical_plan::SendableRecordBatchStream;
use fail::fail_point;
use tracing::Instrument as _;

use crate::cache::{BeforePublish, DeltaCache, compute};
use crate::entry::EntryFile;
use crate::error::CacheError;
use crate::index::{Latest, OutputRow, row_of_output};
use crate::materialize;
use crate::operation::traceparent;
use crate::rows_digest::digested;
use crate::unstable_rows::UnstableRows;
use crate::write::stamped;

use target::{app_id, resource, row_key};
use turn::{Leased, Sight};

pub use target::OutputTarget;

/// How often a publication is tried against others that commit at the same time.
const ATTEMPTS: u32 = 5;

/// What to publish, and on whose behalf.
#[derive(Debug, Clone)]
pub struct PublishRequest<'a> {
    /// The output.
    pub target: &'a OutputTarget,
    /// Its view.
    pub bundle: &'a PlanBundle,
    /// What scans the view's rows. Without it the view is computed into the output directly.
    pub source: Option<Arc<dyn TableProvider>>,
    /// What the views that read this one do with its columns: those get statistics. No part of what makes an output stale.
    pub readers: Vec<LineageSummary>,
    /// The run.
    pub run_id: RunId,
    /// Publish even if the table holds the view already.
    pub fresh: bool,
    /// Which rows of unstable views it publishes, or computes from: a table that holds others does not hold the view.
    pub unstable_rows: UnstableRows,
}

/// What an output's table holds, compared with what it should.
#[must_use]
#[derive(Debug, Clone)]
pub enum OutputState {
    /// Up to date.
    Hit(Box<Published>),
    /// To be published.
    Stale {
        /// Why.
        reason: String,
        /// The version at the head; none when there is no table.
        head: Option<u64>,
        /// What of its view changed, where the output is the view's entry and this root has seen what the table holds.
        explanation: Option<Box<MissExplanation>>,
    },
    /// The head is somebody else's commit, and the target says that this is an error.
    Foreign {
        /// The version at the head.
        version: u64,
    },
}

/// A published version of an output.
#[derive(Debug, Clone)]
pub struct Published {
    /// The table's version.
    pub version: u64,
    /// Its rows, where known.
    pub row_count: Option<u64>,
    /// How long the content took to compute, where known.
    pub compute_ms: Option<f64>,
    /// The document of the plan that computed it, as its commit names it.
    pub plan_artifact_id: Option<ArtifactId>,
    /// The run that committed it.
    pub run_id: RunId,
    /// The token of the lease under which it was committed, as its commit says it.
    pub fencing_token: Option<u64>,
    /// Which rows of unstable views it holds, or was computed from.
    pub unstable_rows: UnstableRows,
    /// Bytes in its files.
    pub size_bytes: u64,
    /// How the operation ended that found or committed it, for the ledger.
    pub outcome: CacheOutcome,
    /// What its publication left; none where it was found, or could not be read back.
    pub report: Option<Arc<PublicationReport>>,
    files: Vec<EntryFile>,
}

/// What a publication left.
#[derive(Debug, Clone)]
pub struct PublicationReport {
    /// What was asked for beside what is there, read back from log, protocol and footers.
    pub write: WriteReport,
    /// Which columns got statistics, and why.
    pub statistics: DeltaStatsDecision,
}

/// A version whose operation is still under way.
struct Version {
    version: u64,
    row_count: Option<u64>,
    compute_ms: Option<f64>,
    plan_artifact_id: Option<ArtifactId>,
    run_id: RunId,
    fencing_token: Option<u64>,
    unstable_rows: UnstableRows,
    report: Option<Arc<PublicationReport>>,
    files: Vec<EntryFile>,
}

impl Version {
    fn size_bytes(&self) -> u64 {
        self.files.iter().map(|file| file.stamp.size_bytes).sum()
    }

    fn published(self, outcome: CacheOutcome) -> Published {
        let size_bytes = self.size_bytes();
        Published {
            version: self.version,
            row_count: self.row_count,
            compute_ms: self.compute_ms,
            plan_artifact_id: self.plan_artifact_id,
            run_id: self.run_id,
            fencing_token: self.fencing_token,
            unstable_rows: self.unstable_rows,
            size_bytes,
            outcome,
            report: self.report,
            files: self.files,
        }
    }
}

/// What a look at an output found.
enum Found {
    Current(Version),
    /// With the key that the table holds, if the view's is another by now.
    Stale {
        reason: String,
        head: Option<u64>,
        held: Option<CacheKey>,
    },
    Foreign {
        version: u64,
    },
}

impl Published {
    /// Whether the call that returned this committed it.
    #[must_use]
    pub fn is_written(&self) -> bool {
        self.outcome.operation == CacheOperation::Write
    }

    /// Data files in the table.
    #[must_use]
    pub fn file_count(&self) -> u64 {
        self.files.len() as u64
    }
}

impl DeltaCache {
    /// Compares an output's table with what it should hold: one directory listing, one commit file and the stat of its
    /// data files.
    ///
    /// # Errors
    /// [`CacheError::Policy`] when the policy does not fit the view's columns, [`CacheError::Read`] when the table's log
    /// cannot be read.
    pub async fn output_state(&self, target: &OutputTarget, bundle: &PlanBundle) -> Result<OutputState, CacheError> {
        let reading = self.begin(CacheOperation::Read, &target.subject(bundle));
        Ok(match self.look(target, bundle).instrument(reading.span().clone()).await {
            Ok(Found::Current(version)) => OutputState::Hit(Box::new(version.published(reading.hit(None)))),
            Ok(Found::Stale { reason, head, held }) => {
                reading.miss();
                let explanation = held.map(|held| self.difference_from(target, bundle, held)).transpose()?.flatten();
                OutputState::Stale { reason, head, explanation }
            }
            Ok(Found::Foreign { version }) => {
                reading.miss();
                OutputState::Foreign { version }
            }
            Err(error) => {
                reading.error(error.kind());
                return Err(error);
            }
        })
    }

    /// The columns of an output that get statistics for its `readers` when it is next published, and have none yet.
    ///
    /// # Errors
    /// [`CacheError::Policy`] when the policy does not fit the view's columns, [`CacheError::Read`] when the table's log
    /// cannot be read.
    pub async fn pending_statistics(
        &self,
        target: &OutputTarget,
        bundle: &PlanBundle,
        readers: &[LineageSummary],
    ) -> Result<Vec<String>, CacheError> {
        let policy = self.resolve(target, bundle, readers)?;
        let decision = pending_stats(&target.path, &policy).await.map_err(self.read(target))?;
        Ok(decision.pending_columns)
    }

    /// Publishes a view as the next version of the output, unless its table holds it already.
    ///
    /// # Errors
    /// [`CacheError::ForeignCommit`] when the head is not ours, [`CacheError::SourceChanged`] when `before_publish` finds
    /// a source changed, [`CacheError::Contended`] when others kept committing. The last good version stays the head.
    pub async fn publish(
        &self,
        session: &Session,
        request: PublishRequest<'_>,
        before_publish: BeforePublish<'_>,
    ) -> Result<Published, CacheError> {
        let subject = request.target.subject(request.bundle);
        let watch = self.seam.stopwatch();
        let turn = self.output_turn(&request).await.inspect_err(|error| {
            self.begin(CacheOperation::Write, &subject).since(watch).error(error.kind());
        });
        // Waiting for the lease is no part of a write: whoever held it may have published, and then there is none.
        let (leased, head) = match turn? {
            (leased, Sight::Stale(head)) => (leased, head),
            (_, Sight::Held(published)) => return Ok(*published),
        };
        let writing = self.begin(CacheOperation::Write, &subject);
        let published = self.publish_under_lease(session, request, leased, head, before_publish);
        match published.instrument(writing.span().clone()).await {
            Ok(Ok(version)) => {
                let bytes = version.size_bytes();
                Ok(version.published(writing.ok(Some(bytes))))
            }
            // Another root's commit of the same came first: what was written is lost.
            Ok(Err(published)) => {
                writing.error("contended");
                Ok(published)
            }
            Err(error) => {
                writing.error(error.kind());
                Err(error)
            }
        }
    }

    /// What scans a published version of the output.
    ///
    /// # Errors
    /// [`CacheError::Scan`] when its files do not fit `schema`.
    pub fn output_provider(
        &self,
        target: &OutputTarget,
        published: &Published,
        schema: &SchemaRef,
    ) -> Result<Arc<dyn TableProvider>, CacheError> {
        let partitions = target.policy.partition_by.clone();
        self.files_provider(&target.name, &target.path, &published.files, partitions, schema)
    }

    async fn look(&self, target: &OutputTarget, bundle: &PlanBundle) -> Result<Found, CacheError> {
        let policy = self.resolve(target, bundle, &[])?;
        let stale = |reason: String, head| Ok(Found::Stale { reason, head, held: None });
        let Some(head) = head_commit(&target.path).map_err(self.read(target))? else {
            return stale("first publication".to_owned(), None);
        };
        let version = head.version;
        let ours = CacheCommitMetadata::from_commit_info(&head.commit_info)
            .ok()
            .flatten()
            .filter(|metadata| metadata.cache_scope == CacheScope::Output && metadata.name == target.name);
        let Some(ours) = ours else {
            return match target.foreign_commit {
                ForeignCommit::Error => Ok(Found::Foreign { version }),
                ForeignCommit::Overwrite => {
                    stale(format!("version {version} was committed by somebody else"), Some(version))
                }
            };
        };
        let Some(key) = bundle.cache_key() else {
            return stale("its view is uncacheable".to_owned(), Some(version));
        };
        if ours.cache_key != Some(key) {
            let reason = "its view changed".to_owned();
            return Ok(Found::Stale { reason, head: Some(version), held: ours.cache_key });
        }
        if ours.layout_hash != Some(policy.layout_hash()) {
            return stale("its write policy changed".to_owned(), Some(version));
        }
        match self.output_files(target, version, &ours, bundle).await? {
            Ok(files) => Ok(Found::Current(Version {
                version,
                row_count: ours.row_count,
                compute_ms: ours.compute_ms,
                plan_artifact_id: ours.artifact_ids.first().copied(),
                run_id: ours.run_id,
                fencing_token: ours.fencing_token,
                unstable_rows: ours.unstable_rows,
                report: None,
                files,
            })),
            Err(damage) => {
                self.notice(format!("output `{}` was damaged ({damage}); it is published anew", target.name));
                stale(format!("it was damaged: {damage}"), Some(version))
            }
        }
    }

    /// What differs from the identity under which the output was published, where it is the view's entry and that is remembered.
    fn difference_from(
        &self,
        target: &OutputTarget,
        bundle: &PlanBundle,
        held: CacheKey,
    ) -> Result<Option<Box<MissExplanation>>, CacheError> {
        if !target.is_entry {
            return Ok(None);
        }
        let latest = self.index.latest(&row_of_output(bundle.name()))?;
        let earlier = latest.iter().find(|latest| latest.key == held).map(Latest::earlier);
        let explained =
            earlier.map(|earlier| explain([earlier], bundle.cache_key(), bundle.components(), || bundle.outline()));
        Ok(explained.filter(|explanation| !explanation.changes.is_empty()).map(Box::new))
    }

    /// The version that was written; or what holds the view by now, where somebody else's commit came first.
    async fn publish_under_lease(
        &self,
        session: &Session,
        request: PublishRequest<'_>,
        Leased { lease, policy, replaced }: Leased,
        mut head: Option<u64>,
        before_publish: BeforePublish<'_>,
    ) -> Result<Result<Version, Published>, CacheError> {
        let PublishRequest { target, bundle, source, run_id, unstable_rows, .. } = request;
        let schema = Arc::clone(bundle.published().arrow());
        for _ in 0..ATTEMPTS {
            let watch = self.seam.stopwatch();
            let streams = match &source {
                Some(source) => scan(session, source.as_ref(), bundle.name()).await?,
                None => materialize::streams(session, bundle.plan(), bundle.published())
                    .await
                    .map_err(compute(bundle.name()))?,
            };
            let (streams, digests) = digested(streams);
            let task = session.context().task_ctx();
            let staged = write_files_with(&target.path, Arc::clone(&schema), streams, &policy, &task)
                .await
                .map_err(|source| CacheError::writing(&target.name, &target.path, source))?;
            fail_point!("output.files.written");
            if let Err(source) = before_publish() {
                self.discard(target, staged.files());
                return Err(CacheError::SourceChanged { name: target.name.clone(), source });
            }
            let compute_ms = watch.elapsed_ms();
            let row_count = staged.row_count();
            let metadata = CacheCommitMetadata {
                row_count: Some(staged.row_count()),
                content_hash: digests.finish(),
                compute_ms: Some(compute_ms),
                unstable_rows: unstable_rows.clone(),
                ..metadata(target, bundle, &policy, run_id, lease.token)
            };
            fail_point!("output.commit.before");
            let outcome = commit_replace(
                &target.path,
                head,
                Arc::clone(&schema),
                staged,
                &policy,
                &metadata.to_map(),
                Some((&app_id(target), i64::try_from(lease.token).unwrap_or(i64::MAX))),
            )
            .await
            .map_err(|source| CacheError::Commit {
                name: target.name.clone(),
                path: target.path.clone(),
                source,
            })?;
            fail_point!("output.commit.after");
            let committed = match outcome {
                CommitOutcome::Committed(committed) => committed,
                CommitOutcome::Conflict { .. } => match self.sight(target, bundle, &unstable_rows, replaced).await? {
                    // Whoever has taken the lease over knows what the view is by now; this one no longer does.
                    Sight::Stale(_) if self.index.tenure(&resource(target))?.token != lease.token => {
                        return Err(CacheError::Superseded { name: target.name.clone() });
                    }
                    Sight::Stale(newer) => {
                        head = newer;
                        continue;
                    }
                    Sight::Held(published) => return Ok(Err(*published)),
                },
            };
            let files = stamped(&target.path, &committed.files)?;
            let row = OutputRow {
                version: committed.version,
                run_id,
                fencing_token: Some(lease.token),
                files: files.clone(),
            };
            // The table is the truth; a lease that was taken over meanwhile only loses this record of it.
            let identity = target.identity(bundle);
            let _ = self.index.publish_output(&row_key(target), &resource(target), lease.token, &row, identity)?;
            fail_point!("output.published");
            // Others need not wait until it is read back.
            drop(lease);
            let report = self.report(target, run_id, &policy, (head, &committed), compute_ms).await;
            return Ok(Ok(Version {
                version: committed.version,
                row_count: Some(row_count),
                compute_ms: Some(compute_ms),
                plan_artifact_id: metadata.artifact_ids.first().copied(),
                run_id,
                fencing_token: metadata.fencing_token,
                unstable_rows: metadata.unstable_rows,
                report,
                files,
            }));
        }
        Err(CacheError::Contended { output: target.name.clone(), attempts: ATTEMPTS })
    }

    /// What a publication over `base` left. One that cannot be read back has no report, and stands.
    async fn report(
        &self,
        target: &OutputTarget,
        run_id: RunId,
        policy: &ResolvedWritePolicy,
        (base, committed): (Option<u64>, &Committed),
        duration_ms: f64,
    ) -> Option<Arc<PublicationReport>> {
        let name = || Some(target.name.clone());
        let statistics =
            DeltaStatsDecision { dataset_name: target.name.clone(), run_id: Some(run_id), ..policy.stats().clone() };
        match report_committed(&target.path, policy, committed, base).await {
            Ok(mut write) => {
                (write.dataset_name, write.protocol.dataset_name, write.run_id) = (name(), name(), Some(run_id));
                (write.table_path, write.duration_ms) = (target.declared_path.clone(), duration_ms);
                write.attempt_count = 1;
                Some(Arc::new(PublicationReport { write, statistics }))
            }
            Err(error) => {
                self.notice(format!(
                    "version {} of output `{}` is published, and could not be read back: {error}",
                    committed.version, target.name
                ));
                None
            }
        }
    }

    fn head_version(&self, target: &OutputTarget) -> Result<Option<u64>, CacheError> {
        Ok(head_commit(&target.path).map_err(self.read(target))?.map(|head| head.version))
    }

    fn discard(&self, target: &OutputTarget, files: &[alluvium_write_policy::DataFile]) {
        for file in files {
            let _ = std::fs::remove_file(target.path.join(&file.path));
        }
    }

    fn resolve(
        &self,
        target: &OutputTarget,
        bundle: &PlanBundle,
        readers: &[LineageSummary],
    ) -> Result<ResolvedWritePolicy, CacheError> {
        let read = ReaderColumn::of(bundle.name(), readers);
        let schema = bundle.published().arrow();
        let resolved = ResolvedWritePolicy::resolve_with(&target.policy, schema, &read, &WriteOverrides::default());
        resolved
            .and_then(|policy| policy.check_replaces().map(|()| policy))
            .map_err(|source| CacheError::Policy { output: target.name.clone(), source })
    }

    fn read(&self, target: &OutputTarget) -> impl FnOnce(alluvium_write_policy::ReadError) -> CacheError {
        let path = target.path.clone();
        move |source| CacheError::Read { path, source }
    }
}

pub(crate) async fn scan(
    session: &Session,
    source: &dyn TableProvider,
    view: &str,
) -> Result<Vec<SendableRecordBatchStream>, CacheError> {
    let state = session.context().state();
    let exec = source.scan(&state, None, &[], None).await.map_err(compute(view))?;
    session.execute_partitioned(exec).map_err(compute(view))
}

fn metadata(
    target: &OutputTarget,
    bundle: &PlanBundle,
    policy: &ResolvedWritePolicy,
    run_id: RunId,
    token: u64,
) -> CacheCommitMetadata {
    CacheCommitMetadata {
        cache_operation: CacheOperation::Write,
        cache_scope: CacheScope::Output,
        cache_policy: CachePolicy::DeltaOutput,
        cache_result: LookupResult::Ok,
        name: target.name.clone(),
        run_id,
        cache_key: bundle.cache_key(),
        schema_hash: Some(bundle.published().hash()),
        plan_hash: Some(bundle.identity().plan_fingerprint),
        layout_hash: Some(policy.layout_hash()),
        delta_inputs: bundle.inputs().to_vec(),
        artifact_ids: bundle.artifact_id().into_iter().collect(),
        fencing_token: Some(token),
        traceparent: traceparent(),
        row_count: None,
        content_hash: None,
        compute_ms: None,
        stability: Some(bundle.identity().stability),
        components: BTreeMap::new(),
        unstable_rows: UnstableRows::new(),
        tags: Vec::new(),
    }
}
