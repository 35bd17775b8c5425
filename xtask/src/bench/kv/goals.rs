//! The goals of the key-value crate, each met or missed by a figure.

use super::report::{Measured, Report, Scale};

pub const OURS: &str = "Cache";
pub const FULL: &str = "Cache, tag and expiry";
pub const FANOUT: &str = "FanoutCache";
pub const HEED: &str = "heed";
pub const THREE_TABLES: &str = "heed, three tables";
pub const SQLITE: &str = "SQLite, DiskCache's schema";
pub const DISKCACHE: &str = "python diskcache";
const DISKCACHE_CACHE: &str = "python diskcache Cache";
/// What can do what ours can: keep expiry and tags, evict, and serve several processes.
const EQUALS: [&str; 2] = [SQLITE, DISKCACHE];

/// The rows of the table of goals.
pub fn rows(report: &Report) -> Vec<String> {
    let mut rows = Vec::new();
    let theirs = report.mix(DISKCACHE_CACHE, 1);
    let ours = report.mix(OURS, 1);
    for (what, goal) in [("get", 10.0), ("set", 3.0), ("delete", 3.0)] {
        let p50 = |side: &Measured| match what {
            "get" => side.get.p50,
            "set" => side.set.p50,
            _ => side.delete.p50,
        };
        rows.push(row(
            &format!("{what} p50 of the mix by 1 process, against python-diskcache"),
            &format!("≤ 1/{goal}"),
            ours.and_then(p50).zip(theirs.and_then(p50)).map(|(ours, theirs)| {
                (theirs / ours, format!("1/{:.1}: {ours:.2} against {theirs:.2} µs", theirs / ours))
            }),
            |times| times >= goal,
            |times| format!("missed: {times:.1} times as fast, not {goal}"),
        ));
    }
    rows.push(eight_processes(report));
    let get = |side: &Scale| side.get.p50;
    let set = |side: &Scale| side.set.p50;
    rows.push(over(report, "get of 1 KiB against raw heed", 1.5, (OURS, HEED), get));
    rows.push(over(
        report,
        "set of 1 KiB with tag, expiry and eviction against a raw heed transaction over three tables",
        2.5,
        (FULL, THREE_TABLES),
        set,
    ));
    rows.push(growth(report, "get", (OURS, HEED), get));
    rows.push(growth(report, "set", (FULL, THREE_TABLES), set));
    for processes in [1, 8] {
        let pair = report.best(&[OURS, FANOUT], processes).zip(report.best(&EQUALS, processes));
        rows.push(row(
            &format!("mean of the mix by {processes}, ahead of every rival of equal semantics"),
            "> 1 ×",
            pair.map(|((ours, side), (theirs, rival))| {
                let times = rival.mean() / side.mean();
                (
                    times,
                    format!("{times:.1} ×: {ours} {:.2}, {theirs} {:.2} µs an operation", side.mean(), rival.mean()),
                )
            }),
            |times| times > 1.0,
            |times| format!("missed: {times:.2} ×"),
        ));
    }
    rows.push(ahead(report, "get", get));
    rows.push(ahead(report, "set", set));
    rows
}

/// Ours against the best rival of equal semantics, at the size where ours is least ahead. Neither side has tags or expiry
/// here.
fn ahead(report: &Report, what: &str, of: fn(&Scale) -> Option<f64>) -> String {
    let at = |size: usize| {
        let rivals = report.scale.iter().filter(|side| EQUALS.iter().any(|equal| side.engine.starts_with(equal)));
        let best = rivals.filter(|side| Some(&side.entries) == report.sizes().get(size)).filter_map(of);
        Some(best.reduce(f64::min)? / of(report.scale(OURS, size)?)?)
    };
    let times: Vec<f64> = (0..report.sizes().len()).filter_map(at).collect();
    let each: Vec<String> = times.iter().map(|times| format!("{times:.1}")).collect();
    row(
        &format!("{what} of 1 KiB, ahead of every rival of equal semantics"),
        "> 1 ×",
        times
            .iter()
            .copied()
            .reduce(f64::min)
            .map(|least| (least, format!("{} × at {}", each.join(", "), sizes(report)))),
        |times| times > 1.0,
        |times| format!("missed: {times:.2} ×"),
    )
}

fn eight_processes(report: &Report) -> String {
    let pair = report.best(&[OURS, FANOUT], 8).zip(report.best(&[DISKCACHE], 8));
    let figure = pair.map(|((ours, side), (theirs, rival))| {
        let times = rival.total_seconds / side.total_seconds;
        let drops = side.drops;
        // A dropped write is a goal missed whatever the time.
        let counts = if drops == 0 { times } else { 0.0 };
        (
            counts,
            format!(
                "{times:.1} ×: {ours} {:.1} s and {drops} drops, {theirs} {:.1} s and {} drops",
                side.total_seconds, rival.total_seconds, rival.drops
            ),
        )
    });
    row(
        "total of the mix by 8 processes, against the best of python-diskcache, no drops",
        "≥ 8 ×",
        figure,
        |times| times >= 8.0,
        |times| format!("missed: {times:.1} ×"),
    )
}

/// A side over another at each size; the largest counts.
fn over(report: &Report, what: &str, goal: f64, sides: (&str, &str), of: fn(&Scale) -> Option<f64>) -> String {
    let ratios: Vec<f64> = (0..report.sizes().len())
        .filter_map(|size| Some(of(report.scale(sides.0, size)?)? / of(report.scale(sides.1, size)?)?))
        .collect();
    let worst = ratios.iter().copied().reduce(f64::max);
    let each: Vec<String> = ratios.iter().map(|ratio| format!("{ratio:.2}")).collect();
    row(
        what,
        &format!("≤ {goal} ×"),
        worst.map(|worst| (worst, format!("{} × at {}", each.join(", "), sizes(report)))),
        |ratio| ratio <= goal,
        |ratio| format!("missed by {:.2} ×", ratio - goal),
    )
}

/// How much slower a side is at the largest size than at the smallest, over how much the other is.
fn growth(report: &Report, what: &str, sides: (&str, &str), of: fn(&Scale) -> Option<f64>) -> String {
    const GOAL: f64 = 1.3;
    let last = report.sizes().len().saturating_sub(1);
    let of_side = |side: &str| Some(of(report.scale(side, last)?)? / of(report.scale(side, 0)?)?);
    row(
        &format!("growth of {what} from the fewest entries to the most, against raw heed's"),
        &format!("≤ {GOAL} ×"),
        of_side(sides.0)
            .zip(of_side(sides.1))
            .map(|(ours, theirs)| (ours / theirs, format!("{:.2} ×: {ours:.2} against {theirs:.2}", ours / theirs))),
        |ratio| ratio <= GOAL,
        |ratio| format!("missed by {:.2} ×", ratio - GOAL),
    )
}

fn sizes(report: &Report) -> String {
    report.sizes().iter().map(u64::to_string).collect::<Vec<_>>().join(", ")
}

fn row(
    what: &str,
    goal: &str,
    figure: Option<(f64, String)>,
    met: impl Fn(f64) -> bool,
    missed: impl Fn(f64) -> String,
) -> String {
    match figure {
        Some((figure, text)) => {
            let verdict = if met(figure) { "met".to_owned() } else { missed(figure) };
            format!("| {what} | {goal} | {text} | {verdict} |")
        }
        None => format!("| {what} | {goal} | not measured | open |"),
    }
}
