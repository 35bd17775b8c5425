//! Which function a call means.

use arrow::datatypes::{DataType, FieldRef};
use datafusion_common::DataFusionError;
use datafusion_expr::type_coercion::functions::fields_with_udf;

use super::{FunctionCatalog, FunctionEntry, fields, returned};
use crate::version::Function;

/// A call that a function takes.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Resolution<'a> {
    /// The function.
    pub entry: &'a FunctionEntry,
    /// The types that the arguments are cast to.
    pub arguments: Vec<DataType>,
    /// The column that comes out, extension type included; none where it depends on the values of literals, as with
    /// `stable_id` and `arrow_cast`.
    pub returns: Option<FieldRef>,
}

/// No function takes a call.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ResolveError {
    /// There is none of the name.
    #[error("there is no function `{name}`; `function_catalog()` lists those that there are")]
    Unknown {
        /// The name.
        name: String,
    },
    /// Those of the name take other arguments.
    #[error("`{name}` does not take ({}); it takes {}", types(.given), .known.join(" or "))]
    Arguments {
        /// The name.
        name: String,
        /// The types that were given.
        given: Vec<DataType>,
        /// What functions of the name take, in the engine's notation.
        known: Vec<String>,
        /// The engine's word on the first of them, where there is one.
        source: Option<Box<DataFusionError>>,
    },
}

fn types(given: &[DataType]) -> String {
    given.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

impl FunctionCatalog {
    /// The function that a call of `name` with arguments of these types means: the first of the name that takes them, built-in
    /// ones before extensions. Functions that take functions are left out, since types do not tell their calls.
    ///
    /// # Errors
    /// [`ResolveError`].
    pub fn resolve(&self, name: &str, given: &[DataType]) -> Result<Resolution<'_>, ResolveError> {
        let mut known = Vec::new();
        let mut refusal = None;
        for entry in self.named(name) {
            known.extend(entry.syntax.clone().map_or_else(|| entry.signatures.clone(), |syntax| vec![syntax]));
            let Some(function) = &entry.callable else { continue };
            match coerced(function, given) {
                Ok(arguments) => {
                    let returns = returned(function, &arguments).ok();
                    let arguments = arguments.iter().map(|field| field.data_type().clone()).collect();
                    return Ok(Resolution { entry, arguments, returns });
                }
                Err(error) => refusal = refusal.or(Some(Box::new(error))),
            }
        }
        match known.is_empty() {
            true => Err(ResolveError::Unknown { name: name.to_owned() }),
            false => {
                Err(ResolveError::Arguments { name: name.to_owned(), given: given.to_vec(), known, source: refusal })
            }
        }
    }
}

/// The arguments as the function takes them.
fn coerced(function: &Function, given: &[DataType]) -> Result<Vec<FieldRef>, DataFusionError> {
    let given = fields(given);
    match function {
        Function::Scalar(function) => fields_with_udf(&given, function.as_ref()),
        Function::Aggregate(function) => fields_with_udf(&given, function.as_ref()),
        Function::Window(function) => fields_with_udf(&given, function.as_ref()),
    }
}
