//! What may not change within a version: two JSON Schemas of one contract, compared as their readers would.
//!
//! New optional fields, descriptions, titles and examples are free; so is a required field that becomes optional where a
//! person writes (an object that refuses unknown fields). Everything else that differs breaks a rule: a keyword that is
//! not known here is compared as it stands, so that a change which nobody thought of is refused and not let through.

mod shape;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde_json::Value;

use crate::words::words;
use shape::{Extra, Keywords, Object, Peeled, Shape, Union};

words!(
    /// A rule that a change breaks.
    BreakingRule {
        /// The contract is gone.
        ContractRemoved => "contract_removed",
        /// A field is gone.
        FieldRemoved => "field_removed",
        /// A field has another name.
        FieldRenamed => "field_renamed",
        /// A field has another type, other bounds, or another keyword of its schema changed.
        FieldRetyped => "field_retyped",
        /// A field has to be there that did not have to be.
        FieldNewlyRequired => "field_newly_required",
        /// A field may be missing on which readers rely: where a program writes.
        FieldNoLongerRequired => "field_no_longer_required",
        /// An optional field means something else where it is left out.
        DefaultChanged => "default_changed",
        /// An enum lost a word.
        EnumNarrowed => "enum_narrowed",
        /// A closed enum gained a word, which an older reader refuses.
        EnumWidened => "enum_widened",
        /// Unknown fields were ignored and are refused.
        ObjectClosed => "object_closed",
        /// Unknown fields were refused and are ignored, so that a misspelt one goes unnoticed.
        ObjectOpened => "object_opened",
    }
);

/// A change that a reader or a writer of the same version would notice.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct BreakingChange {
    /// The rule that it breaks.
    pub rule: BreakingRule,
    /// Where in a document: names of fields, `[]` for the items of a list, `{}` for the values of a map.
    pub place: String,
    /// What it was and what it is.
    pub detail: String,
}

impl fmt::Display for BreakingChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = if self.place.is_empty() { "the top" } else { &self.place };
        write!(f, "{} at {place}: {}", self.rule, self.detail)
    }
}

/// What breaks for readers and writers when the schema `old` of a contract becomes `new`.
#[must_use]
pub fn breaking_changes(old: &Value, new: &Value) -> Vec<BreakingChange> {
    let mut comparison = Comparison { old, new, seen: BTreeSet::new(), found: BTreeSet::new() };
    comparison.schemas("", old, new);
    comparison.found.into_iter().collect()
}

struct Comparison<'a> {
    old: &'a Value,
    new: &'a Value,
    /// Pairs of definitions that were compared: types refer to one another, and to themselves.
    seen: BTreeSet<(&'a str, &'a str)>,
    found: BTreeSet<BreakingChange>,
}

impl<'a> Comparison<'a> {
    fn note(&mut self, rule: BreakingRule, place: &str, detail: String) {
        self.found.insert(BreakingChange { rule, place: place.to_owned(), detail });
    }

    fn schemas(&mut self, place: &str, old: &'a Value, new: &'a Value) {
        let (old, new) = (Peeled::of(self.old, old), Peeled::of(self.new, new));
        let (was, is) = (Shape::of(self.old, old.core), Shape::of(self.new, new.core));
        let (nulls_were, nulls_are) = (old.nulls + was.nulls, new.nulls + is.nulls);
        if nulls_were != nulls_are {
            let detail = match (nulls_were, nulls_are) {
                (0, _) => "may be null now",
                (_, 0) => "may no longer be null",
                _ => "may be null in another number of ways",
            };
            self.note(BreakingRule::FieldRetyped, place, detail.to_owned());
        }
        self.keywords(place, &old.beside, &new.beside);
        if let Some(names) = old.name.zip(new.name)
            && !self.seen.insert(names)
        {
            return;
        }
        self.shapes(place, &was, &is);
    }

