//! What a run leaves for whoever asks later: a manifest, documents, and a way from every commit to its run and back.

use std::collections::BTreeMap;
use std::path::PathBuf;

use alluvium_contracts::{
    CacheArtifact, CacheCommitMetadata, CacheScope, ComponentChange, Contract, DatasetSpec, DeltaStatsDecision,
    DeltaWritePolicy, Encoding, InputKind, MissExplanation, OutputResult, PlanBundleArtifact, ProtocolReport,
    ReplayDocument, RunCommit, RunResult, Stability, ViewCacheArtifact, ViewResult, WriteReport, contract, validate,
};
use alluvium_ledgers::decode_rows;
use alluvium_runs::{Pipeline, RunError, RunName};
use alluvium_write_policy::commit_info;

use crate::lab::{Lab, answer, batches, run};

const PIPELINE: &str = r#"
[sources.events]
format = "parquet"
path = "data/*.parquet"

[views.totals]
sql = "select s, sum(k) as k from events group by s"
cache = "delta_staging"

[views.large]
sql = "select s from totals where k > 2"

[outputs.large]
view = "large"
path = "out/large"
"#;

fn lab() -> Lab {
    let lab = Lab::new(PIPELINE);
    lab.parquet("data/one.parquet", &[(1, "a"), (2, "b")]);
    lab
}

fn table_of(lab: &Lab, commit: &RunCommit) -> PathBuf {
    match commit.cache_scope {
        CacheScope::Output => lab.path(&commit.path),
        _ => lab.path(".alluvium").join(&commit.path),
    }
}

async fn artifacts(pipeline: &Pipeline) -> Vec<CacheArtifact> {
    let batches = batches(pipeline, "select * from alluvium.cache_artifacts order by event_time_unix_ms").await;
    batches.iter().flat_map(|batch| decode_rows(batch).unwrap()).collect()
}

#[tokio::test]
async fn a_run_and_its_commits_name_each_other() {
    let lab = lab();
    let pipeline = lab.open();
    let document = run(&pipeline).await;
    let manifest = pipeline.manifest_of(&RunName::Latest).await.unwrap();
    assert_eq!((manifest.run_id, manifest.result), (document.run_id, RunResult::Succeeded));
    assert!(manifest.finished_unix_ms >= manifest.started_unix_ms);

    let stored = artifacts(&pipeline).await;
    let scopes: Vec<_> = manifest.commits.iter().map(|commit| (commit.cache_scope, commit.name.as_str())).collect();
    assert_eq!(scopes, [(CacheScope::View, "totals"), (CacheScope::View, "large"), (CacheScope::Output, "large")]);
    for commit in &manifest.commits {
        let table = table_of(&lab, commit);
        assert_eq!(alluvium_write_policy::table_id(&table).unwrap().as_ref(), Some(&commit.table_id));
        let info = commit_info(&table, commit.delta_version).unwrap();
        let metadata = CacheCommitMetadata::from_commit_info(&info).unwrap().unwrap();
        assert_eq!(metadata.run_id, manifest.run_id);
        assert_eq!(metadata.traceparent, manifest.traceparent);
        assert_eq!(metadata.content_hash.is_some(), commit.cache_scope == CacheScope::Output);
        // The commit names the plan that made it, which is in the ledger and decodes.
        let [plan] = metadata.artifact_ids.as_slice() else { panic!("{metadata:?}") };
        let plan = stored.iter().find(|artifact| artifact.artifact_id == *plan).unwrap();
        let bundle = plan.decode::<PlanBundleArtifact>().unwrap();
        assert_eq!(Some(bundle.plan_fingerprint), metadata.plan_hash);
        assert!(manifest.artifact_ids.as_ref().unwrap().values().any(|id| *id == plan.artifact_id));
    }
    let [events] = manifest.delta_inputs.as_slice() else { panic!("{manifest:?}") };
    assert_eq!((events.kind, events.path.as_deref()), (InputKind::Files, Some("data/*.parquet")));
    assert_eq!(events.files.len(), 1);
    assert_eq!(manifest.resolved_sql["large"], "select s from totals where k > 2");
    assert_eq!(manifest.resolved_specs["view totals"]["cache"], "delta_staging");
    assert!(manifest.semantic_settings.contains_key("datafusion.execution.time_zone"), "{manifest:?}");
}

