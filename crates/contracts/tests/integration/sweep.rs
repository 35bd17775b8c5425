//! Every kind of change at every place of every committed schema: it breaks a rule, or is free for a reason given here.

use std::collections::BTreeSet;

use alluvium_contracts::breaking_changes;
use serde_json::{Map, Value, json};

/// What the comparison has to say of a change.
#[derive(Clone, Copy)]
enum Verdict {
    Breaks,
    Free(Reason),
    /// It depends on what refers to the place.
    Either(Reason),
}
use Verdict::{Breaks, Either, Free};

/// Why no reader and no writer notices a change.
#[derive(Debug, Clone, Copy)]
enum Reason {
    /// Only people read it.
    ForPeople,
    /// An optional field may be added: who does not know it ignores it, or never writes it.
    OptionalFieldAdded,
    /// What is asked of a person may be relaxed.
    Relaxed,
    /// A word has one type, whether it is said or not.
    TypeOfWords,
    /// `true` is what the keyword's absence says.
    SaidByAbsence,
    /// Nothing is left out there, so that a default is never looked at.
    NotLeftOut,
    /// A default there counts where an optional field refers to it and has none of its own.
    DefaultOfSome,
    /// The order of alternatives means nothing.
    OrderOfAlternatives,
    /// Alternatives that exclude one another may be called either.
    ExclusiveAlternatives,
}

/// What a schema is to the one around it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Role {
    /// The whole document, the items of a list, or the values of a map.
    Whole,
    RequiredField,
    OptionalField,
    Definition,
    Alternative,
}

/// A schema in place of another, and what to say of it, there and back.
struct Change {
    what: String,
    new: Value,
    there: Verdict,
    back: Verdict,
}

/// Keywords of JSON Schema 2020-12 that bind documents, and one that is none.
fn foreign() -> Vec<(&'static str, Value)> {
    vec![
        ("additionalProperties", json!(false)),
        ("additionalProperties", json!({"type": "string"})),
        ("allOf", json!([{"type": "string"}])),
        ("anyOf", json!([{"type": "string"}, {"type": "array"}])),
        ("const", json!("unheard_of")),
        ("contains", json!({})),
        ("contentEncoding", json!("base64")),
        ("dependentRequired", json!({"a": ["b"]})),
        ("dependentSchemas", json!({"a": {"type": "object"}})),
        ("$dynamicRef", json!("#unheard_of")),
        ("else", json!(false)),
        ("enum", json!(["unheard_of"])),
        ("exclusiveMaximum", json!(0.75)),
        ("exclusiveMinimum", json!(0.25)),
        ("format", json!("uri")),
        ("if", json!({"type": "string"})),
        ("items", json!({"type": "string"})),
        ("maxContains", json!(9)),
        ("maximum", json!(9)),
        ("maxItems", json!(9)),
        ("maxLength", json!(9)),
        ("maxProperties", json!(9)),
        ("minContains", json!(1)),
        ("minimum", json!(1)),
        ("minItems", json!(1)),
        ("minLength", json!(1)),
        ("minProperties", json!(1)),
        ("multipleOf", json!(2)),
        ("not", json!({"type": "null"})),
        ("oneOf", json!([{"type": "string"}, {"type": "array"}])),
        ("oneOf", json!([])),
        ("pattern", json!("^x")),
        ("patternProperties", json!({"^x": {"type": "string"}})),
        ("prefixItems", json!([{"type": "string"}])),
        ("propertyNames", json!({"pattern": "^x"})),
        ("required", json!(["unheard_of"])),
        ("then", json!(false)),
        ("unevaluatedItems", json!(false)),
        ("unevaluatedProperties", json!(false)),
        ("uniqueItems", json!(true)),
        ("x-unheard-of", json!(1)),
    ]
}

