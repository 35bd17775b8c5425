//! The pauses between the attempts of a write that others were faster than.

use std::time::Duration;

use crate::files::StagedFiles;

/// How long to wait before the next attempt: up to 64 ms, and differently for each writer, whose file names are random.
pub(crate) fn pause(staged: &StagedFiles, attempt: u32) -> Duration {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&std::process::id().to_le_bytes());
    if let Some(file) = staged.files.first() {
        hasher.update(file.path.as_bytes());
    }
    hasher.update(&attempt.to_le_bytes());
    let random = u64::from(hasher.finalize().as_bytes()[0]);
    let ceiling = 1_u64 << attempt.min(6);
    Duration::from_micros(random * ceiling * 1_000 / 256)
}
