//! `CREATE EXTERNAL TABLE` in a session.

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;

use alluvium_contracts::DatasetFormat;
use alluvium_profile::{ExternalTableFactory, Session, SessionExtension, SessionParts, Slot};
use async_trait::async_trait;
use datafusion::sql::parser::CreateExternalTable;

use crate::Pinner;
use crate::ddl;
use crate::register::register_created;

/// Makes the tables of `CREATE EXTERNAL TABLE … STORED AS DELTA`, `PARQUET`, `CSV`, `JSON`, `ARROW` and `AVRO` in every session
/// of a factory: datasets, pinned and registered as [`register_dataset_ddl`](crate::register_dataset_ddl) does.
///
/// A session's SQL policy decides who may: it takes `admin`.
#[derive(Debug, Clone)]
pub struct ExternalDatasets {
    pinner: Pinner,
    base_dir: PathBuf,
}

impl ExternalDatasets {
    /// Pins with `pinner`. Relative locations are relative to `base_dir`.
    #[must_use]
    pub fn new(pinner: Pinner, base_dir: impl Into<PathBuf>) -> Self {
        Self { pinner, base_dir: base_dir.into() }
    }
}

impl SessionExtension for ExternalDatasets {
    fn slot(&self) -> Slot {
        Slot::DeltaTables
    }

    fn install(&self, parts: &mut SessionParts) -> Result<(), Box<dyn Error + Send + Sync>> {
        let factory: Arc<dyn ExternalTableFactory> = Arc::new(self.clone());
        for format in DatasetFormat::ALL {
            parts.external_table_factory(format.as_str(), Arc::clone(&factory));
        }
        Ok(())
    }
}

#[async_trait]
impl ExternalTableFactory for ExternalDatasets {
    async fn create(&self, session: &Session, table: CreateExternalTable) -> Result<(), Box<dyn Error + Send + Sync>> {
        register_created(session, &self.pinner, ddl::read(table), &self.base_dir).await.map(drop)?;
        Ok(())
    }
}