fn changes(role: Role, node: &Map<String, Value>) -> Vec<Change> {
    let mut changes = Vec::new();
    let mut add = |what: String, there: Verdict, back: Verdict, change: &dyn Fn(&mut Map<String, Value>)| {
        let mut new = node.clone();
        change(&mut new);
        if new != *node {
            changes.push(Change { what, new: Value::Object(new), there, back });
        }
    };
    for (keyword, value) in foreign() {
        if !node.contains_key(keyword) {
            add(format!("{keyword} {value} added"), Breaks, Breaks, &|new| {
                drop(new.insert(keyword.into(), value.clone()));
            });
        }
    }
    for (keyword, value) in
        [("title", json!("x")), ("description", json!("x")), ("examples", json!(["x"])), ("$comment", json!("x"))]
    {
        let free = Free(Reason::ForPeople);
        add(format!("another {keyword}"), free, free, &|new| drop(new.insert(keyword.into(), value.clone())));
    }
    let default = match role {
        Role::OptionalField => Breaks,
        Role::RequiredField | Role::Whole => Free(Reason::NotLeftOut),
        Role::Definition | Role::Alternative => Either(Reason::DefaultOfSome),
    };
    add("another default".into(), default, default, &|new| drop(new.insert("default".into(), json!("unheard_of"))));

    for (keyword, value) in node {
        let verdict = match keyword.as_str() {
            "title" | "description" | "examples" | "default" | "$defs" | "properties" | "required" => continue,
            "type" if node.contains_key("const") => Free(Reason::TypeOfWords),
            "additionalProperties" if *value == json!(true) => Free(Reason::SaidByAbsence),
            _ => Breaks,
        };
        add(format!("{keyword} removed"), verdict, verdict, &|new| drop(new.remove(keyword)));
        for other in others(keyword, value) {
            add(format!("{keyword} {other}"), Breaks, Breaks, &|new| drop(new.insert(keyword.clone(), other.clone())));
        }
    }
    for keyword in ["oneOf", "anyOf"] {
        alternatives(keyword, node, &mut add);
    }
    fields(node, &mut add);
    changes
}

/// Other values of a keyword that is there.
fn others(keyword: &str, value: &Value) -> Vec<Value> {
    match (keyword, value) {
        ("type", Value::String(one)) => {
            let mut others: Vec<Value> =
                ["string", "integer", "number", "boolean", "array", "object"].map(Value::from).into();
            others.retain(|other| other != one);
            if one != "null" {
                others.push(json!([one, "null"]));
                others.push(json!([one, if one == "array" { "object" } else { "array" }]));
            }
            others.push(json!([]));
            others.push(json!(7));
            others
        }
        ("type", Value::Array(some)) => {
            let more = if some[0] == "array" { "object" } else { "array" };
            vec![some[0].clone(), json!([some[0], "null", more]), json!([some[0], 7])]
        }
        ("$ref", _) => vec![json!("#/$defs/UnheardOf"), json!("#"), json!("other.schema.json")],
        ("const", Value::String(word)) => vec![json!("unheard_of"), json!([word]), json!(1)],
        (_, Value::Number(number)) => vec![json!(number.as_f64().unwrap() + 0.25), json!(number.to_string())],
        (_, Value::String(text)) => vec![json!(format!("{text}x"))],
        ("additionalProperties", Value::Bool(flag)) => vec![json!(!flag), json!({"type": "string"})],
        ("additionalProperties", _) => vec![json!(true), json!(false)],
        _ => Vec::new(),
    }
}

type Add<'a> = dyn FnMut(String, Verdict, Verdict, &dyn Fn(&mut Map<String, Value>)) + 'a;

