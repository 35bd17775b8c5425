//! Why no profile could be made of what was declared.

/// Why no profile could be made of what was declared.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProfileError {
    /// There is no such setting.
    #[error("a profile has no setting `{key}`{}", meant(suggestion.as_deref()))]
    UnknownKey {
        /// The dotted key.
        key: String,
        /// The one that was probably meant.
        suggestion: Option<String>,
    },
    /// A variable that sets nothing.
    #[error("the variable {variable} names no setting of a profile{}", meant(suggestion.as_deref()))]
    UnknownVariable {
        /// Its name.
        variable: String,
        /// The one that was probably meant.
        suggestion: Option<String>,
    },
    /// A value that the setting cannot have.
    #[error("`{value}` is no value for {place}: see `alluvium contracts show pipeline_spec` for what is")]
    Value {
        /// The key or the variable.
        place: String,
        /// The value.
        value: String,
        /// What was expected.
        source: serde_json::Error,
    },
    /// A default schema that has tables of its own.
    #[error(
        "`default_schema` cannot be `{schema}`, which has tables of its own: give another name, or leave it out for `public`"
    )]
    ReservedSchema {
        /// The schema.
        schema: String,
    },
    /// A variable that is not text.
    #[error("the variable {variable} is not UTF-8: give it a value that is")]
    NotText {
        /// Its name.
        variable: String,
    },
}

fn meant(suggestion: Option<&str>) -> String {
    match suggestion {
        Some(name) => format!(": did you mean `{name}`?"),
        None => ": take it away, or see `alluvium contracts show pipeline_spec`".to_owned(),
    }
}
