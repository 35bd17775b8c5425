//! The changes of a Delta table over a range of versions, which ends where the table is pinned.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use alluvium_contracts::{CdfCursor, CdfOptions, ContentDigest, RunId};
use chrono::DateTime;
use datafusion::catalog::TableProvider;
use datafusion::datasource::empty::EmptyTable;
use datafusion::error::DataFusionError;
use datafusion::prelude::SessionContext;
use deltalake_core::delta_datafusion::DeltaCdfTableProvider;
use deltalake_core::{DeltaTable, DeltaTableBuilder, DeltaTableError};
use percent_encoding::percent_decode_str;
use serde_json::Value;

use crate::ProjectionError;
use crate::changes_table::{ChangesScan, ChangesTable};
use crate::delta::{DeltaPin, commit_path, commit_times, keeps_commit_times};
use crate::layout::column;
use crate::projection::RowExpressions;

const ENABLED: &str = "delta.enableChangeDataFeed";

/// The changes of a Delta table cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChangesError {
    /// Nothing says where to begin.
    #[error(
        "the changes of `{dataset}` have no beginning: set `cdf.starting_version` or `cdf.starting_timestamp`, or give the \
         dataset a consumer's cursor"
    )]
    NoStart {
        /// The dataset.
        dataset: String,
    },
    /// The cursor is of another table.
    #[error(
        "the cursor of `{consumer}` is of the table {cursor_table}, but `{dataset}` is the table {table} now: begin anew \
         with `cdf.starting_version` and without a cursor, in a pipeline under another `cdf_consumer`"
    )]
    OtherTable {
        /// The dataset.
        dataset: String,
        /// Who reads.
        consumer: String,
        /// The id of the table that the cursor is of.
        cursor_table: String,
        /// The id of the table that there is.
        table: String,
    },
    /// The commit that the cursor stands at is another one now.
    #[error(
        "the cursor of `{consumer}` stands at version {version} of `{dataset}`, and the log has another commit there now: the table was \
         put back to an earlier state, or the cursor is damaged. Begin anew with `cdf.starting_version` under another `cdf_consumer`"
    )]
    Rewritten {
        /// The dataset.
        dataset: String,
        /// Who reads.
        consumer: String,
        /// The version that it has read last.
        version: u64,
    },
    /// The table records no changes, or did not at some version of the range.
    #[error(
        "the Delta table of `{dataset}` records no changes at version {version}: set `{ENABLED}` on it, and begin after the \
         version that did so"
    )]
    Disabled {
        /// The dataset.
        dataset: String,
        /// The first version of the range at which it does not.
        version: u64,
    },
    /// The engine cannot read the changes of such a table.
    #[error(
        "the changes of `{dataset}` cannot be read: its table uses {feature}, which this build reads no changes with"
    )]
    Feature {
        /// The dataset.
        dataset: String,
        /// The feature of Delta.
        feature: &'static str,
    },
    /// The range is not within the pinned table.
    #[error(
        "the changes of `{dataset}` are asked for from version {starting_version} to {ending_version}, but it is pinned at \
         {pinned}: correct `cdf`, or set `cdf.allow_out_of_range`"
    )]
    Range {
        /// The dataset.
        dataset: String,
        /// The first version that is asked for.
        starting_version: u64,
        /// The last.
        ending_version: u64,
        /// The version that the dataset is pinned at.
        pinned: u64,
    },
    /// A time has no version.
    #[error("the changes of `{dataset}` have no version for `{field}`: no commit is {relation} {timestamp}")]
    Time {
        /// The dataset.
        dataset: String,
        /// The field.
        field: &'static str,
        /// Which commits were looked for.
        relation: &'static str,
        /// The time.
        timestamp: String,
    },
    /// The table keeps the times of its commits in a way that this build does not read.
    #[error(
        "`{field}` of `{dataset}` cannot be honoured: its table keeps the times of its commits in them \
         (`delta.enableInCommitTimestamps`), which this build does not read; name a version instead"
    )]
    InCommitTimestamps {
        /// The dataset.
        dataset: String,
        /// The field.
        field: &'static str,
    },
    /// The log no longer holds a commit.
    #[error(
        "the changes of `{dataset}` have a gap: the commit of version {version} is no longer in the log; begin after it"
    )]
    Gap {
        /// The dataset.
        dataset: String,
        /// The version.
        version: u64,
    },
    /// A file of changes was deleted.
    #[error("the changes of `{dataset}` at version {version} were vacuumed: {} is gone; begin after it", path.display())]
    Vacuumed {
        /// The dataset.
        dataset: String,
        /// The version.
        version: u64,
        /// The file.
        path: PathBuf,
    },
    /// A commit cannot be read.
    #[error("the changes of `{dataset}` cannot be read: its commit {} is damaged or refused", path.display())]
    Commit {
        /// The dataset.
        dataset: String,
        /// The commit.
        path: PathBuf,
        /// The system's or the decoder's word.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A column is none of the changes'.
    #[error("`cdf.columns` of `{dataset}` name `{column}`, which is none of {known:?}")]
    UnknownColumn {
        /// The dataset.
        dataset: String,
        /// The column.
        column: String,
        /// The columns that there are.
        known: Vec<String>,
    },
    /// The predicate is no condition on a change.
    #[error("`cdf.predicate` of `{dataset}` cannot be used")]
    Predicate {
        /// The dataset.
        dataset: String,
        /// What is wrong with it.
        source: ProjectionError,
    },
    /// The engine refuses.
    #[error("the changes of `{dataset}` cannot be read")]
    Engine {
        /// The dataset.
        dataset: String,
        /// The engine's word.
        source: Box<DeltaTableError>,
    },
    /// The engine cannot plan the columns or the predicate.
    #[error("the changes of `{dataset}` cannot be planned")]
    Plan {
        /// The dataset.
        dataset: String,
        /// The engine's word.
        source: Box<DataFusionError>,
    },
}

