//! What can be called: every function with its arguments, its result, its volatility, and a hash of all that.

mod resolve;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use alluvium_contracts::{CanonicalError, FunctionHash, canonical_json};
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion_common::Result;
use datafusion_expr::expr::WindowFunctionDefinition;
use datafusion_expr::{Documentation, HigherOrderUDF, ReturnFieldArgs, Signature, Volatility};

pub use resolve::{Resolution, ResolveError};

use crate::version::{Function, FunctionVersion};

/// Whether a function came with the engine. Of several of one name a built-in one comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FunctionTier {
    /// It did.
    BuiltIn,
    /// Somebody installed it.
    Extension,
}

impl FunctionTier {
    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BuiltIn => "built-in",
            Self::Extension => "extension",
        }
    }
}

/// What a function is applied to, in the order in which SQL looks a name up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum FunctionKind {
    /// Values.
    Scalar,
    /// Values, some of which are functions themselves.
    HigherOrder,
    /// Windows.
    Window,
    /// Groups.
    Aggregate,
}

impl FunctionKind {
    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::HigherOrder => "higher-order",
            Self::Window => "window",
            Self::Aggregate => "aggregate",
        }
    }
}

impl fmt::Display for FunctionTier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Display for FunctionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// One function.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct FunctionEntry {
    /// The name that it goes by in plans.
    pub name: String,
    /// Other names that lead to it, sorted.
    pub aliases: Vec<String>,
    /// What it is applied to.
    pub kind: FunctionKind,
    /// Whether it came with the engine.
    pub tier: FunctionTier,
    /// Which definition of it this is, where it says so; that of a built-in is the engine's.
    pub version: Option<FunctionVersion>,
    /// Whether its value depends on more than its arguments, from its signature: `information_schema` tells immutable from
    /// others alone.
    pub volatility: Volatility,
    /// What it takes, in the engine's notation; `UserDefined` is decided call by call.
    pub signatures: Vec<String>,
    /// Types that it takes, with what it makes of them, as far as the engine can give examples.
    pub examples: Vec<FunctionExample>,
    /// How it is written, such as `span_make(start, end)`.
    pub syntax: Option<String>,
    /// What it does.
    pub description: Option<String>,
    /// The digest of all of this, and of the engine's version for a built-in.
    pub hash: FunctionHash,
    callable: Option<Function>,
}

/// Types of arguments, and of the result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FunctionExample {
    /// One an argument.
    pub arguments: Vec<DataType>,
    /// None where it depends on values.
    pub returns: Option<DataType>,
}

/// The functions of a session.
#[derive(Debug, Clone)]
pub struct FunctionCatalog {
    engine_version: String,
    /// By tier, kind and name.
    entries: BTreeMap<(FunctionTier, FunctionKind, String), FunctionEntry>,
}

impl FunctionCatalog {
    /// Of an engine of this version, without any function.
    #[must_use]
    pub fn new(engine_version: &str) -> Self {
        Self { engine_version: engine_version.to_owned(), entries: BTreeMap::new() }
    }

    /// Adds a function, which `names` lead to beside its own; one of the same tier, kind and name goes.
    ///
    /// # Errors
    /// [`CanonicalError`] where the function's own words have no canonical form.
    pub fn insert(
        &mut self,
        function: Function,
        tier: FunctionTier,
        version: Option<FunctionVersion>,
        names: impl IntoIterator<Item = String>,
    ) -> Result<(), CanonicalError> {
        let (kind, signature, documentation) = match &function {
            Function::Scalar(f) => (FunctionKind::Scalar, f.signature(), f.documentation()),
            Function::Aggregate(f) => (FunctionKind::Aggregate, f.signature(), f.documentation()),
            Function::Window(f) => (FunctionKind::Window, f.signature(), f.documentation()),
        };
        let signatures = signature.type_signature.to_string_repr_with_names(signature.parameter_names.as_deref());
        let said =
            Said { kind, volatility: signature.volatility, signatures, examples: examples(&function, signature) };
        let name = function.name().to_owned();
        let documentation = documentation.cloned();
        self.add(
            name,
            said,
            Origin { tier, version, names: names.into_iter().collect() },
            documentation,
            Some(function),
        )
    }

    /// Adds a function that takes functions.
    ///
    /// # Errors
    /// As [`insert`](Self::insert).
    pub fn insert_higher_order(
        &mut self,
        function: &HigherOrderUDF,
        tier: FunctionTier,
        names: impl IntoIterator<Item = String>,
    ) -> Result<(), CanonicalError> {
        let signature = function.signature();
        let said = Said {
            kind: FunctionKind::HigherOrder,
            volatility: signature.volatility,
            signatures: vec![format!("{:?}", signature.type_signature)],
            examples: Vec::new(),
        };
        let origin = Origin { tier, version: None, names: names.into_iter().collect() };
        self.add(function.name().to_owned(), said, origin, function.documentation().cloned(), None)
    }

