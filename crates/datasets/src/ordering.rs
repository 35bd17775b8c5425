//! Whether the rows of a file come in the order that is declared of them. The engine takes an order for granted, and what
//! it merges by one that is not there is wrong without a word.

use std::fmt::Write as _;
use std::sync::Arc;

use alluvium_contracts::OrderingSpec;
use arrow::row::{OwnedRow, RowConverter, SortField};
use datafusion::catalog::TableProvider;
use datafusion::error::{DataFusionError, Result};
use datafusion::physical_plan::execute_stream;
use datafusion::prelude::SessionContext;
use futures::TryStreamExt;

use crate::file_table::sort_options;

/// The first row of `file` that should come before the one before it. `columns` are the places of those that order.
pub(crate) async fn first_unordered(
    ctx: &SessionContext,
    file: Arc<dyn TableProvider>,
    columns: &Vec<usize>,
    ordering: &[OrderingSpec],
) -> Result<Option<u64>> {
    let schema = file.schema().project(columns)?;
    let fields = schema.fields().iter().zip(ordering);
    let fields = fields.map(|(field, by)| SortField::new_with_options(field.data_type().clone(), sort_options(by)));
    let converter = RowConverter::new(fields.collect())?;
    let plan = file.scan(&ctx.state(), Some(columns), &[], None).await?;
    if plan.properties().partitioning.partition_count() != 1 {
        return Err(DataFusionError::Internal("one file is scanned in several parts".to_owned()));
    }
    let mut batches = execute_stream(plan, ctx.task_ctx())?;
    let (mut before, mut seen): (Option<OwnedRow>, u64) = (None, 0);
    while let Some(batch) = batches.try_next().await? {
        let rows = converter.convert_columns(batch.columns())?;
        let (first, last) = match rows.num_rows() {
            0 => continue,
            count => (rows.row(0), rows.row(count - 1)),
        };
        if before.is_some_and(|before| first < before.row()) {
            return Ok(Some(seen));
        }
        if let Some(place) = (1..rows.num_rows()).find(|place| rows.row(*place) < rows.row(place - 1)) {
            return Ok(Some(seen + place as u64));
        }
        before = Some(last.owned());
        seen += rows.num_rows() as u64;
    }
    Ok(None)
}

/// `a, b desc nulls last`.
pub(crate) fn text(ordering: &[OrderingSpec]) -> String {
    let mut text = String::new();
    for (index, by) in ordering.iter().enumerate() {
        let comma = if index > 0 { ", " } else { "" };
        let direction = if by.descending { " desc" } else { "" };
        let nulls = if by.nulls_first { "" } else { " nulls last" };
        // Writing to a string cannot fail.
        let _ = write!(text, "{comma}{}{direction}{nulls}", by.column);
    }
    text
}
