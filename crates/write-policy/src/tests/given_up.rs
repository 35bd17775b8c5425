//! Writes that are dropped at any step: each has landed whole or not at all, and no file of it is missing.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use alluvium_contracts::{CheckStatus, SchemaMode, WriteMode};
use alluvium_telemetry::Seam;

use super::*;
use crate::{Maintenance, verify_table};

const BEFORE: [&str; 2] = ["a|1", "b|2"];

/// What is done to a table with the rows of [`BEFORE`], in a file each.
#[derive(Debug, Clone, Copy)]
enum Work {
    Write(WriteMode, SchemaMode),
    Replace,
    Compact,
}

impl Work {
    async fn of(self, table: &Path) {
        let new = vec![batch(&[(Some("b"), 3)])];
        match self {
            Self::Write(mode, schema_mode) => {
                let keys = if mode == WriteMode::Merge { names(&["s"]) } else { Vec::new() };
                land(table, &DeltaWritePolicy { mode, schema_mode, keys, ..DeltaWritePolicy::default() }, new).await;
            }
            Self::Replace => drop(replace(table, Some(1), new).await),
            Self::Compact => drop(Maintenance::begin(table, Seam::system()).unwrap().compact(2).await.unwrap()),
        }
    }

    fn after(self) -> &'static [&'static str] {
        match self {
            Self::Write(WriteMode::Append, _) => &["a|1", "b|2", "b|3"],
            Self::Write(WriteMode::Merge, _) => &["a|1", "b|3"],
            Self::Write(..) | Self::Replace => &["b|3"],
            Self::Compact => &BEFORE,
        }
    }
}

/// A runtime whose end waits for what blocks: a commit that is given up may still be put.
fn in_a_runtime<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

/// Drops `work` after it has waited `steps` times; whether it had ended before.
async fn drop_after(steps: usize, work: impl Future<Output = ()>) -> bool {
    let (mut work, mut waited) = (pin!(work), 0);
    poll_fn(|context| match work.as_mut().poll(context) {
        Poll::Ready(()) => Poll::Ready(true),
        Poll::Pending if waited == steps => Poll::Ready(false),
        Poll::Pending => {
            waited += 1;
            Poll::Pending
        }
    })
    .await
}

#[test]
fn a_write_that_is_given_up_at_any_step_has_landed_whole_or_not_at_all() {
    let works = [
        Work::Write(WriteMode::Append, SchemaMode::Strict),
        Work::Write(WriteMode::Overwrite, SchemaMode::Strict),
        Work::Write(WriteMode::Overwrite, SchemaMode::Overwrite),
        Work::Write(WriteMode::Merge, SchemaMode::Strict),
        Work::Replace,
        Work::Compact,
    ];
    let mut landed = 0;
    for work in works {
        for steps in 0.. {
            let dir = tempfile::tempdir().unwrap();
            let appending = DeltaWritePolicy { mode: WriteMode::Append, ..DeltaWritePolicy::default() };
            in_a_runtime(async {
                land(dir.path(), &appending, vec![batch(&[(Some("a"), 1)])]).await;
                land(dir.path(), &appending, vec![batch(&[(Some("b"), 2)])]).await;
            });
            let ended = in_a_runtime(drop_after(steps, work.of(dir.path())));
            in_a_runtime(async {
                let checks = verify_table(dir.path(), None).await.unwrap().checks;
                let is_sound = checks.iter().all(|check| check.status != CheckStatus::Error);
                assert!(is_sound, "{work:?}, dropped at step {steps}: {checks:?}");
                let has_landed = crate::head_commit(dir.path()).unwrap().unwrap().version == 2;
                let expected = if has_landed { work.after() } else { &BEFORE };
                assert_eq!(rows(dir.path()).await, expected, "{work:?}, dropped at step {steps}");
                landed += usize::from(has_landed && !ended);
            });
            if ended {
                break;
            }
        }
    }
    // Of each alone it is a matter of time whether it waits once more.
    assert!(landed > 0, "nothing was ever dropped between its commit and its end");
}
