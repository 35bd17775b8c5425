//! Whether the rows of a dataset are what is declared of them. The engine is not told of constraints: it would believe them.

use std::fmt::Write as _;
use std::sync::atomic::Ordering;

use alluvium_profile::Session;
use alluvium_telemetry::Redactor;
use arrow::array::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::error::DataFusionError;
use datafusion::functions_aggregate::expr_fn::{count, sum};
use datafusion::logical_expr::{Expr, lit, not};
use datafusion::prelude::{DataFrame, SessionContext};

use crate::layout::column;
use crate::pin::blocking;
use crate::projection::RowExpressions;
use crate::schema_text::identity_bytes;
use crate::{ChangedError, PinError, PinnedDataset, Pinner, ProjectionError};

/// Raised when the same rows are held against the same constraints otherwise.
const CONSTRAINTS_EPOCH: u32 = 1;

/// How many offending rows an error shows.
const SAMPLE_ROWS: usize = 5;
/// How much of a value it shows, in characters.
const SAMPLE_CHARACTERS: usize = 60;
/// A name that no column of ours has, for how often a key is there.
const TIMES: &str = "alluvium_key_count";

/// What some rows violate.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Violation {
    /// The constraint: `not_null COLUMN`, `primary_key` or `check NAME`.
    pub constraint: String,
    /// How many rows offend.
    pub row_count: u64,
    /// Some of them, a few values of each; of a primary key the keys that are there more than once.
    pub sample: Vec<String>,
}

/// The rows of a dataset are not, or cannot be held against, what is declared of them.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConstraintError {
    /// Some rows offend.
    #[error("the dataset `{dataset}` violates {}: correct its rows, or the declaration", texts(violations))]
    Violated {
        /// The dataset.
        dataset: String,
        /// Each constraint that is violated.
        violations: Vec<Violation>,
    },
    /// A constraint names a column that is not there.
    #[error(
        "`constraints` of the dataset `{dataset}` name the column `{column}`, which is none of its columns: {known:?}"
    )]
    UnknownColumn {
        /// The dataset.
        dataset: String,
        /// The column.
        column: String,
        /// The columns that there are.
        known: Vec<String>,
    },
    /// A check is no condition on a row.
    #[error("the check `{name}` of the dataset `{dataset}` cannot be made")]
    Check {
        /// The dataset.
        dataset: String,
        /// The name of the check.
        name: String,
        /// What is wrong with it.
        source: ProjectionError,
    },
    /// The dataset cannot be read.
    #[error("the dataset `{dataset}` cannot be read to check its constraints")]
    Pin {
        /// The dataset.
        dataset: String,
        /// What is wrong with it.
        source: Box<PinError>,
    },
    /// It is not any more what was pinned, so that nothing is known of the rows that were.
    #[error("the dataset `{dataset}` changed while its constraints were checked: try again")]
    Changed {
        /// The dataset.
        dataset: String,
        /// What changed.
        source: Box<ChangedError>,
    },
    /// Reading failed.
    #[error("reading the dataset `{dataset}` to check {constraint} failed")]
    Read {
        /// The dataset.
        dataset: String,
        /// The constraint.
        constraint: String,
        /// The engine's word.
        source: Box<DataFusionError>,
    },
}

fn texts(violations: &[Violation]) -> String {
    let each = violations.iter().map(|violation| {
        let mut text = format!("`{}` in {} rows", violation.constraint, violation.row_count);
        // Writing to a string cannot fail.
        let _ = write!(text, ", such as {}", violation.sample.join(" and "));
        text
    });
    each.collect::<Vec<_>>().join("; ")
}

/// Reads the whole dataset and holds every row against the declared `constraints`: columns that may not be NULL, keys that
/// tell rows apart, and checks, of which one that is NULL passes, as in SQL. Nothing declared means nothing read.
///
/// # Errors
/// [`ConstraintError::Violated`] with every constraint that is, otherwise as the variants say.
pub async fn check_constraints(ctx: &SessionContext, dataset: &PinnedDataset) -> Result<(), ConstraintError> {
    let declared = dataset.constraints();
    if declared.is_empty() {
        return Ok(());
    }
    let name = || dataset.name().to_owned();
    let schema = dataset.schema();
    for column in declared.primary_key.iter().chain(&declared.not_null) {
        if schema.index_of(column).is_err() {
            let known = schema.fields().iter().map(|field| field.name().clone()).collect();
            return Err(ConstraintError::UnknownColumn { dataset: name(), column: column.clone(), known });
        }
    }
    let mut offending: Vec<(String, Expr)> = Vec::new();
    for required in declared.not_null.iter().chain(&declared.primary_key) {
        let constraint = format!("not_null {required}");
        if !offending.iter().any(|(known, _)| *known == constraint) {
            offending.push((constraint, column(required).is_null()));
        }
    }
    let state = ctx.state();
    let row = RowExpressions::over(&state, schema);
    for (check, condition) in &declared.check {
        let condition = row.plan("constraints.check", condition).map_err(|source| ConstraintError::Check {
            dataset: name(),
            name: check.clone(),
            source,
        })?;
        offending.push((format!("check {check}"), not(condition)));
    }
    let provider =
        dataset.provider().map_err(|source| ConstraintError::Pin { dataset: name(), source: Box::new(source) })?;
    let read_error = |constraint: &str, source: DataFusionError| ConstraintError::Read {
        dataset: name(),
        constraint: constraint.to_owned(),
        source: Box::new(source),
    };
    let mut violations = Vec::new();
    for (constraint, condition) in offending {
        let found = async {
            let rows = ctx.read_table(provider.clone())?.filter(condition)?;
            violation(&constraint, rows.clone().count().await?, rows).await
        };
        violations.extend(found.await.map_err(|source| read_error(&constraint, source))?);
    }
    if !declared.primary_key.is_empty() {
        let found = async {
            let keys = declared.primary_key.iter().map(|key| column(key)).collect();
            let groups = ctx.read_table(provider)?.aggregate(keys, vec![count(lit(1)).alias(TIMES)])?;
            let twice = groups.filter(column(TIMES).gt(lit(1)))?;
            let total = twice.clone().aggregate(vec![], vec![sum(column(TIMES))])?.collect().await?;
            violation("primary_key", first_integer(&total), twice).await
        };
        violations.extend(found.await.map_err(|source| read_error("primary_key", source))?);
    }
    match violations.is_empty() {
        true => Ok(()),
        false => Err(ConstraintError::Violated { dataset: name(), violations }),
    }
}

