//! Tests of profiles: precedence, identity, and that every setting reaches a session.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use alluvium_contracts::EvictionPolicy;
use datafusion::execution::memory_pool::{FairSpillPool, GreedyMemoryPool, MemoryLimit, TrackConsumersPool};

use super::*;
use crate::{KvKind, NEUTRAL_PROFILE_SETTINGS, ProfileError, SessionFactory};

const MACHINE: Machine = Machine { cores: 6, memory_bytes: Some(10 * GIB) };

/// A value for every setting that is not what it has by default: the list is complete, or a test fails.
const FLIPS: &[(&str, &str)] = &[
    ("batch_size", "17"),
    ("cache_output_root", "elsewhere"),
    ("default_catalog", "c"),
    ("default_schema", "s"),
    ("diagnostics", "memory"),
    ("engine_caches.listing_limit_bytes", "1001"),
    ("engine_caches.listing_ttl_seconds", "7"),
    ("engine_caches.metadata_limit_bytes", "1002"),
    ("engine_caches.preset", "always_latest"),
    ("engine_caches.statistics_limit_bytes", "1003"),
    ("features.aggregate_dynamic_filters", "false"),
    ("features.join_dynamic_filters", "false"),
    ("features.topk_dynamic_filters", "false"),
    ("information_schema", "false"),
    ("kv.coordination.size_limit_bytes", "1004"),
    ("kv.extract.cull_limit", "3"),
    ("kv.extract.eviction_policy", "least_recently_used"),
    ("kv.extract.shards", "4"),
    ("kv.extract.size_limit_bytes", "1005"),
    ("kv.extract.statistics", "false"),
    ("kv.extract.ttl_seconds", "11"),
    ("kv.index.size_limit_bytes", "1006"),
    ("kv.plan.cull_limit", "3"),
    ("kv.plan.eviction_policy", "least_frequently_used"),
    ("kv.plan.shards", "4"),
    ("kv.plan.size_limit_bytes", "1007"),
    ("kv.plan.statistics", "false"),
    ("kv.plan.ttl_seconds", "12"),
    ("kv.queue.size_limit_bytes", "1008"),
    ("kv.repo_scan.cull_limit", "3"),
    ("kv.repo_scan.eviction_policy", "none"),
    ("kv.repo_scan.shards", "4"),
    ("kv.repo_scan.size_limit_bytes", "1009"),
    ("kv.repo_scan.statistics", "false"),
    ("kv.repo_scan.ttl_seconds", "13"),
    ("kv.runtime.cull_limit", "3"),
    ("kv.runtime.eviction_policy", "least_recently_used"),
    ("kv.runtime.shards", "4"),
    ("kv.runtime.size_limit_bytes", "1010"),
    ("kv.runtime.statistics", "false"),
    ("kv.runtime.ttl_seconds", "14"),
    ("kv.schema.cull_limit", "3"),
    ("kv.schema.eviction_policy", "least_recently_used"),
    ("kv.schema.shards", "4"),
    ("kv.schema.size_limit_bytes", "1011"),
    ("kv.schema.statistics", "false"),
    ("kv.schema.ttl_seconds", "15"),
    ("kv_root", "kv-elsewhere"),
    ("lease_deadline_seconds", "77"),
    ("memory_limit_bytes", "123456"),
    ("memory_pool", "greedy"),
    ("metadata_snapshots", "on_run_end"),
    ("name", "nightly"),
    ("parquet.metadata_size_hint_bytes", "1012"),
    ("parquet.predicate_cache_bytes", "1013"),
    ("parquet.pushdown_filters", "true"),
    ("parquet.reorder_filters", "true"),
    ("preset", "dev"),
    ("query_spans", "true"),
    ("spill_directory", "SPILL"),
    ("spill_limit_bytes", "1014"),
    ("sql_policy", "service"),
    ("stored_plans", "engine"),
    ("target_partitions", "5"),
];

