//! The turn of a publication: the lease on the output, and a look at what its table holds by then.

use alluvium_contracts::CacheOperation;
use alluvium_plans::PlanBundle;
use alluvium_write_policy::ResolvedWritePolicy;

use super::target::resource;
use super::{Found, OutputTarget, PublishRequest, Published};
use crate::cache::DeltaCache;
use crate::error::CacheError;
use crate::lease::Lease;
use crate::unstable_rows::UnstableRows;

/// What a publication meets.
pub(super) enum Sight {
    /// The version to be replaced; none for a new table.
    Stale(Option<u64>),
    /// The table holds the view.
    Held(Box<Published>),
}

/// What a publication begins with.
pub(super) struct Leased {
    pub(super) lease: Lease,
    pub(super) policy: ResolvedWritePolicy,
    /// The version that is replaced though it holds the view.
    pub(super) replaced: Option<u64>,
}

impl DeltaCache {
    /// Takes the lease on the output, and looks again: whoever held it may have published.
    pub(super) async fn output_turn(&self, request: &PublishRequest<'_>) -> Result<(Leased, Sight), CacheError> {
        let PublishRequest { target, bundle, readers, fresh, unstable_rows, .. } = request;
        let policy = self.resolve(target, bundle, readers)?;
        // A fresh publication replaces what was there when it was asked for, and takes what is newer than that.
        let replaced = if *fresh { self.head_version(target)? } else { None };
        let lease = self.lease(&resource(target), &target.subject(bundle)).await?;
        let sight = self.sight(target, bundle, unstable_rows, replaced).await?;
        Ok((Leased { lease, policy, replaced }, sight))
    }

    pub(super) async fn sight(
        &self,
        target: &OutputTarget,
        bundle: &PlanBundle,
        unstable_rows: &UnstableRows,
        replaced: Option<u64>,
    ) -> Result<Sight, CacheError> {
        let watch = self.seam.stopwatch();
        Ok(match self.look(target, bundle).await? {
            Found::Current(version) if Some(version.version) == replaced => Sight::Stale(replaced),
            Found::Current(version) if version.unstable_rows != *unstable_rows => Sight::Stale(Some(version.version)),
            // The same lookup again counts only where it has another answer.
            Found::Current(version) => {
                let reading = self.begin(CacheOperation::Read, &target.subject(bundle)).since(watch);
                Sight::Held(Box::new(version.published(reading.hit(None))))
            }
            Found::Foreign { version } => {
                let (output, path) = (target.name.clone(), target.path.clone());
                return Err(CacheError::ForeignCommit { output, path, version });
            }
            Found::Stale { head, .. } => Sight::Stale(head),
        })
    }
}
