//! The table over pinned files: a scan for each group of equal columns, and their union by one schema.

use std::path::PathBuf;
use std::sync::Arc;

use alluvium_contracts::OrderingSpec;
use arrow::compute::SortOptions;
use arrow::datatypes::SchemaRef;
use datafusion::catalog::TableProvider;
use datafusion::logical_expr::Expr;

use crate::layout::{Group, Layout};
use crate::options::ReadOptions;
use crate::pin::FilePin;
use crate::scan::{FileScan, ScanFile};
use crate::shaped::{Input, Shaped};
use crate::watched::Watch;

/// Pinned files, and how they are read.
#[derive(Debug, Clone)]
pub(crate) struct FileTable {
    pub(crate) options: ReadOptions,
    pub(crate) layout: Layout,
    pub(crate) files: Vec<FilePin>,
    pub(crate) partitions: usize,
    pub(crate) ordering: Vec<OrderingSpec>,
}

impl FileTable {
    /// All files, each watched when it is opened.
    pub(crate) fn provider(&self, watch: &Watch) -> Arc<dyn TableProvider> {
        self.over(|_| true, |scan| scan.watched(watch.clone()))
    }

    /// One file alone, without what is declared of its order.
    pub(crate) fn of_file(&self, index: usize) -> Arc<dyn TableProvider> {
        self.over(|file| file == index, |scan| scan.ordered(&[]))
    }

    pub(crate) fn paths(&self) -> impl Iterator<Item = &PathBuf> {
        self.files.iter().map(|file| &file.path)
    }

    fn over(&self, is_wanted: impl Fn(usize) -> bool, adjust: impl Fn(FileScan) -> FileScan) -> Arc<dyn TableProvider> {
        let mut inputs = Vec::new();
        for group in &self.layout.groups {
            let files: Vec<ScanFile> = group
                .files
                .iter()
                .filter(|index| is_wanted(**index))
                .map(|index| &self.files[*index])
                .map(|file| ScanFile {
                    meta: file.object_meta(),
                    partition_values: file.partition_values.clone(),
                    row_count: None,
                    bounds: Vec::new(),
                })
                .collect();
            if files.is_empty() {
                continue;
            }
            let columns = group.schema.fields().len();
            let partitions: Vec<usize> = (columns - self.partitions..columns).collect();
            let scan = FileScan::new(self.options.clone(), Arc::clone(&group.schema), &partitions, files);
            let provider: Arc<dyn TableProvider> = Arc::new(adjust(scan.ordered(&self.ordering(group))));
            match &group.columns {
                // Only of a single group: otherwise there is something that tells them apart.
                None if self.layout.groups.len() == 1 => return provider,
                None => inputs.push(Input::plain(provider)),
                Some(columns) => inputs.push(Input { provider, columns: columns.clone() }),
            }
        }
        Arc::new(Shaped::new(Arc::clone(&self.layout.schema), inputs))
    }

    /// The declared order by the columns of a group; cut short where a column is not one of the files'.
    fn ordering(&self, group: &Group) -> Vec<(usize, SortOptions)> {
        let in_files = |by: &OrderingSpec| {
            let name = match &group.columns {
                None => by.column.as_str(),
                Some(columns) => match &columns[self.layout.schema.index_of(&by.column).ok()?] {
                    Expr::Column(column) => column.name(),
                    _ => return None,
                },
            };
            Some((group.schema.index_of(name).ok()?, sort_options(by)))
        };
        self.ordering.iter().map_while(in_files).collect()
    }
}

pub(crate) fn sort_options(by: &OrderingSpec) -> SortOptions {
    SortOptions { descending: by.descending, nulls_first: by.nulls_first }
}

/// The columns of a table, computed from those of another.
#[derive(Debug, Clone)]
pub(crate) struct Projection {
    pub(crate) schema: SchemaRef,
    pub(crate) columns: Vec<Expr>,
}

impl Projection {
    pub(crate) fn over(&self, provider: Arc<dyn TableProvider>) -> Arc<dyn TableProvider> {
        let input = Input { provider, columns: self.columns.clone() };
        Arc::new(Shaped::new(Arc::clone(&self.schema), vec![input]))
    }
}
