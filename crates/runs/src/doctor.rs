//! The state of a project and of what it runs on: profile, places, engine, limits, key-value stores.
//!
//! Nothing is made, repaired or locked: what is wrong is told, with what to do.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::io;
use std::path::Path;

use alluvium_contracts::{CheckStatus, DoctorCheck, DoctorDocument, DoctorRoot};
use alluvium_ledgers::Ledgers;
use alluvium_plans::engine_versions;
use alluvium_profile::{CacheRoot, KvKind, RuntimeProfile, SettingOrigin, real_path};
use alluvium_telemetry::{Redactor, Seam};

use crate::pipeline::{OpenError, OpenOptions};
use crate::project::Project;

/// How long a loss that a drain found is told.
const LOSS_TOLD_MS: i64 = 30 * 24 * 60 * 60 * 1_000;

/// Looks a project over. The document's checks say what keeps runs from working and what a person should look at.
///
/// # Errors
/// [`OpenError`] where the profile is wrong or no cache root can be named.
///
/// # Examples
/// ```
/// use alluvium_contracts::CheckStatus;
/// use alluvium_runs::{OpenOptions, Project, doctor, scaffold};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// scaffold(dir.path())?;
/// let found = doctor(&Project::load(dir.path())?, &OpenOptions::default())?;
/// assert!(found.checks.iter().all(|check| check.status == CheckStatus::Ok));
/// assert!(found.roots.iter().all(|root| root.root_id.is_none()), "no cache root is made by looking");
/// # Ok(()) }
/// ```
pub fn doctor(project: &Project, options: &OpenOptions) -> Result<DoctorDocument, OpenError> {
    let (profile, path) = options.profile(project)?;
    let seam = options.seam.clone().unwrap_or_else(Seam::system);
    let mut checks = vec![sessions(&profile), diagnostics(&profile)];
    let root = match CacheRoot::open_existing_with(&path, profile.kv_settings()) {
        Ok(root) => root,
        Err(error) => {
            checks.push(failed("cache root", &error, "name another with --cache-root, or mend what is said"));
            None
        }
    };
    if let Some(root) = &root {
        checks.extend(root.notices().into_iter().map(|notice| warning("cache root", notice, "run the pipeline once")));
        checks.push(quarantine(root.path()));
        checks.push(ledgers(root));
        checks.extend(losses(root, &seam));
        checks.extend(stores(root, &profile, &seam));
    } else if !checks.iter().any(|check| check.name == "cache root") {
        checks.push(ok("cache root", "there is none yet: the first run makes it".to_owned()));
    }
    let origin = |key: &str| match profile.origin(key) {
        SettingOrigin::Preset => "default".to_owned(),
        origin => origin.to_string(),
    };
    let shown = |path: &Path| real_path(path).unwrap_or_else(|_| path.to_owned()).display().to_string();
    let root_id = root.as_ref().map(CacheRoot::id);
    let kv_root = match &root {
        Some(root) => root.kv_root().to_owned(),
        None => profile.kv_settings().root().map_or_else(|| path.join("kv"), Path::to_owned),
    };
    let roots = vec![
        DoctorRoot {
            name: "cache_output_root".to_owned(),
            path: shown(&path),
            origin: match () {
                () if options.cache_root.is_some() => "--cache-root".to_owned(),
                () if options.env_cache_root.as_ref().is_some_and(|root| !root.is_empty()) => {
                    "ALLUVIUM_CACHE_ROOT".to_owned()
                }
                () => origin("cache_output_root"),
            },
            root_id,
            size_bytes: root.as_ref().and_then(|root| bytes_below(root.path()).ok()),
        },
        DoctorRoot {
            name: "kv_root".to_owned(),
            size_bytes: root.as_ref().and_then(|_| bytes_below(&kv_root).ok()),
            path: shown(&kv_root),
            origin: origin("kv_root"),
            root_id,
        },
    ];
    Ok(DoctorDocument {
        alluvium_version: env!("CARGO_PKG_VERSION").to_owned(),
        engine_versions: engine_versions(),
        profile_name: profile.name().map(shown_value),
        profile_hash: Some(profile.profile_hash()),
        sql_policy: Some(profile.sql_policy().to_string()),
        sql_policy_hash: Some(profile.sql_policy_hash()),
        settings: profile.settings().into_iter().map(|(name, value)| (name, shown_value(&value))).collect(),
        roots,
        limits: limits(&profile),
        feature_gates: feature_gates(&profile),
        checks,
        unreplayable_runs: Vec::new(),
        replay_check: None,
    })
}