fn alternatives(keyword: &str, node: &Map<String, Value>, add: &mut Add<'_>) {
    let Some(some) = node.get(keyword).and_then(Value::as_array) else { return };
    let mut with = |what: String, there: Verdict, back: Verdict, change: &dyn Fn(&mut Vec<Value>)| {
        add(what, there, back, &|new| change(new[keyword].as_array_mut().unwrap()));
    };
    for index in 0..some.len() {
        with(format!("{keyword} {index} removed"), Breaks, Breaks, &|some| drop(some.remove(index)));
        with(format!("{keyword} {index} twice"), Breaks, Breaks, &|some| some.push(some[index].clone()));
    }
    for more in [json!({"const": "unheard_of"}), json!({"type": "object", "required": ["unheard_of"]}), json!({})] {
        with(format!("{keyword} gains {more}"), Breaks, Breaks, &|some| some.push(more.clone()));
    }
    let order = Free(Reason::OrderOfAlternatives);
    with(format!("{keyword} reversed"), order, order, &|some| some.reverse());
    let exclusive = Either(Reason::ExclusiveAlternatives);
    let other = if keyword == "oneOf" { "anyOf" } else { "oneOf" };
    add(format!("{keyword} called {other}"), exclusive, exclusive, &|new| {
        let some = new.remove(keyword).unwrap();
        new.insert(other.into(), some);
    });
}

fn fields(node: &Map<String, Value>, add: &mut Add<'_>) {
    let is_object = node.get("type") == Some(&json!("object"));
    let properties = node.get("properties").and_then(Value::as_object);
    if !is_object && properties.is_none() {
        let fresh = json!({"unheard_of": {"type": "string"}});
        return add("properties added".into(), Breaks, Breaks, &|new| {
            drop(new.insert("properties".into(), fresh.clone()));
        });
    }
    let required: BTreeSet<&str> =
        node.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
    let refuses = node.get("additionalProperties") == Some(&json!(false));
    let relaxed = if refuses { Free(Reason::Relaxed) } else { Breaks };
    for name in properties.into_iter().flat_map(Map::keys) {
        let is_required = required.contains(name.as_str());
        let back = if is_required { Breaks } else { Free(Reason::OptionalFieldAdded) };
        add(format!("field {name} removed"), Breaks, back, &|new| {
            new["properties"].as_object_mut().unwrap().remove(name);
            require(new, name, false);
        });
        add(format!("field {name} renamed"), Breaks, Breaks, &|new| {
            let field = new["properties"].as_object_mut().unwrap().remove(name).unwrap();
            new["properties"]["unheard_of"] = field;
            require(new, name, false);
            require(new, "unheard_of", is_required);
        });
        let (there, back) = if is_required { (relaxed, Breaks) } else { (Breaks, relaxed) };
        add(format!("field {name} required: {}", !is_required), there, back, &|new| require(new, name, !is_required));
    }
    // A value of a map that gets a schema of its own has another one than before.
    let is_map = node.get("additionalProperties").is_some_and(Value::is_object);
    let there = if is_map { Breaks } else { Free(Reason::OptionalFieldAdded) };
    let fresh = |new: &mut Map<String, Value>| {
        let properties = new.entry("properties").or_insert_with(|| json!({}));
        properties["unheard_of"] = json!({"type": "string"});
    };
    add("an optional field added".into(), there, Breaks, &fresh);
    add("a required field added".into(), Breaks, Breaks, &|new| {
        fresh(new);
        require(new, "unheard_of", true);
    });
    add("an unknown field required".into(), Breaks, Breaks, &|new| require(new, "unheard_of", true));
}

fn require(object: &mut Map<String, Value>, name: &str, required: bool) {
    let names = object.entry("required").or_insert_with(|| json!([])).as_array_mut().unwrap();
    names.retain(|other| other != name);
    if required {
        names.push(name.into());
    }
    if names.is_empty() {
        object.remove("required");
    }
}

