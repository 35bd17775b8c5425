//! Which sink a person asks for.

use std::path::PathBuf;
use std::str::FromStr;

/// The variable by which the environment chooses a sink.
pub const DIAGNOSTICS_VARIABLE: &str = "ALLUVIUM_DIAGNOSTICS";

/// Where diagnostics go. A profile or the variable `ALLUVIUM_DIAGNOSTICS` says so.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum DiagnosticsChoice {
    /// Nowhere.
    None,
    /// Into memory, for whoever asks the process.
    Memory,
    /// To OpenTelemetry logs; nowhere when none are exported.
    Otel,
    /// Into a file, one JSON envelope a line.
    File(PathBuf),
}

/// The text names no sink.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[error("`{text}` is no sink of diagnostics: write none, memory, otel or file:PATH")]
pub struct DiagnosticsChoiceError {
    /// What was found.
    pub text: String,
}

impl FromStr for DiagnosticsChoice {
    type Err = DiagnosticsChoiceError;

    fn from_str(text: &str) -> Result<Self, DiagnosticsChoiceError> {
        match text {
            "none" => Ok(Self::None),
            "memory" => Ok(Self::Memory),
            "otel" => Ok(Self::Otel),
            _ => match text.strip_prefix("file:") {
                Some(path) if !path.is_empty() => Ok(Self::File(PathBuf::from(path))),
                _ => Err(DiagnosticsChoiceError { text: text.to_owned() }),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_is_a_word_or_a_file() {
        assert_eq!("otel".parse(), Ok(DiagnosticsChoice::Otel));
        assert_eq!("none".parse(), Ok(DiagnosticsChoice::None));
        assert_eq!("memory".parse(), Ok(DiagnosticsChoice::Memory));
        assert_eq!("file:a b.jsonl".parse(), Ok(DiagnosticsChoice::File(PathBuf::from("a b.jsonl"))));
        for text in ["", "file:", "OTEL", "a.jsonl"] {
            let error = text.parse::<DiagnosticsChoice>().unwrap_err();
            assert!(error.to_string().contains("file:PATH"), "{error}");
        }
    }
}