impl Pinner {
    /// [`check_constraints`], unless the memo knows that these very rows, by their pin, satisfied the same constraints before;
    /// and then [`PinnedDataset::recheck`], so that the answer is about what was pinned.
    ///
    /// # Errors
    /// As there, and [`ConstraintError::Changed`].
    pub async fn check_constraints(&self, session: &Session, dataset: &PinnedDataset) -> Result<(), ConstraintError> {
        let declared = dataset.constraints();
        if declared.is_empty() {
            return Ok(());
        }
        // Settings say what a check means: the time zone, or what `0.1` is.
        let key = serde_json::json!({
            "epoch": CONSTRAINTS_EPOCH,
            "engine": datafusion::DATAFUSION_VERSION,
            "settings": session.semantic_settings(),
            "pin": dataset.digest(),
            "constraints": declared,
        });
        let key = *blake3::hash(&identity_bytes(&key)).as_bytes();
        if self.memo(move |memo| memo.is_satisfied(&key)).await == Some(true) {
            return Ok(());
        }
        self.counters.constraints_checked.fetch_add(1, Ordering::Relaxed);
        let checked = check_constraints(session.context(), dataset).await;
        let pinned = dataset.clone();
        let unchanged = blocking(move || pinned.recheck()).await;
        unchanged.map_err(|source| ConstraintError::Changed {
            dataset: dataset.name().to_owned(),
            source: Box::new(source),
        })?;
        checked?;
        self.memo(move |memo| memo.remember_satisfied(&key)).await;
        Ok(())
    }
}

async fn violation(constraint: &str, count: usize, rows: DataFrame) -> Result<Option<Violation>, DataFusionError> {
    if count == 0 {
        return Ok(None);
    }
    let sample = rows.limit(0, Some(SAMPLE_ROWS))?.collect().await?;
    let sample = sample.iter().map(sampled).collect::<Result<Vec<_>, _>>()?.concat();
    Ok(Some(Violation { constraint: constraint.to_owned(), row_count: count as u64, sample }))
}

/// The rows of a batch as `(k=1, s=x)`, without credentials.
fn sampled(batch: &RecordBatch) -> Result<Vec<String>, DataFusionError> {
    let options = FormatOptions::default().with_null("NULL");
    let schema = batch.schema();
    let columns = schema.fields().iter().zip(batch.columns()).filter(|(field, _)| field.name() != TIMES);
    let columns = columns
        .map(|(field, values)| Ok((field.name(), ArrayFormatter::try_new(values, &options)?)))
        .collect::<Result<Vec<_>, DataFusionError>>()?;
    let redactor = Redactor::default();
    let row = |row: usize| {
        let values = columns.iter().map(|(name, values)| {
            // Before it is cut: half a credential is not known for one.
            let text = format!("{name}={}", values.value(row));
            let text = redactor.kept(&text);
            match text.char_indices().nth(name.chars().count() + 1 + SAMPLE_CHARACTERS) {
                Some((end, _)) => format!("{}…", &text[..end]),
                None => text.into_owned(),
            }
        });
        format!("({})", values.collect::<Vec<_>>().join(", "))
    };
    Ok((0..batch.num_rows()).map(row).collect())
}

/// The one value of an aggregate; no rows sum to nothing.
fn first_integer(batches: &[RecordBatch]) -> usize {
    use arrow::array::AsArray;
    use arrow::datatypes::Int64Type;
    let first = batches.iter().find(|batch| batch.num_rows() > 0);
    let value = first.and_then(|batch| batch.column(0).as_primitive_opt::<Int64Type>()?.iter().next()?);
    value.and_then(|value| usize::try_from(value).ok()).unwrap_or(0)
}
