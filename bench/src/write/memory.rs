//! The resident memory of this process, as Linux tells it.

use anyhow::{Context, Result};

/// Bytes that are resident now, or the most there ever were since the last [`reset_peak`].
pub struct Resident {
    /// Now.
    pub now_bytes: u64,
    /// At most.
    pub peak_bytes: u64,
}

/// Reads both.
pub fn resident() -> Result<Resident> {
    let status = std::fs::read_to_string("/proc/self/status").context("memory is measured on Linux only")?;
    let of = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key))?;
        line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib * 1024)
    };
    Ok(Resident {
        now_bytes: of("VmRSS:").context("no VmRSS in /proc/self/status")?,
        peak_bytes: of("VmHWM:").context("no VmHWM in /proc/self/status")?,
    })
}

/// Forgets the peak. Where the kernel does not allow it, the peak is that of the whole process: never too small.
pub fn reset_peak() {
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}
