//! The settings of a profile by their dotted keys, as a pipeline file, a variable and a report name them.
//!
//! The keys are those of the contract, read off its serialised form: there is no second list to keep.

use std::collections::BTreeMap;

use alluvium_contracts::ProfileSpec;
use serde_json::Value;
use strsim::normalized_damerau_levenshtein;

/// What the variables that set a key begin with.
pub(crate) const PREFIX: &str = "ALLUVIUM_PROFILE_";
/// How a setting without a value is written: no value is written so.
const UNSET: &str = "(unset)";

/// Every setting with its value as text, by key: `parquet.pushdown_filters` → `false`.
pub(crate) fn settings(spec: &ProfileSpec) -> Result<BTreeMap<String, String>, serde_json::Error> {
    let mut settings = BTreeMap::new();
    flatten("", &serde_json::to_value(spec)?, &mut settings);
    Ok(settings)
}

/// The variable that sets a key: `parquet.pushdown_filters` → `ALLUVIUM_PROFILE_PARQUET_PUSHDOWN_FILTERS`.
pub(crate) fn variable(key: &str) -> String {
    format!("{PREFIX}{}", key.to_uppercase().replace('.', "_"))
}

/// The spec with `key` set to what `text` says: a number or a boolean where the setting is one, else text.
pub(crate) fn assign(spec: &ProfileSpec, key: &str, text: &str) -> Result<ProfileSpec, serde_json::Error> {
    let tree = serde_json::to_value(spec)?;
    let with = |value: Value| {
        let mut tree = tree.clone();
        if let Some(slot) = tree.pointer_mut(&format!("/{}", key.replace('.', "/"))) {
            *slot = value;
        }
        serde_json::from_value(tree)
    };
    let scalar = serde_json::from_str(text).ok().filter(|value: &Value| value.is_number() || value.is_boolean());
    match scalar.map(&with) {
        Some(Ok(spec)) => Ok(spec),
        // A label may look like a number. If it is no text either, the first word counts: it knows the range.
        Some(Err(error)) => with(Value::from(text)).map_err(|_| error),
        None => with(Value::from(text)),
    }
}

/// The candidate that was probably meant.
pub(crate) fn meant<'c>(word: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<String> {
    const LIKE_ENOUGH: f64 = 0.6;
    candidates
        .into_iter()
        .map(|candidate| (normalized_damerau_levenshtein(word, candidate), candidate))
        .filter(|(alike, _)| *alike >= LIKE_ENOUGH)
        .max_by(|a, b| a.0.total_cmp(&b.0).then_with(|| b.1.cmp(a.1)))
        .map(|(_, candidate)| candidate.to_owned())
}

fn flatten(prefix: &str, value: &Value, into: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
                flatten(&key, value, into);
            }
        }
        Value::Null => drop(into.insert(prefix.to_owned(), UNSET.to_owned())),
        Value::String(text) => drop(into.insert(prefix.to_owned(), text.clone())),
        other => drop(into.insert(prefix.to_owned(), other.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_two_keys_have_one_variable() {
        let keys = settings(&ProfileSpec::default()).unwrap();
        let variables: BTreeSet<_> = keys.keys().map(|key| variable(key)).collect();
        assert_eq!(variables.len(), keys.len());
        assert!(keys.len() > 40, "{keys:?}");
    }

    #[test]
    fn text_becomes_what_the_setting_is() {
        let spec = ProfileSpec::default();
        assert_eq!(assign(&spec, "target_partitions", "3").unwrap().target_partitions, Some(3));
        assert_eq!(assign(&spec, "name", "3").unwrap().name.as_deref(), Some("3"));
        assert_eq!(assign(&spec, "parquet.pushdown_filters", "true").unwrap().parquet.pushdown_filters, Some(true));
        assert_eq!(assign(&spec, "kv.plan.ttl_seconds", "0").unwrap().kv.plan.ttl_seconds, Some(0));
        for (key, text, word) in [
            ("target_partitions", "0", "at least 1"),
            ("target_partitions", "many", "many"),
            ("sql_policy", "root", "root"),
        ] {
            let error = assign(&spec, key, text).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }
}
