//! Lineage: where a view, or one of its columns, comes from, through every view on the way to the sources.

use std::collections::{BTreeMap, BTreeSet};

use alluvium_contracts::{LineageDocument, LineageSummary, ViewLineage};
use alluvium_plans::lineage_of_columns;

use crate::decide::Decisions;
use crate::error::RunError;
use crate::locate::meant;
use crate::pipeline::Pipeline;

impl Pipeline {
    /// Traces `VIEW`, or `VIEW.COLUMN`, to the sources. Plans the view and its ancestors, and computes nothing.
    ///
    /// The column may be a view's own published name only: what is behind the first dot.
    ///
    /// # Errors
    /// [`RunError::UnknownView`] and [`RunError::UnknownColumn`], with the name that was probably meant; what planning may
    /// fail with.
    pub async fn lineage(&self, target: &str) -> Result<LineageDocument, RunError> {
        // The names of views have no dots; those of columns may.
        let (view, column) = match target.split_once('.') {
            Some((view, column)) => (view, Some(column)),
            None => (target, None),
        };
        let decisions = Decisions::take_named(self, &BTreeSet::from([view.to_owned()]), &BTreeSet::new()).await?;
        // Topological, the asked view last.
        let lineages: Vec<(&String, LineageSummary)> = decisions
            .graph
            .order
            .iter()
            .filter_map(|name| Some((name, decisions.views.get(name)?.bundle.lineage())))
            .rev()
            .collect();
        let lineages = match column {
            None => lineages,
            Some(column) => upstream_of(lineages, view, column)?,
        };
        let views = lineages.into_iter().map(|(view, lineage)| ViewLineage { view: view.clone(), lineage }).collect();
        Ok(LineageDocument { view: view.to_owned(), column: column.map(str::to_owned), views })
    }
}

/// Of `lineages`, readers first, what `view.column` depends on.
fn upstream_of<'n>(
    lineages: Vec<(&'n String, LineageSummary)>,
    view: &str,
    column: &str,
) -> Result<Vec<(&'n String, LineageSummary)>, RunError> {
    let mut wanted = BTreeMap::from([(view.to_owned(), BTreeSet::from([column.to_owned()]))]);
    let mut upstream = Vec::new();
    for (name, lineage) in lineages {
        let Some(columns) = wanted.get(name) else {
            continue;
        };
        if name == view && !lineage.columns.iter().any(|known| known.column == column) {
            let suggestion = meant(column, lineage.columns.iter().map(|known| known.column.as_str()));
            return Err(RunError::UnknownColumn { view: view.to_owned(), column: column.to_owned(), suggestion });
        }
        let lineage = lineage_of_columns(&lineage, columns);
        for (table, columns) in &lineage.required_columns {
            wanted.entry(table.clone()).or_default().extend(columns.iter().cloned());
        }
        upstream.push((name, lineage));
    }
    Ok(upstream)
}
