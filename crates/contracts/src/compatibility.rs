//! What may not change within a version: two JSON Schemas of one contract, compared as their readers would.
//!
//! New optional fields, descriptions and titles are free; so is a required field that becomes optional where a person
//! writes (an object that refuses unknown fields). Everything else that a reader could notice breaks a rule.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde_json::{Map, Value};

use crate::words::words;

words!(
    /// A rule that a change breaks.
    BreakingRule {
        /// The contract is gone.
        ContractRemoved => "contract_removed",
        /// A field is gone.
        FieldRemoved => "field_removed",
        /// A field has another name.
        FieldRenamed => "field_renamed",
        /// A field has another type, or other bounds.
        FieldRetyped => "field_retyped",
        /// A field has to be there that did not have to be.
        FieldNewlyRequired => "field_newly_required",
        /// A field may be missing on which readers rely: where a program writes.
        FieldNoLongerRequired => "field_no_longer_required",
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
    seen: BTreeSet<(String, String)>,
    found: BTreeSet<BreakingChange>,
}

impl Comparison<'_> {
    fn note(&mut self, rule: BreakingRule, place: &str, detail: String) {
        self.found.insert(BreakingChange { rule, place: place.to_owned(), detail });
    }

    fn schemas(&mut self, place: &str, old: &Value, new: &Value) {
        let names = definition(old).zip(definition(new));
        let (old, new) = (Shape::of(self.old, old), Shape::of(self.new, new));
        if old.nullable != new.nullable {
            let detail = if new.nullable { "may be null now" } else { "may no longer be null" };
            self.note(BreakingRule::FieldRetyped, place, detail.to_owned());
        }
        if let Some((old, new)) = names
            && !self.seen.insert((old.to_owned(), new.to_owned()))
        {
            return;
        }
        match (&old.form, &new.form) {
            (Form::Words(old), Form::Words(new)) => self.words(place, old, new),
            (Form::Object(old), Form::Object(new)) => self.objects(place, old, new),
            (Form::List(old), Form::List(new)) => self.schemas(&format!("{place}[]"), old, new),
            (Form::Union(old), Form::Union(new)) => self.unions(place, old, new),
            (Form::Plain(old), Form::Plain(new)) if old == new => {}
            (old, new) => {
                self.note(BreakingRule::FieldRetyped, place, format!("{} became {}", old.describe(), new.describe()));
            }
        }
    }

    fn words(&mut self, place: &str, old: &BTreeSet<String>, new: &BTreeSet<String>) {
        for word in old.difference(new) {
            self.note(BreakingRule::EnumNarrowed, place, format!("`{word}` is gone"));
        }
        for word in new.difference(old) {
            self.note(BreakingRule::EnumWidened, place, format!("`{word}` is new, and the enum is closed"));
        }
    }

    fn objects(&mut self, place: &str, old: &Object<'_>, new: &Object<'_>) {
        let inner = |name: &str| if place.is_empty() { name.to_owned() } else { format!("{place}.{name}") };
        match (old.closed, new.closed) {
            (false, true) => self.note(BreakingRule::ObjectClosed, place, "unknown fields are refused now".to_owned()),
            (true, false) => self.note(BreakingRule::ObjectOpened, place, "unknown fields are ignored now".to_owned()),
            _ => {}
        }
        let mut added: BTreeMap<&str, &Value> =
            new.fields.iter().filter(|(name, _)| !old.fields.contains_key(**name)).map(|(n, s)| (*n, *s)).collect();
        for (name, was) in &old.fields {
            let Some(is) = new.fields.get(name) else {
                // The same schema under a new name is the same field.
                let twin = added.iter().find(|(_, schema)| bare(schema) == bare(was)).map(|(name, _)| *name);
                match twin {
                    Some(twin) => {
                        added.remove(twin);
                        self.note(BreakingRule::FieldRenamed, &inner(name), format!("it is called `{twin}` now"));
                    }
                    None => self.note(BreakingRule::FieldRemoved, &inner(name), "it is gone".to_owned()),
                }
                continue;
            };
            match (old.required.contains(name), new.required.contains(name)) {
                (false, true) => {
                    let detail = "it could be left out, and has to be there now".to_owned();
                    self.note(BreakingRule::FieldNewlyRequired, &inner(name), detail);
                }
                (true, false) if !new.closed => {
                    let detail = "readers rely on it, and it may be missing now".to_owned();
                    self.note(BreakingRule::FieldNoLongerRequired, &inner(name), detail);
                }
                _ => {}
            }
            self.schemas(&inner(name), was, is);
        }
        for name in added.keys().filter(|name| new.required.contains(**name)) {
            self.note(BreakingRule::FieldNewlyRequired, &inner(name), "it is new, and has to be there".to_owned());
        }
        if let (Some(old), Some(new)) = (old.values, new.values) {
            self.schemas(&format!("{place}{{}}"), old, new);
        } else if old.values.is_some() != new.values.is_some() {
            let detail = "a map became an object of fields, or the other way round".to_owned();
            self.note(BreakingRule::FieldRetyped, place, detail);
        }
    }

    fn unions(&mut self, place: &str, old: &[&Value], new: &[&Value]) {
        let label = |root: &Value, schema: &Value| Shape::of(root, schema).label();
        let (old_root, new_root) = (self.old, self.new);
        let old: BTreeMap<String, &Value> = old.iter().map(|schema| (label(old_root, schema), *schema)).collect();
        let new: BTreeMap<String, &Value> = new.iter().map(|schema| (label(new_root, schema), *schema)).collect();
        for (label, was) in &old {
            match new.get(label) {
                Some(is) => self.schemas(place, was, is),
                None => self.note(BreakingRule::EnumNarrowed, place, format!("the alternative `{label}` is gone")),
            }
        }
        for label in new.keys().filter(|label| !old.contains_key(*label)) {
            self.note(BreakingRule::EnumWidened, place, format!("the alternative `{label}` is new"));
        }
    }
}