#[tokio::test]
async fn a_version_of_an_output_leads_to_its_run_and_back_by_sql() {
    let lab = lab();
    let pipeline = lab.open();
    run(&pipeline).await;
    lab.parquet("data/two.parquet", &[(9, "a"), (9, "c")]);
    let second = run(&lab.open()).await;
    let found = answer(
        &pipeline,
        "select c.run_id, c.traceparent, i.name as input, i.file_count as files, m.resolved_sql['large'] as sql
         from alluvium.run_commits c join alluvium.run_inputs i using (run_id) join alluvium.run_manifests m using (run_id)
         where c.cache_scope = 'output' and c.name = 'large' and c.delta_version = 1",
    )
    .await;
    assert!(found.contains(&second.run_id.to_string()), "{found}");
    assert!(found.contains("| events | 2 ") && found.contains("select s from totals"), "{found}");
    let back = answer(
        &pipeline,
        &format!(
            "select path, delta_version from alluvium.run_commits where run_id = '{}' and cache_scope = 'output'",
            second.run_id
        ),
    )
    .await;
    assert!(back.contains("out/large") && back.contains("| 1 "), "{back}");
}

#[tokio::test]
async fn what_is_served_is_told_from_what_was_made() {
    let lab = lab();
    let first = run(&lab.open()).await;
    let pipeline = lab.open();
    let second = run(&pipeline).await;
    let record = pipeline.run_record(&RunName::Latest).await.unwrap();
    assert_eq!(record.summary.run_id, second.run_id);
    assert_eq!(record.entries.len(), 3, "two views and an output");
    let kinds: Vec<_> = record.artifacts.iter().map(|artifact| artifact.artifact_kind.as_str()).collect();
    assert_eq!(kinds, ["view_cache_artifact"; 2], "no plan is new");
    let hits: Vec<ViewCacheArtifact> =
        artifacts(&pipeline).await.iter().filter_map(|artifact| artifact.decode().ok()).collect();
    let told: Vec<_> = hits.iter().map(|hit| (hit.run_id, hit.hit, hit.hit_count)).collect();
    let write = (Some(first.run_id), Some(false), 0);
    let hit = (Some(second.run_id), Some(true), 1);
    assert_eq!(told, [write, write, hit, hit]);
    assert!(hits[2..].iter().all(|hit| hit.saved_seconds > 0.0 && hit.cache_path.is_some()), "{hits:?}");
    let manifest = record.manifest.unwrap();
    assert!(manifest.commits.is_empty());
    assert_eq!(manifest.views[0].result, ViewResult::Hit);
    let [output] = manifest.outputs.as_slice() else { panic!("{manifest:?}") };
    assert_eq!((output.result, output.written_by), (OutputResult::Hit, Some(first.run_id)));
    assert_eq!((output.delta_version, output.row_count), (Some(0), Some(0)));
    assert!(output.content_hash.is_some());
    assert!(output.table_id.is_some());
}

