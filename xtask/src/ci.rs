//! The whole check, in the order that finds the cheapest mistakes first.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::ValueEnum;

use crate::cargo::{self, WHOLE_WORKSPACE};
use crate::stopwatch::Stopwatch;
use crate::{contracts, features, layers, snapshots, tidy};

/// How to install what the `deny` step needs; `.ci/run` installs the same version.
const INSTALL_DENY: &str = "cargo install --locked cargo-deny@0.20.2";

/// Arguments of `cargo xtask ci`.
#[derive(clap::Args)]
pub struct Args {
    /// Start at this step and leave out those before it.
    #[arg(long, value_enum, value_name = "STEP")]
    from: Option<Step>,
    /// Run every step even after one has failed; the exit code still tells.
    #[arg(long)]
    keep_going: bool,
}

/// A step of the check; the order of the variants is the order of the run.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
enum Step {
    /// cargo fmt --check.
    Fmt,
    /// Lints on every target, warnings as errors.
    Clippy,
    /// The dependency graph against the declared layers.
    Layers,
    /// Module docs, file lengths, licences, manifests, committed text.
    Tidy,
    /// Every binary, which tests and the contracts step run.
    Build,
    /// Crates whose features leave code out, with every combination of them.
    Features,
    /// Unit and integration tests.
    Test,
    /// Examples in the documentation.
    Doctest,
    /// Documentation, warnings as errors.
    Doc,
    /// Golden snapshots are current and each is read by a test.
    Snapshots,
    /// Contract schemas in docs/contracts are current.
    Contracts,
    /// Banned crates, licences and sources of dependencies.
    Deny,
}

/// Run the check in the workspace at `root`.
pub fn run(root: &Path, args: &Args) -> Result<()> {
    let steps: Vec<Step> =
        Step::value_variants().iter().copied().filter(|step| args.from.is_none_or(|from| *step >= from)).collect();
    let whole = Stopwatch::start();
    let mut failed = Vec::new();
    let mut done = 0;
    for (index, step) in steps.iter().enumerate() {
        let name = name(*step);
        eprintln!("\n== {name} ({} of {})", index + 1, steps.len());
        let watch = Stopwatch::start();
        let outcome = step.run(root);
        done += 1;
        match outcome {
            Ok(()) => eprintln!("== {name}: ok in {}", show(watch.elapsed())),
            Err(error) => {
                eprintln!("== {name}: FAILED in {}: {error:#}", show(watch.elapsed()));
                failed.push(name);
                if !args.keep_going {
                    break;
                }
            }
        }
    }
    println!(
        "ci: {} passed, {} failed, {} not run, in {}",
        done - failed.len(),
        failed.len(),
        steps.len() - done,
        show(whole.elapsed())
    );
    if let Some(first) = failed.first() {
        bail!("failed: {}. Mend it and go on with `cargo xtask ci --from {first}`", failed.join(", "));
    }
    Ok(())
}

impl Step {
    fn run(self, root: &Path) -> Result<()> {
        let cargo = |args: &[&str]| {
            let mut command = cargo::cargo(root);
            command.args(args);
            command
        };
        match self {
            Self::Fmt => cargo::run(&mut cargo(&["fmt", "--all", "--check"])),
            Self::Clippy => {
                cargo::run(cargo(&["clippy"]).args(WHOLE_WORKSPACE).args(["--all-targets", "--", "-D", "warnings"]))
            }
            Self::Layers => layers::run(root),
            Self::Tidy => tidy::run(root),
            Self::Build => cargo::run(cargo(&["build"]).args(WHOLE_WORKSPACE).args(WITH_DEV_FEATURES)),
            Self::Features => features::run(root),
            Self::Test => test(root),
            Self::Doctest => cargo::run(cargo(&["test", "--doc"]).args(WHOLE_WORKSPACE)),
            Self::Doc => cargo::run(
                cargo(&["doc", "--no-deps", "--lib"])
                    .args(WHOLE_WORKSPACE)
                    .args(WITH_DEV_FEATURES)
                    .env("RUSTDOCFLAGS", "-D warnings"),
            ),
            Self::Snapshots => snapshots::run(root, &snapshots::Args { check: true }),
            Self::Contracts => contracts::run(root, &contracts::Args { check: true }),
            Self::Deny => deny(root),
        }
    }
}

/// Targets that make cargo count dev-dependencies when it unifies features, as it does for tests.
///
/// Without an example, test or bench among the wanted targets it does not, and one dev-dependency that
/// turns on a feature of, say, tokio would cost a second compilation of the engine.
pub const WITH_DEV_FEATURES: [&str; 2] = ["--bins", "--examples"];

fn test(root: &Path) -> Result<()> {
    let mut command = cargo::cargo(root);
    if cargo::has_subcommand(root, "nextest") {
        command.args(["nextest", "run"]);
    } else {
        // Doctests are a step of their own, and benches are not run.
        command.args(["test", "--lib", "--bins", "--tests", "--examples"]);
    }
    cargo::run(command.args(WHOLE_WORKSPACE).arg("--no-fail-fast"))
}

fn deny(root: &Path) -> Result<()> {
    if !cargo::has_subcommand(root, "deny") {
        bail!("cargo-deny is not installed: run `{INSTALL_DENY}`");
    }
    let mut command = cargo::cargo(root);
    cargo::run(command.args(["deny", "check", "bans", "licenses", "sources"]))
}

fn name(step: Step) -> String {
    step.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
}

fn show(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    if seconds < 60.0 {
        format!("{seconds:.1} s")
    } else {
        format!("{} min {:02} s", seconds as u64 / 60, seconds as u64 % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_steps_run_in_the_documented_order() {
        let names: Vec<String> = Step::value_variants().iter().copied().map(name).collect();
        assert_eq!(names.join(" "), "fmt clippy layers tidy build features test doctest doc snapshots contracts deny");
        let root = cargo::workspace_root().unwrap();
        let page = std::fs::read_to_string(root.join("CONTRIBUTING.md")).unwrap();
        let documented: Vec<&str> =
            page.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
        assert_eq!(documented, names, "the table of steps in CONTRIBUTING.md");
    }

    #[test]
    fn the_runner_installs_the_cargo_deny_that_the_step_names() {
        let root = cargo::workspace_root().unwrap();
        let script = std::fs::read_to_string(root.join(".ci/run")).unwrap();
        assert!(script.contains(INSTALL_DENY), ".ci/run does not run `{INSTALL_DENY}`");
    }

    #[test]
    fn durations_read_like_a_watch() {
        assert_eq!(show(Duration::from_millis(1_240)), "1.2 s");
        assert_eq!(show(Duration::from_secs(754)), "12 min 34 s");
    }
}
