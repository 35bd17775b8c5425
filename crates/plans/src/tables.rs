//! Which table a scan reads. Its name does not say: a plan that was built has the tables that had the names then and there.

use std::collections::BTreeMap;
use std::sync::Arc;

use alluvium_profile::Session;
use datafusion::catalog::TableProvider;
use datafusion::common::TableReference;
use datafusion::datasource::source_as_provider;
use datafusion::logical_expr::TableScan;

/// Tables of a session, by their bare names.
#[derive(Debug, Clone)]
pub(crate) struct Tables(BTreeMap<String, Arc<dyn TableProvider>>);

impl Tables {
    /// What `session` has under these names now. A name that it has no table by is left out.
    pub(crate) async fn of<N: AsRef<str>>(session: &Session, names: &[N]) -> Self {
        let mut tables = BTreeMap::new();
        for name in names {
            let name = name.as_ref();
            if let Ok(table) = session.context().table_provider(TableReference::bare(name)).await {
                tables.insert(name.to_owned(), table);
            }
        }
        Self(tables)
    }

    pub(crate) fn has_name(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// The table of this name; none of one that is qualified.
    pub(crate) fn named(&self, table: &TableReference) -> Option<&Arc<dyn TableProvider>> {
        match table {
            TableReference::Bare { table } => self.0.get(table.as_ref()),
            TableReference::Partial { .. } | TableReference::Full { .. } => None,
        }
    }

    /// Whether `scan` reads the very table that its name stands for here.
    pub(crate) fn has(&self, scan: &TableScan) -> bool {
        self.named(&scan.table_name).is_some_and(|table| reads(scan, table))
    }
}

/// Whether `scan` reads this very table.
pub(crate) fn reads(scan: &TableScan, table: &Arc<dyn TableProvider>) -> bool {
    source_as_provider(&scan.source).is_ok_and(|scanned| is_same(table, &scanned))
}

/// Whether these are one and the same table.
pub(crate) fn is_same(one: &Arc<dyn TableProvider>, other: &Arc<dyn TableProvider>) -> bool {
    // Not `Arc::ptr_eq`: one type may have several tables of methods.
    std::ptr::addr_eq(Arc::as_ptr(one), Arc::as_ptr(other))
}
