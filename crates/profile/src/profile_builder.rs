//! From what is declared, in a file, in variables and in code, to a profile.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

use alluvium_contracts::ProfileSpec;

use crate::machine::Machine;
use crate::profile_error::ProfileError;
use crate::profile_keys::{PREFIX, assign, meant, settings, variable};
use crate::runtime_profile::RuntimeProfile;

/// Schemas that have tables of their own, and so are no default schema: the engine's, and those in which a pipeline's queries find
/// ledgers, outputs, snapshots of the engine's caches, and entries.
pub const RESERVED_SCHEMAS: &[&str] = &[
    "alluvium",
    "dataset_cache",
    "information_schema",
    "metadata_cache_snapshots",
    "outputs",
    "runtime_artifacts",
    "view_cache",
];

/// Who chose the value of a setting. The later ones win.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum SettingOrigin {
    /// The preset, or the default of all presets.
    Preset,
    /// `[profile]` of the pipeline file.
    File,
    /// A variable `ALLUVIUM_PROFILE_…`.
    Environment,
    /// The program, by [`ProfileBuilder::with`].
    Code,
}

impl fmt::Display for SettingOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Preset => "preset",
            Self::File => "[profile]",
            Self::Environment => "environment",
            Self::Code => "code",
        })
    }
}

/// Collects what is declared of a profile, and makes it.
///
/// For each setting the first of these that says something decides: [`with`](Self::with), a variable, the pipeline file,
/// the preset. The preset itself is a setting.
///
/// ```
/// use alluvium_contracts::{Preset, ProfileSpec};
/// use alluvium_profile::{ProfileError, RuntimeProfile};
///
/// let file = ProfileSpec { preset: Preset::Dev, batch_size: Some(1024), ..ProfileSpec::default() };
/// let profile = RuntimeProfile::builder()
///     .with_spec(&file)
///     .with_environment([("ALLUVIUM_PROFILE_BATCH_SIZE", "4096")])
///     .with("parquet.pushdown_filters", "true")
///     .build()?;
/// assert_eq!((profile.target_partitions(), profile.batch_size()), (2, 4096));
/// assert_eq!(profile.settings()["parquet.pushdown_filters"], "true");
/// # Ok::<_, ProfileError>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct ProfileBuilder {
    spec: ProfileSpec,
    base_dir: PathBuf,
    variables: Vec<(OsString, OsString)>,
    assignments: Vec<(String, String)>,
}

impl ProfileBuilder {
    /// What the pipeline file says. Default: nothing.
    #[must_use]
    pub fn with_spec(mut self, spec: &ProfileSpec) -> Self {
        self.spec = spec.clone();
        self
    }

    /// The directory that relative paths of the pipeline file are relative to. Default: the working directory.
    #[must_use]
    pub fn with_base_dir(mut self, base_dir: impl Into<PathBuf>) -> Self {
        self.base_dir = base_dir.into();
        self
    }

    /// Variables as [`std::env::vars_os`] gives them. Those that do not begin with `ALLUVIUM_PROFILE_` are passed over, and
    /// an empty one counts as unset. The key `kv.plan.ttl_seconds` has the variable `ALLUVIUM_PROFILE_KV_PLAN_TTL_SECONDS`.
    #[must_use]
    pub fn with_environment<K: Into<OsString>, V: Into<OsString>>(
        mut self,
        variables: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        self.variables.extend(variables.into_iter().map(|(name, value)| (name.into(), value.into())));
        self
    }

    /// Sets one setting by its key under `[profile]`, with dots: `kv.plan.ttl_seconds`.
    #[must_use]
    pub fn with(mut self, key: impl Into<String>, value: impl ToString) -> Self {
        self.assignments.push((key.into(), value.to_string()));
        self
    }

    /// Makes the profile, and asks the system for cores and memory where the preset depends on them.
    ///
    /// # Errors
    /// [`ProfileError`] for a key or variable that names no setting, and for a value that a setting cannot have: a
    /// `default_schema` among [`RESERVED_SCHEMAS`] too.
    pub fn build(self) -> Result<RuntimeProfile, ProfileError> {
        self.build_for(Machine::detect())
    }

    pub(crate) fn build_for(self, machine: Machine) -> Result<RuntimeProfile, ProfileError> {
        let known = table(&ProfileSpec::default(), "the default profile")?;
        let declared = table(&self.spec, "[profile]")?;
        let mut origins: BTreeMap<String, SettingOrigin> = declared
            .iter()
            .filter(|(key, value)| known.get(*key) != Some(*value))
            .map(|(key, _)| (key.clone(), SettingOrigin::File))
            .collect();
        let mut spec = self.spec;

        let keys: BTreeMap<String, &str> = known.keys().map(|key| (variable(key), key.as_str())).collect();
        for (name, value) in &self.variables {
            let Some(name) = name.to_str().filter(|name| name.starts_with(PREFIX)) else {
                continue;
            };
            let Some(key) = keys.get(name) else {
                let suggestion = meant(name, keys.keys().map(String::as_str));
                return Err(ProfileError::UnknownVariable { variable: name.to_owned(), suggestion });
            };
            let value = value.to_str().ok_or_else(|| ProfileError::NotText { variable: name.to_owned() })?;
            if value.is_empty() {
                continue;
            }
            spec = assign(&spec, key, value).map_err(|source| {
                let (place, value) = (name.to_owned(), value.to_owned());
                ProfileError::Value { place, value, source }
            })?;
            origins.insert((*key).to_owned(), SettingOrigin::Environment);
        }
        for (key, value) in &self.assignments {
            if !known.contains_key(key) {
                let suggestion = meant(key, known.keys().map(String::as_str));
                return Err(ProfileError::UnknownKey { key: key.clone(), suggestion });
            }
            spec = assign(&spec, key, value).map_err(|source| {
                let (place, value) = (format!("`{key}`"), value.clone());
                ProfileError::Value { place, value, source }
            })?;
            origins.insert(key.clone(), SettingOrigin::Code);
        }
        match spec.default_schema.as_deref() {
            Some(schema) if RESERVED_SCHEMAS.contains(&schema) => {
                Err(ProfileError::ReservedSchema { schema: schema.to_owned() })
            }
            _ => Ok(RuntimeProfile::resolve(&spec, machine).declared_by(origins, self.base_dir)),
        }
    }
}

fn table(spec: &ProfileSpec, place: &str) -> Result<BTreeMap<String, String>, ProfileError> {
    settings(spec).map_err(|source| ProfileError::Value {
        place: place.to_owned(),
        value: "the whole of it".to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_with_tables_of_its_own_is_no_default() {
        for schema in RESERVED_SCHEMAS {
            let error = RuntimeProfile::builder().with("default_schema", schema).build().unwrap_err();
            assert!(error.to_string().contains(&format!("`default_schema` cannot be `{schema}`")), "{error}");
            let spec = ProfileSpec { default_schema: Some((*schema).to_owned()), ..ProfileSpec::default() };
            RuntimeProfile::builder().with_spec(&spec).build().unwrap_err();
        }
        RuntimeProfile::builder().with("default_schema", "mine").build().unwrap();
    }
}
