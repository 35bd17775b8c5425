//! Child processes: this test binary again, running one of the roles below.

use std::io::{BufRead, BufReader, Lines, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use alluvium_disk_kv_cache::{Durability, Settings, Sharing};

const ROLE: &str = "ALLUVIUM_KV_TEST_ROLE";
const DIR: &str = "ALLUVIUM_KV_TEST_DIR";

/// Settings that spare the disk: what is tested is the death of processes, not of the machine.
pub fn quick() -> Settings {
    on(if cfg!(feature = "lmdb") { Sharing::MultiProcess } else { Sharing::SingleProcess })
}

/// As [`quick`], on an engine: for what runs on each that is built. All else runs on each too, by the features that the
/// crate is tested with.
pub fn on(sharing: Sharing) -> Settings {
    Settings::new().with_sharing(sharing).with_durability(Durability::Process)
}

/// How many rounds a test does that kills so many processes in each: few, unless `cargo xtask soak kv` says how many kills.
pub fn rounds(few: u64, kills_a_round: u64) -> u64 {
    std::env::var("ALLUVIUM_KV_KILLS").map_or(few, |kills| kills.parse::<u64>().unwrap().div_ceil(kills_a_round))
}

/// A child process in a role. Killed when it is dropped.
pub struct Worker {
    pub process: Child,
    pub lines: Lines<BufReader<ChildStdout>>,
}

/// Starts a child in a role. Its standard input is open, and its lines can be read.
pub fn start(role: &str, dir: &Path) -> Worker {
    let mut process = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child::entry", "--ignored", "--nocapture", "--quiet", "--test-threads=1"])
        .env(ROLE, role)
        .env(DIR, dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(process.stdout.take().unwrap()).lines();
    Worker { process, lines }
}

impl Worker {
    /// Waits until the child says a line, past those of the test harness.
    pub fn wait_for(&mut self, line: &str) {
        assert!(self.lines.by_ref().any(|said| said.unwrap() == line), "{line:?} was never said");
    }

    /// The next line that is a number.
    pub fn number(&mut self) -> Option<u64> {
        self.lines.by_ref().map_while(Result::ok).find_map(|line| line.parse().ok())
    }

    /// Lets the child that waits in [`until_told`] go on.
    pub fn tell(&mut self) {
        drop(self.process.stdin.take());
    }

    /// Kills the child with SIGKILL, and returns the numbers it had said.
    pub fn kill(mut self) -> Vec<u64> {
        self.process.kill().unwrap();
        let ended = self.process.wait().unwrap();
        // It may have come to the end of its work before.
        assert!(ended.signal() == Some(libc::SIGKILL) || ended.success(), "it had failed before: {ended}");
        std::iter::from_fn(|| self.number()).collect()
    }

    /// Waits for the child's good end, and returns the numbers it had said.
    pub fn finish(mut self) -> Vec<u64> {
        self.tell();
        let numbers = std::iter::from_fn(|| self.number()).collect();
        assert!(self.process.wait().unwrap().success());
        numbers
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Says a line to the parent, past the test harness.
pub fn say(line: impl std::fmt::Display) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "\n{line}").unwrap();
    out.flush().unwrap();
}

/// Says that it is ready, and waits for [`Worker::tell`].
pub fn until_told() {
    say("ready");
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink()).unwrap();
}

#[test]
#[ignore = "the entry point of child processes, which other tests start"]
fn entry() {
    let dir = std::env::var_os(DIR).unwrap();
    let dir = Path::new(&dir);
    match std::env::var(ROLE).unwrap().as_str() {
        "push" => super::deque::push(dir),
        "pop" => super::deque::pop(dir),
        "insert" => super::index::insert(dir),
        "work" => super::queue::work(dir),
        "take-one" => super::queue::take_one(dir),
        "hold-a-lock" => super::locks::hold(dir),
        "hold-a-lease" => super::locks::hold_a_lease(dir),
        "increment" => super::locks::increment(dir),
        "take-a-permit" => super::locks::take_a_permit(dir),
        "ask" => super::memo::ask(dir),
        "compute-for-ever" => super::memo::compute_for_ever(dir),
        role => panic!("no role {role}"),
    }
}
