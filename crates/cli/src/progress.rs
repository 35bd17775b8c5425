//! The progress of a run on standard error: a live display for a person who watches, plain lines for everyone else.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use alluvium_contracts::{OutputResult, ViewResult};
use alluvium_runs::{Observer, Progress, Silent};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::human;
use crate::report;
use crate::terminal::Terminal;

/// A way to show progress.
pub trait Show {
    /// What the run reports to.
    fn observer(&self) -> &dyn Observer;

    /// Takes away what is not meant to stay.
    fn end(&self);
}

/// Nothing at all.
pub struct Nothing;

impl Show for Nothing {
    fn observer(&self) -> &dyn Observer {
        &Silent
    }

    fn end(&self) {}
}

/// One line for each finished view and output.
pub struct Lines {
    terminal: Terminal,
    count: Mutex<Count>,
}

#[derive(Default)]
struct Count {
    done: usize,
    views: usize,
}

impl Lines {
    /// Lines on standard error.
    pub fn new(terminal: &Terminal) -> Self {
        Self { terminal: terminal.clone(), count: Mutex::default() }
    }
}

impl Observer for Lines {
    fn notify(&self, progress: &Progress) {
        let mut count = lock(&self.count);
        match progress {
            Progress::RunStarted { run_id, views } => {
                count.views = views.len();
                self.terminal.line(&format!("run {run_id}: {}", human::plural(views.len(), "view")));
            }
            Progress::ViewStarted { .. } => {}
            Progress::ViewFinished(view) => {
                count.done += 1;
                let line = report::view_line(view);
                self.terminal.line(&format!("[{}/{}] {line}", count.done, count.views));
            }
            Progress::OutputFinished(output) => self.terminal.line(&report::output_line(output)),
            // A later step that this display knows nothing of.
            _ => {}
        }
    }
}

impl Show for Lines {
    fn observer(&self) -> &dyn Observer {
        self
    }

    fn end(&self) {}
}

/// A bar for the run, and a line with a clock for each view that is being computed.
pub struct Live {
    terminal: Terminal,
    state: Mutex<Option<Bars>>,
}

struct Bars {
    display: MultiProgress,
    run: ProgressBar,
    views: HashMap<String, ProgressBar>,
}

/// How often the clocks move.
const TICK: Duration = Duration::from_millis(100);

impl Live {
    /// A display on standard error, shown from the start of the run on.
    pub fn new(terminal: &Terminal) -> Self {
        Self { terminal: terminal.clone(), state: Mutex::default() }
    }
}

impl Observer for Live {
    fn notify(&self, progress: &Progress) {
        let mut state = lock(&self.state);
        match progress {
            Progress::RunStarted { views, .. } => {
                *state = Some(Bars::new(&self.terminal, views.len()));
            }
            Progress::ViewStarted { name } => {
                if let Some(bars) = state.as_mut() {
                    bars.start(name);
                }
            }
            Progress::ViewFinished(view) => {
                if let Some(bars) = state.as_mut() {
                    bars.finish(&view.name);
                }
                // An error is worth more than a cell of the final table.
                if view.result == ViewResult::Error {
                    self.terminal.line(&report::view_line(view));
                }
            }
            Progress::OutputFinished(output) if output.result == OutputResult::Error => {
                self.terminal.line(&report::output_line(output));
            }
            // What stays is told by the report.
            _ => {}
        }
    }
}

impl Show for Live {
    fn observer(&self) -> &dyn Observer {
        self
    }

    fn end(&self) {
        if let Some(bars) = lock(&self.state).take() {
            bars.end();
        }
    }
}

impl Bars {
    fn new(terminal: &Terminal, views: usize) -> Self {
        let display = terminal.show_display().clone();
        let run =
            display.add(ProgressBar::new(views as u64).with_style(style("{bar:24} {pos}/{len} views  {elapsed}")));
        run.enable_steady_tick(TICK);
        Self { display, run, views: HashMap::new() }
    }

    fn start(&mut self, name: &str) {
        let view =
            ProgressBar::new_spinner().with_style(style("{spinner} {msg}  {elapsed}")).with_message(name.to_owned());
        let view = self.display.insert_before(&self.run, view);
        view.enable_steady_tick(TICK);
        self.views.insert(name.to_owned(), view);
    }

    fn finish(&mut self, name: &str) {
        if let Some(view) = self.views.remove(name) {
            view.finish_and_clear();
            self.display.remove(&view);
        }
        self.run.inc(1);
    }

    fn end(self) {
        for view in self.views.values() {
            view.finish_and_clear();
        }
        self.run.finish_and_clear();
    }
}

fn style(template: &str) -> ProgressStyle {
    // The templates are constants that parse; a default bar would do as well.
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// A panic elsewhere while the lock was held leaves nothing half-done that matters here.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
