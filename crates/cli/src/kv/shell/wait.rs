//! Waiting, with a limit, for as long as somebody reads the answers.

use std::io;
use std::time::Duration;

use alluvium_disk_kv_cache::{Clock, SystemClock};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::kv::fault::{Fault, kind};

/// How long one attempt waits: then whoever asked is looked for.
const SLICE: Duration = Duration::from_millis(100);

/// Makes attempts until something comes of one or `patience` is over. Each is given the time that it may wait, which is 0
/// for the last one. Ends early, with a fault, when nobody reads the answers any more: a shell whose caller died must
/// not keep its locks until the wait is over.
pub fn wait<T>(
    patience: Duration,
    mut attempt: impl FnMut(Duration) -> Result<Option<T>, Fault>,
) -> Result<Option<T>, Fault> {
    let begun = SystemClock.monotonic();
    loop {
        let left = patience.saturating_sub(SystemClock.monotonic().saturating_sub(begun));
        let got = attempt(left.min(SLICE))?;
        if got.is_some() || left.is_zero() {
            return Ok(got);
        }
        if !has_reader() {
            return Err(Fault::new(kind::ABANDONED, "nobody reads the answers any more"));
        }
    }
}

/// Whether someone still has the other end of standard output. What is no pipe, terminal or socket always has a reader.
fn has_reader() -> bool {
    let stdout = io::stdout();
    let mut ends = [PollFd::new(&stdout, PollFlags::empty())];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    match poll(&mut ends, Some(&at_once)) {
        Ok(_) => !ends[0].revents().intersects(PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL),
        // It could not be told: waiting on is what was asked for.
        Err(_) => true,
    }
}