    fn add(
        &mut self,
        name: String,
        said: Said,
        origin: Origin,
        documentation: Option<Documentation>,
        callable: Option<Function>,
    ) -> Result<(), CanonicalError> {
        let Said { kind, volatility, signatures, examples } = said;
        let Origin { tier, version, names: mut aliases } = origin;
        aliases.retain(|alias| *alias != name);
        aliases.sort_unstable();
        aliases.dedup();
        let definition = match tier {
            FunctionTier::BuiltIn => Some(self.engine_version.clone()),
            FunctionTier::Extension => version.as_ref().map(ToString::to_string),
        };
        let types: Vec<_> = examples.iter().map(ToString::to_string).collect();
        let words = (kind.as_str(), tier.as_str(), &name, &aliases, definition, word(volatility), &signatures, types);
        let hash = FunctionHash::of(&canonical_json(&words)?);
        let (syntax, description) = documentation.map(|said| (said.syntax_example, said.description)).unzip();
        let key = (tier, kind, name.clone());
        let entry = FunctionEntry {
            name,
            aliases,
            kind,
            tier,
            version,
            volatility,
            signatures,
            examples,
            syntax,
            description,
            hash,
            callable,
        };
        self.entries.insert(key, entry);
        Ok(())
    }

    /// All functions: built-in ones first, then by kind and name.
    pub fn entries(&self) -> impl Iterator<Item = &FunctionEntry> {
        self.entries.values()
    }

    /// The functions that SQL may mean by `name`, best first.
    pub fn named(&self, name: &str) -> impl Iterator<Item = &FunctionEntry> {
        self.entries().filter(move |entry| entry.name == name || entry.aliases.iter().any(|alias| alias == name))
    }

    /// The entry of a function of a plan: the very one, not one of its name.
    #[must_use]
    pub fn entry(&self, function: &Function) -> Option<&FunctionEntry> {
        self.named(function.name()).find(|entry| entry.callable.as_ref() == Some(function))
    }
}

/// What a function says of itself.
struct Said {
    kind: FunctionKind,
    volatility: Volatility,
    signatures: Vec<String>,
    examples: Vec<FunctionExample>,
}

/// Where a function comes from, and what it is called here.
struct Origin {
    tier: FunctionTier,
    version: Option<FunctionVersion>,
    names: Vec<String>,
}

impl FunctionEntry {
    /// Its volatility as a word: `immutable`, `stable` or `volatile`.
    #[must_use]
    pub fn volatility_word(&self) -> &'static str {
        word(self.volatility)
    }
}

const fn word(volatility: Volatility) -> &'static str {
    match volatility {
        Volatility::Immutable => "immutable",
        Volatility::Stable => "stable",
        Volatility::Volatile => "volatile",
    }
}

impl fmt::Display for FunctionExample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let arguments: Vec<_> = self.arguments.iter().map(ToString::to_string).collect();
        match &self.returns {
            Some(returns) => write!(f, "({}) -> {returns}", arguments.join(", ")),
            None => write!(f, "({})", arguments.join(", ")),
        }
    }
}

fn examples(function: &Function, signature: &Signature) -> Vec<FunctionExample> {
    let types = signature.type_signature.get_example_types();
    let example = |arguments: Vec<DataType>| {
        let returns = returned(function, &fields(&arguments)).ok().map(|field| field.data_type().clone());
        FunctionExample { arguments, returns }
    };
    let mut examples: Vec<_> = types.into_iter().map(example).collect();
    examples.dedup();
    examples
}

/// Columns of these types, of which nothing else is known.
fn fields(types: &[DataType]) -> Vec<FieldRef> {
    types.iter().map(|data_type| Arc::new(Field::new("", data_type.clone(), true))).collect()
}

/// What a function makes of arguments that are no literals.
fn returned(function: &Function, arguments: &[FieldRef]) -> Result<FieldRef> {
    match function {
        Function::Scalar(function) => {
            let unknown = vec![None; arguments.len()];
            function.return_field_from_args(ReturnFieldArgs { arg_fields: arguments, scalar_arguments: &unknown })
        }
        Function::Aggregate(function) => function.return_field(arguments),
        Function::Window(function) => {
            WindowFunctionDefinition::WindowUDF(Arc::clone(function)).return_field(arguments, function.name())
        }
    }
}

#[cfg(test)]
mod tests;
