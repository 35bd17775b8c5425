//! The vocabulary as a page of the documentation.

use std::fmt::Write;

use super::{
    ATTRIBUTES, Content, DIAGNOSTICS, DURATION_BUCKETS_S, ERROR_TYPES, MAX_SERIES, METRICS, OPERATOR_SPAN, On,
    RESOURCE_ATTRIBUTES, SPANS, Word,
};

/// The text of `docs/observability/vocabulary.md`.
#[must_use]
pub fn page() -> String {
    let mut page = String::from(
        "# Vocabulary of signals\n\n\
         Generated from `crates/telemetry/src/vocabulary`: edit it there, then run\n\
         `ALLUVIUM_WRITE_DOCS=1 cargo test -p alluvium-telemetry vocabulary`.\n\n\
         What is not on this page does not leave the process: exporters drop every other attribute, and Views drop\n\
         every other attribute of a metric.\n",
    );
    section(&mut page, "Spans", &["span", "meaning", "attributes"]);
    for span in SPANS {
        row(&mut page, &[&code(span.name), span.meaning, &codes(span.attributes)]);
    }
    page.push_str("\nThe status of a span is `Error` where `error.type` is set, and unset otherwise.\n");

    // Writing to a String cannot fail.
    let _ = write!(
        page,
        "\nWith `query_spans` of `[profile]` each operator of a query has a span too, called as the engine calls the operator\n\
         (`FilterExec`) and made when the query has ended: {}. An operator's text, its expressions and file names stay in\n\
         the process.\n",
        codes(OPERATOR_SPAN)
    );

    section(&mut page, "Metrics", &["metric", "instrument", "unit", "meaning", "attributes"]);
    for metric in METRICS {
        let cells =
            [&code(metric.name), metric.instrument, &code(metric.unit), metric.meaning, &codes(metric.attributes)];
        row(&mut page, &cells);
    }
    let buckets: Vec<String> = DURATION_BUCKETS_S.iter().map(ToString::to_string).collect();
    let _ = write!(
        page,
        "\nA metric makes at most {MAX_SERIES} series; what would make more is counted under `otel.metric.overflow`.\n\
         Buckets of durations, in seconds: {}.\n",
        buckets.join(", ")
    );

    section(&mut page, "Attributes", &["attribute", "on", "how it leaves", "meaning", "values"]);
    for attribute in ATTRIBUTES {
        let on = match attribute.on {
            On::Everything => "metrics, spans, logs",
            On::SpansAndLogs => "spans, logs",
        };
        let leaves = match attribute.content {
            Content::Word | Content::Id | Content::Number => "as it is",
            Content::Name => "as it is, without credentials",
            Content::Path => "hashed, unless opted in",
            Content::Sql => "with `?` for each literal",
            Content::Text => "without credentials, quoted text and paths",
        };
        row(&mut page, &[&code(attribute.name), on, leaves, attribute.meaning, &codes(attribute.values)]);
    }

    words(&mut page, "Errors", "`error.type`", ERROR_TYPES);
    words(&mut page, "Resource", "attribute", RESOURCE_ATTRIBUTES);
    words(&mut page, "Diagnostics", "kind", DIAGNOSTICS);
    page.push_str(
        "\nAn event is named after the kind of its payload's contract, whose schema is in `docs/contracts`, and carries that\n\
         contract's version.\n",
    );
    page
}

fn words(page: &mut String, title: &str, column: &str, words: &[Word]) {
    section(page, title, &[column, "meaning"]);
    for word in words {
        row(page, &[&code(word.name), word.meaning]);
    }
}

fn section(page: &mut String, title: &str, columns: &[&str]) {
    let _ = write!(page, "\n## {title}\n\n");
    row(page, columns);
    row(page, &vec!["---"; columns.len()]);
}

fn row(page: &mut String, cells: &[&str]) {
    let _ = writeln!(page, "| {} |", cells.join(" | "));
}

fn code(text: &str) -> String {
    format!("`{text}`")
}

fn codes(texts: &[&str]) -> String {
    texts.iter().map(|text| code(text)).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_vocabulary_page_is_current() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/observability/vocabulary.md");
        if std::env::var_os("ALLUVIUM_WRITE_DOCS").is_some() {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, page()).unwrap();
        }
        let written = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            written == page(),
            "docs/observability/vocabulary.md is stale: run this test with ALLUVIUM_WRITE_DOCS=1"
        );
    }
}