/// Every schema within a schema, by pointer.
fn places(schema: &Value, at: String, role: Role, found: &mut Vec<(String, Role)>) {
    let Value::Object(node) = schema else { return };
    found.push((at.clone(), role));
    let required = node.get("required").and_then(Value::as_array);
    for (name, field) in node.get("properties").and_then(Value::as_object).into_iter().flatten() {
        let is_required = required.is_some_and(|names| names.iter().any(|other| other == name));
        let role = if is_required { Role::RequiredField } else { Role::OptionalField };
        places(field, format!("{at}/properties/{name}"), role, found);
    }
    for (name, definition) in node.get("$defs").and_then(Value::as_object).into_iter().flatten() {
        places(definition, format!("{at}/$defs/{name}"), Role::Definition, found);
    }
    for keyword in ["items", "additionalProperties"] {
        if let Some(inner) = node.get(keyword) {
            places(inner, format!("{at}/{keyword}"), Role::Whole, found);
        }
    }
    for keyword in ["oneOf", "anyOf"] {
        for (index, inner) in node.get(keyword).and_then(Value::as_array).into_iter().flatten().enumerate() {
            places(inner, format!("{at}/{keyword}/{index}"), Role::Alternative, found);
        }
    }
}

/// The committed schemas, the shortest first: what several have in common is changed in the quickest to compare.
fn committed() -> Vec<(String, Value)> {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/contracts");
    let mut schemas = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name.ends_with(".schema.json") {
            schemas.push((name.clone(), std::fs::read_to_string(format!("{dir}/{name}")).unwrap()));
        }
    }
    schemas.sort_by_key(|(name, text)| (text.len(), name.clone()));
    schemas.into_iter().map(|(name, text)| (name, serde_json::from_str(&text).unwrap())).collect()
}

/// A document of the definition that `place` lies in, and nothing around it: quicker to compare than the whole.
fn within(whole: &Value, place: &str) -> Value {
    match place.strip_prefix("/$defs/").and_then(|rest| rest.split('/').next()) {
        Some(definition) => json!({"$ref": format!("#/$defs/{definition}"), "$defs": whole["$defs"]}),
        None => whole.clone(),
    }
}

/// A schema without what makes it differ from others of its kind.
fn likeness(node: &Value) -> String {
    let mut like = node.clone();
    let keywords = like.as_object_mut().unwrap();
    keywords.retain(|keyword, _| !["title", "description", "$defs"].contains(&keyword.as_str()));
    for keyword in ["const", "default", "pattern"] {
        if let Some(text @ Value::String(_)) = keywords.get_mut(keyword) {
            *text = json!("");
        }
    }
    like.to_string()
}

#[test]
fn every_change_of_every_schema_breaks_a_rule_or_is_free_for_a_reason() {
    let (mut seen, mut tried, mut wrong) = (BTreeSet::new(), 0, Vec::new());
    for (file, whole) in committed() {
        let mut found = Vec::new();
        places(&whole, String::new(), Role::Whole, &mut found);
        for (place, role) in found {
            let node = whole.pointer(&place).unwrap();
            let mut changed = whole.clone();
            changed.pointer_mut(&place).unwrap()["x-unheard-of"] = json!(1);
            assert!(!breaking_changes(&whole, &changed).is_empty(), "{file}#{place} is never compared");

            // What stands in several places, with other descriptions or another word, is changed in all ways in one.
            if !seen.insert((role, likeness(node))) {
                continue;
            }
            let old = within(&whole, &place);
            let mut new = old.clone();
            for change in changes(role, node.as_object().unwrap()) {
                *new.pointer_mut(&place).unwrap() = change.new;
                for (direction, verdict, found) in [
                    ("there", change.there, breaking_changes(&old, &new)),
                    ("back", change.back, breaking_changes(&new, &old)),
                ] {
                    let right = match verdict {
                        Breaks => !found.is_empty(),
                        Free(_) => found.is_empty(),
                        Either(_) => true,
                    };
                    if !right {
                        let expected = match verdict {
                            Breaks => "it breaks".to_owned(),
                            Free(reason) | Either(reason) => format!("it is free ({reason:?})"),
                        };
                        wrong
                            .push(format!("{file}#{place}: {}, {direction}: {expected}, found {found:?}", change.what));
                    }
                    tried += 1;
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {tried} are wrong:\n{}", wrong.len(), wrong[..wrong.len().min(40)].join("\n"));
    assert!(tried > 20_000, "only {tried} changes were tried");
}
