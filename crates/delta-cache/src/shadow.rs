//! Shadow computations: a hit is computed all the same, and its entry has to hold the same rows.
//!
//! Rows are compared by a digest that neither their order nor their spread over files and partitions moves.

use alluvium_contracts::{CacheOperation, Stability};
use alluvium_plans::PlanBundle;
use alluvium_profile::Session;
use alluvium_telemetry::carry;
use alluvium_write_policy::ReadError;
use datafusion::common::runtime::SpawnedTask;
use datafusion::common::{DataFusionError, Result};
use datafusion::physical_plan::SendableRecordBatchStream;
use futures::TryStreamExt as _;
use tracing::Instrument as _;

use crate::cache::{BeforePublish, DeltaCache, compute};
use crate::entry::{DAMAGED, Entry};
use crate::error::CacheError;
use crate::fault::{Fault, is_unreadable};
use crate::materialize;
use crate::operation::Subject;
use crate::output::scan;
use crate::reading::Reading;
use crate::rows_digest::RowsDigester;

/// What a shadow computation came to.
#[must_use]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shadow {
    /// The entry holds the rows that the view has.
    Agrees,
    /// It holds others, and the view is unstable: that is no mistake.
    Unstable,
    /// It holds others though the view is exact, or its record counts others than its files hold: it was set aside. How they
    /// differ.
    Differs(String),
}

/// The class of an exact entry that holds other rows than its view.
const MISMATCH: &str = "shadow_mismatch";

impl DeltaCache {
    /// Computes a view whose `entry` was found, and compares their rows. An exact entry that differs is set aside; and any
    /// whose commit, or whose record in the index, counts other rows than the footers of its files, before anything is computed:
    /// numbers of rows are answered from there.
    ///
    /// # Errors
    /// [`CacheError::Compute`] when the query fails, [`CacheError::SourceChanged`] when `before_publish` finds a source
    /// changed, and [`CacheError::Read`] when the system does not let the entry be read, so that nothing can be said;
    /// [`CacheError::Io`] when the entry cannot be set aside.
    pub async fn shadow(
        &self,
        session: &Session,
        bundle: &PlanBundle,
        entry: &Entry,
        _reading: &Reading,
        before_publish: BeforePublish<'_>,
    ) -> Result<Shadow, CacheError> {
        let subject = Subject::entry(entry);
        let verifying = self.begin(CacheOperation::Verify, &subject);
        match verifying.span().in_scope(|| self.compare_record(entry)) {
            Ok(()) => {}
            Err(Fault::Damaged(damage)) => {
                verifying.error(DAMAGED);
                self.evicting(&subject, Some(entry.size_bytes()), || self.set_aside(entry, &damage))?;
                return Ok(Shadow::Differs(format!("a damaged record: {damage}")));
            }
            Err(Fault::Unreadable(source)) => {
                let error = self.unreadable(entry, source);
                verifying.error(error.kind());
                return Err(error);
            }
        }
        let compared = self.compare_rows(session, bundle, entry, before_publish);
        let differs = match compared.instrument(verifying.span().clone()).await {
            Ok(None) => {
                verifying.ok(Some(entry.size_bytes()));
                return Ok(Shadow::Agrees);
            }
            Ok(Some(_)) if bundle.identity().stability == Stability::Unstable => {
                verifying.ok(Some(entry.size_bytes()));
                return Ok(Shadow::Unstable);
            }
            Ok(Some(differs)) => {
                verifying.error(MISMATCH);
                differs
            }
            Err(error) => {
                verifying.error(error.kind());
                return Err(error);
            }
        };
        self.evicting(&subject, Some(entry.size_bytes()), || self.set_aside(entry, &differs))?;
        Ok(Shadow::Differs(differs))
    }

    /// How the rows of the entry differ from those of the view; none if they do not.
    async fn compare_rows(
        &self,
        session: &Session,
        bundle: &PlanBundle,
        entry: &Entry,
        before_publish: BeforePublish<'_>,
    ) -> Result<Option<String>, CacheError> {
        let schema = bundle.published().arrow();
        let streams =
            materialize::streams(session, bundle.plan(), bundle.published()).await.map_err(compute(bundle.name()))?;
        let computed = rows_of(streams).await.map_err(compute(bundle.name()))?;
        before_publish().map_err(|source| CacheError::SourceChanged { name: bundle.name().to_owned(), source })?;
        let provider = self.provider(entry, schema)?;
        let held = match scan(session, provider.as_ref(), bundle.name()).await {
            Ok(streams) => rows_of(streams).await,
            Err(error) => return Err(error),
        };
        Ok(match held {
            Ok(held) if held.finish() == computed.finish() => None,
            Ok(held) if held.rows() == computed.rows() => {
                Some(format!("{} rows, as its view has, and other values in some", held.rows()))
            }
            Ok(held) => Some(format!("{} rows, where its view has {}", held.rows(), computed.rows())),
            Err(error) if is_unreadable(&error) => {
                let path = entry.table_dir(self.root.path());
                return Err(self.unreadable(entry, ReadError::Io { path, source: std::io::Error::other(error) }));
            }
            Err(error) => Some(format!("its rows cannot be read: {error}")),
        })
    }
}

/// The rows of all streams, which are polled at once: the partitions of a join wait for each other.
async fn rows_of(streams: Vec<SendableRecordBatchStream>) -> Result<RowsDigester> {
    let tasks: Vec<_> = streams.into_iter().map(|stream| SpawnedTask::spawn(carry(rows_of_one(stream)))).collect();
    let mut rows = RowsDigester::default();
    for task in tasks {
        rows.join(&task.join().await.map_err(|error| DataFusionError::ExecutionJoin(Box::new(error)))??);
    }
    Ok(rows)
}

async fn rows_of_one(mut stream: SendableRecordBatchStream) -> Result<RowsDigester> {
    let mut rows = RowsDigester::default();
    while let Some(batch) = stream.try_next().await? {
        rows.update(&batch)?;
    }
    Ok(rows)
}
