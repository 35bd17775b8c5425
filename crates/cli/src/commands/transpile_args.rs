//! `transpile FILE|-`: the arguments.

use std::path::PathBuf;

use alluvium_contracts::TargetDialect;
use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};

use crate::args::{DocumentFormat, ProjectArgs};

/// `transpile FILE|-`
#[derive(Debug, Args)]
pub struct TranspileArgs {
    /// A file with one query over the project's sources and views; `-` is standard input
    #[arg(value_name = "FILE|-")]
    pub file: PathBuf,
    /// The project.
    #[command(flatten)]
    pub project: ProjectArgs,
    /// The dialect to write it in
    #[arg(long, value_name = "DIALECT", value_parser = targets())]
    pub to: TargetDialect,
    /// Whose grammar the query is written in, as for `sql`
    #[arg(long, value_name = "DIALECT", default_value = "generic")]
    pub dialect: String,
    /// How the answer is printed: as SQL, or as a document that has what cannot be written too
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = DocumentFormat::Text)]
    pub format: DocumentFormat,
}

fn targets() -> impl TypedValueParser<Value = TargetDialect> {
    let names = TargetDialect::ALL.iter().map(|dialect| dialect.as_str());
    PossibleValuesParser::new(names).try_map(|name| {
        let named = TargetDialect::ALL.iter().find(|dialect| dialect.as_str() == name);
        named.copied().ok_or("no dialect of this name")
    })
}
