//! `alluvium init`: a small project that runs.

use crate::args::InitArgs;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output;
use crate::terminal::Terminal;

/// Makes the project and lists its files.
pub fn init(args: &InitArgs, terminal: &Terminal) -> Result<Exit, Failure> {
    let dir = args.directory();
    let files = alluvium_runs::scaffold(dir)?;
    let listing: String = files.iter().map(|file| format!("{}\n", file.display())).collect();
    output::print(&listing)?;
    terminal.line(&format!("next: alluvium run {}", dir.display()));
    Ok(Exit::Done)
}
