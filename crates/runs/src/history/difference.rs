//! Two manifests, component by component.

use std::collections::BTreeMap;

use alluvium_contracts::{ComponentChange, DeltaInputPin, RunDifference, RunManifest};
use alluvium_plans::changes;

type Components = BTreeMap<String, String>;

/// What differs, sorted by what it is about.
pub(super) fn difference(before: &RunManifest, after: &RunManifest) -> RunDifference {
    let of = |components: fn(&RunManifest) -> Components| changes(&components(before), &components(after));
    RunDifference {
        before: before.run_id,
        after: after.run_id,
        inputs: of(inputs),
        queries: of(queries),
        environment: of(environment),
        results: of(results),
    }
}

fn inputs(manifest: &RunManifest) -> Components {
    manifest.delta_inputs.iter().flat_map(input).collect()
}

/// What differs between two pins of one source.
pub(super) fn of_input(before: &DeltaInputPin, after: &DeltaInputPin) -> Vec<ComponentChange> {
    changes(&input(before).into_iter().collect(), &input(after).into_iter().collect())
}

/// What a pin is made of. The digest of the whole differs whenever one of its parts does, and says nothing more.
fn input(pin: &DeltaInputPin) -> Vec<(String, String)> {
    let DeltaInputPin {
        name,
        kind,
        pin,
        format,
        path,
        cache_key,
        table_id,
        version,
        timestamp_unix_ms: _,
        commit_digest,
        schema_hash,
        options,
        // They follow from the files.
        file_count: _,
        size_bytes: _,
        files,
        cdf_range,
    } = pin;
    let optional = [
        ("format", format.clone()),
        ("path", path.clone()),
        ("cache_key", cache_key.map(|key| key.to_string())),
        ("table_id", table_id.clone()),
        ("version", version.map(|version| version.to_string())),
        ("commit", commit_digest.map(|digest| digest.to_string())),
        ("schema", schema_hash.map(|hash| hash.to_string())),
        ("changes", cdf_range.as_ref().map(|range| format!("{} to {}", range.starting_version, range.ending_version))),
    ];
    let parts = optional.into_iter().filter_map(|(part, value)| Some((format!("source {name}: {part}"), value?)));
    let options = options.iter().map(|(option, value)| (format!("source {name}: option {option}"), value.clone()));
    let files = files.iter().map(|file| {
        let state = file.content_digest.map(|digest| digest.to_string()).or_else(|| file.object_version.clone());
        (format!("source {name}: file {}", file.path), state.unwrap_or_default())
    });
    let whole = [(format!("source {name}: kind"), kind.to_string()), (format!("source {name}: pin"), pin.to_string())];
    parts.chain(options).chain(files).chain(whole).collect()
}

fn queries(manifest: &RunManifest) -> Components {
    let sql = manifest.resolved_sql.iter().map(|(view, sql)| (format!("view {view}: sql"), sql.clone()));
    let specs = manifest.resolved_specs.iter().flat_map(|(name, spec)| match spec {
        serde_json::Value::Object(fields) => {
            fields.iter().map(|(field, value)| (format!("{name}: {field}"), text(value))).collect()
        }
        other => vec![(name.clone(), text(other))],
    });
    // The text after the declaration, which has none where the view names a file.
    specs.chain(sql).collect()
}

fn environment(manifest: &RunManifest) -> Components {
    let settings = manifest.semantic_settings.iter().map(|(name, value)| (format!("setting {name}"), value.clone()));
    let engine = manifest.engine_versions.iter().map(|(name, version)| (format!("engine {name}"), version.clone()));
    let profile = manifest.profile_hash.iter().map(|hash| ("profile".to_owned(), hash.to_string()));
    settings.chain(engine).chain(profile).collect()
}

fn results(manifest: &RunManifest) -> Components {
    let prints = manifest
        .plan_fingerprints
        .iter()
        .map(|(view, print)| (format!("view {view}: plan_fingerprint"), print.to_string()));
    let views = manifest.views.iter().flat_map(|view| {
        let told = [
            ("cache_key", view.cache_key.map(|key| key.to_string())),
            ("row_count", view.row_count.map(|rows| rows.to_string())),
            ("content_hash", view.content_hash.map(|hash| hash.to_string())),
        ];
        told.into_iter().filter_map(|(what, value)| Some((format!("view {}: {what}", view.name), value?)))
    });
    let outputs = manifest.outputs.iter().flat_map(|output| {
        let told = [
            ("path", Some(output.path.clone())),
            ("table_id", output.table_id.clone()),
            ("delta_version", output.delta_version.map(|version| version.to_string())),
            ("row_count", output.row_count.map(|rows| rows.to_string())),
            ("content_hash", output.content_hash.map(|hash| hash.to_string())),
        ];
        told.into_iter().filter_map(|(what, value)| Some((format!("output {}: {what}", output.name), value?)))
    });
    prints.chain(views).chain(outputs).collect()
}

/// Text without quotes, anything else as JSON.
fn text(value: &serde_json::Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use alluvium_contracts::{Contract as _, PinDigest};

    use super::*;

    #[test]
    fn a_run_does_not_differ_from_itself() {
        let one = RunManifest::example();
        let RunDifference { inputs, queries, environment, results, .. } = difference(&one, &one);
        assert!([inputs, queries, environment, results].iter().all(Vec::is_empty));
    }

    #[test]
    fn each_kind_of_change_is_told_where_it_belongs() {
        let mut before = RunManifest::example();
        let mut after = before.clone();
        after.delta_inputs[0].version = Some(43);
        after.delta_inputs[0].pin = PinDigest::of(b"43");
        after.resolved_sql.insert("daily_delays".to_owned(), "select 1".to_owned());
        // Of a view whose SQL is in a file.
        for manifest in [&mut before, &mut after] {
            let declared = serde_json::json!({"file": "views/daily_delays.sql", "sql": null});
            manifest.resolved_specs.insert("view daily_delays".to_owned(), declared);
        }
        after.resolved_specs.insert("source flights".to_owned(), serde_json::json!({"format": "csv"}));
        after.engine_versions.insert("datafusion".to_owned(), "56.0.0".to_owned());
        after.outputs[0].row_count = Some(7);
        let difference = difference(&before, &after);
        let lines =
            |changes: &[ComponentChange]| changes.iter().map(|change| change.component.clone()).collect::<Vec<_>>();
        assert_eq!(lines(&difference.inputs), ["source flights: pin", "source flights: version"]);
        let queries = lines(&difference.queries);
        assert!(queries.contains(&"view daily_delays: sql".to_owned()), "{queries:?}");
        assert!(queries.contains(&"source flights: format".to_owned()), "{queries:?}");
        assert_eq!(lines(&difference.environment), ["engine datafusion"]);
        assert_eq!(lines(&difference.results), ["output daily: row_count"]);
    }
}
