//! Why a key moved: two identities compared component by component, and two queries part by part.

use std::collections::{BTreeMap, BTreeSet};

use alluvium_contracts::{CacheKey, ComponentChange, MissExplanation};

use crate::outline::{Difference, Outline, difference};

/// An identity that a view had.
#[derive(Debug, Clone, Copy)]
pub struct Earlier<'e> {
    /// Its key.
    pub key: CacheKey,
    /// What the key was made of.
    pub components: &'e BTreeMap<String, String>,
    /// What its query was made of, where that is kept.
    pub outline: Option<&'e Outline>,
}

/// Compares the components of the nearest of the `earlier` entries, newest first, with today's: the one with the same key, which
/// nothing moved, or else the one with the fewest differences, and of equals the newest. Files that were only renamed are no
/// difference. Where the query is another one, it is said what of it changed; `outline` is asked then.
#[must_use]
pub fn explain<'e>(
    earlier: impl IntoIterator<Item = Earlier<'e>>,
    key: Option<CacheKey>,
    today: &BTreeMap<String, String>,
    outline: impl FnOnce() -> Option<Outline>,
) -> MissExplanation {
    let compared = earlier.into_iter().map(|earlier| match key == Some(earlier.key) {
        true => (earlier, Vec::new()),
        false => (earlier, causes(earlier.components, today)),
    });
    let nearest = compared.min_by_key(|(earlier, changes)| (key != Some(earlier.key), changes.len()));
    let Some((earlier, changes)) = nearest else {
        return MissExplanation::default();
    };
    let explanation = MissExplanation { compared_with: Some(earlier.key), changes, ..MissExplanation::default() };
    if !explanation.is_of_query() {
        return explanation;
    }
    let unknown = |reason: &str| Some(reason.to_owned());
    let (Some(before), Some(today)) = (earlier.outline, outline()) else {
        let query_unknown = unknown(match earlier.outline {
            None => "what the earlier entry's query was made of is not kept",
            Some(_) => "the query is too large to be compared",
        });
        return MissExplanation { query_unknown, ..explanation };
    };
    let Difference { changes, left_out } = difference(before, &today);
    let query_unknown = changes
        .is_empty()
        .then(|| "its parts read the same; they are put together otherwise, or differ in what is not shown".to_owned());
    MissExplanation { query_changes: changes, query_changes_left_out: left_out, query_unknown, ..explanation }
}

