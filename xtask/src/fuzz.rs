//! Fuzzing the decoders for a bounded time, with libFuzzer and nightly, without further tools.

use std::path::{Path, PathBuf};

use alluvium_contracts::{ContractEntry, Encoding, contracts};
use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::cargo;
use crate::metadata::Metadata;

/// Makes a seed of a contract.
type Seed = fn(&ContractEntry) -> Result<Vec<u8>>;

/// The targets, by the names of the binaries in `fuzz/`, and a document of a contract that each decodes.
const TARGETS: [(&str, Seed); 3] = [
    ("decode_json", |contract| Ok(contract.example(Encoding::Json)?)),
    ("decode_messagepack", |contract| Ok(contract.example(Encoding::MessagePack)?)),
    ("decode_toml", |contract| toml_of(&contract.example(Encoding::Json)?)),
];

/// Code that tells libFuzzer where it went, and that notices reading out of bounds: what cargo-fuzz sets.
const FLAGS: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1 -Zsanitizer=address --cfg fuzzing";

/// Where the seeds are committed.
const CORPUS: &str = "fuzz/corpus";

/// Arguments of `cargo xtask fuzz`.
#[derive(clap::Args)]
pub struct Args {
    /// How long each target runs.
    #[arg(long, default_value_t = 60, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
    /// Only write the seeds: the example of every contract, into fuzz/corpus.
    #[arg(long, conflicts_with = "seconds")]
    seed: bool,
}

/// Fuzz the decoders of the workspace at `root`.
pub fn run(root: &Path, args: &Args) -> Result<()> {
    if args.seed {
        return seed(&root.join(CORPUS));
    }
    // A toolchain is chosen by rustup's own `cargo`, not by the one that runs this.
    let nightly = |dir: &Path| {
        let mut command = std::process::Command::new("rustup");
        command.current_dir(dir).args(["run", "nightly"]);
        command
    };
    let version = nightly(root).args(["rustc", "-vV"]).output();
    let version = match version {
        Ok(output) if output.status.success() => String::from_utf8_lossy(&output.stdout).into_owned(),
        _ => bail!(
            "fuzzing needs a nightly compiler, and there is none: `rustup toolchain install nightly --profile minimal`"
        ),
    };
    let host = version
        .lines()
        .find_map(|line| line.strip_prefix("host: "))
        .context("nightly rustc does not say for what machine it compiles")?;

    let target_dir = Metadata::load(root)?.target_directory.join("fuzz");
    let mut build = cargo::without_own_variables(nightly(&root.join("fuzz")));
    build.args(["cargo", "build", "--release", "--locked", "--target", host, "--target-dir"]).arg(&target_dir);
    cargo::run(build.env("RUSTFLAGS", FLAGS)).context("the targets do not build (a C++ compiler is needed too)")?;

    for (target, _) in TARGETS {
        let found = scratch(&target_dir, target)?;
        let mut fuzz = std::process::Command::new(target_dir.join(host).join("release").join(target));
        // libFuzzer writes what it finds into the first directory; the seeds are only read.
        fuzz.arg(&found).arg(root.join(CORPUS).join(target));
        fuzz.arg(format!("-max_total_time={}", args.seconds)).arg("-rss_limit_mb=2048").arg("-timeout=10");
        fuzz.arg(format!("-artifact_prefix={}/", target_dir.display())).arg("-print_final_stats=1");
        cargo::run(&mut fuzz).with_context(|| {
            format!(
                "{target} failed. Keep the input that it names as {CORPUS}/{target}/NAME: plain `cargo test -p \
                 alluvium-contracts --all-features` replays it"
            )
        })?;
    }
    Ok(())
}

/// Where a target's finds of this and earlier runs lie.
fn scratch(target_dir: &Path, target: &str) -> Result<PathBuf> {
    let dir = target_dir.join("corpus").join(target);
    std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    Ok(dir)
}

/// What the seed of a contract is called: that of a first version by its kind.
fn stem(contract: &ContractEntry) -> String {
    if contract.version == 1 { contract.kind.to_owned() } else { contract.name() }
}

/// Writes the example of every contract as a seed.
fn seed(corpus: &Path) -> Result<()> {
    for (target, seed) in TARGETS {
        let dir = corpus.join(target);
        std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        for contract in contracts() {
            let path = dir.join(stem(&contract));
            std::fs::write(&path, seed(&contract)?).with_context(|| format!("cannot write {}", path.display()))?;
        }
    }
    eprintln!("fuzz: {} seeds for each of {} targets", contracts().len(), TARGETS.len());
    Ok(())
}

/// The TOML of a document in JSON. TOML has no null: what is null is left out.
fn toml_of(json: &[u8]) -> Result<Vec<u8>> {
    fn without_nulls(value: Value) -> Option<Value> {
        match value {
            Value::Null => None,
            Value::Array(items) => Some(items.into_iter().filter_map(without_nulls).collect()),
            Value::Object(map) => {
                Some(map.into_iter().filter_map(|(key, value)| Some((key, without_nulls(value)?))).collect())
            }
            scalar => Some(scalar),
        }
    }
    let document = without_nulls(serde_json::from_slice(json)?);
    Ok(toml::to_string(&document)?.into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_has_its_binary_and_every_contract_its_seed() {
        let root = cargo::workspace_root().unwrap();
        let manifest = std::fs::read_to_string(root.join("fuzz/Cargo.toml")).unwrap();
        for (target, make) in TARGETS {
            assert!(manifest.contains(&format!("name = \"{target}\"")), "{target}");
            for contract in contracts() {
                let seed = std::fs::read(root.join(CORPUS).join(target).join(stem(&contract))).unwrap();
                assert_eq!(
                    seed,
                    make(&contract).unwrap(),
                    "{target}/{}: `cargo xtask fuzz --seed` rewrites it",
                    contract.kind
                );
            }
        }
    }
}
