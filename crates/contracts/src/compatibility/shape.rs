//! What a schema says, without how it says it: the parts that the comparison understands, and the rest as it stands.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

/// Keywords that bind no document. A default is none of a document's business, but of who reads one: see [`default_of`].
const FOR_PEOPLE: [&str; 7] = ["title", "description", "default", "examples", "deprecated", "$comment", "$defs"];

/// Keywords that are compared as they stand, each with its values from the outermost schema inwards.
pub(super) type Keywords<'a> = BTreeMap<&'a str, Vec<&'a Value>>;

/// A schema without what is wrapped around it: references, and a choice between it and null.
pub(super) struct Peeled<'a> {
    pub core: &'a Value,
    /// The innermost definition that was passed: its name is no part of a document, but tells it from others.
    pub name: Option<&'a str>,
    /// How often null is let in on the way.
    pub nulls: usize,
    /// What else binds on the way.
    pub beside: Keywords<'a>,
}

impl<'a> Peeled<'a> {
    pub(super) fn of(root: &'a Value, schema: &'a Value) -> Self {
        /// A chain longer than this refers to itself, and its last reference is compared as it stands.
        const CHAIN: usize = 16;
        let mut peeled = Self { core: schema, name: None, nulls: 0, beside: Keywords::new() };
        for _ in 0..CHAIN {
            let Value::Object(keywords) = peeled.core else { break };
            let (wrapper, inner) = if let Some(name) = reference(peeled.core)
                && let Some(target) = name.strip_prefix('#').and_then(|pointer| root.pointer(pointer))
            {
                peeled.name = Some(name);
                ("$ref", target)
            } else if let Some((keyword, only, nulls)) = only_alternative(keywords) {
                peeled.nulls += nulls;
                (keyword, only)
            } else {
                break;
            };
            for (name, value) in binding(keywords).filter(|(name, _)| *name != wrapper) {
                peeled.beside.entry(name).or_default().push(value);
            }
            peeled.core = inner;
        }
        peeled
    }
}

/// What a peeled schema says.
pub(super) struct Shape<'a> {
    /// Whether null is let in: 0 or 1.
    pub nulls: usize,
    /// The types but null; none: any type, or those of the words.
    types: Option<BTreeSet<&'a str>>,
    /// The words of a closed enum, as JSON.
    pub words: Option<BTreeSet<String>>,
    pub object: Option<Object<'a>>,
    pub items: Option<&'a Value>,
    pub union: Option<Union<'a>>,
    /// Every other keyword that binds.
    pub rest: Keywords<'a>,
}

/// An object: its fields, and what becomes of others.
pub(super) struct Object<'a> {
    pub fields: BTreeMap<&'a str, &'a Value>,
    pub required: BTreeSet<&'a str>,
    pub extra: Extra<'a>,
}

/// What becomes of fields that an object does not name.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Extra<'a> {
    Ignored,
    Refused,
    /// They are a map's values.
    Values(&'a Value),
}

/// Alternatives that are no words, by what tells them apart.
pub(super) struct Union<'a> {
    pub keyword: &'a str,
    pub alternatives: BTreeMap<String, &'a Value>,
}

impl<'a> Shape<'a> {
    pub(super) fn of(root: &'a Value, schema: &'a Value) -> Self {
        let mut shape =
            Self { nulls: 0, types: None, words: None, object: None, items: None, union: None, rest: Keywords::new() };
        let Value::Object(keywords) = schema else {
            // `true` says nothing.
            if *schema != Value::Bool(true) {
                shape.rest.insert("schema", vec![schema]);
            }
            return shape;
        };
        if let Some(words) = words_of(keywords) {
            shape.words = Some(words);
            return shape;
        }
        if let Some(types) = types_of(keywords) {
            shape.nulls += usize::from(types.contains("null"));
            shape.types = Some(types.into_iter().filter(|name| *name != "null").collect());
        }
        let is_object = |shape: &Self| shape.types.as_ref().is_some_and(|types| types.contains("object"));
        if is_object(&shape)
            || ["properties", "required", "additionalProperties"].iter().any(|name| keywords.contains_key(*name))
        {
            shape.object = Some(Object::of(keywords));
        }
        shape.items = keywords.get("items");
        let chosen = choice(keywords).filter(|keyword| shape.choose(root, keyword, keywords));
        shape.rest = binding(keywords)
            .filter(|(name, value)| !is_understood(name, value) && chosen != Some(*name))
            .map(|(name, value)| (name, vec![value]))
            .collect();
        shape
    }

    /// Takes in the alternatives of `keyword`, unless they cannot be told apart.
    fn choose(&mut self, root: &'a Value, keyword: &'a str, keywords: &'a Map<String, Value>) -> bool {
        let Some(alternatives) = keywords.get(keyword).and_then(Value::as_array).filter(|some| !some.is_empty()) else {
            return false;
        };
        let (mut nulls, mut words, mut others) = (0, BTreeSet::new(), BTreeMap::new());
        for alternative in alternatives {
            let distinct = if is_null(alternative) {
                nulls += 1;
                nulls == 1
            } else if let Some(more) = alternative.as_object().and_then(words_of) {
                more.into_iter().all(|word| words.insert(word))
            } else {
                others.insert(label(root, alternative), alternative).is_none()
            };
            if !distinct {
                return false;
            }
        }
        self.nulls += nulls;
        self.words = (!words.is_empty()).then_some(words);
        self.union = (!others.is_empty()).then_some(Union { keyword, alternatives: others });
        true
    }

