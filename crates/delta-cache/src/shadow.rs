//! Shadow computations: a hit is computed all the same, and its entry has to hold the same rows.
//!
//! Rows are compared as a multiset: each is hashed, and the hashes are added up, so that neither their order nor their
//! spread over files and partitions counts. Values are compared bit by bit: NaN with NaN, and -0.0 not with 0.0.

use std::sync::Arc;

use alluvium_contracts::{CacheOperation, ContentDigest, Stability};
use alluvium_plans::PlanBundle;
use alluvium_profile::Session;
use alluvium_telemetry::carry;
use arrow::datatypes::SchemaRef;
use arrow::row::{RowConverter, SortField};
use datafusion::common::runtime::SpawnedTask;
use datafusion::common::{DataFusionError, Result};
use datafusion::physical_plan::SendableRecordBatchStream;
use futures::TryStreamExt as _;
use tracing::Instrument as _;

use crate::cache::{BeforePublish, DeltaCache, compute};
use crate::entry::Entry;
use crate::error::CacheError;
use crate::materialize;
use crate::operation::Subject;
use crate::output::scan;
use crate::reading::Reading;

/// What a shadow computation came to.
#[must_use]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shadow {
    /// The entry holds the rows that the view has.
    Agrees,
    /// It holds others, and the view is unstable: that is no mistake.
    Unstable,
    /// It holds others though the view is exact: it was set aside. How they differ.
    Differs(String),
}

/// The class of an exact entry that holds other rows than its view.
const MISMATCH: &str = "shadow_mismatch";

impl DeltaCache {
    /// Computes a view whose `entry` was found, and compares their rows. An exact entry that differs is set aside.
    ///
    /// # Errors
    /// [`CacheError::Compute`] when the query fails, [`CacheError::SourceChanged`] when `before_publish` finds a source
    /// changed, so that nothing can be said; [`CacheError::Io`] when the entry cannot be set aside.
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
        let streams = materialize::streams(session, bundle).await.map_err(compute(bundle.name()))?;
        let computed = rows_of(streams, schema).await.map_err(compute(bundle.name()))?;
        before_publish().map_err(|source| CacheError::SourceChanged { name: bundle.name().to_owned(), source })?;
        let provider = self.provider(entry, schema)?;
        let held = match scan(session, provider.as_ref(), bundle.name()).await {
            Ok(streams) => rows_of(streams, schema).await,
            Err(error) => return Err(error),
        };
        Ok(match held {
            Ok(held) if held == computed => None,
            Ok(held) if held.count == computed.count => {
                Some(format!("{} rows, as its view has, and other values in some", held.count))
            }
            Ok(held) => Some(format!("{} rows, where its view has {}", held.count, computed.count)),
            Err(error) => Some(format!("its rows cannot be read: {error}")),
        })
    }
}

/// Rows without their order: their number, and the sum of their hashes in four lanes that wrap.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Rows {
    count: u64,
    sum: [u64; 4],
}

impl Rows {
    fn add(&mut self, row: &[u8]) {
        self.count += 1;
        let digest = ContentDigest::of(row);
        for (lane, bytes) in self.sum.iter_mut().zip(digest.as_bytes().chunks_exact(8)) {
            let hash = bytes.iter().fold(0_u64, |hash, byte| (hash << 8) | u64::from(*byte));
            *lane = lane.wrapping_add(hash);
        }
    }

    fn join(self, other: Self) -> Self {
        let mut sum = self.sum;
        for (lane, more) in sum.iter_mut().zip(other.sum) {
            *lane = lane.wrapping_add(more);
        }
        Self { count: self.count + other.count, sum }
    }
}

/// The rows of all streams, which are polled at once: the partitions of a join wait for each other.
async fn rows_of(streams: Vec<SendableRecordBatchStream>, schema: &SchemaRef) -> Result<Rows> {
    let tasks: Vec<_> =
        streams.into_iter().map(|stream| SpawnedTask::spawn(carry(rows_of_one(stream, Arc::clone(schema))))).collect();
    let mut rows = Rows::default();
    for task in tasks {
        rows = rows.join(task.join().await.map_err(|error| DataFusionError::ExecutionJoin(Box::new(error)))??);
    }
    Ok(rows)
}

async fn rows_of_one(mut stream: SendableRecordBatchStream, schema: SchemaRef) -> Result<Rows> {
    let fields = schema.fields().iter().map(|field| SortField::new(field.data_type().clone()));
    let converter = RowConverter::new(fields.collect())?;
    let mut rows = Rows::default();
    while let Some(batch) = stream.try_next().await? {
        if schema.fields().is_empty() {
            (0..batch.num_rows()).for_each(|_| rows.add(&[]));
            continue;
        }
        let encoded = converter.convert_columns(batch.columns())?;
        encoded.iter().for_each(|row| rows.add(row.data()));
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(rows: &[&[u8]]) -> Rows {
        let mut all = Rows::default();
        rows.iter().for_each(|row| all.add(row));
        all
    }

    #[test]
    fn neither_order_nor_spread_counts_and_every_copy_does() {
        let whole = rows(&[b"a", b"b", b"b"]);
        assert_eq!(rows(&[b"b", b"a", b"b"]), whole);
        assert_eq!(rows(&[b"b"]).join(rows(&[b"b", b"a"])), whole);
        assert_ne!(rows(&[b"a", b"a", b"b"]), whole);
        assert_ne!(rows(&[b"a", b"b"]), whole);
    }
}