/// Every row of the ledger, whatever its kind, is a whole document of its contract, under the identity that it has.
#[tokio::test]
async fn every_document_decodes_by_its_contract_and_a_miss_says_why() {
    let lab = lab();
    run(&lab.open()).await;
    lab.parquet("data/two.parquet", &[(9, "a")]);
    let pipeline = lab.open();
    run(&pipeline).await;
    let (_stop, cancel) = tokio::sync::watch::channel(false);
    pipeline.replay(&RunName::Latest, None, cancel).await.unwrap();
    let stored = artifacts(&pipeline).await;
    let mut kinds = BTreeMap::<&str, usize>::new();
    for artifact in &stored {
        *kinds.entry(&artifact.artifact_kind).or_default() += 1;
        let contract = contract(&artifact.artifact_kind).unwrap_or_else(|| panic!("{artifact:?}"));
        assert_eq!(artifact.artifact_version, contract.version);
        // As this contract and no other, and what is known of it is all of it: bytes and identity.
        let validated = validate(artifact.document.as_bytes(), None).unwrap_or_else(|report| panic!("{report:?}"));
        assert_eq!((validated.kind, validated.artifact_id), (&*artifact.artifact_kind, Some(artifact.artifact_id)));
        let again = contract.transcode(artifact.document.as_bytes(), Encoding::Json, Encoding::Json).unwrap();
        assert_eq!(String::from_utf8(again).unwrap(), artifact.document);
    }
    // The source, the policy and the plan bundles of both runs; of the output one version a run.
    let expected = [
        (DatasetSpec::KIND, 1),
        (DeltaStatsDecision::KIND, 2),
        (DeltaWritePolicy::KIND, 1),
        (MissExplanation::KIND, 4),
        (PlanBundleArtifact::KIND, 4),
        (ProtocolReport::KIND, 2),
        (ReplayDocument::KIND, 1),
        (ViewCacheArtifact::KIND, 4),
        (WriteReport::KIND, 2),
    ];
    assert_eq!(kinds, BTreeMap::from(expected));

    let is_it =
        |artifact: &&CacheArtifact| artifact.artifact_kind == MissExplanation::KIND && artifact.name == "totals";
    let last = stored.iter().rfind(is_it).unwrap();
    let lines = last.decode::<MissExplanation>().unwrap().changes;
    let lines: Vec<String> = lines.iter().map(ToString::to_string).collect();
    assert!(lines.iter().any(|line| line.contains("two.parquet")), "{lines:?}");
    let of_output = |kind: &str| stored.iter().rfind(|artifact| artifact.artifact_kind == kind).unwrap();
    let report = of_output(WriteReport::KIND).decode::<WriteReport>().unwrap();
    assert_eq!((report.delta_version, report.base_version, report.row_count), (Some(1), Some(0), 1));
    assert_eq!((report.dataset_name.as_deref(), report.table_path.as_str()), (Some("large"), "out/large"));
    assert!(report.fields.iter().all(|field| field.honoured), "{report:#?}");
    let statistics = of_output(DeltaStatsDecision::KIND).decode::<DeltaStatsDecision>().unwrap();
    assert_eq!((statistics.dataset_name.as_str(), statistics.run_id), ("large", Some(report.run_id.unwrap())));
    assert_eq!(of_output(ProtocolReport::KIND).decode::<ProtocolReport>().unwrap(), report.protocol);
    let source = of_output(DatasetSpec::KIND).decode::<DatasetSpec>().unwrap();
    assert_eq!(source.path.patterns(), ["data/*.parquet"]);
    // The manifest names those of its run.
    let manifest = pipeline.manifest_of(&RunName::Latest).await.unwrap();
    let ids = manifest.artifact_ids.unwrap();
    assert_eq!(ids["write_report large"], of_output(WriteReport::KIND).artifact_id);
    assert_eq!(ids["dataset_spec events"], of_output(DatasetSpec::KIND).artifact_id, "kept by the run before");
}

/// A run that was killed right after a commit says of it what the commit says: rows, table, plan, and whether rows have to be the same.
#[tokio::test]
async fn the_manifest_of_a_killed_run_says_what_its_commits_say() {
    let lab = crate::crash::lab();
    lab.edit("alluvium.toml", "sum(k) as total", "sum(k * 0.1::double) as total");
    assert!(crate::crash::crashes(&lab, "output.commit.after", 1));
    let pipeline = lab.open();
    let manifest = pipeline.manifest_of(&RunName::Latest).await.unwrap();
    assert_eq!(manifest.result, RunResult::Killed);
    let [output] = manifest.outputs.as_slice() else { panic!("{manifest:?}") };
    let info = commit_info(&lab.path("out/second"), output.delta_version.unwrap()).unwrap();
    let metadata = CacheCommitMetadata::from_commit_info(&info).unwrap().unwrap();
    assert!(output.content_hash.is_some() && output.content_hash == metadata.content_hash, "{output:?}");
    assert_eq!(output.table_id, alluvium_write_policy::table_id(&lab.path("out/second")).unwrap());
    let ids = manifest.artifact_ids.as_ref().unwrap();
    assert_eq!(metadata.artifact_ids, [ids["plan_bundle_artifact second"]]);
    let stability: Vec<_> = manifest.views.iter().map(|view| (view.name.as_str(), view.stability)).collect();
    assert_eq!(stability, [("first", Some(Stability::Exact)), ("second", Some(Stability::Unstable))]);
}

