//! The commands but `shell`: one operation on one cache.

use std::io::{Read, Write};
use std::path::Path;

use alluvium_contracts::KvRemovalReason;
use alluvium_disk_kv_cache::{
    CacheError, Key, KeyBuf, OpenCacheError, OpenError, Order, SetOptions, StoreError, ValueReader,
};
use alluvium_telemetry::Seam;
use serde_json::Value;

use super::args::{Format, KeyArgs, KvArgs, KvCommand, LsArgs, OpenArgs, SetArgs};
use super::target::{Target, has_prefix, with_cache};
use super::{codec, describe, document, shell};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::human;
use crate::output::{self, Stdout};
use crate::table::{Column, Row, Style, Table, Tone};
use crate::terminal::Terminal;

/// Does what was asked.
pub fn execute(args: KvArgs, terminal: &Terminal) -> Result<Exit, Failure> {
    let KvArgs { dir, open, command } = args;
    let removed = |reason, format, remove: &dyn Fn(&Target) -> Result<u64, CacheError>| {
        print_removed(&dir, reason, remove(&existing(&dir, &open)?)?, format)
    };
    match command {
        KvCommand::Stats { format } => stats(&dir, &Target::open_read_only(&dir, &open)?, format, terminal),
        KvCommand::Ls(args) => ls(&dir, &Target::open_read_only(&dir, &open)?, &args, terminal),
        KvCommand::Get { key } => get(&dir, &open, &key),
        KvCommand::Set(args) => set(&dir, &open, &args),
        KvCommand::Delete { key, print } => {
            let key = parse_key(&key)?;
            removed(KvRemovalReason::Delete, print.format, &|cache| {
                with_cache!(cache, cache => cache.delete(&key)).map(u64::from)
            })
        }
        KvCommand::Evict { tag, print } => {
            removed(KvRemovalReason::Evict, print.format, &|cache| with_cache!(cache, cache => cache.evict(&tag)))
        }
        KvCommand::Expire(print) => {
            removed(KvRemovalReason::Expire, print.format, &|cache| with_cache!(cache, cache => cache.expire()))
        }
        KvCommand::Cull(print) => {
            removed(KvRemovalReason::Cull, print.format, &|cache| with_cache!(cache, cache => cache.cull()))
        }
        KvCommand::Clear(print) => {
            removed(KvRemovalReason::Clear, print.format, &|cache| with_cache!(cache, cache => cache.clear()))
        }
        KvCommand::Check { fix: false, print, .. } => {
            check(&dir, &Target::open_read_only(&dir, &open)?, &[], false, print.format)
        }
        KvCommand::Check { fix: true, shards, print } => {
            let begun = Target::repair(&dir, shards, &open)?;
            check(&dir, &existing(&dir, &open)?, &begun, true, print.format)
        }
        KvCommand::Shell(args) => shell::run(&dir, open, &args),
    }
}

fn existing(dir: &Path, open: &OpenArgs) -> Result<Target, Failure> {
    Ok(Target::open_existing(dir, open)?)
}

fn stats(dir: &Path, cache: &Target, format: Format, terminal: &Terminal) -> Result<Exit, Failure> {
    let (stats, settings) = with_cache!(cache, cache => (cache.stats()?, cache.settings()?));
    match format {
        Format::Json => {
            let now = Seam::system().unix_ms();
            output::print_document(document::stats(dir, cache.shards(), &stats, &settings, now)?)?;
        }
        Format::Text => {
            let on_off = if settings.statistics() { "on" } else { "off" };
            let mut facts = vec![
                ("entries", human::count(stats.entries)),
                ("volume", human::bytes(stats.volume_bytes)),
                ("size limit", human::bytes(settings.size_limit_bytes())),
                ("hits", human::count(stats.hits)),
                ("misses", human::count(stats.misses)),
                ("damaged", human::count(stats.damaged)),
                ("statistics", on_off.to_owned()),
                ("eviction", describe::eviction(settings.eviction()).replace('_', " ")),
                ("cull limit", human::count(settings.cull_limit().into())),
                ("own file from", human::bytes(settings.min_file_size_bytes())),
            ];
            if let Some(shards) = cache.shards() {
                facts.push(("shards", shards.to_string()));
            }
            let row = |(name, value): (&str, String)| Row {
                cells: vec![name.to_owned(), value],
                tone: Tone::Good,
                remark: None,
                details: Vec::new(),
            };
            let columns = vec![Column::text("what"), Column::number("value")];
            let table = Table { columns, rows: facts.into_iter().map(row).collect() };
            output::print(&table.render(&Style { colour: false, ..Style::of_stdout(terminal) }))?;
        }
    }
    Ok(Exit::Done)
}

