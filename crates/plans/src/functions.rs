//! Which functions a cacheable view may call: immutable ones that declare a version.

use std::collections::BTreeMap;

use alluvium_profile::Builtins;
use datafusion::logical_expr::Volatility;

use crate::canonical::UsedFunction;

/// The functions of a plan, with what they contribute to its identity.
#[derive(Debug, Default)]
pub(crate) struct FunctionIdentity {
    /// `scalar upper` → version.
    pub(crate) versions: BTreeMap<String, String>,
    /// Why the view is uncacheable.
    pub(crate) denials: Vec<String>,
}

/// Judges every used function. A built-in's version is the engine's, which is hashed beside it; a foreign function has
/// none to declare yet and is denied by name.
pub(crate) fn judge(functions: &[UsedFunction], builtins: &Builtins) -> FunctionIdentity {
    let mut identity = FunctionIdentity::default();
    for function in functions {
        let (kind, name, volatility, builtin) = match function {
            UsedFunction::Scalar(f) => ("scalar", f.name(), f.signature().volatility, builtins.is_builtin_scalar(f)),
            UsedFunction::Aggregate(f) => {
                ("aggregate", f.name(), f.signature().volatility, builtins.is_builtin_aggregate(f))
            }
            UsedFunction::Window(f) => ("window", f.name(), f.signature().volatility, builtins.is_builtin_window(f)),
        };
        let denial = match volatility {
            _ if kind == "scalar" && name == "arrow_field" => {
                // Immutable, but its value is the name of a column, and the canonical plan keeps no inner names.
                Some(format!("{name}() returns the engine's name of a column, which is no part of an identity"))
            }
            Volatility::Volatile => Some(format!("{name}() is volatile: every call may give another value")),
            Volatility::Stable => Some(format!("{name}() is stable: its value depends on when the query runs")),
            Volatility::Immutable if !builtin => {
                Some(format!("the function {name}() is no built-in and declares no version"))
            }
            Volatility::Immutable => None,
        };
        match denial {
            Some(denial) if !identity.denials.contains(&denial) => identity.denials.push(denial),
            Some(_) => {}
            None => {
                identity.versions.insert(format!("{kind} {name}"), "built-in".to_owned());
            }
        }
    }
    identity
}
