//! What the machine refuses: a full disk, a file that may not be read. Nothing published is touched, and once the
//! fault is gone the next run is right.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use crate::{alluvium, ends, project};

/// What stands published: the rows of the output, asked through the command.
const PUBLISHED: &str = "select ordered_on, revenue_cents from outputs.daily_revenue order by 1";

/// One project on a disk of its own, which becomes full between two runs; each step leaves its streams in files.
const ON_A_FULL_DISK: &str = r#"
set -u
alluvium=$1 disk=$2 kept=$3
mount -t tmpfs -o size=16m tmpfs "$disk" && "$alluvium" init "$disk/shop" >"$kept/init" || exit 99
cd "$disk/shop"
step() { name=$1; shift; "$alluvium" "$@" >"$kept/$name.out" 2>"$kept/$name.err"; echo "$name $?"; }
step first run
step before sql "$PUBLISHED"
sed -i 's/3100/3200/' data/orders.csv
dd if=/dev/zero of="$disk/filler" bs=4k 2>/dev/null
step full run
step during sql "$PUBLISHED"
rm "$disk/filler"
step freed run
step after sql "$PUBLISHED"
step again run
"#;

#[test]
fn on_a_full_disk_nothing_is_published_and_the_next_run_is_right() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, kept) = (dir.path().join("disk"), dir.path().join("kept"));
    fs::create_dir(&disk).unwrap();
    fs::create_dir(&kept).unwrap();
    // A user namespace lets anybody mount a small disk, where the system allows that.
    let script = Command::new("unshare")
        .args(["--map-root-user", "--mount", "sh", "-c", ON_A_FULL_DISK, "sh", env!("CARGO_BIN_EXE_alluvium")])
        .args([&disk, &kept])
        .env("PUBLISHED", PUBLISHED)
        .env_remove("ALLUVIUM_CACHE_ROOT")
        .output();
    let steps = match script {
        Ok(output) if kept.join("first.out").exists() => String::from_utf8(output.stdout).unwrap(),
        refused => {
            eprintln!("no disk of its own could be mounted here, so this was NOT tested: {refused:?}");
            return;
        }
    };
    let said = |name: &str| fs::read_to_string(kept.join(name)).unwrap();
    assert_eq!(
        steps,
        "first 0\nbefore 0\nfull 1\nduring 0\nfreed 0\nafter 0\nagain 0\n",
        "{}\n{}",
        said("full.err"),
        said("freed.err")
    );
    assert!(said("full.err").contains("No space left on device"), "{}", said("full.err"));
    assert_eq!(said("before.out"), said("during.out"));
    assert_ne!(said("before.out"), said("after.out"));
    assert!(said("again.out").contains("hit") && !said("again.out").contains("write"), "{}", said("again.out"));
}

/// The command without the right to read what a file's mode forbids, which root otherwise has.
fn without_privilege(arguments: &[&str]) -> Output {
    let is_root = Command::new("id").arg("-u").output().unwrap().stdout == b"0\n";
    let plain = alluvium();
    let mut command = if is_root {
        let mut command = Command::new("setpriv");
        command.args(["--bounding-set", "-dac_override,-dac_read_search"]).arg(plain.get_program());
        command.env_remove("ALLUVIUM_CACHE_ROOT");
        command
    } else {
        plain
    };
    command.args(arguments).output().unwrap()
}

#[test]
fn a_source_that_may_not_be_read_is_named_and_its_output_stays() {
    use std::os::unix::fs::PermissionsExt as _;
    let (_keep, shop) = project();
    ends(0, &["run", &shop]);
    let (before, _) = ends(0, &["sql", &shop, PUBLISHED]);
    let source = Path::new(&shop).join("data/orders.csv");
    let text = fs::read_to_string(&source).unwrap();
    fs::write(&source, text.replace("3100", "3200")).unwrap();
    fs::set_permissions(&source, fs::Permissions::from_mode(0o000)).unwrap();

    let refused = without_privilege(&["run", &shop]);
    let stderr = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(2), "{stderr}");
    for part in ["alluvium.toml:", "orders", "data/orders.csv", "Permission denied"] {
        assert!(stderr.contains(part), "no `{part}` in: {stderr}");
    }

    fs::set_permissions(&source, fs::Permissions::from_mode(0o644)).unwrap();
    ends(0, &["run", &shop, "--select", "orders_clean"]);
    assert_eq!(ends(0, &["sql", &shop, PUBLISHED]).0, before);
    ends(0, &["run", &shop]);
    assert_ne!(ends(0, &["sql", &shop, PUBLISHED]).0, before);
}
