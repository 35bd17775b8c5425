//! Which process this is, counted in forks: asked before every transaction, and so without a system call.

use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

/// A process, as told from those it was forked from. Equal in one process from its first call on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Generation(u32);

impl Generation {
    /// The running process. A child made without the C library's `fork` (`clone`, called directly) is not told apart.
    pub(crate) fn current() -> Generation {
        static FORKS: AtomicU32 = AtomicU32::new(0);
        static WATCH: Once = Once::new();
        extern "C" fn in_child() {
            FORKS.fetch_add(1, Ordering::Relaxed);
        }
        WATCH.call_once(|| {
            // SAFETY: the handler does what a child of a multi-threaded process may do: it changes an atomic.
            let refused = unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
            // It fails for want of a few bytes of memory only; forks would go unnoticed then.
            assert_eq!(refused, 0, "no memory for a fork handler");
        });
        Generation(FORKS.load(Ordering::Relaxed))
    }
}
