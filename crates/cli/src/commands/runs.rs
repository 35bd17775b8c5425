//! `alluvium runs`: what earlier runs did.

use alluvium_contracts::{
    CacheRunSummary, ComponentChange, Contract, ReplayDocument, ReplayInputState, ReplayResult, RunDifference, RunList,
    RunManifest, RunRecord, RunResult,
};
use alluvium_runs::Pipeline;
use tokio::sync::watch;

use super::runs_args::{RunsArgs, RunsCommand};
use super::{open, runtime};
use crate::args::DocumentFormat;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::signals::Stop;
use crate::table::{Column, Row, Style, Table, Tone};
use crate::terminal::Terminal;
use crate::{human, output};

/// Does what was asked.
pub fn runs(args: &RunsArgs, terminal: &Terminal) -> Result<Exit, Failure> {
    let runtime = runtime()?;
    let stop = Stop::listen(terminal)
        .map_err(|error| Failure::failed("cannot listen for signals".to_owned()).because(error))?;
    let (project, dir) = match &args.command {
        RunsCommand::Ls { project, dir, .. } => (project, dir.as_deref()),
        RunsCommand::Show { project, .. }
        | RunsCommand::Diff { project, .. }
        | RunsCommand::Keep { project, .. }
        | RunsCommand::Release { project, .. }
        | RunsCommand::Replay { project, .. } => (project, None),
    };
    let done = {
        let _inside = runtime.enter();
        let pipeline = open(project, dir)?;
        let cancel = stop.token();
        let answered = runtime.block_on(stop.or(answer(&args.command, &pipeline, cancel, &Style::of_stdout(terminal))));
        // However quiet: without it the answer passes for all there was.
        for (_, notice) in pipeline.ledgers_set_aside()? {
            terminal.line(&format!("note: {notice}"));
        }
        answered
    };
    runtime.shutdown_background();
    done.map_err(Failure::stopped)?
}

async fn answer(
    command: &RunsCommand,
    pipeline: &Pipeline,
    cancel: watch::Receiver<bool>,
    style: &Style,
) -> Result<Exit, Failure> {
    match command {
        RunsCommand::Ls { limit, format, .. } => {
            let document = pipeline.runs(usize::try_from(*limit).unwrap_or(usize::MAX)).await?;
            print(document, *format, |document| list(document, style))?;
        }
        RunsCommand::Show { run, format, .. } => {
            let document = pipeline.run_record(run).await?;
            print(document, *format, |document| record(document, style))?;
        }
        RunsCommand::Diff { before, after, format, .. } => {
            let document = pipeline.diff_runs(before, after).await?;
            print(document, *format, difference)?;
        }
        RunsCommand::Keep { run, .. } => {
            let kept = pipeline.keep_run(run).await?;
            let mut text =
                format!("run {} is kept, with {} entries\n", kept.run_id, human::count(kept.entries.len() as u64));
            text.extend(kept.tables.iter().map(|table| format!("  {table} is kept from vacuums\n")));
            text.extend(kept.missing.iter().map(|dir| format!("  {dir} is not there any more\n")));
            text.extend(kept.unkept.iter().map(|table| format!("  {table} (not kept)\n")));
            output::print(&text)?;
        }
        RunsCommand::Release { run, .. } => {
            let text = match pipeline.release_run(run).await? {
                (run_id, true) => format!("run {run_id} is kept no longer\n"),
                (run_id, false) => format!("run {run_id} was not kept\n"),
            };
            output::print(&text)?;
        }
        RunsCommand::Replay { run, scratch, format, .. } => {
            let document = pipeline.replay(run, scratch.as_deref(), cancel).await?;
            let is_reproduced = matches!(document.result, ReplayResult::Same | ReplayResult::Unstable);
            print(document, *format, |document| replayed(document, style))?;
            return Ok(if is_reproduced { Exit::Done } else { Exit::Failed });
        }
    }
    Ok(Exit::Done)
}

fn print<T: Contract>(document: T, format: DocumentFormat, text: impl FnOnce(&T) -> String) -> Result<(), Failure> {
    match format {
        DocumentFormat::Text => output::print(&text(&document)),
        DocumentFormat::Json => output::print_document(document),
    }
}

