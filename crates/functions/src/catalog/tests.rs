//! The catalog over functions of the engine and of ours.

use std::collections::BTreeSet;

use datafusion::functions::all_default_functions;
use datafusion::functions_aggregate::all_default_aggregate_functions;
use datafusion::functions_window::all_default_window_functions;

use super::*;
use crate::functions;

fn catalog_of(engine_version: &str) -> FunctionCatalog {
    let mut catalog = FunctionCatalog::new(engine_version);
    let scalar = all_default_functions().into_iter().map(Function::Scalar);
    let aggregate = all_default_aggregate_functions().into_iter().map(Function::Aggregate);
    let window = all_default_window_functions().into_iter().map(Function::Window);
    for function in scalar.chain(aggregate).chain(window) {
        let aliases = match &function {
            Function::Scalar(f) => f.aliases().to_vec(),
            Function::Aggregate(f) => f.aliases().to_vec(),
            Function::Window(f) => f.aliases().to_vec(),
        };
        catalog.insert(function, FunctionTier::BuiltIn, None, aliases).unwrap();
    }
    for function in functions() {
        let version = Some(function.version().clone());
        catalog.insert(function.function().clone(), FunctionTier::Extension, version, []).unwrap();
    }
    catalog
}

fn catalog() -> FunctionCatalog {
    catalog_of("55.2.0")
}

#[test]
fn every_function_is_there_once_and_built_in_ones_come_first() {
    let catalog = catalog();
    let keys: BTreeSet<_> = catalog.entries().map(|entry| (entry.kind, &entry.name)).collect();
    assert_eq!(keys.len(), catalog.entries().count());
    let tiers: Vec<_> = catalog.entries().map(|entry| entry.tier).collect();
    assert!(tiers.is_sorted() && tiers.contains(&FunctionTier::Extension));
    assert!(catalog.named("mean").any(|entry| entry.name == "avg"), "by an alias");
    // Both a window function and an aggregate; what SQL looks up first is first.
    let kinds: Vec<_> = catalog.named("first_value").map(|entry| entry.kind).collect();
    assert_eq!(kinds, [FunctionKind::Window, FunctionKind::Aggregate]);
}

#[test]
fn volatility_is_that_of_the_signature() {
    let catalog = catalog();
    let volatility = |name: &str| catalog.named(name).next().unwrap().volatility_word();
    // `information_schema` calls both of the first two not deterministic.
    assert_eq!([volatility("now"), volatility("random"), volatility("upper")], ["stable", "volatile", "immutable"]);
}

#[test]
fn what_a_function_takes_and_gives_is_told() {
    let catalog = catalog();
    let upper = catalog.named("upper").next().unwrap();
    assert!(
        upper.examples.contains(&FunctionExample { arguments: vec![DataType::Utf8], returns: Some(DataType::Utf8) })
    );
    assert_eq!(upper.examples[0].to_string(), "(Utf8) -> Utf8");
    let ours = catalog.named("span_make").next().unwrap();
    assert_eq!(ours.syntax.as_deref(), Some("span_make(start, end)"));
    assert_eq!(ours.version.as_ref().unwrap().to_string(), "alluvium v1");
    assert_eq!((ours.tier.as_str(), ours.kind.as_str()), ("extension", "scalar"));
}

#[test]
fn a_call_resolves_to_what_takes_it() {
    let catalog = catalog();
    let resolve = |name: &str, given: &[DataType]| {
        let resolution = catalog.resolve(name, given).unwrap();
        let returns = resolution.returns.map(|field| field.data_type().clone());
        (resolution.entry.name.clone(), resolution.arguments, returns)
    };
    assert_eq!(
        resolve("mean", &[DataType::Int32]),
        ("avg".to_owned(), vec![DataType::Float64], Some(DataType::Float64))
    );
    let ints = vec![DataType::Int64; 2];
    assert_eq!(resolve("span_make", &[DataType::Int8, DataType::UInt64]).1, ints);
    let span = catalog.resolve("span_id", &[DataType::Utf8, crate::span::span_type()]).unwrap();
    assert_eq!(span.returns.unwrap().extension_type_name(), Some("SpanId"));
    // Its result is told by a literal.
    assert_eq!(resolve("stable_id", &[DataType::Utf8, DataType::Int32]).2, None);
    assert_eq!(resolve("row_number", &[]).2, Some(DataType::UInt64));

    let unknown = catalog.resolve("spam_make", &[]).unwrap_err();
    assert!(matches!(&unknown, ResolveError::Unknown { name } if name == "spam_make"));
    let wrong = catalog.resolve("span_make", &[DataType::Utf8, DataType::Int64]).unwrap_err();
    assert_eq!(wrong.to_string(), "`span_make` does not take (Utf8, Int64); it takes span_make(start, end)");
    assert!(std::error::Error::source(&wrong).unwrap().to_string().contains("whole numbers"));
}

#[test]
fn a_hash_moves_with_the_definition_and_with_nothing_else() {
    let hash = |catalog: &FunctionCatalog, name: &str| catalog.named(name).next().unwrap().hash;
    let (one, again, other) = (catalog(), catalog(), catalog_of("56.0.0"));
    let hashes = |catalog: &FunctionCatalog| catalog.entries().map(|entry| entry.hash).collect::<Vec<_>>();
    assert_eq!(hashes(&one), hashes(&again));
    assert_eq!(hashes(&one).iter().collect::<BTreeSet<_>>().len(), one.entries().count(), "no two share one");
    assert_ne!(hash(&one, "upper"), hash(&other, "upper"));
    assert_eq!(hash(&one, "stable_id"), hash(&other, "stable_id"), "its definition is not the engine's");

    let function = &functions()[0];
    let version = |number| {
        let Function::Scalar(udf) = function.function() else { panic!("{function:?}") };
        crate::VersionedFunction::scalar("alluvium", number, Arc::clone(udf)).version().clone()
    };
    let mut raised = one.clone();
    raised.insert(function.function().clone(), FunctionTier::Extension, Some(version(2)), []).unwrap();
    assert_ne!(hash(&one, "stable_id"), hash(&raised, "stable_id"));
    assert_eq!(one.entry(function.function()).unwrap().hash, hash(&one, "stable_id"));
    assert!(FunctionCatalog::new("x").entry(function.function()).is_none());
}