    fn shapes(&mut self, place: &str, old: &Shape<'a>, new: &Shape<'a>) {
        if !old.is_like(new) {
            let detail = format!("{} became {}", old.describe(), new.describe());
            return self.note(BreakingRule::FieldRetyped, place, detail);
        }
        if let (Some(old), Some(new)) = (&old.words, &new.words) {
            self.words(place, old, new);
        }
        if let (Some(old), Some(new)) = (&old.object, &new.object) {
            self.objects(place, old, new);
        }
        if let (Some(old), Some(new)) = (old.items, new.items) {
            self.schemas(&format!("{place}[]"), old, new);
        }
        if let (Some(old), Some(new)) = (&old.union, &new.union) {
            self.unions(place, old, new);
        }
        self.keywords(place, &old.rest, &new.rest);
    }

    fn words(&mut self, place: &str, old: &BTreeSet<String>, new: &BTreeSet<String>) {
        for word in old.difference(new) {
            self.note(BreakingRule::EnumNarrowed, place, format!("`{word}` is gone"));
        }
        for word in new.difference(old) {
            self.note(BreakingRule::EnumWidened, place, format!("`{word}` is new, and the enum is closed"));
        }
    }

    fn objects(&mut self, place: &str, old: &Object<'a>, new: &Object<'a>) {
        let inner = |name: &str| if place.is_empty() { name.to_owned() } else { format!("{place}.{name}") };
        self.extra(place, old.extra, new.extra);
        let mut added: BTreeMap<&str, &Value> =
            new.fields.iter().filter(|(name, _)| !old.fields.contains_key(*name)).map(|(n, s)| (*n, *s)).collect();
        for (name, was) in &old.fields {
            if let Some(is) = new.fields.get(name) {
                let (was_required, is_required) = (old.required.contains(name), new.required.contains(name));
                self.field(&inner(name), (*was, was_required), (*is, is_required), new);
                continue;
            }
            // The same schema under a new name is the same field.
            let twin = added.iter().find(|(_, schema)| shape::bare(schema) == shape::bare(was)).map(|(name, _)| *name);
            match twin {
                Some(twin) => {
                    added.remove(twin);
                    self.note(BreakingRule::FieldRenamed, &inner(name), format!("it is called `{twin}` now"));
                }
                None => self.note(BreakingRule::FieldRemoved, &inner(name), "it is gone".to_owned()),
            }
        }
        for name in added.keys() {
            if new.required.contains(name) {
                self.note(BreakingRule::FieldNewlyRequired, &inner(name), "it is new, and has to be there".to_owned());
            } else if matches!(old.extra, Extra::Values(_)) {
                let detail = "it was one of the map's values, and has a schema of its own now".to_owned();
                self.note(BreakingRule::FieldRetyped, &inner(name), detail);
            }
        }
        self.required_without_a_schema(old, new, &inner);
    }

    /// Names that have to be there and that `properties` does not know.
    fn required_without_a_schema(&mut self, old: &Object<'a>, new: &Object<'a>, inner: &impl Fn(&str) -> String) {
        let unknown = |name: &&&str| !old.fields.contains_key(**name) && !new.fields.contains_key(**name);
        for name in new.required.difference(&old.required).filter(unknown) {
            self.note(BreakingRule::FieldNewlyRequired, &inner(name), "it has to be there now".to_owned());
        }
        for name in old.required.difference(&new.required).filter(unknown) {
            self.note(BreakingRule::FieldNoLongerRequired, &inner(name), "it may be missing now".to_owned());
        }
    }

