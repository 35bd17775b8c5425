//! What the rival understands of a pipeline folder. What it does not understand, it refuses: a pipeline that it
//! ran differently would be no rival.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

/// A pipeline folder.
pub struct Folder {
    dir: PathBuf,
    file: File,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    profile: Profile,
    #[serde(default)]
    sources: BTreeMap<String, Source>,
    #[serde(default)]
    views: BTreeMap<String, View>,
    #[serde(default)]
    outputs: BTreeMap<String, Output>,
}

/// `name` and `cache_output_root` mean nothing here, and there is no memory limit to honour.
#[derive(Default, Deserialize)]
struct Profile {
    preset: Option<String>,
    target_partitions: Option<usize>,
    memory_limit_bytes: Option<u64>,
}

/// `[sources.NAME]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// How the files are encoded.
    pub format: Format,
    path: Paths,
    /// The format's options, by name.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
}

/// The formats that need nothing beside DataFusion.
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// Parquet files.
    Parquet,
    /// Delimited text.
    Csv,
    /// One JSON object a line.
    Json,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Paths {
    One(String),
    Many(Vec<String>),
}

#[derive(Deserialize)]
struct View {
    sql: Option<String>,
    file: Option<String>,
}

/// `[outputs.NAME]`; where it is published does not matter here.
#[derive(Deserialize)]
pub struct Output {
    /// The view to write.
    pub view: String,
    /// How.
    #[serde(default)]
    pub write: Write,
}

/// `[outputs.NAME.write]`.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Write {
    /// Columns whose values become directories.
    #[serde(default)]
    pub partition_by: Vec<String>,
    /// Properties of the Parquet files.
    #[serde(default)]
    pub writer_properties: WriterProperties,
}

/// How the Parquet files of an output are written.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WriterProperties {
    /// The codec.
    pub compression: Option<String>,
}

impl Folder {
    /// Reads `alluvium.toml` in `dir`, an absolute path.
    pub fn read(dir: &Path) -> Result<Self> {
        let path = dir.join("alluvium.toml");
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let file: File =
            toml::from_str(&text).with_context(|| format!("{} is not one that the rival can run", path.display()))?;
        if file.profile.memory_limit_bytes.is_some() || file.profile.preset.as_deref() == Some("prod") {
            bail!("the rival knows no memory limit: use the preset `default` or `dev`");
        }
        Ok(Self { dir: dir.to_path_buf(), file })
    }

    /// Partitions that a query runs in, on a machine of so many cores.
    pub fn target_partitions(&self, cores: usize) -> usize {
        let preset = match self.file.profile.preset.as_deref() {
            Some("dev") => 2,
            _ => cores,
        };
        self.file.profile.target_partitions.unwrap_or(preset)
    }

    /// Every source, by name.
    pub fn sources(&self) -> impl Iterator<Item = (&String, &Source)> {
        self.file.sources.iter()
    }

    /// Every output, by name.
    pub fn outputs(&self) -> impl Iterator<Item = (&String, &Output)> {
        self.file.outputs.iter()
    }

    /// The paths and globs of a source, absolute.
    pub fn paths(&self, source: &Source) -> Vec<String> {
        let patterns = match &source.path {
            Paths::One(pattern) => std::slice::from_ref(pattern),
            Paths::Many(patterns) => patterns,
        };
        patterns.iter().map(|pattern| self.dir.join(pattern).to_string_lossy().into_owned()).collect()
    }

    /// The query of a view.
    pub fn sql(&self, view: &str) -> Result<String> {
        let declared = self.file.views.get(view).with_context(|| format!("no view is called {view}"))?;
        match (&declared.sql, &declared.file) {
            (Some(sql), None) => Ok(sql.clone()),
            (None, Some(file)) => {
                let path = self.dir.join(file);
                std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
            }
            _ => bail!("view {view} has not exactly one of `sql` and `file`"),
        }
    }
}
