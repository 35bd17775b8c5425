//! Which files can hold rows for which a filter holds, by what is known of their columns.

use std::collections::HashSet;
use std::sync::Arc;

use alluvium_write_policy::decided_by_bounds;
use arrow::array::{ArrayRef, BooleanArray, UInt64Array};
use arrow::datatypes::SchemaRef;
use datafusion::catalog::Session;
use datafusion::common::pruning::PruningStatistics;
use datafusion::common::{Column, DFSchema, ScalarValue};
use datafusion::error::Result;
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::physical_optimizer::pruning::PruningPredicateBuilder;

use crate::scan::ScanFile;

/// The least and the greatest value of a column of a file that has no NULL in it. They have to be exactly these.
#[derive(Debug, Clone)]
pub(crate) struct Bounds {
    /// The place of the column in the caller's schema.
    pub(crate) column: usize,
    pub(crate) min: ScalarValue,
    pub(crate) max: ScalarValue,
}

/// Of `files`, those that may hold rows for which all `filters` hold. `schema` is the one that bounds are of.
pub(crate) fn prune(
    files: Vec<ScanFile>,
    schema: &SchemaRef,
    state: &dyn Session,
    filters: &[Expr],
) -> Result<Vec<ScanFile>> {
    if files.iter().all(|file| file.bounds.is_empty()) {
        return Ok(files);
    }
    let df_schema = DFSchema::try_from(schema.as_ref().clone())?;
    let known = Known { files: &files, schema };
    let mut keep = vec![true; files.len()];
    for filter in filters.iter().flat_map(split_conjunction) {
        // Pruning only saves time, the filter is applied again above the scan.
        let Ok(condition) = state.create_physical_expr(filter.clone(), &df_schema) else {
            continue;
        };
        if !decided_by_bounds(&condition) {
            continue;
        }
        let predicate = PruningPredicateBuilder::new().with_file_schema(Arc::clone(schema)).try_build(condition);
        let Ok(may_hold) = predicate.and_then(|predicate| predicate.prune(&known)) else {
            continue;
        };
        for (keep, may_hold) in keep.iter_mut().zip(may_hold) {
            *keep &= may_hold;
        }
    }
    Ok(files.into_iter().zip(keep).filter(|(_, keep)| *keep).map(|(file, _)| file).collect())
}

struct Known<'a> {
    files: &'a [ScanFile],
    schema: &'a SchemaRef,
}

impl Known<'_> {
    /// One of the bounds of a column, for each file; NULL where there is none.
    fn values(&self, column: &Column, value: impl Fn(&Bounds) -> &ScalarValue) -> Option<ArrayRef> {
        let (place, field) = self.schema.column_with_name(column.name())?;
        let unknown = ScalarValue::try_from(field.data_type()).ok()?;
        let of =
            |file: &ScanFile| bounds_of(file, place).map_or_else(|| unknown.clone(), |bounds| value(bounds).clone());
        ScalarValue::iter_to_array(self.files.iter().map(of)).ok()
    }
}

fn bounds_of(file: &ScanFile, column: usize) -> Option<&Bounds> {
    file.bounds.iter().find(|bounds| bounds.column == column)
}

impl PruningStatistics for Known<'_> {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        self.values(column, |bounds| &bounds.min)
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        self.values(column, |bounds| &bounds.max)
    }

    fn num_containers(&self) -> usize {
        self.files.len()
    }

    fn null_counts(&self, column: &Column) -> Option<ArrayRef> {
        let place = self.schema.index_of(column.name()).ok()?;
        let counts = self.files.iter().map(|file| bounds_of(file, place).map(|_| 0));
        Some(Arc::new(counts.collect::<UInt64Array>()))
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        None
    }

    fn contained(&self, _: &Column, _: &HashSet<ScalarValue>) -> Option<BooleanArray> {
        None
    }
}