/// Text is streamed; a document is one, and holds all keys.
fn ls(dir: &Path, cache: &Target, args: &LsArgs, terminal: &Terminal) -> Result<Exit, Failure> {
    match args.format {
        Format::Text => {
            let mut stdout = Stdout::take();
            let (exit, listed) = each_key(cache, args, terminal, |key| Ok(writeln!(stdout, "{}", key_line(&key))?));
            stdout.finish(listed)?;
            Ok(exit)
        }
        Format::Json => {
            let mut keys = Vec::new();
            let (exit, listed) = each_key(cache, args, terminal, |key| {
                keys.push(key);
                Ok(())
            });
            listed?;
            output::print_document(document::keys(dir, &keys))?;
            Ok(exit)
        }
    }
}

/// Hands on the keys that were asked for. A damaged one is told, and the others are still there to be listed.
fn each_key(
    cache: &Target,
    args: &LsArgs,
    terminal: &Terminal,
    mut hand_on: impl FnMut(KeyBuf) -> Result<(), Failure>,
) -> (Exit, Result<(), Failure>) {
    let (mut exit, mut listed) = (Exit::Done, 0);
    let from = args.prefix.as_deref().map(Key::to_key);
    for key in cache.keys(from.as_ref(), Order::Ascending) {
        if args.limit.is_some_and(|limit| listed >= limit) {
            break;
        }
        let key = match key {
            Ok(key) => key,
            Err(error) if error.is_damage() => {
                exit = Exit::Failed;
                Failure::from(error).print(terminal);
                continue;
            }
            Err(error) => return (exit, Err(error.into())),
        };
        if args.prefix.as_deref().is_some_and(|prefix| !has_prefix(&key, prefix)) {
            break;
        }
        if let Err(failure) = hand_on(key) {
            return (exit, Err(failure));
        }
        listed += 1;
    }
    (exit, Ok(()))
}

/// A key on one line: text as it is, where it can be printed, and others as JSON.
fn key_line(key: &KeyBuf) -> String {
    match codec::key_to_json(key) {
        Value::String(text) if !text.chars().any(char::is_control) => text,
        json => json.to_string(),
    }
}

fn get(dir: &Path, open: &OpenArgs, key: &KeyArgs) -> Result<Exit, Failure> {
    let encoded = parse_key(key)?;
    let cache = Target::open_read_only(dir, open)?;
    let Some(value) = with_cache!(&cache, cache => cache.read(&encoded))? else {
        return Err(Failure::failed(format!("there is no entry {encoded:?} in {}", dir.display())));
    };
    let mut stdout = Stdout::take();
    let written = copy(value, &mut stdout);
    stdout.finish(written)?;
    Ok(Exit::Done)
}

/// The value and a newline.
fn copy(mut value: ValueReader, out: &mut impl Write) -> Result<(), Failure> {
    let mut block = vec![0; 64 * 1024];
    loop {
        let read = value.read(&mut block).map_err(|error| {
            Failure::failed("the value cannot be read: what was written of it is not all".to_owned()).because(error)
        })?;
        if read == 0 {
            return Ok(out.write_all(b"\n")?);
        }
        out.write_all(&block[..read])?;
    }
}

