//! The functions of a session that say which definition of theirs they are.

use std::collections::HashMap;
use std::mem::{Discriminant, discriminant};

use alluvium_functions::{Function, FunctionVersion, VersionedFunction};

/// Functions with their versions, as extensions brought them; of two of one kind and name the later one.
///
/// As with [`Builtins`](crate::Builtins), a function of a plan is one of these if it *equals* the one of that name, so
/// whatever took the name later has no version here.
#[derive(Debug, Default)]
pub struct FunctionVersions {
    by_name: HashMap<(Discriminant<Function>, String), VersionedFunction>,
}

impl FunctionVersions {
    pub(crate) fn insert(&mut self, function: VersionedFunction) {
        self.by_name.insert(key(function.function()), function);
    }

    /// The version of `function`, if it has one.
    #[must_use]
    pub fn of(&self, function: &Function) -> Option<&FunctionVersion> {
        let known = self.by_name.get(&key(function))?;
        (known.function() == function).then(|| known.version())
    }
}

fn key(function: &Function) -> (Discriminant<Function>, String) {
    (discriminant(function), function.name().to_owned())
}
