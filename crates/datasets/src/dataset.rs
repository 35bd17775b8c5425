//! A pinned dataset: its identity, its provider, and whether it is still what was pinned.

mod artifact;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use alluvium_contracts::{AdapterChoice, ConstraintSpec, DatasetFormat, PinDigest};
use arrow::datatypes::SchemaRef;
use datafusion::catalog::TableProvider;
use datafusion::error::DataFusionError;
use datafusion::physical_plan::execute_stream;
use datafusion::prelude::SessionContext;
use futures::TryStreamExt;

use crate::adapter;
use crate::constraint_facts::{self, TableConstraint};
use crate::delta::DeltaPin;
use crate::file_table::{FileTable, Projection};
use crate::infer::unpanicked;
use crate::pin::{Counters, FilePin};
use crate::projection::resolved_text;
use crate::schema_text::{identity_bytes, schema_text};
use crate::shape::Shape;
use crate::watched::Watch;
use crate::{Change, ChangedError, Changes, FileStamp, HashError, PinError};

/// Raised when the same input and way of reading it give another digest.
const PIN_EPOCH: u32 = 1;

/// The exact state of an input, and the way it is read. Cloning is cheap.
#[derive(Debug, Clone)]
pub struct PinnedDataset {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    name: String,
    format: DatasetFormat,
    schema: SchemaRef,
    digest: PinDigest,
    components: BTreeMap<String, String>,
    content: Content,
    projection: Option<Projection>,
    constraints: ConstraintSpec,
    table_constraints: Vec<TableConstraint>,
    changes: Option<Changes>,
}

#[derive(Debug)]
enum Content {
    Files {
        table: FileTable,
        counters: Arc<Counters>,
    },
    Delta {
        pin: DeltaPin,
        shaped: ShapedDelta,
    },
    /// Of the table that is pinned so.
    Changes {
        pin: DeltaPin,
        provider: Arc<dyn TableProvider>,
    },
}

/// A Delta table by the columns that are declared.
#[derive(Debug)]
pub(crate) struct ShapedDelta {
    pub(crate) provider: Arc<dyn TableProvider>,
    pub(crate) adapter: AdapterChoice,
}

/// What of a pin does not come from its content.
pub(crate) struct Described<'a> {
    pub(crate) name: &'a str,
    pub(crate) format: DatasetFormat,
    pub(crate) shape: &'a Shape,
    /// Over the columns that the content is read by.
    pub(crate) projection: Option<Projection>,
    pub(crate) constraints: ConstraintSpec,
}

impl Described<'_> {
    fn schema(&self, read: &SchemaRef) -> SchemaRef {
        Arc::clone(self.projection.as_ref().map_or(read, |projection| &projection.schema))
    }
}

impl PinnedDataset {
    pub(crate) fn of_files(described: Described<'_>, table: FileTable, counters: Arc<Counters>) -> Self {
        let resolved = table.options.resolved();
        let schema = described.schema(&table.layout.schema);
        // A multiset: names, places and order are no part of it, but how often a content comes is.
        let content = match table.partitions {
            0 => {
                let mut digests: Vec<_> = table.files.iter().map(|file| file.digest).collect();
                digests.sort_unstable();
                serde_json::json!({ "files": digests })
            }
            // The directory of a file says some of its values.
            _ => {
                let mut files: Vec<_> =
                    table.files.iter().map(|file| (file.digest, file.partition_texts.as_slice())).collect();
                files.sort_unstable();
                serde_json::json!({ "partitioned files": files })
            }
        };
        let digest = digest(&described, &resolved, &schema, &[], &content);

        let mut components = components(&described, &resolved, &schema);
        for file in &table.files {
            components.insert(format!("file {}", file.label), file.digest.to_string());
        }
        Self::new(described, schema, digest, components, Content::Files { table, counters }, None)
    }

