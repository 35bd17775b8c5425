//! SQLite with the schema, the settings and the statements of DiskCache 5.6.3: what it would cost without Python.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};

use super::Engine;

const SCHEMA: &str = "
    PRAGMA auto_vacuum = 1;
    PRAGMA cache_size = 8192;
    PRAGMA journal_mode = wal;
    PRAGMA mmap_size = 67108864;
    PRAGMA synchronous = 1;
    CREATE TABLE IF NOT EXISTS Settings (key TEXT NOT NULL UNIQUE, value);
    INSERT OR IGNORE INTO Settings VALUES ('count', 0), ('size', 0), ('hits', 0), ('misses', 0);
    CREATE TABLE IF NOT EXISTS Cache (
        rowid INTEGER PRIMARY KEY, key BLOB, raw INTEGER, store_time REAL, expire_time REAL, access_time REAL,
        access_count INTEGER DEFAULT 0, tag BLOB, size INTEGER DEFAULT 0, mode INTEGER DEFAULT 0, filename TEXT, value BLOB
    );
    CREATE UNIQUE INDEX IF NOT EXISTS Cache_key_raw ON Cache(key, raw);
    CREATE INDEX IF NOT EXISTS Cache_expire_time ON Cache (expire_time);
    CREATE INDEX IF NOT EXISTS Cache_store_time ON Cache (store_time);
    CREATE TRIGGER IF NOT EXISTS Settings_count_insert AFTER INSERT ON Cache FOR EACH ROW
        BEGIN UPDATE Settings SET value = value + 1 WHERE key = 'count'; END;
    CREATE TRIGGER IF NOT EXISTS Settings_count_delete AFTER DELETE ON Cache FOR EACH ROW
        BEGIN UPDATE Settings SET value = value - 1 WHERE key = 'count'; END;
    CREATE TRIGGER IF NOT EXISTS Settings_size_insert AFTER INSERT ON Cache FOR EACH ROW
        BEGIN UPDATE Settings SET value = value + NEW.size WHERE key = 'size'; END;
    CREATE TRIGGER IF NOT EXISTS Settings_size_update AFTER UPDATE ON Cache FOR EACH ROW
        BEGIN UPDATE Settings SET value = value + NEW.size - OLD.size WHERE key = 'size'; END;
    CREATE TRIGGER IF NOT EXISTS Settings_size_delete AFTER DELETE ON Cache FOR EACH ROW
        BEGIN UPDATE Settings SET value = value - OLD.size WHERE key = 'size'; END;
";
const SELECT: &str = "SELECT rowid, expire_time, tag, mode, filename, value FROM Cache WHERE key = ?1 AND raw = 1 \
    AND (expire_time IS NULL OR expire_time > ?2)";
const FIND: &str = "SELECT rowid, filename FROM Cache WHERE key = ?1 AND raw = 1";
const UPDATE: &str = "UPDATE Cache SET store_time = ?2, expire_time = NULL, access_time = ?2, access_count = 0, \
    tag = NULL, size = 0, mode = 1, filename = NULL, value = ?3 WHERE rowid = ?1";
const INSERT: &str = "INSERT INTO Cache(key, raw, store_time, expire_time, access_time, access_count, tag, size, mode, \
    filename, value) VALUES (?1, 1, ?2, NULL, ?2, 0, NULL, 0, 1, NULL, ?3)";
const EXPIRED: &str =
    "SELECT filename FROM Cache WHERE expire_time IS NOT NULL AND expire_time < ?1 ORDER BY expire_time LIMIT 10";

pub struct Sqlite {
    connection: Connection,
}

impl Sqlite {
    pub fn open(dir: &Path) -> Result<Sqlite> {
        let connection = Connection::open(dir.join("cache.db"))?;
        connection.busy_timeout(Duration::from_secs(60))?;
        connection.execute_batch(SCHEMA)?;
        Ok(Sqlite { connection })
    }

    fn begin(&mut self) -> Result<Transaction<'_>> {
        Ok(self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?)
    }
}

impl Engine for Sqlite {
    fn get(&mut self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let mut select = self.connection.prepare_cached(SELECT)?;
        Ok(select.query_row(params![key, now()], |row| row.get(5)).optional()?)
    }

    fn set(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        let now = now();
        let txn = self.begin()?;
        put(&txn, key, value, now)?;
        // As `Cache._cull` does on each set.
        txn.prepare_cached(EXPIRED)?.query_row(params![now], |_| Ok(())).optional()?;
        txn.pragma_query_value(None, "page_count", |_| Ok(()))?;
        Ok(txn.commit()?)
    }

    fn delete(&mut self, key: &[u8]) -> Result<bool> {
        let txn = self.begin()?;
        let found: Option<i64> = txn.prepare_cached(FIND)?.query_row(params![key], |row| row.get(0)).optional()?;
        if let Some(row) = found {
            txn.prepare_cached("DELETE FROM Cache WHERE rowid = ?1")?.execute(params![row])?;
        }
        txn.commit()?;
        Ok(found.is_some())
    }

    fn fill(&mut self, entries: u64, value: &mut dyn FnMut() -> Vec<u8>) -> Result<()> {
        let txn = self.begin()?;
        (0..entries).try_for_each(|n| put(&txn, &super::key(n), &value(), now()))?;
        Ok(txn.commit()?)
    }
}

fn put(txn: &Transaction<'_>, key: &[u8], value: &[u8], now: f64) -> Result<()> {
    let found: Option<i64> = txn.prepare_cached(FIND)?.query_row(params![key], |row| row.get(0)).optional()?;
    match found {
        Some(row) => txn.prepare_cached(UPDATE)?.execute(params![row, now, value])?,
        None => txn.prepare_cached(INSERT)?.execute(params![key, now, value])?,
    };
    Ok(())
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}