/// What a schema says, without how it says it.
struct Shape<'a> {
    nullable: bool,
    form: Form<'a>,
}

enum Form<'a> {
    /// A closed enum.
    Words(BTreeSet<String>),
    Object(Object<'a>),
    List(&'a Value),
    /// One of several alternatives.
    Union(Vec<&'a Value>),
    /// Anything else: its keywords, but for what is only said to people.
    Plain(BTreeMap<String, Value>),
}

struct Object<'a> {
    fields: BTreeMap<&'a str, &'a Value>,
    required: BTreeSet<&'a str>,
    /// Whether unknown fields are refused.
    closed: bool,
    /// The schema of a map's values.
    values: Option<&'a Value>,
}

/// Keywords that bind no document.
const FOR_PEOPLE: [&str; 6] = ["$schema", "title", "description", "default", "examples", "$defs"];

impl<'a> Shape<'a> {
    fn of(root: &'a Value, schema: &'a Value) -> Self {
        let schema = resolve(root, schema);
        let Value::Object(keywords) = schema else {
            return Self {
                nullable: false,
                form: Form::Plain(BTreeMap::from([("schema".to_owned(), schema.clone())])),
            };
        };
        if let Some(alternatives) = ["oneOf", "anyOf"].iter().find_map(|name| keywords.get(*name)?.as_array()) {
            return Self::of_alternatives(root, alternatives);
        }
        let types: BTreeSet<&str> = match keywords.get("type") {
            Some(Value::Array(types)) => types.iter().filter_map(Value::as_str).collect(),
            Some(Value::String(one)) => BTreeSet::from([one.as_str()]),
            _ => BTreeSet::new(),
        };
        let form = if let Some(words) = words_of(keywords) {
            Form::Words(words)
        } else if types.contains("object") {
            Form::Object(Object::of(keywords))
        } else if let (true, Some(items)) = (types.contains("array"), keywords.get("items")) {
            Form::List(items)
        } else {
            let mut plain: BTreeMap<String, Value> = keywords
                .iter()
                .filter(|(name, _)| !FOR_PEOPLE.contains(&name.as_str()))
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect();
            plain.insert("type".to_owned(), types.iter().filter(|name| **name != "null").copied().collect());
            Form::Plain(plain)
        };
        Self { nullable: types.contains("null"), form }
    }

    fn of_alternatives(root: &'a Value, alternatives: &'a [Value]) -> Self {
        let some: Vec<&Value> = alternatives.iter().filter(|schema| !is_null(schema)).collect();
        let nullable = some.len() < alternatives.len();
        if let [only] = some.as_slice() {
            let shape = Self::of(root, only);
            return Self { nullable: nullable || shape.nullable, ..shape };
        }
        let words: Option<Vec<BTreeSet<String>>> =
            some.iter().map(|schema| schema.as_object().and_then(words_of)).collect();
        let form = match words {
            Some(words) => Form::Words(words.into_iter().flatten().collect()),
            None => Form::Union(some),
        };
        Self { nullable, form }
    }

    /// What tells an alternative of a union from the others: the word of its tag, its one field, or its type.
    fn label(&self) -> String {
        let Form::Object(object) = &self.form else {
            return self.form.describe();
        };
        let tag = object
            .fields
            .iter()
            .find_map(|(name, schema)| Some(format!("{name} = {}", schema.get("const").and_then(Value::as_str)?)));
        tag.unwrap_or_else(|| object.required.iter().copied().collect::<Vec<_>>().join(", "))
    }
}

impl<'a> Object<'a> {
    fn of(keywords: &'a Map<String, Value>) -> Self {
        let fields = keywords.get("properties").and_then(Value::as_object);
        let additional = keywords.get("additionalProperties");
        Self {
            fields: fields.into_iter().flatten().map(|(name, schema)| (name.as_str(), schema)).collect(),
            required: keywords
                .get("required")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .collect(),
            closed: additional == Some(&Value::Bool(false)),
            values: additional.filter(|schema| **schema != Value::Bool(false)),
        }
    }
}

impl Form<'_> {
    fn describe(&self) -> String {
        match self {
            Self::Words(_) => "an enum".to_owned(),
            Self::Object(_) => "an object".to_owned(),
            Self::List(_) => "a list".to_owned(),
            Self::Union(_) => "a union".to_owned(),
            Self::Plain(keywords) => {
                let said: Vec<String> = keywords.iter().map(|(name, value)| format!("{name} {value}")).collect();
                said.join(", ")
            }
        }
    }
}