/// Hits are on record with their keys; what their rows are worth in a replay is in the commits that made them.
#[tokio::test]
async fn the_manifest_of_a_killed_run_says_of_hits_what_their_commits_say() {
    let lab = crate::crash::lab();
    lab.edit("alluvium.toml", "select k, s from events", "select s, sum(k * 0.1::double) as k from events group by s");
    let text = std::fs::read_to_string(lab.path("alluvium.toml")).unwrap();
    let kept = "[views.kept]\nsql = \"select sum(k * 0.1::double) as n from events\"\ncache = \"delta_output\"\n\
                [outputs.kept]\nview = \"kept\"\npath = \"out/kept\"\n";
    lab.write("alluvium.toml", &(text + kept));
    run(&lab.open()).await;
    lab.edit("alluvium.toml", "sum(k) as total", "count(k) as total");
    assert!(crate::crash::crashes(&lab, "output.commit.after", 1));
    let manifest = lab.open().manifest_of(&RunName::Latest).await.unwrap();
    assert_eq!(manifest.result, RunResult::Killed);
    let told: Vec<_> = manifest.views.iter().map(|view| (&*view.name, view.result, view.stability)).collect();
    let expected = [
        ("first", ViewResult::Hit, Some(Stability::Unstable)),
        ("kept", ViewResult::Hit, Some(Stability::Unstable)),
        // What reads the one is as unstable.
        ("second", ViewResult::Write, Some(Stability::Unstable)),
    ];
    assert_eq!(told, expected);
}

#[tokio::test]
async fn two_runs_are_compared_by_what_they_read_asked_and_gave() {
    let lab = lab();
    let first = run(&lab.open()).await;
    lab.edit("alluvium.toml", "k > 2", "k > 1");
    lab.parquet("data/two.parquet", &[(9, "a")]);
    let pipeline = lab.open();
    let second = run(&pipeline).await;
    let part = first.run_id.to_string();
    let by_end = RunName::parse(&part[part.len() - 12..]).unwrap();
    let difference = pipeline.diff_runs(&by_end, &RunName::Latest).await.unwrap();
    assert_eq!((difference.before, difference.after), (first.run_id, second.run_id));
    let about = |changes: &[ComponentChange], what: &str| {
        assert!(changes.iter().any(|change| change.component == what), "{what}: {changes:?}");
    };
    about(&difference.inputs, "source events: file two.parquet");
    about(&difference.queries, "view large: sql");
    about(&difference.results, "view large: plan_fingerprint");
    about(&difference.results, "output large: delta_version");
    assert!(difference.environment.is_empty(), "{difference:?}");
}

#[tokio::test]
async fn a_run_that_is_not_there_or_not_alone_is_refused_by_name() {
    let lab = lab();
    let pipeline = lab.open();
    let none = pipeline.run_record(&RunName::Latest).await.unwrap_err();
    assert!(matches!(none, RunError::UnknownRun { .. }) && none.is_input(), "{none:?}");
    let (first, second) = (run(&pipeline).await, run(&pipeline).await);
    let list = pipeline.runs(1).await.unwrap();
    assert_eq!((list.runs[0].run_id, list.omitted_count), (second.run_id, 1));
    // Both began within a day.
    let start = RunName::parse(&first.run_id.to_string()[..5]).unwrap();
    let several = pipeline.run_record(&start).await.unwrap_err();
    assert!(several.to_string().contains(&first.run_id.to_string()), "{several}");
    let whole = RunName::parse(&first.run_id.to_string()).unwrap();
    assert_eq!(pipeline.run_record(&whole).await.unwrap().summary.run_id, first.run_id);
}

mod replay {
    use super::*;

    use std::time::Duration;

    use alluvium_contracts::{ReplayInputState, ReplayResult, UnreplayableRun};
    use tokio::sync::watch;