fn list(document: &RunList, style: &Style) -> String {
    if document.runs.is_empty() {
        return "no runs yet: `alluvium run` makes the first\n".to_owned();
    }
    let table = Table {
        columns: vec![
            Column::text("run"),
            Column::text("result"),
            Column::text("started"),
            Column::number("seconds"),
            Column::number("hits"),
            Column::number("writes"),
            Column::number("computed"),
            Column::number("errors"),
            Column::number("saved"),
        ],
        rows: document.runs.iter().map(row).collect(),
    };
    let rest = match document.omitted_count {
        0 => String::new(),
        count => format!("{} earlier: --limit N shows more\n", human::count(count)),
    };
    table.render(style) + &rest
}

fn row(run: &CacheRunSummary) -> Row {
    Row {
        cells: vec![
            run.run_id.to_string(),
            run.result.to_string(),
            human::instant(run.started_unix_ms),
            lasted(run),
            human::count(run.hit_count),
            human::count(run.write_count),
            human::count(run.computed_count),
            human::count(run.error_count + run.skipped_count),
            human::seconds(run.saved_ms),
        ],
        tone: tone(run.result),
        remark: None,
        details: Vec::new(),
    }
}

/// In seconds. When a run was killed nobody knows, only when it was last alive.
fn lasted(run: &CacheRunSummary) -> String {
    let seconds = human::seconds((run.finished_unix_ms - run.started_unix_ms) as f64);
    if run.result == RunResult::Killed { format!("≥ {seconds}") } else { seconds }
}

const fn tone(result: RunResult) -> Tone {
    match result {
        RunResult::Succeeded => Tone::Good,
        RunResult::Interrupted => Tone::Idle,
        RunResult::Failed | RunResult::Killed => Tone::Bad,
    }
}

fn record(document: &RunRecord, style: &Style) -> String {
    let run = &document.summary;
    let mut text = format!(
        "run {}: {} in {} s, started {}\n",
        run.run_id,
        run.result,
        lasted(run),
        human::instant(run.started_unix_ms)
    );
    let entries = Table {
        columns: vec![
            Column::text("name"),
            Column::text("result"),
            Column::text("scope"),
            Column::number("version"),
            Column::number("rows"),
            Column::number("bytes"),
            Column::number("seconds"),
        ],
        rows: document
            .entries
            .iter()
            .map(|entry| Row {
                cells: vec![
                    entry.output_name.clone().unwrap_or_else(|| entry.view_name.clone()),
                    entry.result.to_string(),
                    entry.cache_scope.to_string(),
                    entry.delta_version.map(|version| version.to_string()).unwrap_or_default(),
                    entry.row_count.map(human::count).unwrap_or_default(),
                    entry.size_bytes.map(human::bytes).unwrap_or_default(),
                    human::seconds(entry.duration_ms),
                ],
                tone: Tone::Idle,
                remark: entry.reason.clone(),
                details: Vec::new(),
            })
            .collect(),
    };
    let mut parts = vec![entries.render(style)];
    match &document.manifest {
        Some(manifest) => parts.push(provenance(manifest)),
        None => parts.push("it left no manifest\n".to_owned()),
    }
    for artifact in &document.artifacts {
        parts.push(format!("{} of {}: {}\n", artifact.artifact_kind, artifact.name, artifact.artifact_id));
    }
    parts.push(document.unread.iter().map(|why| format!("note: {why}\n")).collect());
    text.push('\n');
    text + &parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("\n")
}

/// What it read, what it committed, and where its trace is.
fn provenance(manifest: &RunManifest) -> String {
    let inputs = manifest.delta_inputs.iter().map(|pin| {
        let place = pin.path.as_deref().unwrap_or("-");
        let state = match (pin.version, pin.file_count) {
            (Some(version), _) => format!("version {version}"),
            (None, Some(count)) => human::plural(usize::try_from(count).unwrap_or(usize::MAX), "file"),
            (None, None) => String::new(),
        };
        format!("read {} ({place}): {state}, {}\n", pin.name, pin.pin)
    });
    let commits = manifest.commits.iter().map(|commit| {
        format!(
            "committed {} {}: version {} of {}\n",
            commit.cache_scope, commit.name, commit.delta_version, commit.path
        )
    });
    let trace = manifest.traceparent.iter().map(|traceparent| format!("trace {traceparent}\n"));
    inputs.chain(commits).chain(trace).collect()
}