/// The changes of a pinned Delta table: which versions, and what of them.
#[derive(Debug, Clone)]
pub struct Changes {
    dataset: String,
    table: DeltaTable,
    table_id: String,
    /// The first and the last; `None` if there is nothing to read.
    range: Option<(u64, u64)>,
    /// The last version that is behind whoever has read them.
    through: u64,
    through_unix_ms: Option<i64>,
    through_digest: Option<ContentDigest>,
    /// Of the commits of the range, in order.
    commits: ContentDigest,
    options: CdfOptions,
}

impl Changes {
    /// Finds the range, and that everything in it is still there. `None` if the table records no changes and need not.
    pub(crate) async fn resolve(
        dataset: &str,
        pin: &DeltaPin,
        options: &CdfOptions,
        cursor: Option<&CdfCursor>,
    ) -> Result<Option<Self>, ChangesError> {
        let table = &pin.table;
        let engine = |source| ChangesError::Engine { dataset: dataset.to_owned(), source: Box::new(source) };
        let state = table.snapshot().map_err(engine)?;
        let configuration = state.metadata().configuration();
        if !is_on(configuration.get(ENABLED).map(String::as_str)) {
            return match options.required {
                true => Err(ChangesError::Disabled { dataset: dataset.to_owned(), version: pin.version }),
                false => Ok(None),
            };
        }
        if configuration.get("delta.columnMapping.mode").is_some_and(|mode| mode != "none") {
            return Err(ChangesError::Feature { dataset: dataset.to_owned(), feature: "column mapping" });
        }
        let log = Log { dataset, pin };
        let start = log.start(options, cursor)?;
        let end = log.end(options)?;
        let out_of_range = ChangesError::Range {
            dataset: dataset.to_owned(),
            starting_version: start,
            ending_version: end,
            pinned: pin.version,
        };
        // A consumer that has read everything waits for more.
        let waits = cursor.is_some() && start == pin.version + 1 && options.ending_version.is_none();
        let (within, end) = (end <= pin.version, end.min(pin.version));
        let range = match (within && start <= end, options.allow_out_of_range) {
            (true, _) => Some((start, end)),
            (false, true) => (start <= end).then_some((start, end)),
            (false, false) if waits => None,
            (false, false) => return Err(out_of_range),
        };
        let mut commits = Vec::new();
        let mut last = None;
        if let Some((start, end)) = range {
            log.check_enabled_at(start).await?;
            for version in start..=end {
                let digest = log.check_commit(version)?;
                commits.extend_from_slice(digest.as_bytes());
                last = Some(digest);
            }
        }
        // What lies before an empty range has been read.
        let through = range.map_or_else(|| cursor.map_or(end, |cursor| cursor.version), |(_, end)| end);
        let committed = if keeps_commit_times(table) { None } else { log.times()?.remove(&through) };
        Ok(Some(Self {
            dataset: dataset.to_owned(),
            table: table.clone(),
            table_id: pin.table_id.clone(),
            range,
            through,
            through_unix_ms: committed.and_then(|ns| i64::try_from(ns / 1_000_000).ok()),
            through_digest: match last {
                Some(digest) => Some(digest),
                None => log.commit_digest(through)?,
            },
            commits: ContentDigest::of(&commits),
            options: options.clone(),
        }))
    }