    pub(crate) fn of_delta(
        described: Described<'_>,
        pin: DeltaPin,
        shaped: ShapedDelta,
        changes: Option<Changes>,
    ) -> Self {
        let schema = described.schema(&shaped.provider.schema());
        let (commit, commit_digest) = pin.content.component();
        // The version as text: canonical JSON has no integers of its size.
        let content = serde_json::json!({
            "delta table": pin.table_id,
            "delta version": pin.version.to_string(),
            commit: commit_digest,
            "delta active files": pin.active_files.to_string(),
        });
        let options = pin.options();
        let digest = digest(&described, &options, &schema, &pin.partition_columns, &content);

        let mut components = components(&described, &options, &schema);
        if !pin.partition_columns.is_empty() {
            let columns = serde_json::Value::from(pin.partition_columns.clone());
            components.insert("partition columns".to_owned(), columns.to_string());
        }
        components.insert("delta table".to_owned(), pin.table_id.clone());
        components.insert("delta version".to_owned(), pin.version.to_string());
        components.insert(commit.to_owned(), commit_digest);
        Self::new(described, schema, digest, components, Content::Delta { pin, shaped }, changes)
    }

    /// The changes that `cdf` declares as an input of their own, `NAME__cdf`; `None` without any.
    ///
    /// Its pin is of the table's id, the versions of the range and their commits, the schema, and the columns and predicate that are
    /// declared. A range without changes has the same pin wherever it ends.
    ///
    /// # Errors
    /// [`PinError::Changes`] from the columns or the predicate that are declared, otherwise with the engine's word.
    pub fn changes_input(&self, ctx: &SessionContext) -> Result<Option<Self>, PinError> {
        let (Some(changes), Content::Delta { pin, .. }) = (self.changes(), &self.inner.content) else {
            return Ok(None);
        };
        let refused = |source| PinError::Changes { dataset: self.inner.name.clone(), source: Box::new(source) };
        let provider = changes.provider(ctx).map_err(refused)?;
        let schema = provider.schema();
        let mut components = changes.components();
        components.insert("format".to_owned(), DatasetFormat::Delta.as_str().to_owned());
        components.insert("schema".to_owned(), schema_text(&schema));
        let identity = serde_json::json!({ "epoch": PIN_EPOCH, "changes": components });
        let inner = Inner {
            name: changes.name(),
            format: DatasetFormat::Delta,
            schema,
            digest: PinDigest::of(&identity_bytes(&identity)),
            components,
            content: Content::Changes { pin: pin.clone(), provider },
            projection: None,
            constraints: ConstraintSpec::default(),
            table_constraints: Vec::new(),
            changes: self.inner.changes.clone(),
        };
        Ok(Some(Self { inner: Arc::new(inner) }))
    }

    fn new(
        described: Described<'_>,
        schema: SchemaRef,
        digest: PinDigest,
        components: BTreeMap<String, String>,
        content: Content,
        changes: Option<Changes>,
    ) -> Self {
        let table = match &content {
            Content::Files { .. } => None,
            Content::Delta { pin, .. } | Content::Changes { pin, .. } => Some(&pin.table),
        };
        let table_constraints = constraint_facts::of_dataset(&described.constraints, described.shape, &schema, table);
        let Described { name, format, projection, constraints, .. } = described;
        let name = name.to_owned();
        let inner = Inner {
            name,
            format,
            schema,
            digest,
            components,
            content,
            projection,
            constraints,
            table_constraints,
            changes,
        };
        Self { inner: Arc::new(inner) }
    }

    /// The name of the source. It is no part of the pin.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// The format.
    #[must_use]
    pub fn format(&self) -> DatasetFormat {
        self.inner.format
    }

    /// How the columns of its files become those that it is read by, before `projection_exprs`. No value is in it.
    #[must_use]
    pub fn adapter(&self) -> AdapterChoice {
        match &self.inner.content {
            Content::Files { table, .. } => {
                let groups = table.layout.groups.iter().map(|group| (group.files.len(), group));
                adapter::choice(&self.inner.name, &table.layout.schema, groups)
            }
            Content::Delta { shaped, .. } => shaped.adapter.clone(),
            // Its files are the engine's to find, a version at a time.
            Content::Changes { .. } => adapter::as_it_is(&self.inner.name, 0),
        }
    }

