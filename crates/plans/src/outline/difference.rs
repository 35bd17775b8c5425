//! What differs between two outlines.

use std::collections::{BTreeMap, BTreeSet};

use alluvium_contracts::{QueryChange, QueryChangeKind, QueryPart};

use super::{Outline, OutlineColumn};

/// What differs, columns first and then part by part, as far as it is told.
#[derive(Debug, Default)]
pub(crate) struct Difference {
    pub(crate) changes: Vec<QueryChange>,
    /// How many more there are.
    pub(crate) left_out: u64,
}

/// Changes that are told; who changed more has written another query.
const TOLD: usize = 32;

/// What became of the query `before`.
pub(crate) fn difference(before: &Outline, today: &Outline) -> Difference {
    let mut changes = columns(&before.columns, &today.columns);
    let values: BTreeSet<_> = changes.iter().map(|change| (change.before.clone(), change.after.clone())).collect();
    // What a column is computed as was told with the column.
    let is_new = |change: &QueryChange| {
        let is_value = matches!(change.part, QueryPart::Aggregate | QueryPart::Window | QueryPart::Expression);
        !is_value || !values.contains(&(change.before.clone(), change.after.clone()))
    };
    changes.extend(parts(&before.parts, &today.parts).into_iter().filter(is_new));
    let left_out = changes.len().saturating_sub(TOLD) as u64;
    changes.truncate(TOLD);
    Difference { changes, left_out }
}

fn columns(before: &[OutlineColumn], today: &[OutlineColumn]) -> Vec<QueryChange> {
    let mut changes = Vec::new();
    let change = |change, name: &str, before: Option<&str>, after: Option<&str>| QueryChange {
        part: QueryPart::Column,
        change,
        name: Some(name.to_owned()),
        before: before.map(str::to_owned),
        after: after.map(str::to_owned),
    };
    let has = |columns: &[OutlineColumn], name: &str| columns.iter().any(|column| column.name == name);
    let gone: Vec<_> = before.iter().filter(|column| !has(today, &column.name)).collect();
    let mut new: Vec<_> = today.iter().filter(|column| !has(before, &column.name)).collect();
    for was in before {
        let Some(is) = today.iter().find(|column| column.name == was.name) else { continue };
        if was.data_type != is.data_type {
            changes.push(change(QueryChangeKind::Retyped, &is.name, Some(&was.data_type), Some(&is.data_type)));
        }
        if was.value != is.value {
            changes.push(change(QueryChangeKind::Changed, &is.name, Some(&was.value), Some(&is.value)));
        }
    }
    for was in gone {
        let alike = |is: &&OutlineColumn| is.data_type == was.data_type && is.value == was.value;
        match new.iter().position(alike) {
            Some(at) => {
                let is = new.remove(at);
                changes.push(change(QueryChangeKind::Renamed, &is.name, Some(&was.name), Some(&is.name)));
            }
            None => changes.push(change(QueryChangeKind::Removed, &was.name, Some(&was.value), None)),
        }
    }
    for is in new {
        changes.push(change(QueryChangeKind::Added, &is.name, None, Some(&is.value)));
    }
    changes.extend(moved(before, today));
    changes
}

/// Columns that are there before and after, in another order.
fn moved(before: &[OutlineColumn], today: &[OutlineColumn]) -> Option<QueryChange> {
    let names = |columns: &[OutlineColumn], others: &[OutlineColumn]| -> Vec<String> {
        let kept = columns.iter().filter(|column| others.iter().any(|other| other.name == column.name));
        kept.map(|column| column.name.clone()).collect()
    };
    let (was, is) = (names(before, today), names(today, before));
    // From where they begin to differ to where they end.
    let first = was.iter().zip(&is).position(|(was, is)| was != is)?;
    let last = was.iter().zip(&is).rposition(|(was, is)| was != is)?;
    let text = |names: &[String]| Some(names.get(first..=last)?.join(", "));
    Some(QueryChange {
        part: QueryPart::Column,
        change: QueryChangeKind::Moved,
        name: None,
        before: text(&was),
        after: text(&is),
    })
}

fn parts(before: &[(QueryPart, String)], today: &[(QueryPart, String)]) -> Vec<QueryChange> {
    let (before, today) = (by_part(before), by_part(today));
    let parts: BTreeSet<QueryPart> = before.keys().chain(today.keys()).copied().collect();
    let mut changes = Vec::new();
    for part in parts {
        let of = |parts: &BTreeMap<QueryPart, Vec<String>>| parts.get(&part).cloned().unwrap_or_default();
        let (was, is) = (of(&before), of(&today));
        let (mut gone, mut new) = (without(&was, &is), without(&is, &was));
        let mut push = |change, before, after| changes.push(QueryChange { part, change, name: None, before, after });
        // The same but for its literals, or the only one of its kind.
        for text in std::mem::take(&mut gone) {
            match new.iter().position(|other| shape(other) == shape(&text)) {
                Some(at) => push(QueryChangeKind::Changed, Some(text), Some(new.remove(at))),
                None => gone.push(text),
            }
        }
        if let ([_], [_]) = (gone.as_slice(), new.as_slice()) {
            push(QueryChangeKind::Changed, gone.pop(), new.pop());
        }
        gone.into_iter().for_each(|text| push(QueryChangeKind::Removed, Some(text), None));
        new.into_iter().for_each(|text| push(QueryChangeKind::Added, None, Some(text)));
    }
    changes
}

fn by_part(parts: &[(QueryPart, String)]) -> BTreeMap<QueryPart, Vec<String>> {
    let mut by_part: BTreeMap<QueryPart, Vec<String>> = BTreeMap::new();
    for (part, text) in parts {
        by_part.entry(*part).or_default().push(text.clone());
    }
    by_part
}

/// Those of `texts` that are not in `others`, each as often as it is there once more.
fn without(texts: &[String], others: &[String]) -> Vec<String> {
    let mut others = others.to_vec();
    let is_missing = |text: &&String| match others.iter().position(|other| other == *text) {
        Some(at) => {
            others.swap_remove(at);
            false
        }
        None => true,
    };
    texts.iter().filter(is_missing).cloned().collect()
}

/// A text without its numbers and what it has in single quotes.
fn shape(text: &str) -> String {
    let mut shape = String::with_capacity(text.len());
    let mut in_quotes = false;
    for c in text.chars() {
        match c {
            '\'' => in_quotes = !in_quotes,
            '0'..='9' | '.' => {}
            c if !in_quotes => shape.push(c),
            _ => {}
        }
    }
    shape
}
