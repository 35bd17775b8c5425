//! TPC-H's queries over each provider, answered as Parquet files that others read: `tpch QUERIES DIR` takes
//! `QUERIES/qNN.sql`, the tables in `DIR/parquet` and `DIR/delta`, and makes `DIR/answers/PROVIDER/qNN.parquet`. `cargo
//! xtask interop` holds those against DuckDB's.

use std::fs::File;
use std::path::{Path, PathBuf};

use alluvium_tests::tpch::Provider;
use anyhow::{Context, Result, ensure};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [queries, dir] = arguments.as_slice() else {
        anyhow::bail!("name the directory of the queries and that of the tables");
    };
    let mut files = std::fs::read_dir(queries)?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    files.retain(|file| file.extension().is_some_and(|extension| extension == "sql"));
    files.sort();
    ensure!(!files.is_empty(), "no query in {}", queries.display());
    for provider in Provider::ALL {
        let answers = dir.join("answers").join(provider.name());
        std::fs::create_dir_all(&answers)?;
        let session = provider.session(dir).await?;
        for file in &files {
            answer(provider, &session, file, &answers)
                .await
                .with_context(|| format!("{} over {}", file.display(), provider.name()))?;
        }
    }
    Ok(())
}

async fn answer(provider: Provider, session: &alluvium_profile::Session, query: &Path, answers: &Path) -> Result<()> {
    let (schema, rows) = provider.answer(session, &std::fs::read_to_string(query)?).await?;
    let name = query.file_stem().context("a query without a name")?;
    let file = File::create(answers.join(name).with_extension("parquet"))?;
    // Types of arrow that other readers may not know are left out.
    let options = ArrowWriterOptions::new().with_skip_arrow_metadata(true);
    let mut writer = ArrowWriter::try_new_with_options(file, schema, options)?;
    for batch in &rows {
        writer.write(batch)?;
    }
    writer.close()?;
    Ok(())
}