    /// The full schema: that of the provider.
    #[must_use]
    pub fn schema(&self) -> &SchemaRef {
        &self.inner.schema
    }

    /// The pin: of the format, every resolved option, the full schema, the partition columns, and the content. Where
    /// the files lie, what they are called and in which order they come is no part of it.
    #[must_use]
    pub fn digest(&self) -> PinDigest {
        self.inner.digest
    }

    /// Every component of the pin, by name, location-neutral: what a miss explanation compares.
    ///
    /// `format` and `schema`; `option NAME` for each; for files `file NAME` with the content's digest, named as below
    /// the directory that the source names; for a Delta table `delta table` (its id), `delta version`, `delta commit` (or
    /// `delta active files`, once the log has expired) and `partition columns`; `declared schema`,
    /// `declared partitions`, `ordering`, `evolution` and `projection` where they are declared. Two pins with equal components are equal; equal
    /// pins may differ in the names of files.
    #[must_use]
    pub fn components(&self) -> &BTreeMap<String, String> {
        &self.inner.components
    }

    /// A provider that scans what was pinned and never looks for other files.
    ///
    /// Local files are read by their pinned path: one that is rewritten or exchanged after it was pinned is only noticed
    /// by [`recheck`](Self::recheck), which has to come after the scan.
    ///
    /// # Errors
    /// [`PinError::Store`] if the engine refuses an address for the files. A Delta table is opened when it is pinned.
    pub fn provider(&self) -> Result<Arc<dyn TableProvider>, PinError> {
        let provider = match &self.inner.content {
            Content::Files { table, .. } => {
                let watch = Watch::over(&table.files)
                    .map_err(|source| PinError::Store { dataset: self.inner.name.clone(), source: Box::new(source) })?;
                table.provider(&watch)
            }
            Content::Delta { shaped, .. } => Arc::clone(&shaped.provider),
            Content::Changes { provider, .. } => Arc::clone(provider),
        };
        Ok(match &self.inner.projection {
            Some(projection) => projection.over(provider),
            None => provider,
        })
    }

    /// Has anything changed since it was pinned? Stats every file again; rehashes those that were too young to trust
    /// when they were pinned. Of a Delta table it looks at the pinned commit.
    ///
    /// Any change of a stamp counts, even one that left the same bytes: between then and now there may have been others.
    /// Blocks.
    ///
    /// # Errors
    /// [`ChangedError`] names the file and what changed.
    pub fn recheck(&self) -> Result<(), ChangedError> {
        let changed = match &self.inner.content {
            Content::Files { table, counters } => table
                .files
                .iter()
                .try_for_each(|file| file.recheck(counters).map_err(|change| (file.path.clone(), change))),
            Content::Delta { pin, .. } | Content::Changes { pin, .. } => pin.recheck(),
        };
        changed.map_err(|(path, change): (PathBuf, Change)| ChangedError {
            dataset: self.inner.name.clone(),
            path,
            change,
        })
    }

    /// Reads each file alone and to its end, and answers the first that fails, with the engine's word. For messages: the
    /// engine says of many files only that one of them is wrong. `None` of a Delta table, whose provider names the file.
    pub async fn first_unreadable(&self, ctx: &SessionContext) -> Option<(PathBuf, DataFusionError)> {
        let Content::Files { table, .. } = &self.inner.content else {
            return None;
        };
        for (index, path) in table.paths().enumerate() {
            let file = table.of_file(index);
            let read = async {
                let plan = file.scan(&ctx.state(), None, &[], None).await?;
                let mut batches = execute_stream(plan, ctx.task_ctx())?;
                while batches.try_next().await?.is_some() {}
                Ok(())
            };
            if let Err(error) = unpanicked(read).await {
                return Some((path.clone(), error));
            }
        }
        None
    }

    /// The columns of `projection_exprs` as they were resolved: name, type and expression of each. Empty without any.
    #[must_use]
    pub fn resolved_projection(&self) -> Vec<String> {
        let projection = self.inner.projection.as_ref();
        projection.map(|projection| resolved_text(&projection.schema, &projection.columns)).unwrap_or_default()
    }

