//! Snapshots of what the engine remembers of files, taken when a run ends.

use alluvium_contracts::{
    CacheCommitMetadata, CacheOperation, CacheScope, CacheSnapshotEntry, EngineCache, LookupResult,
};
use alluvium_ledgers::decode_rows;

use crate::lab::{Lab, batches};

const TOML: &str = r#"
[profile]
metadata_snapshots = "on_run_end"
engine_caches.preset = "always_latest"

[sources.events]
format = "parquet"
path = "data/*.parquet"

[views.counted]
sql = "select s, count(*) as n from events group by s"
"#;

fn lab() -> Lab {
    let lab = Lab::new(TOML);
    lab.parquet("data/a.parquet", &[(1, "a"), (2, "b")]);
    lab.parquet("data/b.parquet", &[(3, "b")]);
    lab
}

async fn taken(lab: &Lab) -> Vec<CacheSnapshotEntry> {
    let sql = "select * from alluvium.cache_snapshots order by event_time_unix_ms";
    batches(&lab.open(), sql).await.iter().flat_map(|batch| decode_rows(batch).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_leaves_a_version_of_each_table_with_a_row_an_entry() {
    let lab = lab();
    let first = lab.run().await;
    let rows = taken(&lab).await;
    let told: Vec<_> = rows.iter().map(|row| (row.engine_cache, row.result, row.delta_version)).collect();
    assert_eq!(
        told,
        [EngineCache::Metadata, EngineCache::Statistics, EngineCache::ListFiles].map(|cache| (
            cache,
            LookupResult::Ok,
            Some(0)
        ))
    );
    let metadata = &rows[0];
    assert_eq!((metadata.run_id, metadata.snapshot_name.as_str()), (first.run_id, "df_metadata_cache"));
    assert_eq!(metadata.cache_path, "metadata_cache_snapshots/df_metadata_cache");
    assert_eq!(metadata.row_count, Some(2), "the footers of both files: {metadata:?}");
    assert!(metadata.cached_bytes > Some(0) && metadata.schema_hash.is_some());

    let remembered = lab
        .sql(
            "select split_part(path, '/', -1) as file, file_size_bytes > 0 as sized, cached_bytes > 0 as kept,
                    run_id is not null as run
             from metadata_cache_snapshots.df_metadata_cache order by 1",
        )
        .await;
    for row in ["| a.parquet | true  | true | true |", "| b.parquet | true  | true | true |"] {
        assert!(remembered.contains(row), "{remembered}");
    }
    let commit = alluvium_write_policy::commit_info(&lab.path(".alluvium").join(&metadata.cache_path), 0).unwrap();
    let commit = CacheCommitMetadata::from_commit_info(&commit).unwrap().unwrap();
    assert_eq!((commit.cache_operation, commit.cache_scope), (CacheOperation::Snapshot, CacheScope::Snapshot));
    assert_eq!((commit.name.as_str(), commit.run_id), ("df_metadata_cache", first.run_id));
    assert_eq!((commit.row_count, commit.schema_hash), (Some(2), metadata.schema_hash));

    lab.edit("alluvium.toml", "count(*) as n", "count(*) as m");
    let second = lab.run().await;
    let rows = taken(&lab).await;
    assert_eq!(rows.len(), 6);
    assert!(rows[3..].iter().all(|row| row.run_id == second.run_id && row.delta_version == Some(1)), "{rows:?}");
    let newest = lab.sql("select distinct run_id from metadata_cache_snapshots.df_metadata_cache").await;
    assert!(newest.contains(&second.run_id.to_string()), "a version holds one snapshot: {newest}");
    let listed = lab
        .sql("select table_name from information_schema.tables where table_schema = 'metadata_cache_snapshots' order by 1")
        .await;
    assert!(
        listed.contains("df_list_files_cache")
            && listed.contains("df_metadata_cache")
            && listed.contains("df_statistics_cache"),
        "{listed}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_taken_unless_a_profile_asks_and_a_failure_is_told() {
    let lab = lab();
    lab.edit("alluvium.toml", "metadata_snapshots = \"on_run_end\"", "metadata_snapshots = \"off\"");
    lab.run().await;
    assert!(taken(&lab).await.is_empty());
    assert!(!lab.path(".alluvium/metadata_cache_snapshots").exists());

    // A file in the way of one table: its snapshot fails, the others and the run do not.
    lab.edit("alluvium.toml", "metadata_snapshots = \"off\"", "metadata_snapshots = \"on_run_end\"");
    lab.write(".alluvium/metadata_cache_snapshots/df_statistics_cache", "");
    let document = lab.run().await;
    assert_eq!(document.result, alluvium_contracts::RunResult::Succeeded);
    let rows = taken(&lab).await;
    let told: Vec<_> = rows.iter().map(|row| (row.result, row.error_type.is_some(), row.delta_version)).collect();
    assert_eq!(
        told,
        [(LookupResult::Ok, false, Some(0)), (LookupResult::Error, true, None), (LookupResult::Ok, false, Some(0))]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_table_is_set_aside_told_and_begun_anew() {
    let lab = lab();
    lab.run().await;
    lab.write(".alluvium/metadata_cache_snapshots/df_metadata_cache/_delta_log/00000000000000000000.json", "{");
    let document = lab.run().await;
    let [notice] = document.notices.as_slice() else { panic!("{document:#?}") };
    assert!(notice.contains("df_metadata_cache") && notice.contains("quarantine"), "{notice}");
    let told: Vec<_> = taken(&lab).await[3..].iter().map(|row| (row.result, row.delta_version)).collect();
    assert_eq!(told, [0, 1, 1].map(|version| (LookupResult::Ok, Some(version))));
    assert_eq!(lab.run().await.notices, Vec::<String>::new());
}