/// Another value still, for the layer that has to win.
fn other(key: &str, value: &str) -> String {
    match (key, value) {
        (_, "true") => "false".to_owned(),
        (_, "false") => "true".to_owned(),
        ("diagnostics", _) => "otel".to_owned(),
        ("engine_caches.preset", _) => "snapshot_pinned".to_owned(),
        ("memory_pool", _) => "fair".to_owned(),
        ("metadata_snapshots", _) => "off".to_owned(),
        ("preset", _) => "prod".to_owned(),
        ("sql_policy", _) => "admin".to_owned(),
        ("stored_plans", _) => "off".to_owned(),
        (key, _) if key.ends_with("eviction_policy") => "least_recently_stored".to_owned(),
        (_, value) if value.parse::<u64>().is_ok() => format!("1{value}"),
        (_, value) => format!("{value}-2"),
    }
}

fn builder() -> ProfileBuilder {
    // With a limit, so that the kind of pool matters.
    RuntimeProfile::builder().with("memory_limit_bytes", 1_000_000)
}

fn build(builder: ProfileBuilder) -> RuntimeProfile {
    builder.build_for(MACHINE).unwrap()
}

fn file(key: &str, value: &str) -> ProfileSpec {
    profile_keys::assign(&ProfileSpec::default(), key, value).unwrap()
}

#[test]
fn every_setting_is_flipped_here() {
    let flipped: BTreeSet<_> = FLIPS.iter().map(|(key, _)| (*key).to_owned()).collect();
    assert_eq!(flipped, build(builder()).settings().into_keys().collect());
    for (key, value) in FLIPS {
        assert_ne!(build(builder()).settings()[*key], *value, "{key}");
        assert_ne!(other(key, value), *value, "{key}");
    }
}

#[test]
fn presets_are_what_the_contract_says_and_what_is_declared_wins() {
    let resolve = |preset, target_partitions, memory_limit_bytes| {
        let spec = ProfileSpec { preset, target_partitions, memory_limit_bytes, ..ProfileSpec::default() };
        let profile = RuntimeProfile::resolve(&spec, MACHINE);
        assert_eq!(profile.preset(), preset);
        (profile.target_partitions(), profile.memory_limit_bytes())
    };
    assert_eq!(resolve(Preset::Dev, None, None), (2, Some(GIB)));
    assert_eq!(resolve(Preset::Default, None, None), (6, None));
    assert_eq!(resolve(Preset::Prod, None, None), (6, Some(7 * GIB)));
    assert_eq!(resolve(Preset::Prod, Some(3), Some(5)), (3, Some(5)));

    let silent = Machine { memory_bytes: None, ..MACHINE };
    let prod = ProfileSpec { preset: Preset::Prod, name: Some("p".to_owned()), ..ProfileSpec::default() };
    let profile = RuntimeProfile::resolve(&prod, silent);
    assert_eq!((profile.memory_limit_bytes(), profile.name()), (None, Some("p")));
}

#[test]
fn golden_every_setting_of_the_presets() {
    let of = |preset| build(RuntimeProfile::builder().with("preset", preset)).settings();
    let (dev, default, prod) = (of("dev"), of("default"), of("prod"));
    let mut text = String::new();
    for (key, value) in &default {
        let (dev, prod) = (&dev[key], &prod[key]);
        match dev == value && prod == value {
            true => writeln!(text, "{key} = {value}").unwrap(),
            false => writeln!(text, "{key} = dev: {dev}, default: {value}, prod: {prod}").unwrap(),
        }
    }
    insta::assert_snapshot!(text);
}

/// Code before variable before file before preset, for every setting.
#[test]
fn the_nearer_to_the_program_wins() {
    for (key, value) in FLIPS {
        let second = other(key, value);
        let variable = profile_keys::variable(key);
        let from_file = || RuntimeProfile::builder().with_spec(&file(key, value));
        let got = |builder: ProfileBuilder| {
            let profile = build(builder);
            (profile.settings()[*key].clone(), profile.origin(key))
        };
        let preset = got(RuntimeProfile::builder());
        assert_eq!(preset.1, SettingOrigin::Preset, "{key}");
        assert_eq!(got(from_file()), ((*value).to_owned(), SettingOrigin::File), "{key}");
        let over_file = from_file().with_environment([(variable.as_str(), second.as_str())]);
        assert_eq!(got(over_file.clone()), (second.clone(), SettingOrigin::Environment), "{key}");
        assert_eq!(got(over_file.with(*key, value)), ((*value).to_owned(), SettingOrigin::Code), "{key}");
        let over_nothing = RuntimeProfile::builder().with_environment([(variable.as_str(), *value)]);
        assert_eq!(got(over_nothing), ((*value).to_owned(), SettingOrigin::Environment), "{key}");
        let empty = from_file().with_environment([(variable.as_str(), "")]);
        assert_eq!(got(empty), ((*value).to_owned(), SettingOrigin::File), "{key}");
    }
}