    /// Whether both are of one form, so that their parts can be compared one by one.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        self.types == other.types
            && self.words.is_some() == other.words.is_some()
            && self.object.is_some() == other.object.is_some()
            && self.items.is_some() == other.items.is_some()
            && self.union.is_some() == other.union.is_some()
    }

    pub(super) fn describe(&self) -> String {
        match &self.types {
            _ if self.union.is_some() => "a union".to_owned(),
            _ if self.words.is_some() => "an enum".to_owned(),
            Some(types) if types.is_empty() => "null".to_owned(),
            Some(types) => types.iter().copied().collect::<Vec<_>>().join(" or "),
            None => "untyped".to_owned(),
        }
    }
}

impl<'a> Object<'a> {
    fn of(keywords: &'a Map<String, Value>) -> Self {
        let fields = keywords.get("properties").and_then(Value::as_object);
        let required = keywords.get("required").and_then(Value::as_array);
        Self {
            fields: fields.into_iter().flatten().map(|(name, schema)| (name.as_str(), schema)).collect(),
            required: required.into_iter().flatten().filter_map(Value::as_str).collect(),
            extra: match keywords.get("additionalProperties") {
                None | Some(Value::Bool(true)) => Extra::Ignored,
                Some(Value::Bool(false)) => Extra::Refused,
                Some(values) => Extra::Values(values),
            },
        }
    }
}

/// What tells an alternative of a union from the others: the word of its tag, the fields it needs, or its type.
fn label(root: &Value, schema: &Value) -> String {
    let shape = Shape::of(root, Peeled::of(root, schema).core);
    let Some(object) = &shape.object else {
        return shape.describe();
    };
    let tag = object
        .fields
        .iter()
        .find_map(|(name, schema)| Some(format!("{name} = {}", schema.get("const").and_then(Value::as_str)?)));
    tag.unwrap_or_else(|| object.required.iter().copied().collect::<Vec<_>>().join(", "))
}

/// The words of a schema that says nothing but words; their type may stand beside them.
fn words_of(keywords: &Map<String, Value>) -> Option<BTreeSet<String>> {
    let words = match (keywords.get("const"), keywords.get("enum")) {
        (Some(word), None) => std::slice::from_ref(word),
        (None, Some(Value::Array(words))) => words.as_slice(),
        _ => return None,
    };
    let types: BTreeSet<&str> = words.iter().map(type_of).collect();
    let alone = binding(keywords).all(|(name, _)| ["const", "enum", "type"].contains(&name));
    let fitting = !keywords.contains_key("type") || types_of(keywords) == Some(types);
    (alone && fitting).then(|| words.iter().map(Value::to_string).collect())
}

/// Whether a keyword is taken in by [`Shape::of`], which reads no other form of it.
fn is_understood(name: &str, value: &Value) -> bool {
    let is_words = |value: &Value| value.as_array().is_some_and(|words| words.iter().all(Value::is_string));
    match name {
        "type" => value.is_string() || is_words(value),
        "properties" => value.is_object(),
        "required" => is_words(value),
        "additionalProperties" | "items" => true,
        _ => false,
    }
}

/// The type of a word.
fn type_of(word: &Value) -> &'static str {
    match word {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn types_of(keywords: &Map<String, Value>) -> Option<BTreeSet<&str>> {
    match keywords.get("type")? {
        Value::String(one) => Some(BTreeSet::from([one.as_str()])),
        Value::Array(types) => Some(types.iter().filter_map(Value::as_str).collect()),
        _ => None,
    }
}

/// The keyword of a schema's alternatives, where there is one and not both.
fn choice(keywords: &Map<String, Value>) -> Option<&'static str> {
    let is_there = |name: &&str| keywords.get(*name).is_some_and(Value::is_array);
    let mut there = ["oneOf", "anyOf"].into_iter().filter(is_there);
    there.next().filter(|_| there.next().is_none())
}

/// The one alternative beside null, its keyword, and how often null is there.
fn only_alternative(keywords: &Map<String, Value>) -> Option<(&'static str, &Value, usize)> {
    let keyword = choice(keywords)?;
    let alternatives = keywords.get(keyword)?.as_array()?;
    let mut some = alternatives.iter().filter(|schema| !is_null(schema));
    let only = some.next().filter(|_| some.next().is_none())?;
    Some((keyword, only, alternatives.len() - 1))
}

/// Whether a schema says null and nothing else.
fn is_null(schema: &Value) -> bool {
    schema.as_object().is_some_and(|keywords| {
        keywords.get("type").and_then(Value::as_str) == Some("null") && binding(keywords).count() == 1
    })
}

/// The keywords that bind documents.
fn binding(keywords: &Map<String, Value>) -> impl Iterator<Item = (&str, &Value)> {
    let all = keywords.iter().map(|(name, value)| (name.as_str(), value));
    all.filter(|(name, _)| !FOR_PEOPLE.contains(name))
}

/// A schema without its own words to people.
pub(super) fn bare(schema: &Value) -> Option<BTreeMap<&str, &Value>> {
    Some(binding(schema.as_object()?).collect())
}

/// What a schema refers to.
pub(super) fn reference(schema: &Value) -> Option<&str> {
    schema.get("$ref").and_then(Value::as_str)
}

/// What a field means where it is left out: null, unless its schema or what that refers to has a default.
pub(super) fn default_of<'a>(root: &'a Value, schema: &'a Value) -> &'a Value {
    let default = schema.get("default").or_else(|| Peeled::of(root, schema).core.get("default"));
    default.unwrap_or(&Value::Null)
}

/// Whether a default still says what it said; fields that are new in it are optional ones, told of where they are.
pub(super) fn keeps(old: &Value, new: &Value) -> bool {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            old.iter().all(|(name, was)| new.get(name).is_some_and(|is| keeps(was, is)))
        }
        _ => old == new,
    }
}
