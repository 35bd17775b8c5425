//! docs/benchmarks-kv.md, in a layout that changes only where a figure does.

use super::goals;
use super::report::{Function, Mix, Outcome, Profile, Report, Summary};
use crate::bench::page::Machine;

/// The page.
pub fn render(report: &Report, machine: &Machine, versions: &[String]) -> String {
    let quick = if report.quick {
        "\n**A hundredth of the work was done: this shows that everything runs, and the figures mean nothing.**\n"
    } else {
        ""
    };
    format!(
        "\
# Benchmarks of alluvium-disk-kv-cache

Written by `cargo xtask bench kv`, which measures all sides anew; nothing here is written by hand. The figures are
in [benchmarks-kv.json](benchmarks-kv.json) too; `cargo xtask bench kv --from docs/benchmarks-kv.json` makes the page of them.
{quick}
| what | goal | measured | verdict |
|---|---|---|---|
{}

## DiskCache's mix

The loop of DiskCache's `benchmark_core.py`: 100 keys, values of 1 to 500 bytes, get:set:delete 100:10:1, the first
1,000 operations not counted. All sides were measured in turn, {}; of each side the figures are those of the round
whose total is the median, with the drops of the worst. Times in µs as p50 / p90 / p99; *mean* is over all operations,
*total* is their times added up, *wall* the time until the last process was done. *Survives* is what an acknowledged
write survives: sides that sync each commit do a twentieth of the operations.

{}

{}

## Values of 1 KiB

Keys of 16 bytes, scattered. After filling, random entries are overwritten and read, 50,000 of each (1,000 where each
commit is synced); Cache and heed take ten turns each, and so do the two that keep more than one table. Times in µs as
p50 / p90 / p99; *fill* is in seconds: one by one in ours, heed, sled and
fjall, and batched in the others and where each commit is synced.

{}

## Where the time goes

{}

Measured on {}; {}.
",
        goals::rows(report).join("\n"),
        rounds(report),
        mix(report, 1),
        mix(report, 8),
        scale(report),
        profiles(report),
        machine.describe(),
        versions.join(", "),
    )
}

fn rounds(report: &Report) -> String {
    match report.rounds {
        0 | 1 => "once".to_owned(),
        rounds => format!("{rounds} times"),
    }
}

fn mix(report: &Report, processes: u32) -> String {
    let ours = report.mix(goals::OURS, processes).map(super::report::Measured::mean);
    let rows = report.mix.iter().filter(|mix| mix.processes == processes).map(|mix| mix_row(mix, ours));
    let head = format!(
        "| {processes} {} | survives | get | set | delete | mean | total s | wall s | drops | mean / ours |\n\
         |---|---|---|---|---|---|---|---|---|---|\n",
        if processes == 1 { "process" } else { "processes" }
    );
    head + &rows.collect::<Vec<_>>().join("\n")
}

fn mix_row(mix: &Mix, ours: Option<f64>) -> String {
    let engine = &mix.engine;
    match &mix.outcome {
        Outcome::Refused { refused } => format!("| {engine} | {refused} | | | | | | | | |"),
        Outcome::Measured(side) => format!(
            "| {engine} | {} | {} | {} | {} | {:.2} | {:.2} | {:.2} | {} | {} |",
            side.durability,
            times(&side.get),
            times(&side.set),
            times(&side.delete),
            side.mean(),
            side.total_seconds,
            side.wall_seconds,
            side.drops,
            ours.map_or_else(String::new, |ours| format!("{:.1} ×", side.mean() / ours)),
        ),
    }
}

fn scale(report: &Report) -> String {
    let mut text = String::from("| side | entries | survives | get | set | fill s |\n|---|---|---|---|---|---|\n");
    let rows = report.scale.iter().map(|side| {
        format!(
            "| {} | {} | {} | {} | {} | {:.1} |",
            side.engine,
            side.entries,
            side.durability,
            times(&side.get),
            times(&side.set),
            side.fill_seconds
        )
    });
    text.push_str(&rows.collect::<Vec<_>>().join("\n"));
    text
}

