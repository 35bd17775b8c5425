//! The page of `cargo xtask bench runs`, in a layout that changes only where a figure does.

use super::measure::Times;
use super::page::{Machine, milliseconds, row, seconds, verdict};
use super::runs::{Figures, QUESTIONS};

const PAST_RATIO: f64 = 1.2;
const ANSWER_MS: f64 = 300.0;
const RECORDED_MS: [f64; 2] = [10.0, 50.0];
const UNCHANGED_RATIO: f64 = 25.0;

/// The page.
pub fn render(figures: &Figures, machine: &Machine, versions: &[String]) -> String {
    let mut notes = String::new();
    if figures.quick {
        notes.push_str("\n**Measured with --quick: this shows that everything runs, and the figures mean nothing.**\n");
    }
    if figures.given {
        notes.push_str("\n**The binaries were given by path: they may be no release builds.**\n");
    }
    let ([few, many], [past_few, past_many]) = (&figures.past, figures.sizes.past);
    let mut rows = Vec::new();
    for (what, few, many) in [("hits", &few.hit, &many.hit), ("writes one view", &few.write, &many.write)] {
        let ratio = many.median() / few.median();
        rows.push(row(
            &format!("| a run that {what}, over {past_many} past runs, against {past_few} |"),
            &format!("≤ {PAST_RATIO} ×"),
            &format!("{ratio:.2} ×: {} against {}", milliseconds(many), milliseconds(few)),
            &verdict(ratio, PAST_RATIO, 2, "×"),
        ));
    }
    for ((what, _), times) in QUESTIONS.iter().zip(&figures.answers) {
        rows.push(row(
            &format!("| {what}, over {} rows |", figures.sizes.rows),
            &format!("≤ {ANSWER_MS} ms"),
            &milliseconds(times),
            &verdict(1_000.0 * times.median(), ANSWER_MS, 1, "ms"),
        ));
    }
    for ((what, goal), times) in ["what ledgers take of a run that hits", "what ledgers take of a run that writes"]
        .into_iter()
        .zip(RECORDED_MS)
        .zip(&figures.recorded)
    {
        rows.push(row(
            &format!("| {what} |"),
            &format!("≤ {goal} ms"),
            &milliseconds(times),
            &verdict(1_000.0 * times.median(), goal, 1, "ms"),
        ));
    }
    let ours = |what: &str| figures.sides.get("alluvium").and_then(|side| side.get(what));
    let mut table = Vec::new();
    for (side, kinds) in &figures.sides {
        let cells: Vec<String> = ["cold", "unchanged", "view", "data"]
            .map(|what| kinds.get(what).map_or_else(|| "–".to_owned(), seconds))
            .into();
        table.push(format!("| {} | {} |", named(side), cells.join(" | ")));
        if side == "alluvium" {
            continue;
        }
        if let Some((faster, ours)) = ratio(kinds.get("unchanged"), ours("unchanged")) {
            rows.push(row(
                &format!("| {} over ours, nothing changed |", named(side)),
                &format!("≥ {UNCHANGED_RATIO} ×"),
                &format!("{faster:.0} ×: ours {ours:.3} s"),
                if faster >= UNCHANGED_RATIO { "met" } else { "missed" },
            ));
        }
        if let Some((faster, ours)) = ratio(kinds.get("cold"), ours("cold")) {
            rows.push(row(
                &format!("| {} over ours, cold |", named(side)),
                "≥ 1 ×",
                &format!("{faster:.2} ×: ours {ours:.2} s"),
                if faster >= 1.0 { "met" } else { "missed" },
            ));
        }
    }
    format!(
        "\
# Runs and their ledgers

Written by `cargo xtask bench runs`, which measures everything anew; nothing here is written by hand.
{notes}
| what | goal | measured | verdict |
|---|---|---|---|
{}

Medians of {} runs, with the fastest and the slowest; times are of whole processes, from start to exit, but for what ledgers
take, which is measured inside of one: from the beginning of a run to its end, and where it writes to the end of the drain.
Past runs are made up by `bench/src/runs`, with {} rows of the inventory each, and {} where there are {} rows in all.

## The flights pipeline, side by side

Five months first; then nothing changed; then `airport_days` edited, which three views read; then the sixth month.

| side | cold | nothing changed | one view changed | one month added |
|---|---|---|---|---|
{}

After each run every view has the same rows on all sides, or there is no page. Ours publishes three of the views as Delta tables besides. dbt is told by
`state:modified+` what was edited, and knows nothing of new data: then it runs everything. SQLMesh plans what was edited; which models
read a new file is told to it by `--restate-model`.

Measured on {}.
",
        rows.join("\n"),
        figures.past[0].hit.count(),
        10,
        figures.sizes.rows_of_run,
        figures.sizes.rows,
        table.join("\n"),
        [&[machine.describe()], versions].concat().join("; "),
    )
}

fn ratio(theirs: Option<&Times>, ours: Option<&Times>) -> Option<(f64, f64)> {
    let (theirs, ours) = (theirs?.median(), ours?.median());
    Some((theirs / ours, ours))
}

fn named(side: &str) -> &str {
    match side {
        "dbt" => "dbt-core with DuckDB",
        "sqlmesh" => "SQLMesh with DuckDB",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::runs::{Past, Sizes};
    use super::*;

    #[test]
    fn each_goal_is_met_or_missed_by_a_figure() {
        let times = |seconds: f64| [seconds].into_iter().collect::<Times>();
        let side = |cold: f64, unchanged: f64| {
            BTreeMap::from([("cold".to_owned(), times(cold)), ("unchanged".to_owned(), times(unchanged))])
        };
        let figures = Figures {
            quick: false,
            given: false,
            sizes: Sizes { past: [10, 10_000], rows: 1_000_000, rows_of_run: 1_000 },
            past: [Past { hit: times(0.050), write: times(0.100) }, Past { hit: times(0.055), write: times(0.130) }],
            answers: vec![times(0.2), times(0.1), times(0.4), times(0.1), times(0.1)],
            recorded: [times(0.004), times(0.060)],
            sides: BTreeMap::from([
                ("alluvium".to_owned(), side(1.0, 0.05)),
                ("dbt".to_owned(), side(3.0, 2.0)),
                ("sqlmesh".to_owned(), side(0.9, 1.0)),
            ]),
        };
        let page = render(&figures, &Machine::for_tests(), &["dbt-core 1.10".to_owned()]);
        let verdicts: Vec<&str> =
            page.lines().filter(|line| line.contains(" × |") || line.contains(" ms |") || line.contains("≥")).collect();
        for (row, verdict) in [
            ("a run that hits, over 10000", "met |"),
            ("a run that writes one view, over 10000", "missed by 0.10 × |"),
            ("latest entry of each view", "met |"),
            ("slowest views", "missed by 100.0 ms |"),
            ("take of a run that hits", "met |"),
            ("take of a run that writes", "missed by 10.0 ms |"),
            ("dbt-core with DuckDB over ours, nothing changed", "met |"),
            ("SQLMesh with DuckDB over ours, nothing changed", "missed |"),
            ("SQLMesh with DuckDB over ours, cold", "missed |"),
        ] {
            let line = verdicts.iter().find(|line| line.contains(row)).unwrap_or_else(|| panic!("{row}: {page}"));
            assert!(line.ends_with(verdict), "{line}");
        }
    }
}
