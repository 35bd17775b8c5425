//! `alluvium kv`: a cache of `alluvium-disk-kv-cache`, by hand or by script.

use crate::exit::Exit;
use crate::failure::Failure;
use crate::kv::{self, args::KvArgs};
use crate::signals::Stop;
use crate::terminal::Terminal;

/// Does what was asked, unless a signal comes first: every write is a transaction, and the kernel frees what the process
/// had locked, so there is nothing to tidy up.
pub fn kv(args: KvArgs, terminal: &Terminal) -> Result<Exit, Failure> {
    let cannot_start = |error| Failure::failed("cannot start a worker thread".to_owned()).because(error);
    let runtime = tokio::runtime::Builder::new_current_thread().build().map_err(cannot_start)?;
    let stop = Stop::listen(terminal)
        .map_err(|error| Failure::failed("cannot listen for signals".to_owned()).because(error))?;
    let work = {
        let terminal = terminal.clone();
        runtime.spawn_blocking(move || kv::execute(args, &terminal))
    };
    let done = runtime.block_on(stop.or(work));
    // The worker may be waiting for a line or a lock; nothing waits for it.
    runtime.shutdown_background();
    match done.map_err(Failure::stopped)? {
        Ok(exit) => exit,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
