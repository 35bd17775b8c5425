//! Functions that mean in another dialect, under the name that the unparser writes, what they mean to the engine.
//!
//! A function is not here until somebody has looked: what is missing is named to the user, and nothing is guessed. What
//! differs in nothing but the type of its result, or in how NULL sorts, is here.

use alluvium_contracts::TargetDialect;

/// Of values: in every dialect.
const SCALAR: &[&str] = &["abs", "coalesce", "lower", "nullif", "replace", "round", "substr", "upper"];

/// Of groups: in every dialect.
const AGGREGATE: &[&str] = &["avg", "count", "max", "min", "sum"];

/// Of windows: in every dialect.
const WINDOW: &[&str] = &[
    "cume_dist",
    "dense_rank",
    "first_value",
    "lag",
    "last_value",
    "lead",
    "nth_value",
    "ntile",
    "percent_rank",
    "rank",
    "row_number",
];

/// Of values: in every dialect but SQLite's, where functions of mathematics are an option of the build.
const SCALAR_BUT_SQLITE: &[&str] = &[
    "acos", "ascii", "asin", "atan", "ceil", "cos", "cot", "exp", "floor", "left", "ln", "lpad", "power", "repeat",
    "reverse", "right", "rpad", "sin", "sqrt", "tan",
];

/// What a function is applied to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Scalar,
    Aggregate,
    Window,
}

/// Whether the function `name` means the same in the dialect `to`.
pub(super) fn has(to: TargetDialect, kind: Kind, name: &str) -> bool {
    let everywhere = match kind {
        Kind::Scalar => SCALAR.contains(&name) || (to != TargetDialect::Sqlite && SCALAR_BUT_SQLITE.contains(&name)),
        Kind::Aggregate => AGGREGATE.contains(&name),
        Kind::Window => WINDOW.contains(&name),
    };
    // `TRIM` is `btrim` to the engine, `STDDEV` is of the population to MySQL, `greatest` is NULL in half of them for one NULL.
    let here: &[&str] = match (to, kind) {
        (TargetDialect::Generic, _) => return true,
        (TargetDialect::Postgresql, Kind::Scalar) => &[
            "array_element",
            "array_has",
            "btrim",
            "character_length",
            "chr",
            "concat",
            "concat_ws",
            "date_part",
            "date_trunc",
            "greatest",
            "initcap",
            "least",
            "ltrim",
            "make_array",
            "md5",
            "now",
            "rtrim",
            "split_part",
            "starts_with",
            "strpos",
            "translate",
        ],
        (TargetDialect::Duckdb, Kind::Scalar) => &[
            "array_element",
            "array_has",
            "character_length",
            "chr",
            "concat",
            "concat_ws",
            "date_part",
            "date_trunc",
            "greatest",
            "least",
            "ltrim",
            "make_array",
            "md5",
            "now",
            "rtrim",
            "starts_with",
            "strpos",
            "translate",
        ],
        (TargetDialect::Mysql, Kind::Scalar) => {
            &["character_length", "concat_ws", "date_part", "ltrim", "md5", "rtrim"]
        }
        (TargetDialect::Sqlite, Kind::Scalar) => &["character_length", "ltrim", "rtrim"],
        (TargetDialect::Bigquery, Kind::Scalar) => {
            &["character_length", "date_part", "ltrim", "rtrim", "starts_with", "strpos"]
        }
        (TargetDialect::Snowflake, Kind::Scalar) => {
            &["date_part", "date_trunc", "ltrim", "md5", "rtrim", "split_part", "translate"]
        }
        (TargetDialect::Postgresql | TargetDialect::Duckdb, Kind::Aggregate) => &[
            "array_agg",
            "bit_and",
            "bit_or",
            "bool_and",
            "bool_or",
            "corr",
            "covar_pop",
            "covar_samp",
            "stddev",
            "stddev_pop",
            "string_agg",
            "var_pop",
        ],
        (TargetDialect::Bigquery | TargetDialect::Snowflake, Kind::Aggregate) => {
            &["corr", "covar_pop", "covar_samp", "stddev", "stddev_pop", "var_pop"]
        }
        (TargetDialect::Mysql, Kind::Aggregate) => &["stddev_pop", "var_pop"],
        (TargetDialect::Sqlite, Kind::Aggregate) | (_, Kind::Window) => &[],
    };
    everywhere || here.contains(&name)
}
