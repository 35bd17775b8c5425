//! Signals: the first asks the work to stop cleanly, the second ends the process.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::terminal::Terminal;

/// A signal that asks the process to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// SIGINT: Ctrl-C.
    Interrupt,
    /// SIGTERM: a supervisor.
    Terminate,
}

impl Signal {
    /// 128 + the signal's number, as shells count.
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Interrupt => 130,
            Self::Terminate => 143,
        }
    }

    fn from_exit_code(code: u8) -> Option<Self> {
        [Self::Interrupt, Self::Terminate].into_iter().find(|signal| signal.exit_code() == code)
    }
}

/// Whether, and by which signal, the process was asked to stop.
#[derive(Clone)]
pub struct Stop {
    asked: watch::Receiver<bool>,
    /// The exit code of the first signal; 0 before it.
    first: Arc<AtomicU8>,
}

impl Stop {
    /// Listens from now on, on a thread of its own: the runtime's workers may all be busy computing.
    pub fn listen(terminal: &Terminal) -> io::Result<Self> {
        let (sender, asked) = watch::channel(false);
        let first = Arc::new(AtomicU8::new(0));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        // Registered here, so that a signal sent right after this call is not the default one any more.
        let (mut interrupts, mut terminations) = {
            let _inside = runtime.enter();
            (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
        };
        let stop = Self { asked, first: Arc::clone(&first) };
        let terminal = terminal.clone();
        std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
            runtime.block_on(async move {
                loop {
                    let signal = tokio::select! {
                        Some(()) = interrupts.recv() => Signal::Interrupt,
                        Some(()) = terminations.recv() => Signal::Terminate,
                        else => return,
                    };
                    if first.compare_exchange(0, signal.exit_code(), Ordering::SeqCst, Ordering::SeqCst).is_err() {
                        std::process::exit(signal.exit_code().into());
                    }
                    terminal.line("stopping cleanly; once more to stop at once");
                    sender.send_replace(true);
                }
            });
        })?;
        Ok(stop)
    }

    /// The token that work watches: `true` once it should stop.
    pub fn token(&self) -> watch::Receiver<bool> {
        self.asked.clone()
    }

    /// The first signal, if one came.
    pub fn signal(&self) -> Option<Signal> {
        Signal::from_exit_code(self.first.load(Ordering::SeqCst))
    }

    /// Does `work`, which has nothing to tidy up, unless a signal comes first: then it is dropped.
    pub async fn or<T>(&self, work: impl Future<Output = T>) -> Result<T, Signal> {
        let mut asked = self.token();
        let asked = async {
            // An error means that nobody listens any more: then no signal will ever come.
            if asked.wait_for(|asked| *asked).await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            biased;
            () = asked => Err(self.signal().unwrap_or(Signal::Interrupt)),
            done = work => Ok(done),
        }
    }
}