fn difference(document: &RunDifference) -> String {
    let RunDifference { before, after, inputs, queries, environment, results } = document;
    let sections = [("inputs", inputs), ("queries", queries), ("environment", environment), ("results", results)];
    let mut text = format!("{before} → {after}\n");
    for (title, changes) in sections {
        if !changes.is_empty() {
            text.push_str(&format!("{title}:\n"));
            text.extend(changes.iter().map(|change| format!("  {}\n", line(change))));
        }
    }
    if sections.iter().all(|(_, changes)| changes.is_empty()) {
        text.push_str("nothing differs\n");
    }
    text
}

fn replayed(document: &ReplayDocument, style: &Style) -> String {
    let inputs = Table {
        columns: vec![Column::text("input"), Column::text("state")],
        rows: document
            .inputs
            .iter()
            .map(|input| Row {
                cells: vec![input.name.clone(), input.state.to_string()],
                tone: if input.state == ReplayInputState::Unchanged { Tone::Good } else { Tone::Bad },
                remark: input.reason.clone(),
                details: Vec::new(),
            })
            .collect(),
    };
    let views = Table {
        columns: vec![Column::text("view"), Column::text("result"), Column::number("rows then"), Column::number("now")],
        rows: document
            .views
            .iter()
            .map(|view| Row {
                cells: vec![
                    view.name.clone(),
                    view.result.to_string(),
                    view.expected_row_count.map(human::count).unwrap_or_default(),
                    view.row_count.map(human::count).unwrap_or_default(),
                ],
                tone: match view.result {
                    ReplayResult::Same => Tone::Good,
                    ReplayResult::Unstable => Tone::Idle,
                    ReplayResult::Different | ReplayResult::Unreplayable => Tone::Bad,
                },
                remark: view.reason.clone(),
                details: Vec::new(),
            })
            .collect(),
    };
    let notices: String = document.notices.iter().map(|notice| format!("note: {notice}\n")).collect();
    let end = format!("replay of run {}: {}\n", document.run_id, document.result);
    let parts = [inputs.render(style), views.render(style), notices, end];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("\n")
}

/// A change in one line, however long its values are.
fn line(change: &ComponentChange) -> String {
    const LONGEST: usize = 72;
    let short = |value: &Option<String>| {
        value.as_ref().map(|value| {
            let mut words = value.split_whitespace().collect::<Vec<_>>().join(" ");
            if let Some((end, _)) = words.char_indices().nth(LONGEST) {
                words.truncate(end);
                words.push('…');
            }
            words
        })
    };
    let ComponentChange { component, before, after } = change;
    ComponentChange { component: component.clone(), before: short(before), after: short(after) }.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const WIDE: Style = Style { width: None, colour: false };

    #[test]
    fn golden_runs_as_text() {
        insta::assert_snapshot!("runs_ls", list(&RunList::example(), &WIDE));
        insta::assert_snapshot!("runs_show", record(&RunRecord::example(), &WIDE));
        insta::assert_snapshot!("runs_replay", replayed(&ReplayDocument::example(), &WIDE));
        insta::assert_snapshot!("runs_diff", difference(&RunDifference::example()));
    }

    #[test]
    fn what_is_not_there_is_said() {
        let none = RunList { runs: Vec::new(), omitted_count: 0 };
        assert!(list(&none, &WIDE).contains("alluvium run"));
        let unread = RunRecord { unread: vec!["ledger cache_artifacts is newer".to_owned()], ..RunRecord::example() };
        assert!(record(&unread, &WIDE).ends_with("\nnote: ledger cache_artifacts is newer\n"));
        let same = RunDifference {
            inputs: Vec::new(),
            queries: Vec::new(),
            environment: Vec::new(),
            results: Vec::new(),
            ..RunDifference::example()
        };
        assert!(difference(&same).contains("nothing differs"));
    }

    #[test]
    fn a_long_change_keeps_to_its_line() {
        let sql = "select\n  a\nfrom b ".repeat(20);
        let change = ComponentChange { component: "view v: sql".to_owned(), before: Some(sql), after: None };
        let line = line(&change);
        assert!(line.chars().count() < 110 && !line.contains('\n') && line.contains('…'), "{line}");
    }
}