/// One line for a table: the first changes, and how many more there are.
#[must_use]
pub fn one_line(explanation: &MissExplanation) -> String {
    const SHOWN: usize = 2;
    let lines = explanation.lines();
    match (explanation.compared_with, lines.as_slice()) {
        (None, _) => "first time".to_owned(),
        (Some(_), []) => "its entry is gone".to_owned(),
        (Some(_), lines) => {
            let mut line = lines.iter().take(SHOWN).cloned().collect::<Vec<_>>().join("; ");
            if lines.len() > SHOWN {
                line.push_str(&format!("; and {} more", lines.len() - SHOWN));
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

/// What may have moved a key: every component that differs, but for those of files that were only renamed.
fn causes(before: &BTreeMap<String, String>, today: &BTreeMap<String, String>) -> Vec<ComponentChange> {
    let mut added: BTreeMap<Content<'_>, Vec<&str>> = BTreeMap::new();
    for (name, digest) in today.iter().filter(|(name, _)| !before.contains_key(*name)) {
        if let Some(content) = Content::of(name, digest) {
            added.entry(content).or_default().push(name);
        }
    }
    let mut renamed: BTreeSet<&str> = BTreeSet::new();
    for (name, digest) in before.iter().filter(|(name, _)| !today.contains_key(*name)) {
        let now = Content::of(name, digest).and_then(|content| added.get_mut(&content)?.pop());
        renamed.extend(now.into_iter().flat_map(|now| [name.as_str(), now]));
    }
    let changes = changes(before, today);
    let (renamed, causes): (Vec<_>, Vec<_>) =
        changes.into_iter().partition(|change| renamed.contains(change.component.as_str()));
    // Where nothing else is known to differ, it is all that there is to say.
    if causes.is_empty() { renamed } else { causes }
}

/// What the key has of a file of a source.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Content<'c> {
    source: &'c str,
    digest: &'c str,
    /// The directories that say the value of a partition column: a file that moves between them has other rows.
    partition: Vec<&'c str>,
}

impl<'c> Content<'c> {
    /// Of a component; none where that is no file.
    fn of(component: &'c str, digest: &'c str) -> Option<Self> {
        let (source, file) = component.strip_prefix("source ")?.split_once(": file ")?;
        let directories = file.rsplit_once('/').map_or("", |(directories, _)| directories);
        let partition = directories.split('/').filter(|directory| directory.contains('=')).collect();
        Some(Self { source, digest, partition })
    }
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

    fn at(key: CacheKey, components: &BTreeMap<String, String>) -> Earlier<'_> {
        Earlier { key, components, outline: None }
    }

    #[test]
    fn changed_added_and_removed() {
        let key = CacheKey::of(b"k");
        let before = components(&[("option", ","), ("same", "1"), ("gone", "x")]);
        let today = components(&[("option", ";"), ("same", "1"), ("new", "y")]);
        let not_asked = || -> Option<Outline> { panic!("the query is the same") };
        let todays = Some(CacheKey::of(b"today"));
        let explanation = explain([at(key, &before)], todays, &today, not_asked);
        assert_eq!(explanation.lines(), ["gone: removed (x)", "new: added (y)", "option: , → ;"]);
        assert_eq!(one_line(&explanation), "gone: removed (x); new: added (y); and 1 more");
        assert_eq!(one_line(&explain([], todays, &today, not_asked)), "first time");
        assert_eq!(one_line(&explain([at(key, &today)], Some(key), &today, not_asked)), "its entry is gone");
    }

    #[test]
    fn the_nearest_earlier_entry_is_compared() {
        let [newest, nearest, oldest] = [b"1", b"2", b"3"].map(|key| CacheKey::of(key));
        let today = components(&[("source", "a"), ("plan", "p"), ("option", ";")]);
        let other_project = components(&[("source", "z"), ("plan", "q"), ("option", ",")]);
        let before = components(&[("source", "a"), ("plan", "p"), ("option", ",")]);
        let earlier = [at(newest, &other_project), at(nearest, &before), at(oldest, &before)];
        let explanation = explain(earlier, None, &today, || None);
        assert_eq!(explanation.compared_with, Some(nearest));
        assert_eq!(one_line(&explanation), "option: , → ;");
    }

    #[test]
    fn the_entry_of_the_same_key_is_the_nearest_and_nothing_moved_it() {
        let [newest, todays] = [b"1", b"2"].map(|key| CacheKey::of(key));
        let today = components(&[("plan", "p"), ("source s: file s2.csv", "b3:1")]);
        let before = components(&[("plan", "p"), ("source s: file s.csv", "b3:1")]);
        let earlier = [at(newest, &today), at(todays, &before)];
        let explanation = explain(earlier, Some(todays), &today, || None);
        assert_eq!(explanation.compared_with, Some(todays));
        assert_eq!(one_line(&explanation), "its entry is gone");
    }

    #[test]
    fn a_file_that_was_only_renamed_is_no_cause() {
        let lines = |before: &[(&str, &str)], today: &[(&str, &str)]| {
            let (before, today) = (components(before), components(today));
            let earlier = [at(CacheKey::of(b"before"), &before)];
            explain(earlier, Some(CacheKey::of(b"today")), &today, || None).lines()
        };
        let (old, new) = (("option", ","), ("option", ";"));
        assert_eq!(lines(&[old, ("source s: file a", "1")], &[new, ("source s: file b", "1")]), ["option: , → ;"]);
        // One of two equal files was renamed, the other was deleted.
        let twice = [old, ("source s: file a", "1"), ("source s: file b", "1")];
        assert_eq!(
            lines(&twice, &[new, ("source s: file c", "1")]),
            ["option: , → ;", "source s: file b: removed (1)"]
        );
        // A file of another content, of another source, of another partition, and what is no file of a source.
        for (before, today) in [
            (("source s: file a", "1"), ("source s: file b", "2")),
            (("source s: file a", "1"), ("source t: file a", "1")),
            (("source s: file year=1/a", "1"), ("source s: file year=2/a", "1")),
            (("function scalar a", "1"), ("function scalar b", "1")),
        ] {
            assert_eq!(lines(&[old, before], &[new, today]).len(), 3, "{before:?} {today:?}");
        }
        assert_eq!(
            lines(&[old, ("source s: file year=1/a", "1")], &[new, ("source s: file year=1/b", "1")]),
            ["option: , → ;"]
        );
        // Something moved the key, and this is all that is known to differ.
        assert_eq!(lines(&[("source s: file a", "1")], &[("source s: file b", "1")]).len(), 2);
    }

    #[test]
    fn a_query_that_is_not_known_any_more_is_said_to_be() {
        let (before, today) = (components(&[("plan", "p")]), components(&[("plan", "q")]));
        let explanation = explain([at(CacheKey::of(b"k"), &before)], None, &today, || None);
        assert_eq!(
            one_line(&explanation),
            "plan: p → q; what of the query changed is not known: what the earlier entry's query was made of is not kept"
        );
    }
}
