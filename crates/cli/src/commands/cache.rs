//! `alluvium cache`: what a cache root holds, and looking after it.

use std::path::Path;

use alluvium_contracts::{
    CacheEntryDetail, CacheEntryDocument, CacheExport, CacheListing, CacheRebuild, CacheRemoval, CacheVerification,
    CachedEntry, Contract, EntryState, MissExplanation, RemovalResult, VerifyResult,
};
use alluvium_runs::{CacheError, Caches, GcRequest, Opened};

use super::cache_args::{CacheArgs, CacheCommand};
use crate::args::DocumentFormat;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::table::{Column, Row, Style, Table, Tone};
use crate::terminal::Terminal;
use crate::{human, output};

/// Does what was asked.
pub fn cache(args: &CacheArgs, terminal: &Terminal) -> Result<Exit, Failure> {
    let place = args.command.place();
    let style = Style::of_stdout(terminal);
    let caches = match Caches::open(place.project.directory(None), place.project.open_options())? {
        Opened::Caches(caches) => caches,
        Opened::Absent(path) => return absent(&args.command, &path, &style),
    };
    let exit = answer(&args.command, &caches, &style);
    for notice in caches.take_notices() {
        terminal.line(&format!("note: {notice}"));
    }
    exit
}

/// Without a cache root there are no entries, which is an answer; but none can be shown.
fn absent(command: &CacheCommand, path: &Path, style: &Style) -> Result<Exit, Failure> {
    match command {
        CacheCommand::Ls { views, place } if views.is_empty() => {
            let cache_root = path.display().to_string();
            let document = CacheListing { cache_root, entries: Vec::new(), size_bytes: 0 };
            print(document, place.format, |document| listing(document, style))?;
            Ok(Exit::Done)
        }
        _ => Err(Failure::input(format!("there is no cache root at {}", path.display()))
            .with_hint("`alluvium run` makes it; --cache-root names another")),
    }
}

fn answer(command: &CacheCommand, caches: &Caches, style: &Style) -> Result<Exit, Failure> {
    let cache = caches.cache();
    match command {
        CacheCommand::Ls { views, place } => {
            let document = cache.list_of(views).map_err(hinted)?;
            print(document, place.format, |document| listing(document, style))?;
        }
        CacheCommand::Show { wanted, place } => print(cache.show(wanted).map_err(hinted)?, place.format, show)?,
        CacheCommand::Verify { views, place } => {
            let document = cache.verify(views).map_err(hinted)?;
            let is_sound = document.damaged_count == 0;
            print(document, place.format, |document| verification(document, style))?;
            return Ok(if is_sound { Exit::Done } else { Exit::Failed });
        }
        CacheCommand::Evict(args) => {
            let document = caches.evict(&args.selection(), args.dry_run).map_err(hinted)?;
            print(document, args.place.format, |document| removal(document, style))?;
        }
        CacheCommand::Gc { max_bytes, dry_run, place } => {
            let document = caches.collect_garbage(GcRequest { max_bytes: *max_bytes, dry_run: *dry_run })?;
            print(document, place.format, |document| removal(document, style))?;
        }
        CacheCommand::RebuildIndex { place } => {
            print(cache.rebuild_index()?, place.format, |document| rebuild(document, style))?;
        }
        CacheCommand::Export { wanted, to, place } => {
            let reading = cache.begin_reading()?;
            print(cache.export(&reading, wanted, to).map_err(hinted)?, place.format, export)?;
        }
    }
    // Each is told among the notices.
    Ok(if cache.take_undeleted() == 0 { Exit::Done } else { Exit::Failed })
}

/// What is no name may be meant as the project's directory.
fn hinted(error: CacheError) -> Failure {
    let hint = match &error {
        CacheError::NoSuchEntry { wanted, .. } if Path::new(wanted).is_dir() => {
            Some(format!("-C {wanted} names the project's directory"))
        }
        _ => None,
    };
    let failure = Failure::from(error);
    match hint {
        Some(hint) => failure.with_hint(hint),
        None => failure,
    }
}

fn print<T: Contract>(document: T, format: DocumentFormat, text: impl FnOnce(&T) -> String) -> Result<(), Failure> {
    match format {
        DocumentFormat::Text => output::print(&text(&document)),
        DocumentFormat::Json => output::print_document(document),
    }
}