/// A value of the profile without credentials.
fn shown_value(value: &str) -> String {
    Redactor::default().kept(value).into_owned()
}

/// Whether a session can be made and asked.
fn sessions(profile: &RuntimeProfile) -> DoctorCheck {
    match alluvium_profile::SessionFactory::new(profile.clone()).ephemeral_context() {
        Ok(session) => ok(
            "session",
            format!(
                "SQL may do what `{}` may; {} prepared statements",
                session.sql_policy(),
                session.prepared_statements().len()
            ),
        ),
        Err(error) => failed("session", &error, "change the setting of [profile] that is named"),
    }
}

fn diagnostics(profile: &RuntimeProfile) -> DoctorCheck {
    match profile.diagnostics() {
        Ok(choice) => ok("diagnostics", format!("{choice:?}").to_lowercase()),
        Err(error) => failed("diagnostics", &error, "change `diagnostics` of [profile]"),
    }
}

fn quarantine(root: &Path) -> DoctorCheck {
    match fs::read_dir(root.join("quarantine")).map(Iterator::count) {
        Ok(count) if count > 0 => {
            let fix = format!("look at {} and delete what you do not need", root.join("quarantine").display());
            warning("quarantine", format!("{count} damaged entries were set aside"), &fix)
        }
        _ => ok("quarantine", "nothing was found damaged".to_owned()),
    }
}

/// What was set aside of the ledgers: questions to them have no rows of that any more.
fn ledgers(root: &CacheRoot) -> DoctorCheck {
    let dir = root.ledgers();
    let names = fs::read_dir(&dir).into_iter().flatten().flatten().map(|entry| entry.file_name());
    let mut aside: Vec<String> = names.filter_map(|name| name.into_string().ok()).collect();
    aside.retain(|name| name.contains(".damaged-"));
    aside.sort_unstable();
    if aside.is_empty() {
        return ok("ledgers", "none was set aside".to_owned());
    }
    let fix = format!("what is left of them lies in {}; delete it when you need it no more", dir.display());
    warning("ledgers", format!("damaged, and set aside with the runs that they told of: {}", aside.join(", ")), &fix)
}

/// What drains found missing of ledgers or outbox, because somebody put them back from a copy, and what they could not drain.
fn losses(root: &CacheRoot, seam: &Seam) -> Vec<DoctorCheck> {
    // A store that is not there, or not to be read, has a check of its own.
    let Some(store) = root.kv(KvKind::Queue).ok().filter(|_| root.ledgers().is_dir()) else { return Vec::new() };
    let ledgers = Ledgers::open(root.ledgers(), store.clone(), seam.clone());
    let (found, waiting) = match ledgers.and_then(|ledgers| Ok((ledgers.losses()?, ledgers.waiting()?))) {
        Ok(found) => found,
        Err(error) => return vec![failed("ledgers", &error, "`alluvium run` sets damage aside and begins anew")],
    };
    let recent = found.into_iter().filter(|loss| seam.unix_ms().saturating_sub(loss.found_unix_ms) < LOSS_TOLD_MS);
    let fix = "put copies of ledgers and outbox back together, or neither; this is told for 30 days";
    let mut checks: Vec<_> = recent.map(|loss| warning("ledgers", loss.what, fix)).collect();
    if waiting > 0 {
        let waiting = format!("{waiting} events of a newer alluvium wait: this one does not know their contracts");
        checks.push(warning("ledgers", waiting, "run the pipeline, or ask the ledgers, with the newer alluvium"));
    }
    checks
}