#[test]
fn what_names_no_setting_is_refused_with_what_was_meant() {
    let error = |builder: ProfileBuilder| builder.build_for(MACHINE).unwrap_err();
    let key = error(RuntimeProfile::builder().with("target_partition", 2));
    assert!(matches!(&key, ProfileError::UnknownKey { suggestion: Some(s), .. } if s == "target_partitions"), "{key}");
    let variable = error(RuntimeProfile::builder().with_environment([("ALLUVIUM_PROFILE_BATCHSIZE", "2")]));
    let text = variable.to_string();
    assert!(text.contains("did you mean `ALLUVIUM_PROFILE_BATCH_SIZE`"), "{text}");
    let value = error(RuntimeProfile::builder().with_environment([("ALLUVIUM_PROFILE_SQL_POLICY", "root")]));
    let source = std::error::Error::source(&value).unwrap().to_string();
    assert!(
        value.to_string().contains("ALLUVIUM_PROFILE_SQL_POLICY") && source.contains("read_only"),
        "{value}: {source}"
    );
    // What is not ours is passed over.
    build(RuntimeProfile::builder().with_environment([("ALLUVIUM_CACHE_ROOT", "x"), ("PATH", "y")]));
}

/// What moves when a setting is flipped: the hash always, the semantic settings unless it is argued neutral.
#[test]
fn golden_what_each_setting_moves() {
    let base = build(builder());
    let mut text = String::new();
    for (key, value) in FLIPS {
        let flipped = build(builder().with(*key, value));
        assert_ne!(base.profile_hash(), flipped.profile_hash(), "{key}");
        let covers = |(name, _): &&(&str, &str)| *key == *name || key.starts_with(&format!("{name}."));
        let argued = NEUTRAL_PROFILE_SETTINGS.iter().find(covers);
        let moved = base.semantic_settings() != flipped.semantic_settings();
        assert_eq!(moved, argued.is_none(), "{key}: either it moves no key, or it is not argued neutral");
        let why = argued.map_or("it is semantic", |(_, why)| *why);
        writeln!(text, "{} {key}: {why}", if moved { "moves keys  " } else { "moves no key" }).unwrap();
    }
    for (name, _) in NEUTRAL_PROFILE_SETTINGS {
        assert!(
            FLIPS.iter().any(|(key, _)| key == name || key.starts_with(&format!("{name}."))),
            "{name} is no setting"
        );
    }
    insta::assert_snapshot!(text);
}

/// All that can be seen of a session and of what else a profile decides.
fn seen(profile: &RuntimeProfile) -> BTreeMap<String, String> {
    let session = SessionFactory::new(profile.clone()).build().unwrap();
    let state = session.context().state();
    let runtime = state.runtime_env();
    let mut seen: BTreeMap<_, _> = state
        .config_options()
        .entries()
        .into_iter()
        .map(|entry| (entry.key, entry.value.unwrap_or_default()))
        .collect();
    let pool = &runtime.memory_pool;
    let limit = match pool.memory_limit() {
        MemoryLimit::Finite(bytes) => bytes.to_string(),
        _ => "none".to_owned(),
    };
    let caches = &runtime.cache_manager;
    for (key, value) in [
        ("memory limit", limit),
        ("fair pool", pool.is::<TrackConsumersPool<FairSpillPool>>().to_string()),
        ("greedy pool", pool.is::<TrackConsumersPool<GreedyMemoryPool>>().to_string()),
        ("spill limit", runtime.disk_manager.max_temp_directory_size().to_string()),
        ("spill directories", spill_directory(profile, &session)),
        ("footers", caches.get_metadata_cache_limit().to_string()),
        ("statistics", caches.get_file_statistic_cache_limit().to_string()),
        ("listings", caches.get_list_files_cache_limit().to_string()),
        // The engine has no time to live where it keeps nothing.
        ("listings live", format!("{:?} {:?}", caches.get_list_files_cache_ttl(), profile.engine_caches().listing_ttl)),
        ("sql policy", profile.sql_policy().to_string()),
        ("diagnostics", format!("{:?}", profile.diagnostics().unwrap())),
        ("query spans", session.query_spans.to_string()),
        ("snapshots", profile.metadata_snapshots().to_string()),
        ("stored plans", profile.stored_plans().to_string()),
        ("lease deadline", format!("{:?}", profile.lease_deadline())),
        ("cache root", format!("{:?}", profile.spec().cache_output_root)),
        ("name", format!("{:?}", profile.name())),
        ("kv", format!("{:?}", profile.kv_settings())),
    ] {
        seen.insert(key.to_owned(), value);
    }
    seen
}

