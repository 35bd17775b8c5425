//! [`Averager`]: a running average, over all processes.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::LockError;
use super::coordination::Shared;
use super::slot::Id;
use crate::collection::{open, seal};
use crate::{CollectionError, ReadTxn, Record, Value};

pub(super) const TOTALS: &str = "coordination_totals";

/// The average of all numbers that any process has added. Made by
/// [`Coordination::averager`](super::Coordination::averager).
///
/// ```
/// use alluvium_disk_kv_cache::{Coordination, Settings};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let temp = tempfile::tempdir()?;
/// let latency = Coordination::open(temp.path(), Settings::new())?.averager("latency");
/// latency.add(0.080)?;
/// latency.add(0.120)?;
/// assert_eq!(latency.get()?, Some(0.1));
/// assert_eq!(latency.pop()?, Some(0.1));
/// assert_eq!(latency.get()?, None);
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct Averager {
    shared: Arc<Shared>,
    id: Id,
}

#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
struct Total {
    sum: f64,
    count: u64,
}

impl Record for Total {
    const TYPE: &'static str = "coordination_total";
    const VERSION: u32 = 1;
}

impl Total {
    fn average(self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / self.count as f64)
    }
}

impl Averager {
    pub(super) fn new(shared: Arc<Shared>, id: Id) -> Averager {
        Averager { shared, id }
    }

    /// Adds a number.
    ///
    /// # Errors
    /// [`LockError::InvalidSetting`] for a number that is not finite, or whose sum with those before is not: then nothing was added.
    /// Others of [`LockError`].
    pub fn add(&self, number: f64) -> Result<(), LockError> {
        let id = self.id.bytes();
        let is_added = self.shared.store.write(|txn| {
            let Total { sum, count } = self.total(txn)?;
            let total = Total { sum: sum + number, count: count + 1 };
            if !total.sum.is_finite() {
                return Ok(false);
            }
            txn.put(TOTALS, id, &seal(id, &total.to_bytes()?))?;
            Ok::<_, CollectionError>(true)
        })?;
        match is_added {
            true => Ok(()),
            false => Err(LockError::InvalidSetting {
                field: "number",
                rule: "finite, and its sum with the numbers before it too: `pop` begins anew",
            }),
        }
    }

    /// The average. `None`: nothing was added.
    ///
    /// # Errors
    /// [`LockError`].
    pub fn get(&self) -> Result<Option<f64>, LockError> {
        Ok(self.shared.store.read(|txn| self.total(txn))?.average())
    }

    /// The average, after which it begins anew.
    ///
    /// # Errors
    /// [`LockError`].
    pub fn pop(&self) -> Result<Option<f64>, LockError> {
        let total = self.shared.store.write(|txn| {
            let total = self.total(txn)?;
            txn.delete(TOTALS, self.id.bytes())?;
            Ok::<_, CollectionError>(total)
        })?;
        Ok(total.average())
    }

    fn total(&self, txn: &ReadTxn<'_>) -> Result<Total, CollectionError> {
        let id = self.id.bytes();
        let Some(sealed) = txn.get(TOTALS, id)? else { return Ok(Total::default()) };
        Ok(Total::from_bytes(open(TOTALS, id, sealed)?)?)
    }
}