/// One check for each kind that is there.
fn stores(root: &CacheRoot, profile: &RuntimeProfile, seam: &Seam) -> Vec<DoctorCheck> {
    let settings = profile.kv_settings();
    let stats = match root.kv_stats(seam) {
        Ok(stats) => stats,
        Err(error) => return vec![failed("kv", &error, "`alluvium run` sets damage aside and begins anew")],
    };
    let check = |stats: alluvium_contracts::KvStats| {
        let kind = KvKind::ALL.into_iter().find(|kind| kind.as_str() == stats.kind);
        let name = format!("kv {}", stats.kind);
        let found = format!(
            "{} entries of {} bytes, {} bytes on disk; the limit is {}",
            stats.entry_count,
            stats.volume_bytes,
            stats.file_bytes,
            stats.size_limit_bytes.map_or_else(|| "none".to_owned(), |bytes| bytes.to_string()),
        );
        match kind {
            Some(kind) if settings.outgrown(kind, stats.file_bytes) => {
                let fix = format!("raise `size_limit_bytes` of [profile.kv.{kind}], or begin another cache root");
                warning(&name, found, &fix)
            }
            _ => ok(&name, found),
        }
    };
    stats.into_iter().map(check).collect()
}

fn limits(profile: &RuntimeProfile) -> BTreeMap<String, Option<u64>> {
    let spec = profile.spec();
    let mut limits: BTreeMap<String, Option<u64>> = [
        ("target_partitions", spec.target_partitions.map(u64::from)),
        ("batch_size", spec.batch_size.map(u64::from)),
        ("memory_limit_bytes", spec.memory_limit_bytes),
        ("spill_limit_bytes", spec.spill_limit_bytes),
        ("engine_caches.metadata_limit_bytes", spec.engine_caches.metadata_limit_bytes),
        ("engine_caches.statistics_limit_bytes", spec.engine_caches.statistics_limit_bytes),
        ("engine_caches.listing_limit_bytes", spec.engine_caches.listing_limit_bytes),
    ]
    .map(|(name, limit)| (name.to_owned(), limit))
    .into();
    let settings = profile.kv_settings();
    for kind in KvKind::ALL {
        limits.insert(format!("kv.{kind}.size_limit_bytes"), Some(settings.kind(kind).size_limit_bytes));
    }
    limits
}

/// What this build has, and which parts of the engine the profile has switched on.
fn feature_gates(profile: &RuntimeProfile) -> BTreeMap<String, bool> {
    let features = &profile.spec().features;
    [
        ("failpoints", cfg!(feature = "failpoints")),
        ("substrait", cfg!(feature = "substrait")),
        ("topk_dynamic_filters", features.topk_dynamic_filters.unwrap_or(true)),
        ("join_dynamic_filters", features.join_dynamic_filters.unwrap_or(true)),
        ("aggregate_dynamic_filters", features.aggregate_dynamic_filters.unwrap_or(true)),
        ("information_schema", profile.spec().information_schema.unwrap_or(true)),
    ]
    .map(|(name, on)| (name.to_owned(), on))
    .into()
}

fn ok(name: &str, message: String) -> DoctorCheck {
    DoctorCheck { name: name.to_owned(), status: CheckStatus::Ok, message, fix: None }
}

fn warning(name: &str, message: String, fix: &str) -> DoctorCheck {
    DoctorCheck { name: name.to_owned(), status: CheckStatus::Warning, message, fix: Some(fix.to_owned()) }
}

fn failed(name: &str, error: &dyn Error, fix: &str) -> DoctorCheck {
    let mut message = error.to_string();
    let mut cause = error.source();
    while let Some(source) = cause {
        message.push_str(&format!(": {source}"));
        cause = source.source();
    }
    DoctorCheck { name: name.to_owned(), status: CheckStatus::Error, message, fix: Some(fix.to_owned()) }
}

/// The bytes that the files below a directory take on the device.
fn bytes_below(directory: &Path) -> io::Result<u64> {
    use std::os::unix::fs::MetadataExt;
    let mut bytes = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        bytes += if metadata.is_dir() { bytes_below(&entry.path())? } else { metadata.blocks() * 512 };
    }
    Ok(bytes)
}
