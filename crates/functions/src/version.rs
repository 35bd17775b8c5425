//! Functions that say which definition of theirs this is.

use std::fmt;
use std::sync::Arc;

use datafusion_expr::{AggregateUDF, ScalarUDF, WindowUDF};

/// A function of the engine's kinds.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Function {
    /// Of values.
    Scalar(Arc<ScalarUDF>),
    /// Of groups.
    Aggregate(Arc<AggregateUDF>),
    /// Of windows.
    Window(Arc<WindowUDF>),
}

impl Function {
    /// The name that it goes by in plans; aliases lead to it.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Scalar(function) => function.name(),
            Self::Aggregate(function) => function.name(),
            Self::Window(function) => function.name(),
        }
    }
}

/// Who defines a function, and the number of the definition.
///
/// It stands for what the function computes wherever the function itself cannot be looked into: whoever changes a result
/// raises the number, and whatever was computed before counts no more.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FunctionVersion {
    provider: String,
    number: u32,
}

impl FunctionVersion {
    /// Who defines it.
    #[must_use]
    pub fn provider(&self) -> &str {
        &self.provider
    }

    /// The number of the definition.
    #[must_use]
    pub fn number(&self) -> u32 {
        self.number
    }
}

/// `provider v1`: no two versions share a text, since what follows the last ` v` is the number.
impl fmt::Display for FunctionVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} v{}", self.provider, self.number)
    }
}

/// A function with its version.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct VersionedFunction {
    function: Function,
    version: FunctionVersion,
}

impl VersionedFunction {
    /// A function of values in the definition `number` of `provider`, which is a name that no other provider takes, such as
    /// that of a crate.
    #[must_use]
    pub fn scalar(provider: impl Into<String>, number: u32, function: impl Into<Arc<ScalarUDF>>) -> Self {
        Self::new(provider.into(), number, Function::Scalar(function.into()))
    }

    /// A function of groups.
    #[must_use]
    pub fn aggregate(provider: impl Into<String>, number: u32, function: impl Into<Arc<AggregateUDF>>) -> Self {
        Self::new(provider.into(), number, Function::Aggregate(function.into()))
    }

    /// A function of windows.
    #[must_use]
    pub fn window(provider: impl Into<String>, number: u32, function: impl Into<Arc<WindowUDF>>) -> Self {
        Self::new(provider.into(), number, Function::Window(function.into()))
    }

    fn new(provider: String, number: u32, function: Function) -> Self {
        Self { function, version: FunctionVersion { provider, number } }
    }

    /// The function.
    #[must_use]
    pub fn function(&self) -> &Function {
        &self.function
    }

    /// Which definition of it this is.
    #[must_use]
    pub fn version(&self) -> &FunctionVersion {
        &self.version
    }
}
