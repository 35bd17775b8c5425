//! Prepared statements: kept as text here, not as plans in the engine.
//!
//! The engine's own store cannot be listed, plans when it prepares (so that a table is read as it was then), forgets
//! everything when a `datafusion.runtime` setting changes, and lets any session execute what another policy prepared. Here a statement is planned
//! whenever it is executed, under the policy of whoever executes it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{LazyLock, PoisonError, RwLock};

use alluvium_contracts::{PreparedAction, PreparedStatementUse, SqlPolicy};
use datafusion::arrow::datatypes::DataType;
use datafusion::sql::sqlparser::dialect::GenericDialect;

use crate::profile_keys::meant;
use crate::query_error::QueryError;
use crate::statement::{self, Parsed};

/// The system queries: what a front end asks again and again. Each is what stands behind `PREPARE`.
///
/// `constraints` knows what `information_schema` knows: columns that cannot be NULL.
const SYSTEM_QUERIES: &[(&str, &[DataType], &str)] = &[
    (
        "caches",
        &[],
        "caches as select name, value from information_schema.df_settings \
         where name like 'datafusion.runtime.%cache%' order by name",
    ),
    (
        "columns",
        &[DataType::Utf8View],
        "columns (varchar) as select table_catalog, table_schema, table_name, column_name, ordinal_position, data_type, \
         is_nullable from information_schema.columns where table_name = $1 order by 1, 2, 3, 5",
    ),
    (
        "constraints",
        &[],
        "constraints as select table_catalog, table_schema, table_name, column_name, 'NOT NULL' as constraint_type \
         from information_schema.columns where is_nullable = 'NO' and table_schema <> 'information_schema' \
         order by 1, 2, 3, ordinal_position",
    ),
    (
        "routines",
        &[],
        "routines as select distinct routine_name, function_type, data_type, is_deterministic \
         from information_schema.routines order by 1, 2, 3, 4",
    ),
    (
        "schema_snapshot",
        &[],
        "schema_snapshot as select table_catalog, table_schema, table_name, column_name, ordinal_position, data_type, \
         is_nullable from information_schema.columns where table_schema <> 'information_schema' order by 1, 2, 3, 5",
    ),
    (
        "tables",
        &[],
        "tables as select table_catalog, table_schema, table_name, table_type from information_schema.tables \
         where table_schema <> 'information_schema' order by 1, 2, 3",
    ),
];

/// The parser's limit for what is in this file.
const RECURSION_LIMIT: usize = 50;

static SYSTEM: LazyLock<Vec<Entry>> = LazyLock::new(|| {
    let entry = |(name, parameters, sql): &(&str, &[DataType], &str)| {
        let mut entry = Entry::parse_prepare(name, format!("prepare {sql}")).ok()?;
        entry.described.parameters = parameters.to_vec();
        Some(entry)
    };
    SYSTEM_QUERIES.iter().filter_map(entry).collect()
});

/// A statement that can be executed by name.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct PreparedStatement {
    /// Its name.
    pub name: String,
    /// The whole `PREPARE` as it was written.
    pub sql: String,
    /// The types of its parameters, in their order. What an extension brought is planned when it is executed, and has none
    /// until then.
    pub parameters: Vec<DataType>,
    /// The policy of the session that prepared it. One with a tighter policy cannot execute it.
    pub prepared_under: SqlPolicy,
    /// Whether it comes with every session and cannot be taken away.
    pub is_system: bool,
}

impl PreparedStatement {
    /// What diagnostics tell of it.
    #[must_use]
    pub fn used(&self, action: PreparedAction) -> PreparedStatementUse {
        PreparedStatementUse {
            name: self.name.clone(),
            action,
            parameter_types: self.parameters.iter().map(DataType::to_string).collect(),
            sql_policy: self.prepared_under,
        }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) described: PreparedStatement,
    pub(crate) parsed: Parsed,
}

impl Entry {
    /// One that comes with the session: `sql` is what stands behind `PREPARE name AS`. It may only ask.
    pub(crate) fn parse(name: &str, sql: &str) -> Result<Self, QueryError> {
        Self::parse_prepare(name, format!("prepare \"{}\" as {sql}", name.replace('"', "\"\"")))
    }

    fn parse_prepare(name: &str, sql: String) -> Result<Self, QueryError> {
        // PREPARE itself takes `service`; anything looser is inside it.
        let parsed = statement::parse(&sql, &GenericDialect {}, RECURSION_LIMIT)?.under(SqlPolicy::Service)?;
        let described = PreparedStatement {
            name: name.to_owned(),
            sql,
            parameters: Vec::new(),
            prepared_under: SqlPolicy::ReadOnly,
            is_system: true,
        };
        Ok(Self { described, parsed })
    }
}

/// The prepared statements of a session.
pub(crate) struct Registry(RwLock<BTreeMap<String, Entry>>);

impl Default for Registry {
    /// The system queries.
    fn default() -> Self {
        let system = SYSTEM.iter().map(|entry| (entry.described.name.clone(), entry.clone()));
        Self(RwLock::new(system.collect()))
    }
}

impl Registry {
    pub(crate) fn insert(&self, entry: Entry) -> Result<(), QueryError> {
        let mut entries = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let name = entry.described.name.clone();
        match entries.get(&name) {
            Some(known) if known.described.is_system => Err(QueryError::SystemQuery { name }),
            Some(_) => Err(QueryError::PreparedTwice { name }),
            None => {
                entries.insert(name, entry);
                Ok(())
            }
        }
    }

    pub(crate) fn get(&self, name: &str) -> Result<Entry, QueryError> {
        let entries = self.0.read().unwrap_or_else(PoisonError::into_inner);
        entries.get(name).cloned().ok_or_else(|| unknown(name, &entries))
    }

    /// Removes a statement; `all`: every one that is no system query.
    pub(crate) fn remove(&self, name: &str) -> Result<(), QueryError> {
        let mut entries = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if name == "all" {
            entries.retain(|_, entry| entry.described.is_system);
            return Ok(());
        }
        match entries.get(name) {
            Some(known) if known.described.is_system => Err(QueryError::SystemQuery { name: name.to_owned() }),
            Some(_) => {
                entries.remove(name);
                Ok(())
            }
            None => Err(unknown(name, &entries)),
        }
    }

    pub(crate) fn list(&self) -> Vec<PreparedStatement> {
        let entries = self.0.read().unwrap_or_else(PoisonError::into_inner);
        entries.values().map(|entry| entry.described.clone()).collect()
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.list().iter().map(|statement| &statement.name)).finish()
    }
}

fn unknown(name: &str, entries: &BTreeMap<String, Entry>) -> QueryError {
    QueryError::UnknownPrepared { name: name.to_owned(), suggestion: meant(name, entries.keys().map(String::as_str)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_system_query_parses_and_only_asks() {
        assert_eq!(SYSTEM.len(), SYSTEM_QUERIES.len());
        for (entry, (name, ..)) in SYSTEM.iter().zip(SYSTEM_QUERIES) {
            assert!(entry.described.sql.starts_with(&format!("prepare {name}")), "{name}");
            assert_eq!(entry.parsed.needs.policy, SqlPolicy::Service, "PREPARE itself, and nothing looser");
        }
    }
}