    async fn replay(pipeline: &Pipeline) -> ReplayDocument {
        let (_stop, cancel) = watch::channel(false);
        pipeline.replay(&RunName::Latest, None, cancel).await.unwrap()
    }

    const LONG: Duration = Duration::from_secs(600);

    async fn lost(pipeline: &Pipeline) -> Vec<UnreplayableRun> {
        let (lost, looked) = pipeline.unreplayable_runs(LONG).await.unwrap();
        assert_eq!((looked.unchecked_count, looked.limit_ms), (0, 600_000));
        lost
    }

    /// Rows that are gone though a directory is there, and one file of a table that has many: what a replay meets, `doctor` tells.
    #[tokio::test]
    async fn what_a_replay_meets_is_what_is_told_of_the_run() {
        let lab = lab();
        lab.edit("alluvium.toml", "[outputs.large]\nview = \"large\"\npath = \"out/large\"\n", "");
        lab.edit("alluvium.toml", "k > 2", "k > 0");
        run(&lab.open()).await;
        assert_eq!(lost(&lab.open()).await, []);
        let manifest = lab.open().manifest_of(&RunName::Latest).await.unwrap();
        for (gone, view) in ["totals", "large"].into_iter().enumerate() {
            let entry = table_of(&lab, &manifest.commits[gone]);
            for file in alluvium_write_policy::active_files(&entry, 0).await.unwrap() {
                std::fs::remove_file(entry.join(file.path)).unwrap();
            }
            let told = lost(&lab.open()).await;
            let [told] = told.as_slice() else { panic!("{told:?}") };
            assert_eq!((told.run_id, told.reasons.len()), (manifest.run_id, gone + 1), "{told:?}");
            let of_view = told.reasons.iter().find(|reason| reason.contains(view)).unwrap();
            let replayed = replay(&lab.open()).await;
            let met = replayed.views.iter().find(|replayed| replayed.name == view).unwrap();
            assert_eq!((replayed.result, met.result), (ReplayResult::Unreplayable, ReplayResult::Unreplayable));
            let both = ["nothing is left of its rows", &*entry.file_name().unwrap().to_string_lossy()];
            assert!(both.iter().all(|words| met.reason.as_ref().unwrap().contains(words)), "{met:?}");
            assert!(of_view.contains("nothing is left of its rows"), "{of_view}");
        }
    }

    /// The bound is kept, and what it left out is counted.
    #[tokio::test]
    async fn runs_are_looked_at_for_as_long_as_there_is_time() {
        let lab = lab();
        for _ in 0..3 {
            run(&lab.open()).await;
        }
        let pipeline = lab.open();
        let (lost, looked) = pipeline.unreplayable_runs(Duration::ZERO).await.unwrap();
        assert_eq!((lost.len(), looked.checked_count, looked.unchecked_count, looked.limit_ms), (0, 0, 3, 0));
        let (_, looked) = pipeline.unreplayable_runs(LONG).await.unwrap();
        assert_eq!((looked.checked_count, looked.unchecked_count), (3, 0));
    }

    /// Whose relative paths lead elsewhere from where it is asked.
    #[tokio::test]
    async fn runs_of_another_project_on_the_same_cache_root_are_replayed_where_they_lie() {
        let root = tempfile::tempdir().unwrap();
        let shared = || {
            let lab = lab();
            let text = std::fs::read_to_string(lab.path("alluvium.toml")).unwrap();
            lab.write(
                "alluvium.toml",
                &format!("[profile]\ncache_output_root = \"{}\"\n{text}", root.path().display()),
            );
            lab
        };
        let (mine, other) = (shared(), shared());
        let run_of_mine = run(&mine.open()).await;
        other.parquet("data/one.parquet", &[(7, "z")]);
        assert_eq!(lost(&other.open()).await, [], "it is not the other's to tell");
        let whole = RunName::parse(&run_of_mine.run_id.to_string()).unwrap();
        let (_stop, cancel) = watch::channel(false);
        let replayed = other.open().replay(&whole, None, cancel).await.unwrap();
        assert_eq!(replayed.result, ReplayResult::Same, "{replayed:?}");
        run(&other.open()).await;
        mine.parquet("data/one.parquet", &[(8, "y")]);
        assert_eq!(lost(&other.open()).await, []);
        let lost = lost(&mine.open()).await;
        assert_eq!(lost.iter().map(|run| run.run_id).collect::<Vec<_>>(), [run_of_mine.run_id]);
    }