    /// The name of their table: that of the dataset with `__cdf`.
    #[must_use]
    pub fn name(&self) -> String {
        changes_name(&self.dataset)
    }

    /// What is read and how, by name: two with equal components have equal rows. Where a range without changes ends is no part.
    pub(crate) fn components(&self) -> BTreeMap<String, String> {
        let mut components = BTreeMap::from([("delta table".to_owned(), self.table_id.clone())]);
        match self.range {
            Some((start, end)) => {
                components.insert("changes".to_owned(), format!("versions {start} to {end}"));
                components.insert("delta commits".to_owned(), self.commits.to_string());
            }
            None => {
                components.insert("changes".to_owned(), "none".to_owned());
            }
        }
        if let Some(columns) = &self.options.columns {
            components.insert("option cdf.columns".to_owned(), Value::from(columns.clone()).to_string());
        }
        if let Some(predicate) = &self.options.predicate {
            components.insert("option cdf.predicate".to_owned(), predicate.clone());
        }
        components
    }

    /// The first and the last version; `None` if there is nothing to read.
    #[must_use]
    pub fn range(&self) -> Option<(u64, u64)> {
        self.range
    }

    /// Where `consumer` stands once it has read these changes. Keeping it is the consumer's.
    #[must_use]
    pub fn cursor(&self, consumer: &str, run_id: Option<RunId>, updated_unix_ms: i64) -> CdfCursor {
        CdfCursor {
            consumer: consumer.to_owned(),
            dataset_name: self.dataset.clone(),
            table_id: self.table_id.clone(),
            version: self.through,
            timestamp_unix_ms: self.through_unix_ms,
            commit_digest: self.through_digest,
            run_id,
            updated_unix_ms,
        }
    }

    /// The changes as a table: the columns of the dataset's table, `_change_type`, `_commit_version` and
    /// `_commit_timestamp`, or those of `cdf.columns`.
    ///
    /// # Errors
    /// [`ChangesError::UnknownColumn`] and [`ChangesError::Predicate`] from what is declared, otherwise the engine's.
    pub fn provider(&self, ctx: &SessionContext) -> Result<Arc<dyn TableProvider>, ChangesError> {
        let name = || self.dataset.clone();
        let engine = |source| ChangesError::Engine { dataset: name(), source: Box::new(source) };
        let plan = |source| ChangesError::Plan { dataset: name(), source: Box::new(source) };
        let (start, end) = self.range.unwrap_or((0, 0));
        let scan = self.table.clone().scan_cdf().with_starting_version(start).with_ending_version(end);
        let all = DeltaCdfTableProvider::try_new(scan).map_err(engine)?;
        let schema = all.schema();
        let all: Arc<dyn TableProvider> = match self.range {
            Some(_) => Arc::new(ChangesScan(all)),
            None => Arc::new(EmptyTable::new(Arc::clone(&schema))),
        };
        let all = Arc::new(ChangesTable(all));
        if self.options.predicate.is_none() && self.options.columns.is_none() {
            return Ok(all);
        }
        let mut changes = ctx.read_table(all).map_err(plan)?;
        if let Some(predicate) = &self.options.predicate {
            let state = ctx.state();
            let predicate = RowExpressions::over(&state, &schema)
                .plan("cdf.predicate", predicate)
                .map_err(|source| ChangesError::Predicate { dataset: name(), source })?;
            changes = changes.filter(predicate).map_err(plan)?;
        }
        if let Some(columns) = &self.options.columns {
            if let Some(unknown) = columns.iter().find(|name| schema.index_of(name).is_err()) {
                let known = schema.fields().iter().map(|field| field.name().clone()).collect();
                return Err(ChangesError::UnknownColumn { dataset: name(), column: unknown.clone(), known });
            }
            changes = changes.select(columns.iter().map(|name| column(name)).collect::<Vec<_>>()).map_err(plan)?;
        }
        Ok(Arc::new(ChangesTable(changes.into_view())))
    }
}

