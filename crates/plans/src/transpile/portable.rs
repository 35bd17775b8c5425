//! Functions that mean in another dialect, under the name that the unparser writes, what they mean to the engine.
//!
//! A function is not here until somebody has looked: what is missing is named to the user, and nothing is guessed. What
//! differs in nothing but the type of its result, or in how NULL sorts, is here.

use alluvium_contracts::TargetDialect;

/// Of values: in every dialect, but for arguments that `meanings` names.
const SCALAR: &[&str] = &["abs", "coalesce", "nullif", "replace", "round", "substr"];

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

/// Of values: in every dialect but SQLite's, where functions of mathematics are an option of the build, and letters are ASCII.
const SCALAR_BUT_SQLITE: &[&str] = &[
    "atan", "ceil", "cos", "exp", "floor", "left", "lower", "lpad", "power", "repeat", "right", "rpad", "sin", "sqrt",
    "tan", "upper",
];

/// Of values: in every dialect but SQLite's and MySQL's, which has NULL for what is infinite or no number to the engine.
const SCALAR_OF_FLOATS: &[&str] = &["acos", "asin", "cot", "ln"];

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
        Kind::Scalar => {
            let is_mysql_or_sqlite = matches!(to, TargetDialect::Mysql | TargetDialect::Sqlite);
            SCALAR.contains(&name)
                || (to != TargetDialect::Sqlite && SCALAR_BUT_SQLITE.contains(&name))
                || (!is_mysql_or_sqlite && SCALAR_OF_FLOATS.contains(&name))
        }
        Kind::Aggregate => AGGREGATE.contains(&name),
        Kind::Window => WINDOW.contains(&name),
    };
    // `TRIM` is `btrim` to the engine, `STDDEV` is of the population to MySQL, `greatest` is NULL in half of them for one NULL.
    // To DuckDB `corr` of a constant is NaN, and `reverse` keeps accents with their letters; `ascii` is a byte, or an error, where it is
    // no code point; `array_has` is NULL to PostgreSQL where there is a NULL instead.
    let here: &[&str] = match (to, kind) {
        (TargetDialect::Generic, _) => return true,
        (TargetDialect::Postgresql, Kind::Scalar) => &[
            "array_element",
            "ascii",
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
            "reverse",
            "rtrim",
            "split_part",
            "starts_with",
            "strpos",
            "translate",
        ],
        (TargetDialect::Duckdb, Kind::Scalar) => &[
            "array_element",
            "array_has",
            "ascii",
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
            &["character_length", "concat_ws", "date_part", "ltrim", "md5", "reverse", "rtrim"]
        }
        (TargetDialect::Sqlite, Kind::Scalar) => &["character_length", "ltrim", "rtrim"],
        (TargetDialect::Bigquery, Kind::Scalar) => {
            &["character_length", "date_part", "ltrim", "reverse", "rtrim", "starts_with", "strpos"]
        }
        (TargetDialect::Snowflake, Kind::Scalar) => {
            &["date_part", "date_trunc", "ltrim", "md5", "reverse", "rtrim", "split_part", "translate"]
        }
        (TargetDialect::Postgresql, Kind::Aggregate) if name == "corr" => &["corr"],
        (TargetDialect::Postgresql | TargetDialect::Duckdb, Kind::Aggregate) => &[
            "array_agg",
            "bit_and",
            "bit_or",
            "bool_and",
            "bool_or",
            "covar_pop",
            "covar_samp",
            "stddev",
            "stddev_pop",
            "string_agg",
            "var_pop",
        ],
        (TargetDialect::Bigquery | TargetDialect::Snowflake, Kind::Aggregate) => {
            &["covar_pop", "covar_samp", "stddev", "stddev_pop", "var_pop"]
        }
        (TargetDialect::Mysql, Kind::Aggregate) => &["stddev_pop", "var_pop"],
        (TargetDialect::Sqlite, Kind::Aggregate) | (_, Kind::Window) => &[],
    };
    everywhere || here.contains(&name)
}