fn listing(document: &CacheListing, style: &Style) -> String {
    let table = Table {
        columns: vec![
            Column::text("name"),
            Column::text("scope"),
            Column::text("state"),
            Column::number("rows"),
            Column::number("bytes"),
            Column::number("saves"),
            Column::text("key"),
            Column::text("entry"),
            Column::text("tags"),
        ],
        rows: document
            .entries
            .iter()
            .map(|entry| Row {
                cells: vec![
                    entry.view_name.clone(),
                    entry.cache_scope.as_str().to_owned(),
                    entry.state.as_str().to_owned(),
                    entry.row_count.map(human::count).unwrap_or_default(),
                    human::bytes(entry.size_bytes),
                    entry.compute_ms.map(|ms| format!("{} s", human::seconds(ms))).unwrap_or_default(),
                    short_key(entry),
                    entry.entry_id.to_string(),
                    entry.tags.join(", "),
                ],
                tone: state_tone(entry.state),
                remark: None,
                details: Vec::new(),
            })
            .collect(),
    };
    let entries = match document.entries.len() {
        1 => "1 entry".to_owned(),
        count => format!("{} entries", human::count(count as u64)),
    };
    format!("{}{entries}, {} in {}\n", table.render(style), human::bytes(document.size_bytes), document.cache_root)
}

/// As much of a key as `show` asks for.
fn short_key(entry: &CachedEntry) -> String {
    entry.cache_key.map(|key| key.to_string().chars().take(15).collect()).unwrap_or_default()
}

const fn state_tone(state: EntryState) -> Tone {
    match state {
        EntryState::Live => Tone::Good,
        EntryState::Condemned => Tone::Busy,
        EntryState::Orphan => Tone::Idle,
    }
}

fn show(document: &CacheEntryDocument) -> String {
    document.entries.iter().map(entry).collect::<Vec<_>>().join("\n")
}

fn entry(detail: &CacheEntryDetail) -> String {
    let CacheEntryDetail { entry, fencing_token, files, components, explanation } = detail;
    let said = |value: Option<String>| value.unwrap_or_default();
    let facts = [
        (entry.cache_scope.as_str(), entry.view_name.clone()),
        ("entry", entry.entry_id.to_string()),
        ("key", said(entry.cache_key.map(|key| key.to_string()))),
        ("path", entry.cache_path.clone()),
        ("rows", said(entry.row_count.map(human::count))),
        ("bytes", human::bytes(entry.size_bytes)),
        ("saves", said(entry.compute_ms.map(|ms| format!("{} s", human::seconds(ms))))),
        ("stability", said(entry.stability.map(|stability| stability.to_string()))),
        ("tags", entry.tags.join(", ")),
        ("run", said(entry.run_id.map(|run| run.to_string()))),
        ("token", fencing_token.to_string()),
        ("plan", said(entry.plan_fingerprint.map(|plan| plan.to_string()))),
        ("schema", said(entry.schema_hash.map(|schema| schema.to_string()))),
        ("computed", explanation.as_ref().map(why).unwrap_or_default()),
    ];
    let mut text = String::new();
    for (name, value) in facts.iter().filter(|(_, value)| !value.is_empty()) {
        text.push_str(&format!("{name:<9}  {value}\n"));
    }
    for line in explanation.iter().flat_map(MissExplanation::lines) {
        text.push_str(&format!("  {line}\n"));
    }
    text.push_str("files\n");
    for file in files {
        text.push_str(&format!("  {}  {}  {}\n", file.path, human::bytes(file.size_bytes), file.digest));
    }
    text.push_str("components of the key\n");
    for (name, value) in components {
        text.push_str(&format!("  {name}: {value}\n"));
    }
    text
}

fn why(explanation: &MissExplanation) -> String {
    match (explanation.compared_with, explanation.changes.is_empty()) {
        (None, _) => "because there was no earlier entry of this view".to_owned(),
        (Some(_), true) => "because its entry was gone".to_owned(),
        (Some(key), false) => format!("because it differs from {key} in"),
    }
}