/// What the table of a dataset's changes is called.
pub(crate) fn changes_name(dataset: &str) -> String {
    format!("{dataset}__cdf")
}

pub(crate) fn is_on(value: Option<&str>) -> bool {
    value.is_some_and(|value| value.eq_ignore_ascii_case("true"))
}

/// The log of a pinned table.
struct Log<'a> {
    dataset: &'a str,
    pin: &'a DeltaPin,
}

impl Log<'_> {
    fn dataset(&self) -> String {
        self.dataset.to_owned()
    }

    fn start(&self, options: &CdfOptions, cursor: Option<&CdfCursor>) -> Result<u64, ChangesError> {
        if let Some(cursor) = cursor {
            if cursor.table_id != self.pin.table_id {
                return Err(ChangesError::OtherTable {
                    dataset: self.dataset(),
                    consumer: cursor.consumer.clone(),
                    cursor_table: cursor.table_id.clone(),
                    table: self.pin.table_id.clone(),
                });
            }
            // A commit that was cleaned up says nothing, and what follows it is looked for below.
            let stands = self.commit_digest(cursor.version)?;
            if cursor.commit_digest.is_some() && stands.is_some() && stands != cursor.commit_digest {
                return Err(ChangesError::Rewritten {
                    dataset: self.dataset(),
                    consumer: cursor.consumer.clone(),
                    version: cursor.version,
                });
            }
            return Ok(cursor.version + 1);
        }
        match (options.starting_version, &options.starting_timestamp) {
            (Some(version), _) => Ok(version),
            (None, Some(timestamp)) => {
                let from = self.unix_ns("cdf.starting_timestamp", timestamp)?;
                let first = self.monotonic("cdf.starting_timestamp")?.into_iter().find(|(_, time)| *time >= from);
                match first {
                    Some((version, _)) => Ok(version),
                    // Nothing is that new yet.
                    None if options.allow_out_of_range => Ok(self.pin.version + 1),
                    None => Err(self.no_version("cdf.starting_timestamp", "at or after", timestamp)),
                }
            }
            (None, None) => Err(ChangesError::NoStart { dataset: self.dataset() }),
        }
    }

    fn end(&self, options: &CdfOptions) -> Result<u64, ChangesError> {
        match (options.ending_version, &options.ending_timestamp) {
            (Some(version), _) => Ok(version),
            (None, Some(timestamp)) => {
                let until = self.unix_ns("cdf.ending_timestamp", timestamp)?;
                let last = self.monotonic("cdf.ending_timestamp")?.into_iter().rfind(|(_, time)| *time <= until);
                // Later commits than the pinned one are no part of what was pinned.
                last.map(|(version, _)| version.min(self.pin.version))
                    .ok_or_else(|| self.no_version("cdf.ending_timestamp", "at or before", timestamp))
            }
            (None, None) => Ok(self.pin.version),
        }
    }

    /// The digest of a commit's file; `None` if it is not there.
    fn commit_digest(&self, version: u64) -> Result<Option<ContentDigest>, ChangesError> {
        Ok(self.read_commit(version)?.map(|bytes| ContentDigest::of(&bytes)))
    }

    /// The bytes of a commit's file; `None` if it is not there.
    fn read_commit(&self, version: u64) -> Result<Option<Vec<u8>>, ChangesError> {
        let path = commit_path(&self.pin.root, version);
        match std::fs::read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(self.damaged(path, source)),
        }
    }

    fn no_version(&self, field: &'static str, relation: &'static str, timestamp: &str) -> ChangesError {
        ChangesError::Time { dataset: self.dataset(), field, relation, timestamp: timestamp.to_owned() }
    }

    fn unix_ns(&self, field: &'static str, timestamp: &str) -> Result<i128, ChangesError> {
        // The declaration was checked; a cursor's options might not have been.
        let time = DateTime::parse_from_rfc3339(timestamp)
            .map_err(|_| self.no_version(field, "at the time of no RFC 3339 text", timestamp))?;
        Ok(i128::from(time.timestamp()) * 1_000_000_000 + i128::from(time.timestamp_subsec_nanos()))
    }

    fn times(&self) -> Result<BTreeMap<u64, i128>, ChangesError> {
        let log = self.pin.root.join("_delta_log");
        commit_times(&log).map_err(|source| self.damaged(log.clone(), source))
    }

    /// Clocks may run backwards; versions do not. `field` is what asks.
    fn monotonic(&self, field: &'static str) -> Result<Vec<(u64, i128)>, ChangesError> {
        if keeps_commit_times(&self.pin.table) {
            return Err(ChangesError::InCommitTimestamps { dataset: self.dataset(), field });
        }
        let mut latest = i128::MIN;
        let times = self.times()?.into_iter().map(|(version, time)| {
            latest = latest.max(time);
            (version, latest)
        });
        Ok(times.collect())
    }

    /// A metadata action tells it only of the versions after it.
    async fn check_enabled_at(&self, version: u64) -> Result<(), ChangesError> {
        if !commit_path(&self.pin.root, version).exists() {
            return Err(ChangesError::Gap { dataset: self.dataset(), version });
        }
        let load = async {
            let builder = DeltaTableBuilder::from_url(self.pin.table.table_url().clone())?;
            builder.with_version(version).load().await
        };
        let engine = |source| ChangesError::Engine { dataset: self.dataset(), source: Box::new(source) };
        let table: DeltaTable = load.await.map_err(engine)?;
        let state = table.snapshot().map_err(engine)?;
        match is_on(state.metadata().configuration().get(ENABLED).map(String::as_str)) {
            true => Ok(()),
            false => Err(ChangesError::Disabled { dataset: self.dataset(), version }),
        }
    }

    /// The digest of a commit that is there, keeps the changes on, and whose files are there.
    fn check_commit(&self, version: u64) -> Result<ContentDigest, ChangesError> {
        let gap = || ChangesError::Gap { dataset: self.dataset(), version };
        let bytes = self.read_commit(version)?.ok_or_else(gap)?;
        let path = commit_path(&self.pin.root, version);
        let text = String::from_utf8(bytes).map_err(|source| self.damaged(path.clone(), source))?;
        let lines = text.lines().filter(|line| !line.trim().is_empty()).map(serde_json::from_str::<Value>);
        let actions = lines.collect::<Result<Vec<_>, _>>().map_err(|source| self.damaged(path, source))?;
        if actions.iter().any(|action| {
            let metadata = &action["metaData"];
            metadata.is_object() && !is_on(metadata["configuration"][ENABLED].as_str())
        }) {
            return Err(ChangesError::Disabled { dataset: self.dataset(), version });
        }
        let of = |kind: &'static str| actions.iter().map(move |action| action[kind].clone()).filter(Value::is_object);
        let changed = |file: &Value| file["dataChange"] == Value::Bool(true);
        let mut files: Vec<Value> = of("cdc").collect();
        if files.is_empty() {
            files = of("add").chain(of("remove")).filter(changed).collect();
        }
        for file in &files {
            let Some(path) = file["path"].as_str().map(|path| self.local(path)).filter(|path| !path.exists()) else {
                continue;
            };
            return Err(ChangesError::Vacuumed { dataset: self.dataset(), version, path });
        }
        Ok(ContentDigest::of(text.as_bytes()))
    }

    fn local(&self, path: &str) -> PathBuf {
        let decoded = percent_decode_str(path).decode_utf8_lossy();
        self.pin.root.join(Path::new(decoded.strip_prefix("file://").unwrap_or(&decoded)))
    }

    fn damaged(&self, path: PathBuf, source: impl std::error::Error + Send + Sync + 'static) -> ChangesError {
        ChangesError::Commit { dataset: self.dataset(), path, source: Box::new(source) }
    }
}