    #[tokio::test]
    async fn a_run_gives_its_rows_again_whatever_the_pipeline_has_become() {
        let lab = lab();
        run(&lab.open()).await;
        let replayed = replay(&lab.open()).await;
        assert_eq!(replayed.result, ReplayResult::Same, "{replayed:?}");
        let names: Vec<_> = replayed.views.iter().map(|view| view.name.as_str()).collect();
        assert_eq!(names, ["totals", "large"]);
        assert_eq!((replayed.views[0].row_count, replayed.views[0].expected_row_count), (Some(2), Some(2)));
        assert!(replayed.notices.is_empty(), "{:?}", replayed.notices);

        // Its own queries are run again, not those of today; and a replay is no run of this root.
        lab.edit("alluvium.toml", "sum(k)", "max(k)");
        let pipeline = lab.open();
        assert_eq!(replay(&pipeline).await.result, ReplayResult::Same);
        assert_eq!(pipeline.runs(9).await.unwrap().runs.len(), 1);
        let kept = artifacts(&pipeline).await;
        let documents = kept.iter().filter(|artifact| artifact.artifact_kind == ReplayDocument::KIND);
        assert_eq!(documents.map(|kept| kept.decode::<ReplayDocument>().unwrap()).next_back().unwrap().views.len(), 2);
    }

    #[tokio::test]
    async fn rows_that_differ_from_what_the_run_left_are_told() {
        let lab = lab();
        run(&lab.open()).await;
        let pipeline = lab.open();
        let manifest = pipeline.manifest_of(&RunName::Latest).await.unwrap();
        // Another entry in the place of its own: whole, and with other rows.
        let entry = table_of(&lab, &manifest.commits[0]);
        let other = self::lab();
        other.edit("alluvium.toml", "sum(k)", "sum(k + 1)");
        run(&other.open()).await;
        let theirs = other.open().manifest_of(&RunName::Latest).await.unwrap();
        std::fs::remove_dir_all(&entry).unwrap();
        crate::lab::copy_dir(&table_of(&other, &theirs.commits[0]), &entry);
        let replayed = replay(&pipeline).await;
        assert_eq!(replayed.result, ReplayResult::Different, "{replayed:?}");
        assert_eq!(replayed.views[0].result, ReplayResult::Different);
        assert_ne!(replayed.views[0].content_hash, replayed.views[0].expected_content_hash);
        assert_eq!(replayed.views[1].result, ReplayResult::Same);
    }

    #[tokio::test]
    async fn one_changed_byte_names_its_input_and_nothing_runs() {
        let lab = lab();
        run(&lab.open()).await;
        lab.parquet("data/one.parquet", &[(1, "a"), (3, "b")]);
        let replayed = replay(&lab.open()).await;
        assert_eq!(replayed.result, ReplayResult::Unreplayable);
        assert!(replayed.views.is_empty());
        let [input] = replayed.inputs.as_slice() else { panic!("{replayed:?}") };
        assert_eq!((input.name.as_str(), input.state), ("events", ReplayInputState::Changed));
        assert!(input.reason.as_ref().unwrap().contains("one.parquet"), "{input:?}");

        let lost = lost(&lab.open()).await;
        assert_eq!(lost.len(), 1);
        assert!(lost[0].reasons[0].starts_with("events is changed: "), "{lost:?}");
        let today = run(&lab.open()).await;
        let lost = self::lost(&lab.open()).await;
        assert!(lost.iter().all(|run| run.run_id != today.run_id), "the run of today can be replayed: {lost:?}");

        std::fs::remove_file(lab.path("data/one.parquet")).unwrap();
        let replayed = replay(&lab.open()).await;
        assert_eq!(replayed.inputs[0].state, ReplayInputState::Gone, "{replayed:?}");
    }

