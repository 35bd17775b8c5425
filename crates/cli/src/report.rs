//! The reports of `run` and `plan` as text.

use std::collections::BTreeMap;

use alluvium_contracts::{
    MissExplanation, OutputReport, OutputResult, PlanDocument, PlannedOutput, PlannedView, RunDocument, ViewReport,
    ViewResult,
};

use crate::human;
use crate::table::{Column, Row, Style, Table, Tone};

/// The report of a run: views, outputs, notices, and one line that sums it up.
pub fn run(document: &RunDocument, style: &Style) -> String {
    let views = Table {
        columns: vec![
            Column::text("view"),
            Column::text("result"),
            Column::number("rows"),
            Column::number("bytes"),
            Column::number("seconds"),
            Column::number("saved"),
        ],
        rows: document.views.iter().map(view_row).collect(),
    };
    let outputs = Table {
        columns: vec![
            Column::text("output"),
            Column::text("result"),
            Column::number("version"),
            Column::number("rows"),
            Column::number("seconds"),
            Column::text("path"),
        ],
        rows: document.outputs.iter().map(output_row).collect(),
    };
    let mut parts = vec![views.render(style), outputs.render(style)];
    parts.push(shadows(&document.views));
    parts.push(document.notices.iter().map(|notice| format!("note: {notice}\n")).collect());
    parts.push(summary(document));
    join(parts)
}

/// The decisions of a plan: views with their changes, outputs, and one line that sums it up.
pub fn plan(document: &PlanDocument, style: &Style) -> String {
    let views = Table {
        columns: vec![Column::text("view"), Column::text("result"), Column::number("saves")],
        rows: document.views.iter().map(planned_view_row).collect(),
    };
    let outputs = Table {
        columns: vec![Column::text("output"), Column::text("result"), Column::text("view")],
        rows: document.outputs.iter().map(planned_output_row).collect(),
    };
    let summary = format!(
        "plan: {}, {}\n",
        tally("view", document.views.iter().map(|view| view.result.as_str())),
        tally("output", document.outputs.iter().map(|output| output.result.as_str())),
    );
    join(vec![views.render(style), outputs.render(style), summary])
}

/// One finished view, as a line of progress says it.
pub fn view_line(view: &ViewReport) -> String {
    let facts = [view.rows.map(rows), view.bytes.map(human::bytes)];
    line(&view.name, view.result.as_str(), facts, view.duration_ms, view.reason.as_deref())
}

/// One finished output, as a line of progress says it.
pub fn output_line(output: &OutputReport) -> String {
    let version = output.delta_version.map(|version| format!("version {version}"));
    let name = format!("output {}", output.name);
    let facts = [output.rows.map(rows), version];
    line(&name, output.result.as_str(), facts, output.duration_ms, output.reason.as_deref())
}

fn line(name: &str, result: &str, facts: [Option<String>; 2], duration_ms: f64, reason: Option<&str>) -> String {
    let mut text = format!("{name}: {result} in {} s", human::seconds(duration_ms));
    for fact in facts.into_iter().flatten() {
        text.push_str(&format!(", {fact}"));
    }
    if let Some(reason) = reason {
        text.push_str(&format!(": {}", reason.replace('\n', "\n  ")));
    }
    text
}

fn rows(rows: u64) -> String {
    format!("{} {}", human::count(rows), if rows == 1 { "row" } else { "rows" })
}

fn view_row(view: &ViewReport) -> Row {
    Row {
        cells: vec![
            view.name.clone(),
            view.result.as_str().to_owned(),
            view.rows.map(human::count).unwrap_or_default(),
            view.bytes.map(human::bytes).unwrap_or_default(),
            human::seconds(view.duration_ms),
            view.saved_ms.map(human::seconds).unwrap_or_default(),
        ],
        tone: view_tone(view.result),
        remark: view.reason.as_deref().map(first_line),
        details: Vec::new(),
    }
}

fn output_row(output: &OutputReport) -> Row {
    Row {
        cells: vec![
            output.name.clone(),
            output.result.as_str().to_owned(),
            output.delta_version.map(|version| version.to_string()).unwrap_or_default(),
            output.rows.map(human::count).unwrap_or_default(),
            human::seconds(output.duration_ms),
            output.path.clone(),
        ],
        tone: output_tone(output.result),
        remark: output.reason.as_deref().map(first_line),
        details: Vec::new(),
    }
}

fn planned_view_row(view: &PlannedView) -> Row {
    Row {
        cells: vec![
            view.name.clone(),
            view.result.as_str().to_owned(),
            view.saved_ms.map(|saved| format!("{} s", human::seconds(saved))).unwrap_or_default(),
        ],
        tone: view_tone(view.result),
        remark: view.reason.as_deref().map(first_line),
        details: view.explanation.as_ref().map(MissExplanation::lines).unwrap_or_default(),
    }
}

fn planned_output_row(output: &PlannedOutput) -> Row {
    Row {
        cells: vec![output.name.clone(), output.result.as_str().to_owned(), output.view.clone()],
        tone: output_tone(output.result),
        remark: output.reason.as_deref().map(first_line),
        details: Vec::new(),
    }
}

/// Errors may go on for lines; all of them were told when the view ended.
fn first_line(text: &str) -> String {
    let mut lines = text.lines();
    let first = lines.next().unwrap_or_default();
    if lines.next().is_some() { format!("{first} …") } else { first.to_owned() }
}

fn view_tone(result: ViewResult) -> Tone {
    match result {
        ViewResult::Hit => Tone::Good,
        ViewResult::Write | ViewResult::Computed => Tone::Busy,
        ViewResult::Skipped => Tone::Idle,
        ViewResult::Error => Tone::Bad,
    }
}

fn output_tone(result: OutputResult) -> Tone {
    match result {
        OutputResult::Hit => Tone::Good,
        OutputResult::Write => Tone::Busy,
        OutputResult::Skipped => Tone::Idle,
        OutputResult::Error => Tone::Bad,
    }
}

fn summary(document: &RunDocument) -> String {
    let saved = if document.saved_ms > 0.0 {
        format!(", {} s saved", human::seconds(document.saved_ms))
    } else {
        String::new()
    };
    format!(
        "{} in {} s: {}, {}{saved} (run {})\n",
        document.result.as_str(),
        human::seconds(document.duration_ms),
        tally("view", document.views.iter().map(|view| view.result.as_str())),
        tally("output", document.outputs.iter().map(|output| output.result.as_str())),
        document.run_id,
    )
}

/// What comparing hits came to; nothing where none was compared.
fn shadows(views: &[ViewReport]) -> String {
    let compared: Vec<&str> = views.iter().filter_map(|view| Some(view.shadow?.as_str())).collect();
    match compared.as_slice() {
        [] => String::new(),
        compared => format!("computed all the same and compared: {}\n", tally("hit", compared.iter().copied())),
    }
}

/// `3 views (1 hit, 2 write)`
fn tally<'a>(noun: &str, results: impl Iterator<Item = &'a str>) -> String {
    let mut counts = BTreeMap::<&str, usize>::new();
    for result in results {
        *counts.entry(result).or_default() += 1;
    }
    let total = human::plural(counts.values().sum(), noun);
    if counts.is_empty() {
        return total;
    }
    let counts: Vec<_> = counts.into_iter().map(|(result, count)| format!("{count} {result}")).collect();
    format!("{total} ({})", counts.join(", "))
}

fn join(parts: Vec<String>) -> String {
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
pub mod fixtures;
#[cfg(test)]
mod tests;
