//! Which functions a cacheable view may call: immutable ones that declare a version.

use std::collections::{BTreeMap, BTreeSet};

use alluvium_contracts::FunctionHash;
use alluvium_functions::Function;
use alluvium_profile::Session;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::Volatility;

/// The version of what came with the engine. No declared version reads like it: those end in a number.
const BUILT_IN: &str = "built-in";

/// The functions of a plan, with what they contribute to its identity.
#[derive(Debug, Default)]
pub(crate) struct FunctionIdentity {
    /// `scalar upper` → version.
    pub(crate) versions: BTreeMap<String, String>,
    /// Why the view is uncacheable.
    pub(crate) denials: Vec<String>,
}

/// What the session's catalog says of every used function, denied or not: for the record. The identity goes by versions, since
/// a hash also tells of names and examples, which change no row.
pub(crate) fn hashes(
    functions: &[Function],
    session: &Session,
) -> Result<BTreeMap<String, FunctionHash>, DataFusionError> {
    if functions.is_empty() {
        return Ok(BTreeMap::new());
    }
    let catalog = session.function_catalog_of(functions)?;
    Ok(catalog.entries().map(|entry| (format!("{} {}", entry.kind, entry.name), entry.hash)).collect())
}

/// Judges every used function. A built-in's version is the engine's, which is hashed beside it; what was installed with a
/// version is known by that, and by who defines it; any other is denied by name, and so are two of one name.
pub(crate) fn judge(functions: &[Function], session: &Session) -> FunctionIdentity {
    let builtins = session.builtins();
    let mut identity = FunctionIdentity::default();
    // Of each kind and name.
    let mut called: BTreeMap<(&str, &str), BTreeSet<String>> = BTreeMap::new();
    for function in functions {
        let name = function.name();
        let (kind, volatility, builtin) = match function {
            Function::Scalar(f) => ("scalar", f.signature().volatility, builtins.is_builtin_scalar(f)),
            Function::Aggregate(f) => ("aggregate", f.signature().volatility, builtins.is_builtin_aggregate(f)),
            Function::Window(f) => ("window", f.signature().volatility, builtins.is_builtin_window(f)),
        };
        let version = match builtin {
            true => Some(BUILT_IN.to_owned()),
            false => session.function_versions().of(function).map(ToString::to_string),
        };
        let denial = match volatility {
            _ if kind == "scalar" && name == "arrow_field" => {
                // Immutable, but its value is the name of a column, and the canonical plan keeps no inner names.
                Some(format!("{name}() returns the engine's name of a column, which is no part of an identity"))
            }
            Volatility::Volatile => Some(format!("{name}() is volatile: every call may give another value")),
            Volatility::Stable => Some(format!("{name}() is stable: its value depends on when the query runs")),
            Volatility::Immutable if version.is_none() => {
                Some(format!("the function {name}() is no built-in and declares no version"))
            }
            Volatility::Immutable => None,
        };
        match denial {
            Some(denial) if !identity.denials.contains(&denial) => identity.denials.push(denial),
            Some(_) => {}
            None => called.entry((kind, name)).or_default().extend(version),
        }
    }
    for ((kind, name), versions) in called {
        let versions: Vec<String> = versions.into_iter().collect();
        match versions.as_slice() {
            [version] => {
                identity.versions.insert(format!("{kind} {name}"), version.clone());
            }
            // The canonical plan has the name alone, which says of no call whose it is.
            _ => identity.denials.push(format!(
                "{name}() is the name of more than one {kind} function that is called: {}",
                versions.join(", ")
            )),
        }
    }
    identity
}

#[cfg(test)]
mod tests;