fn set(dir: &Path, open: &OpenArgs, args: &SetArgs) -> Result<Exit, Failure> {
    let key = parse_key(&args.key)?;
    let cache = Target::open(dir, None, open)?;
    let mut options = SetOptions::new();
    if let Some(ttl) = args.ttl {
        options = options.with_ttl(ttl);
    }
    options = args.tag.iter().fold(options, SetOptions::with_tag);
    with_cache!(&cache, cache => cache.set_with(&key, args.value.as_bytes(), &options))?;
    Ok(Exit::Done)
}

/// Looks over a cache, of which some shards were lost and begun anew.
fn check(dir: &Path, cache: &Target, begun: &[String], fix: bool, format: Format) -> Result<Exit, Failure> {
    let problems = with_cache!(cache, cache => cache.check(fix))?;
    match format {
        Format::Json => output::print_document(document::check(dir, begun, &problems, fix))?,
        Format::Text => {
            let lost = begun.iter().map(|shard| format!("{}\n", describe::lost_shard(shard)));
            let found = problems.iter().map(|problem| format!("{}\n", describe::problem_text(problem)));
            let mut text: String = lost.chain(found).collect();
            text.push_str(&match (problems.len() + begun.len(), fix) {
                (0, _) => "nothing is wrong\n".to_owned(),
                (found, true) => format!("{} mended\n", human::plural(found, "problem")),
                (found, false) => format!("{}; --fix mends\n", human::plural(found, "problem")),
            });
            output::print(&text)?;
        }
    }
    Ok(if problems.is_empty() || fix { Exit::Done } else { Exit::Failed })
}

fn print_removed(dir: &Path, reason: KvRemovalReason, removed: u64, format: Format) -> Result<Exit, Failure> {
    match format {
        Format::Json => output::print_document(document::removal(dir, reason, removed))?,
        Format::Text => {
            let noun = if removed == 1 { "entry" } else { "entries" };
            output::print(&format!("{} {noun} removed\n", human::count(removed)))?;
        }
    }
    Ok(Exit::Done)
}

fn parse_key(args: &KeyArgs) -> Result<KeyBuf, Failure> {
    if !args.json_key {
        return Ok(args.key.to_key());
    }
    let json = serde_json::from_str(&args.key)
        .map_err(|error| Failure::input("the key is not JSON".to_owned()).because(error))?;
    codec::key_from_json(&json, "KEY").map_err(|fault| Failure::input(fault.into_message()))
}

impl From<OpenCacheError> for Failure {
    fn from(error: OpenCacheError) -> Failure {
        match error {
            OpenCacheError::Cache(error) => error.into(),
            OpenCacheError::Store(OpenError::Absent { .. }) => Failure::of(Exit::Input, error)
                .with_hint("name the directory of a cache; `alluvium kv DIR set KEY VALUE` makes one"),
            // Whoever names a directory can name another: the machine is not at fault.
            OpenCacheError::Store(
                OpenError::NotADirectory { .. }
                | OpenError::MissingTable { .. }
                | OpenError::NetworkFileSystem { .. }
                | OpenError::Link { .. },
            )
            | OpenCacheError::Shards { .. }
            | OpenCacheError::InOneStore { .. }
            | OpenCacheError::ShardCount { .. } => Failure::of(Exit::Input, error),
            OpenCacheError::MissingShard { .. } | OpenCacheError::OtherShard { .. } => {
                Failure::of(Exit::Failed, error).with_hint("`alluvium kv DIR check --fix` begins it anew")
            }
            OpenCacheError::ShardsUnknown { .. } => Failure::of(Exit::Failed, error).with_hint(
                "`alluvium kv DIR check --fix` asks the shards how many there are; if they do not know, --shards N tells it",
            ),
            error => Failure::of(Exit::Failed, error),
        }
    }
}

impl From<CacheError> for Failure {
    fn from(error: CacheError) -> Failure {
        let input = matches!(error, CacheError::Tags | CacheError::Store(StoreError::KeyLength { .. }));
        Failure::of(if input { Exit::Input } else { Exit::Failed }, error)
    }
}
