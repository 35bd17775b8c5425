//! Why a key moved: two identities compared component by component.

use std::collections::{BTreeMap, BTreeSet};

use alluvium_contracts::{CacheKey, ComponentChange, MissExplanation};

/// Compares the components of the nearest of the `earlier` entries, newest first, with today's: the one with the fewest
/// differences, and of equals the newest.
#[must_use]
pub fn explain<'e>(
    earlier: impl IntoIterator<Item = (CacheKey, &'e BTreeMap<String, String>)>,
    today: &BTreeMap<String, String>,
) -> MissExplanation {
    let compared = earlier.into_iter().map(|(key, before)| (key, changes(before, today)));
    match compared.min_by_key(|(_, changes)| changes.len()) {
        Some((key, changes)) => MissExplanation { compared_with: Some(key), changes },
        None => MissExplanation::default(),
    }
}

/// One line for a table: the first changes, and how many more there are.
#[must_use]
pub fn one_line(explanation: &MissExplanation) -> String {
    const SHOWN: usize = 2;
    match (explanation.compared_with, explanation.changes.as_slice()) {
        (None, _) => "first time".to_owned(),
        (Some(_), []) => "its entry is gone".to_owned(),
        (Some(_), changes) => {
            let mut line = changes.iter().take(SHOWN).map(ToString::to_string).collect::<Vec<_>>().join("; ");
            if changes.len() > SHOWN {
                line.push_str(&format!("; and {} more", changes.len() - SHOWN));
            }
            line
        }
    }
}

/// Every component that differs, by name. Digests are shortened to what tells them apart.
#[must_use]
pub fn changes(before: &BTreeMap<String, String>, today: &BTreeMap<String, String>) -> Vec<ComponentChange> {
    let names: BTreeSet<&String> = before.keys().chain(today.keys()).collect();
    names
        .into_iter()
        .filter(|name| before.get(*name) != today.get(*name))
        .map(|name| ComponentChange {
            component: name.clone(),
            before: before.get(name).map(|value| shorten(value)),
            after: today.get(name).map(|value| shorten(value)),
        })
        .collect()
}

/// A digest is told from another by its first digits; a person reads no more of it.
fn shorten(value: &str) -> String {
    match value.split_once(':') {
        Some((algorithm @ ("b3" | "sha256"), hex)) if hex.len() == 64 => {
            format!("{algorithm}:{}", &hex[..12])
        }
        _ => value.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn components(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn changed_added_and_removed() {
        let key = CacheKey::of(b"k");
        let before = components(&[("option", ","), ("same", "1"), ("gone", "x")]);
        let today = components(&[("option", ";"), ("same", "1"), ("new", "y")]);
        let explanation = explain([(key, &before)], &today);
        let lines: Vec<_> = explanation.changes.iter().map(ToString::to_string).collect();
        assert_eq!(lines, ["gone: removed (x)", "new: added (y)", "option: , → ;"]);
        assert_eq!(one_line(&explanation), "gone: removed (x); new: added (y); and 1 more");
        assert_eq!(one_line(&explain([], &today)), "first time");
        assert_eq!(one_line(&explain([(key, &today)], &today)), "its entry is gone");
    }

    #[test]
    fn the_nearest_earlier_entry_is_compared() {
        let [newest, nearest, oldest] = [b"1", b"2", b"3"].map(|key| CacheKey::of(key));
        let today = components(&[("source", "a"), ("plan", "p"), ("option", ";")]);
        let other_project = components(&[("source", "z"), ("plan", "q"), ("option", ",")]);
        let before = components(&[("source", "a"), ("plan", "p"), ("option", ",")]);
        let earlier = [(newest, &other_project), (nearest, &before), (oldest, &before)];
        let explanation = explain(earlier, &today);
        assert_eq!(explanation.compared_with, Some(nearest));
        assert_eq!(one_line(&explanation), "option: , → ;");
    }
}