    /// What is declared of the rows. [`Pinner::check_constraints`](crate::Pinner::check_constraints) holds them against it.
    #[must_use]
    pub fn constraints(&self) -> &ConstraintSpec {
        &self.inner.constraints
    }

    /// All that is declared of its rows and columns, by its declaration and by its Delta log: what
    /// `alluvium.table_constraints` shows.
    #[must_use]
    pub fn table_constraints(&self) -> &[TableConstraint] {
        &self.inner.table_constraints
    }

    /// The changes that `cdf` declares, up to the pinned version; `None` without it, or if the table records none.
    #[must_use]
    pub fn changes(&self) -> Option<&Changes> {
        self.inner.changes.as_ref()
    }

    /// The version of a Delta table.
    #[must_use]
    pub fn delta_version(&self) -> Option<u64> {
        match &self.inner.content {
            Content::Files { .. } => None,
            Content::Delta { pin, .. } | Content::Changes { pin, .. } => Some(pin.version),
        }
    }

    /// How many files a scan would read, if nothing were pruned; of changes it is not told, and 0.
    #[must_use]
    pub fn file_count(&self) -> usize {
        match &self.inner.content {
            Content::Files { table, .. } => table.files.len(),
            Content::Delta { pin, .. } => pin.file_count,
            Content::Changes { .. } => 0,
        }
    }

    /// Their bytes.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        match &self.inner.content {
            Content::Files { table, .. } => table.files.iter().map(|file| file.stamp.size_bytes).sum(),
            Content::Delta { pin, .. } => pin.size_bytes,
            Content::Changes { .. } => 0,
        }
    }
}

fn digest(
    described: &Described<'_>,
    options: &BTreeMap<&'static str, String>,
    schema: &SchemaRef,
    partition_columns: &[String],
    content: &serde_json::Value,
) -> PinDigest {
    let mut identity = serde_json::json!({
        "epoch": PIN_EPOCH,
        "format": described.format.as_str(),
        "options": options,
        "schema": schema_text(schema),
        "partition_columns": partition_columns,
        "content": content,
    });
    // Absent for a dataset that declares no more than format, place and options.
    let shape = described.shape.identity();
    if !shape.is_empty() {
        identity["shape"] = serde_json::json!(shape);
    }
    PinDigest::of(&identity_bytes(&identity))
}

fn components(
    described: &Described<'_>,
    options: &BTreeMap<&'static str, String>,
    schema: &SchemaRef,
) -> BTreeMap<String, String> {
    let options = options.iter().map(|(name, value)| (format!("option {name}"), value.clone()));
    let shape = described.shape.identity().into_iter().map(|(name, value)| (name.to_owned(), value));
    let mut components: BTreeMap<_, _> = options.chain(shape).collect();
    components.insert("format".to_owned(), described.format.as_str().to_owned());
    components.insert("schema".to_owned(), schema_text(schema));
    components
}

impl FilePin {
    /// What has changed of the file since it was pinned.
    pub(crate) fn recheck(&self, counters: &Counters) -> Result<(), Change> {
        let is = FileStamp::of(&self.path).map_err(|source| Change::Gone { source })?;
        let was = self.stamp;
        // What lies there now may be the pinned file again.
        if self.strayed.is_set() || (is.dev, is.inode) != (was.dev, was.inode) {
            return Err(Change::Replaced);
        }
        if is.size_bytes != was.size_bytes {
            return Err(Change::Size { was_bytes: was.size_bytes, is_bytes: is.size_bytes });
        }
        if is != was {
            return Err(Change::Touched);
        }
        if !self.young {
            return Ok(());
        }
        match counters.hash_file(&self.path) {
            Ok((digest, _)) if digest == self.digest => Ok(()),
            Ok((digest, _)) => Err(Change::Content { was: self.digest, is: digest }),
            Err(HashError::NotFound { source, .. }) => Err(Change::Gone { source }),
            Err(source) => Err(Change::Unreadable { source }),
        }
    }
}