fn words_of(keywords: &Map<String, Value>) -> Option<BTreeSet<String>> {
    if let Some(word) = keywords.get("const") {
        return Some(BTreeSet::from([text(word)]));
    }
    keywords.get("enum")?.as_array().map(|words| words.iter().map(text).collect())
}

fn text(word: &Value) -> String {
    word.as_str().map_or_else(|| word.to_string(), str::to_owned)
}

fn reference(schema: &Value) -> Option<&str> {
    schema.get("$ref").and_then(Value::as_str)
}

/// The definition that a schema stands for, directly or as its one alternative beside null.
fn definition(schema: &Value) -> Option<&str> {
    let alternatives = ["oneOf", "anyOf"].iter().find_map(|name| schema.get(*name)?.as_array());
    match alternatives {
        Some(alternatives) => {
            let mut some = alternatives.iter().filter(|schema| !is_null(schema));
            let only = some.next()?;
            if some.next().is_none() { definition(only) } else { None }
        }
        None => reference(schema),
    }
}

fn is_null(schema: &Value) -> bool {
    schema.get("type").and_then(Value::as_str) == Some("null")
}

/// Follows references within the document.
fn resolve<'a>(root: &'a Value, mut schema: &'a Value) -> &'a Value {
    // A chain longer than this refers to itself.
    for _ in 0..16 {
        match reference(schema).and_then(|name| root.pointer(name.strip_prefix('#')?)) {
            Some(next) => schema = next,
            None => break,
        }
    }
    schema
}

/// A schema without its own words to people.
fn bare(schema: &Value) -> Value {
    match schema {
        Value::Object(keywords) => keywords
            .iter()
            .filter(|(name, _)| !FOR_PEOPLE.contains(&name.as_str()))
            .map(|(n, v)| (n.clone(), v.clone()))
            .collect(),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests;