    /// One field, each time with whether it has to be there, in an object that is `new`.
    fn field(&mut self, place: &str, old: (&'a Value, bool), new: (&'a Value, bool), object: &Object<'a>) {
        let ((was, was_required), (is, is_required)) = (old, new);
        match (was_required, is_required) {
            (false, true) => {
                let detail = "it could be left out, and has to be there now".to_owned();
                self.note(BreakingRule::FieldNewlyRequired, place, detail);
            }
            (true, false) if object.extra != Extra::Refused => {
                let detail = "readers rely on it, and it may be missing now".to_owned();
                self.note(BreakingRule::FieldNoLongerRequired, place, detail);
            }
            _ => {}
        }
        if !was_required && !is_required {
            let (meant, means) = (shape::default_of(self.old, was), shape::default_of(self.new, is));
            if !shape::keeps(meant, means) {
                let detail = format!("where it is left out it was {meant}, and is {means}");
                self.note(BreakingRule::DefaultChanged, place, detail);
            }
        }
        self.schemas(place, was, is);
    }

    /// What becomes of fields that `properties` does not name.
    fn extra(&mut self, place: &str, old: Extra<'a>, new: Extra<'a>) {
        let (rule, detail) = match (old, new) {
            (Extra::Values(old), Extra::Values(new)) => return self.schemas(&format!("{place}{{}}"), old, new),
            (Extra::Ignored, Extra::Ignored) | (Extra::Refused, Extra::Refused) => return,
            (Extra::Ignored, Extra::Refused) => (BreakingRule::ObjectClosed, "unknown fields are refused now"),
            (Extra::Refused, Extra::Ignored) => (BreakingRule::ObjectOpened, "unknown fields are ignored now"),
            (Extra::Values(_), _) | (_, Extra::Values(_)) => {
                (BreakingRule::FieldRetyped, "a map became an object of fields, or the other way round")
            }
        };
        self.note(rule, place, detail.to_owned());
    }

    fn unions(&mut self, place: &str, old: &Union<'a>, new: &Union<'a>) {
        if old.keyword != new.keyword {
            self.note(BreakingRule::FieldRetyped, place, format!("`{}` became `{}`", old.keyword, new.keyword));
        }
        for (label, was) in &old.alternatives {
            match new.alternatives.get(label) {
                Some(is) => self.schemas(place, was, is),
                None => self.note(BreakingRule::EnumNarrowed, place, format!("the alternative `{label}` is gone")),
            }
        }
        for label in new.alternatives.keys().filter(|label| !old.alternatives.contains_key(*label)) {
            self.note(BreakingRule::EnumWidened, place, format!("the alternative `{label}` is new"));
        }
    }

    /// Keywords that are compared as they stand.
    fn keywords(&mut self, place: &str, old: &Keywords<'a>, new: &Keywords<'a>) {
        let names: BTreeSet<&str> = old.keys().chain(new.keys()).copied().collect();
        for name in names {
            let (was, is) = (old.get(name), new.get(name));
            let same = match (was, is) {
                (Some(was), Some(is)) => {
                    was.len() == is.len() && was.iter().zip(is).all(|(was, is)| self.same(place, was, is))
                }
                _ => false,
            };
            if !same {
                let said = |values: Option<&Vec<&Value>>| match values {
                    Some(values) => values.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and "),
                    None => "not there".to_owned(),
                };
                let detail = format!("`{name}` was {}, and is {}", said(was), said(is));
                self.note(BreakingRule::FieldRetyped, place, detail);
            }
        }
    }

    /// Whether two values of a keyword are the same. What they refer to is compared as schemas are, and noted there.
    fn same(&mut self, place: &str, old: &'a Value, new: &'a Value) -> bool {
        match (old, new) {
            _ if shape::reference(old).is_some() && shape::reference(new).is_some() => {
                self.schemas(place, old, new);
                true
            }
            (Value::Object(old), Value::Object(new)) => {
                old.len() == new.len()
                    && old.iter().all(|(name, was)| new.get(name).is_some_and(|is| self.same(place, was, is)))
            }
            (Value::Array(old), Value::Array(new)) => {
                old.len() == new.len() && old.iter().zip(new).all(|(was, is)| self.same(place, was, is))
            }
            _ => old == new,
        }
    }
}

#[cfg(test)]
mod tests;