    /// A Delta table is read at the version that the run read, though it has gone on.
    #[tokio::test]
    async fn a_delta_source_is_read_at_its_version() {
        let lab = lab();
        run(&lab.open()).await;
        let reader = Lab::new(&format!(
            "[sources.large]\nformat = \"delta\"\npath = \"{}\"\n[views.counted]\nsql = \"select count(*) as n from large\"\n",
            lab.path("out/large").display()
        ));
        run(&reader.open()).await;
        lab.parquet("data/two.parquet", &[(9, "a"), (9, "c")]);
        run(&lab.open()).await;
        let pipeline = reader.open();
        assert_eq!(pipeline.plan(&[]).await.unwrap().views[0].result, ViewResult::Write, "it has gone on");
        let replayed = replay(&pipeline).await;
        assert_eq!(replayed.result, ReplayResult::Same, "{replayed:?}");
        assert_eq!(replayed.views[0].row_count, Some(1));

        // What a vacuum takes.
        let manifest = pipeline.manifest_of(&RunName::Latest).await.unwrap();
        assert_eq!(manifest.delta_inputs[0].version, Some(0));
        let table = lab.path("out/large");
        let files = alluvium_write_policy::active_files(&table, 0).await.unwrap();
        for file in &files {
            std::fs::remove_file(table.join(&file.path)).unwrap();
        }
        let replayed = replay(&reader.open()).await;
        let input = &replayed.inputs[0];
        assert_eq!(input.state, if files.is_empty() { ReplayInputState::Unchanged } else { ReplayInputState::Gone });
    }

    /// Nothing is not the same as nothing.
    #[tokio::test]
    async fn a_run_that_left_no_rows_is_not_the_same_and_names_its_views() {
        let lab = lab();
        lab.edit("alluvium.toml", "sum(k) as k", "sum(k / (k - k)) as k");
        assert_eq!(run(&lab.open()).await.result, RunResult::Failed);
        let replayed = replay(&lab.open()).await;
        assert_eq!((replayed.result, replayed.views.len()), (ReplayResult::Unreplayable, 0), "{replayed:?}");
        let told = |what: &str| replayed.notices.iter().any(|notice| notice.starts_with(what));
        assert!(told("nothing is compared") && told("`totals` is not compared: it failed"), "{replayed:?}");
        assert!(told("`large` is not compared: the run skipped it"), "{replayed:?}");
    }

    /// Before it is read again, and after: no view is different for it.
    #[tokio::test]
    async fn an_input_that_changes_while_a_run_is_replayed_is_named() {
        for point in ["replay.inputs.compared", "replay.run.ended"] {
            let lab = lab();
            run(&lab.open()).await;
            let file = lab.path("data/one.parquet");
            fail::cfg_callback(point, move || crate::lab::write_parquet(&file, &[(1, "a"), (5, "b")])).unwrap();
            let replayed = replay(&lab.open()).await;
            fail::remove(point);
            assert_eq!(
                (replayed.result, replayed.views.len()),
                (ReplayResult::Unreplayable, 0),
                "{point}: {replayed:?}"
            );
            let [input] = replayed.inputs.as_slice() else { panic!("{replayed:?}") };
            assert_eq!((input.name.as_str(), input.state), ("events", ReplayInputState::Changed), "{point}");
        }
    }

    #[tokio::test]
    async fn what_may_differ_is_called_unstable() {
        let lab = lab();
        lab.edit("alluvium.toml", "sum(k) as k", "sum(k * random()) as k");
        lab.edit("alluvium.toml", "where k > 2", "");
        run(&lab.open()).await;
        let replayed = replay(&lab.open()).await;
        // The names are the same each time; a view that nobody kept is not compared.
        let names: Vec<_> = replayed.views.iter().map(|view| (view.name.as_str(), view.result)).collect();
        assert_eq!(names, [("large", ReplayResult::Same)]);
        lab.edit("alluvium.toml", "select s from totals", "select s, k from totals");
        run(&lab.open()).await;
        let replayed = replay(&lab.open()).await;
        assert_eq!(replayed.result, ReplayResult::Unstable, "{replayed:?}");
        assert!(replayed.views[0].reason.as_ref().unwrap().contains("uncacheable"), "{replayed:?}");
    }
}
