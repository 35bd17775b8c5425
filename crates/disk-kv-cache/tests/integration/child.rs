//! Child processes: this test binary again, running one of the roles below.

use std::io::{BufRead, BufReader, Lines, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use alluvium_disk_kv_cache::{Durability, EngineKind, Settings, Sharing, Store, StoreError};

const ROLE: &str = "ALLUVIUM_KV_TEST_ROLE";
const DIR: &str = "ALLUVIUM_KV_TEST_DIR";

pub const TABLES: &[&str] = &["a", "b"];

/// Settings that spare the disk: what is tested is the death of processes, not of the machine.
pub fn quick() -> Settings {
    Settings::new().with_sharing(sharing()).with_durability(Durability::Process).with_initial_map_bytes(64 << 10)
}

/// The engine that is built: both suites run on each, by the features that the crate is tested with.
fn sharing() -> Sharing {
    if cfg!(feature = "lmdb") { Sharing::MultiProcess } else { Sharing::SingleProcess }
}

/// Starts a child in a role. Its standard input is open, and its lines can be read.
pub fn start(role: &str, dir: &Path) -> (Child, Lines<BufReader<ChildStdout>>) {
    start_with(Command::new(std::env::current_exe().unwrap()), role, dir)
}

/// Starts a child through another program that runs its arguments.
pub fn start_under(program: &[&str], role: &str, dir: &Path) -> (Child, Lines<BufReader<ChildStdout>>) {
    let mut command = Command::new(program[0]);
    command.args(&program[1..]).arg(std::env::current_exe().unwrap());
    start_with(command, role, dir)
}

fn start_with(mut command: Command, role: &str, dir: &Path) -> (Child, Lines<BufReader<ChildStdout>>) {
    let mut child = command
        .args(["--exact", "child::entry", "--ignored", "--nocapture", "--quiet", "--test-threads=1"])
        .env(ROLE, role)
        .env(DIR, dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    (child, lines)
}

/// Runs a child to its end, which must be a good one.
pub fn run(role: &str, dir: &Path) {
    let (mut child, lines) = start(role, dir);
    let said = lines.map(Result::unwrap).collect::<Vec<_>>().join("\n");
    assert!(child.wait().unwrap().success(), "{role}: {said}");
}

/// Says that a test does not run here: past the harness, which keeps what a passing test says to itself.
pub fn skip(reason: &str) {
    let thread = std::thread::current();
    let line = format!("SKIPPED {}: {reason}\n", thread.name().unwrap_or("a test"));
    std::io::stderr().lock().write_all(line.as_bytes()).unwrap();
}

/// Says a line to the parent, past the test harness.
pub fn say(line: impl std::fmt::Display) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").unwrap();
    out.flush().unwrap();
}

#[test]
#[ignore = "the entry point of child processes, which other tests start"]
fn entry() {
    let dir = std::env::var_os(DIR).unwrap();
    let dir = Path::new(&dir);
    match std::env::var(ROLE).unwrap().as_str() {
        "write-lmdb" => super::conformance::write_with(EngineKind::Lmdb, dir),
        "hold-lmdb" => super::holders::hold(EngineKind::Lmdb, dir),
        "hold-sled" => super::holders::hold(EngineKind::Sled, dir),
        "garbled-lmdb" => super::suspect::garbled(EngineKind::Lmdb, dir),
        "garbled-sled" => super::suspect::garbled(EngineKind::Sled, dir),
        #[cfg(feature = "lmdb")]
        "garbled-cache" => super::suspect::garbled_cache(dir),
        "write-sled" => super::conformance::write_with(EngineKind::Sled, dir),
        #[cfg(feature = "lmdb")]
        "crash" => super::crash::work(dir),
        #[cfg(feature = "lmdb")]
        "count" => super::processes::count(dir),
        #[cfg(feature = "lmdb")]
        "write-until-told" => super::processes::write_until_told(dir),
        #[cfg(feature = "lmdb")]
        "write-for-ever" => super::processes::write_for_ever(dir),
        #[cfg(feature = "lmdb")]
        "hold-a-read" => super::processes::hold_a_read(dir),
        #[cfg(feature = "lmdb")]
        "cut-short" => super::damage::cut_short(dir),
        #[cfg(feature = "lmdb")]
        "hold-every-slot" => super::readers::hold_every_slot(dir),
        #[cfg(feature = "lmdb")]
        "grow" => super::growth::grow(dir),
        #[cfg(feature = "lmdb")]
        "small-files" => super::system::small_files(dir),
        #[cfg(feature = "lmdb")]
        "no-permission" => super::system::no_permission(dir),
        #[cfg(feature = "lmdb")]
        "after-full-device-sled" => super::system::after_full_device_of_sled(dir),
        #[cfg(feature = "lmdb")]
        "full-device-sled" => super::system::full_device_of_sled(dir),
        #[cfg(feature = "lmdb")]
        "full-device" => super::system::full_device(dir),
        #[cfg(feature = "lmdb")]
        "brim" => super::system::brim(dir),
        #[cfg(feature = "lmdb")]
        "read-only-media" => super::system::read_only_media(dir),
        #[cfg(feature = "lmdb")]
        "read-only-view" => super::system::read_only_view(dir),
        #[cfg(feature = "lmdb")]
        "compete" => super::cache::processes::compete(dir),
        #[cfg(feature = "lmdb")]
        "churn" => super::cache::crash::churn(dir),
        #[cfg(feature = "lmdb")]
        "read-a-key" => super::cache::processes::read_a_key(dir),
        #[cfg(feature = "lmdb")]
        "half-full" => super::cache::fanout_transactions::half_full(dir),
        #[cfg(feature = "lmdb")]
        "refused-directory" => super::cache::faults::refused_directory(dir),
        #[cfg(feature = "lmdb")]
        "no-room" => super::cache::faults::no_room(dir),
        role => panic!("no role {role}"),
    }
}

pub fn number(bytes: Option<&[u8]>) -> u64 {
    bytes.map_or(0, |bytes| u64::from_be_bytes(bytes.try_into().unwrap()))
}

pub fn increment(store: &Store, key: &[u8]) -> Result<u64, StoreError> {
    store.write(|txn| {
        let next = number(txn.get("a", key)?) + 1;
        txn.put("a", key, &next.to_be_bytes())?;
        Ok(next)
    })
}