/// The parent of what the engine makes for its files.
fn spill_directory(profile: &RuntimeProfile, session: &crate::Session) -> String {
    match profile.spill_directory() {
        Some(_) => {
            let disk = &session.context().runtime_env().disk_manager;
            let file = disk.create_tmp_file("a test").unwrap();
            file.path().unwrap().parent().unwrap().parent().unwrap().display().to_string()
        }
        None => "the system's".to_owned(),
    }
}

#[test]
fn every_setting_is_seen_in_a_session() {
    let spill = tempfile::tempdir().unwrap();
    let spill = spill.path().canonicalize().unwrap();
    let base = seen(&build(builder()));
    for (key, value) in FLIPS {
        let value = if *key == "spill_directory" { spill.to_str().unwrap() } else { value };
        let builder = match *key {
            // A time to live shows where there is something that lives.
            "engine_caches.listing_ttl_seconds" => builder().with("engine_caches.listing_limit_bytes", 10),
            _ => builder(),
        };
        let flipped = seen(&build(builder.with(*key, value)));
        let moved: Vec<_> =
            base.iter().filter(|(name, value)| flipped[*name] != **value).map(|(name, _)| name).collect();
        assert!(!moved.is_empty(), "{key} = {value} reaches nothing");
        if *key == "spill_directory" {
            assert_eq!(flipped["spill directories"], value);
        }
    }
}

#[test]
fn paths_of_the_file_are_relative_to_it_and_others_to_the_working_directory() {
    let spec = ProfileSpec {
        kv_root: Some("kv".to_owned()),
        spill_directory: Some("spill".to_owned()),
        diagnostics: Some("file:events.jsonl".to_owned()),
        ..ProfileSpec::default()
    };
    let builder = RuntimeProfile::builder().with_spec(&spec).with_base_dir("/project");
    let profile = build(builder.clone());
    assert_eq!(profile.kv_settings().root(), Some(Path::new("/project/kv")));
    assert_eq!(profile.spill_directory().as_deref(), Some(Path::new("/project/spill")));
    assert_eq!(profile.diagnostics().unwrap(), DiagnosticsChoice::File("/project/events.jsonl".into()));
    let profile = build(builder.with_environment([("ALLUVIUM_PROFILE_KV_ROOT", "here")]));
    assert_eq!(profile.kv_settings().root(), Some(Path::new("here")));
}

#[test]
fn kinds_are_set_one_by_one() {
    let profile = build(
        RuntimeProfile::builder()
            .with("kv.plan.ttl_seconds", 60)
            .with("kv.plan.eviction_policy", "least_recently_used")
            .with("kv.index.size_limit_bytes", 5),
    );
    let kv = profile.kv_settings();
    assert_eq!(kv.kind(KvKind::Plan).ttl, Some(Duration::from_secs(60)));
    assert_eq!(kv_settings::policy(kv.kind(KvKind::Plan).eviction), EvictionPolicy::LeastRecentlyUsed);
    assert_eq!(kv.kind(KvKind::Index).size_limit_bytes, 5);
    assert_eq!(kv.kind(KvKind::Extract), KvSettings::default().kind(KvKind::Extract));
}

#[test]
fn diagnostics_that_name_no_sink_are_refused() {
    let profile = build(RuntimeProfile::builder().with("diagnostics", "loud"));
    assert!(profile.diagnostics().unwrap_err().to_string().contains("file:PATH"));
}