/// The functions with the most time of each operation, as samples show them.
fn profiles(report: &Report) -> String {
    if report.profile.is_empty() {
        return "Not looked at: there is no `perf` on this machine.".to_owned();
    }
    let mut text = String::from(
        "Each function's own share of the samples that `perf` took of a process that does nothing else; those of the kernel\n\
         are marked, and those with less than 2 % left out.\n\n\
         | operation | functions |\n|---|---|\n",
    );
    let rows = report.profile.iter().map(|profile| {
        let function = |function: &Function| {
            let kernel = if function.kernel { " (kernel)" } else { "" };
            format!("{:.0} % `{}`{kernel}", function.percent, function.name)
        };
        let functions: Vec<String> = profile.functions.iter().map(function).collect();
        let Profile { engine, operation, entries, .. } = profile;
        format!("| {operation} of 1 KiB among {entries}: {engine} | {} |", functions.join(", "))
    });
    text.push_str(&rows.collect::<Vec<_>>().join("\n"));
    text
}

fn times(summary: &Summary) -> String {
    let show = |time: Option<f64>| time.map_or_else(|| "–".to_owned(), |time| format!("{time:.1}"));
    format!("{} / {} / {}", show(summary.p50), show(summary.p90), show(summary.p99))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn summary(p50: f64) -> serde_json::Value {
        json!({ "count": 100, "misses": 0, "p50": p50, "p90": 2.0 * p50, "p99": null, "max": 9.0 * p50, "total_seconds": p50 })
    }

    fn mix(engine: &str, processes: u32, p50: f64, drops: u64) -> serde_json::Value {
        json!({
            "engine": engine, "processes": processes, "durability": "kill -9", "operations": 100, "drops": drops,
            "get": summary(p50), "set": summary(4.0 * p50), "delete": summary(4.0 * p50),
            "total_seconds": 9.0 * p50, "wall_seconds": p50,
        })
    }

    fn scale(engine: &str, entries: u64, set: f64, get: f64) -> serde_json::Value {
        json!({
            "engine": engine, "entries": entries, "durability": "kill -9", "fill_seconds": 1.0,
            "set": summary(set), "get": summary(get),
        })
    }

    fn report() -> Report {
        serde_json::from_value(json!({
            "quick": false,
            "rounds": 3,
            "profile": [{
                "engine": "Cache", "operation": "get", "entries": 10,
                "functions": [
                    { "name": "search", "percent": 20.4, "kernel": false },
                    { "name": "write", "percent": 9.6, "kernel": true },
                ],
            }],
            "mix": [
                mix("Cache", 1, 1.0, 0), mix("Cache", 8, 2.0, 0), mix("FanoutCache", 8, 1.5, 0),
                mix("python diskcache Cache", 1, 9.0, 0), mix("python diskcache Cache", 8, 30.0, 0),
                mix("python diskcache FanoutCache, 8 shards", 8, 18.0, 7),
                mix("SQLite, DiskCache's schema", 1, 5.0, 0),
                { "engine": "sled", "processes": 8, "refused": "one process only" },
            ],
            "scale": [
                scale("Cache", 10, 3.0, 1.4), scale("Cache", 1000, 3.0, 2.0),
                scale("heed", 10, 2.0, 1.0), scale("heed", 1000, 2.0, 1.25),
                scale("Cache, tag and expiry", 10, 6.0, 2.0), scale("Cache, tag and expiry", 1000, 12.0, 2.0),
                scale("heed, three tables", 10, 2.0, 1.0), scale("heed, three tables", 1000, 4.0, 1.0),
                scale("SQLite, DiskCache's schema", 10, 9.0, 3.0), scale("python diskcache Cache", 10, 60.0, 1.0),
                scale("SQLite, DiskCache's schema", 1000, 18.0, 8.0),
            ],
        }))
        .unwrap()
    }

    #[test]
    fn each_goal_is_met_or_missed_by_a_figure() {
        assert_eq!(
            goals::rows(&report()),
            [
                "| get p50 of the mix by 1 process, against python-diskcache | ≤ 1/10 | 1/9.0: 1.00 against 9.00 µs | missed: 9.0 times as fast, not 10 |",
                "| set p50 of the mix by 1 process, against python-diskcache | ≤ 1/3 | 1/9.0: 4.00 against 36.00 µs | met |",
                "| delete p50 of the mix by 1 process, against python-diskcache | ≤ 1/3 | 1/9.0: 4.00 against 36.00 µs | met |",
                "| total of the mix by 8 processes, against the best of python-diskcache, no drops | ≥ 8 × | 12.0 ×: FanoutCache 13.5 s and 0 drops, python diskcache FanoutCache, 8 shards 162.0 s and 7 drops | met |",
                "| get of 1 KiB against raw heed | ≤ 1.5 × | 1.40, 1.60 × at 10, 1000 | missed by 0.10 × |",
                "| set of 1 KiB with tag, expiry and eviction against a raw heed transaction over three tables | ≤ 2.5 × | 3.00, 3.00 × at 10, 1000 | missed by 0.50 × |",
                "| growth of get from the fewest entries to the most, against raw heed's | ≤ 1.3 × | 1.14 ×: 1.43 against 1.25 | met |",
                "| growth of set from the fewest entries to the most, against raw heed's | ≤ 1.3 × | 1.00 ×: 2.00 against 2.00 | met |",
                "| mean of the mix by 1, ahead of every rival of equal semantics | > 1 × | 5.0 ×: Cache 30000.00, SQLite, DiskCache's schema 150000.00 µs an operation | met |",
                "| mean of the mix by 8, ahead of every rival of equal semantics | > 1 × | 12.0 ×: FanoutCache 45000.00, python diskcache FanoutCache, 8 shards 540000.00 µs an operation | met |",
                "| get of 1 KiB, ahead of every rival of equal semantics | > 1 × | 0.7, 4.0 × at 10, 1000 | missed: 0.71 × |",
                "| set of 1 KiB, ahead of every rival of equal semantics | > 1 × | 3.0, 6.0 × at 10, 1000 | met |",
            ]
        );
    }

    #[test]
    fn a_drop_or_a_missing_side_is_no_goal_met() {
        let mut dropped = report();
        for mix in &mut dropped.mix {
            if let Outcome::Measured(side) = &mut mix.outcome {
                side.drops = 1;
            }
        }
        assert!(goals::rows(&dropped)[3].ends_with("| missed: 0.0 × |"), "{:?}", goals::rows(&dropped)[3]);
        assert!(goals::rows(&Report::default()).iter().all(|row| row.ends_with("| not measured | open |")));
    }

    #[test]
    fn every_side_has_its_row() {
        let page = render(&report(), &Machine::for_tests(), &["heed 0.23.1".to_owned()]);
        for row in [
            "| sled | one process only | | | | | | | | |",
            "| FanoutCache | kill -9 | 1.5 / 3.0 / – | 6.0 / 12.0 / – | 6.0 / 12.0 / – | 45000.00 | 13.50 | 1.50 | 0 | 0.8 × |",
            "| heed | 1000 | kill -9 | 1.2 / 2.5 / – | 2.0 / 4.0 / – | 1.0 |",
            "| get of 1 KiB among 10: Cache | 20 % `search`, 10 % `write` (kernel) |",
            "measured in turn, 3 times;",
        ] {
            assert!(page.contains(row), "{page}");
        }
        assert!(page.contains("; heed 0.23.1."));
        assert!(!page.contains("A hundredth"));
        let unseen = Report { profile: Vec::new(), ..report() };
        assert!(render(&unseen, &Machine::for_tests(), &[]).contains("there is no `perf`"));
        assert!(render(&Report { quick: true, ..report() }, &Machine::for_tests(), &[]).contains("A hundredth"));
    }
}