fn verification(document: &CacheVerification, style: &Style) -> String {
    let rows = document.entries.iter().map(|entry| Row {
        cells: vec![
            entry.view_name.clone(),
            entry.cache_scope.as_str().to_owned(),
            entry.result.as_str().to_owned(),
            human::bytes(entry.size_bytes),
            entry.entry_id.to_string(),
        ],
        tone: match entry.result {
            VerifyResult::Sound => Tone::Good,
            VerifyResult::Damaged => Tone::Bad,
        },
        remark: entry.damage.clone(),
        details: Vec::new(),
    });
    let columns = ["name", "scope", "result"].map(Column::text).into_iter();
    let columns = columns.chain([Column::number("bytes"), Column::text("entry")]).collect();
    let table = Table { columns, rows: rows.collect() };
    let notes: String = document.notices.iter().map(|notice| format!("note: {notice}\n")).collect();
    let sound = document.entries.len() as u64 - document.damaged_count;
    format!(
        "{}{notes}{} sound, {} damaged\n",
        table.render(style),
        human::count(sound),
        human::count(document.damaged_count)
    )
}

fn removal(document: &CacheRemoval, style: &Style) -> String {
    let rows = document.entries.iter().map(|entry| Row {
        cells: vec![
            entry.view_name.clone(),
            entry.cache_scope.as_str().to_owned(),
            entry.result.as_str().to_owned(),
            human::bytes(entry.size_bytes),
            entry.entry_id.to_string(),
        ],
        tone: match entry.result {
            RemovalResult::Planned | RemovalResult::Deleted => Tone::Busy,
            RemovalResult::Condemned | RemovalResult::Kept => Tone::Idle,
        },
        remark: Some(entry.reason.clone()),
        details: Vec::new(),
    });
    let columns = ["name", "scope", "removal"].map(Column::text).into_iter();
    let columns = columns.chain([Column::number("bytes"), Column::text("entry")]).collect();
    let table = Table { columns, rows: rows.collect() };
    let waiting = document.entries.iter().filter(|entry| entry.result == RemovalResult::Condemned).count();
    let waiting = match waiting {
        0 => String::new(),
        count => format!(
            "; {} may still be read or cannot be deleted, the next collection tries again",
            human::count(count as u64)
        ),
    };
    let live = if document.dry_run { "would be" } else { "is" };
    format!(
        "{}live: {} before, {} {live} left{waiting}\n",
        table.render(style),
        human::bytes(document.live_bytes_before),
        human::bytes(document.live_bytes_after)
    )
}

fn rebuild(document: &CacheRebuild, style: &Style) -> String {
    let row = |view: &str, result: &str, place: String, tone, remark| Row {
        cells: vec![view.to_owned(), result.to_owned(), place],
        tone,
        remark,
        details: Vec::new(),
    };
    let adopted = document
        .adopted
        .iter()
        .map(|entry| row(&entry.view_name, "adopted", entry.entry_id.to_string(), Tone::Good, None));
    let left = document.left.iter().map(|left| {
        let path = Path::new(&left.cache_path);
        let name =
            |path: Option<&Path>| path.and_then(Path::file_name).unwrap_or_default().to_string_lossy().into_owned();
        let parent = name(path.parent());
        let view = parent.rsplit_once("__").map_or(parent.as_str(), |(view, _)| view);
        row(view, "left", name(Some(path)), Tone::Idle, Some(left.reason.clone()))
    });
    let columns = vec![Column::text("name"), Column::text("result"), Column::text("entry")];
    let table = Table { columns, rows: adopted.chain(left).collect() };
    let dropped = match document.dropped_count {
        0 => String::new(),
        count => format!(", {} damaged rows dropped", human::count(count)),
    };
    format!(
        "{}{} kept, {} adopted{dropped}\n",
        table.render(style),
        human::count(document.kept_count),
        human::count(document.adopted.len() as u64)
    )
}

fn export(document: &CacheExport) -> String {
    format!(
        "{}: {} rows, {} of view {}, entry {}\n",
        document.table_path,
        human::count(document.row_count),
        human::bytes(document.size_bytes),
        document.view_name,
        document.entry_id
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every report, of the contract's example, for a reader without a terminal.
    #[test]
    fn golden_reports() {
        let style = Style { width: None, colour: false };
        let reports = [
            ("ls", listing(&Contract::example(), &style)),
            ("show", show(&Contract::example())),
            ("verify", verification(&Contract::example(), &style)),
            ("gc", removal(&Contract::example(), &style)),
            ("rebuild-index", rebuild(&Contract::example(), &style)),
            ("export", export(&Contract::example())),
        ];
        let text: Vec<String> =
            reports.iter().map(|(name, report)| format!("$ alluvium cache {name}\n{report}")).collect();
        insta::assert_snapshot!(text.join("\n"));
    }
}
