//! The reports at several widths.

use alluvium_contracts::{OutputResult, ViewResult};

use super::fixtures;
use crate::table::Style;

fn plain(width: Option<u16>) -> Style {
    Style { width, colour: false }
}

/// The widest line but the last: the summary is prose, which the terminal may wrap.
fn widest(text: &str) -> usize {
    let (rest, _) = text.trim_end().rsplit_once('\n').unwrap();
    rest.lines().map(|line| line.chars().count()).max().unwrap()
}

#[test]
fn golden_run_without_a_terminal() {
    insta::assert_snapshot!(super::run(&fixtures::run(), &plain(None)));
}

#[test]
fn golden_run_at_80_columns() {
    let text = super::run(&fixtures::run(), &plain(Some(80)));
    assert!(widest(&text) <= 80, "{text}");
    insta::assert_snapshot!(text);
}

#[test]
fn golden_run_at_40_columns() {
    let text = super::run(&fixtures::run(), &plain(Some(40)));
    assert!(widest(&text) <= 40, "{text}");
    insta::assert_snapshot!(text);
}

#[test]
fn golden_plan_at_80_columns() {
    let text = super::plan(&fixtures::plan(), &plain(Some(80)));
    assert!(widest(&text) <= 80, "{text}");
    insta::assert_snapshot!(text);
}

#[test]
fn golden_plan_at_40_columns() {
    let text = super::plan(&fixtures::plan(), &plain(Some(40)));
    assert!(widest(&text) <= 40, "{text}");
    insta::assert_snapshot!(text);
}

#[test]
fn no_width_loses_a_name_a_result_or_a_number() {
    let document = fixtures::run();
    for width in (1..=200).map(Some).chain([None]) {
        let text = super::run(&document, &plain(width));
        let joined: String = text.chars().filter(|c| !c.is_whitespace()).collect();
        for view in &document.views {
            assert!(joined.contains(&view.name), "{} at {width:?}:\n{text}", view.name);
        }
        for fact in ["583,102", "12.3MB", "1.23", "3.21", "random()isvolatile", "out/airport_scorecard"] {
            assert!(joined.contains(fact), "{fact} at {width:?}:\n{text}");
        }
    }
}

#[test]
fn colours_only_where_they_are_wanted() {
    let document = fixtures::run();
    assert!(!super::run(&document, &plain(Some(80))).contains('\u{1b}'));
    let coloured = super::run(&document, &Style { width: Some(80), colour: true });
    assert!(coloured.contains("\u{1b}["), "{coloured}");
}

#[test]
fn progress_lines_say_result_time_size_and_reason() {
    let written = super::view_line(&fixtures::view("a", ViewResult::Write, Some("never cached here")));
    assert_eq!(written, "a: write in 1.23 s, 583,102 rows, 12.3 MB: never cached here");
    let failed = super::view_line(&fixtures::view("a", ViewResult::Error, Some("x.sql:1:2: no\nhelp")));
    assert_eq!(failed, "a: error in 1.23 s: x.sql:1:2: no\n  help");
    let published = super::output_line(&fixtures::output("o", OutputResult::Hit, None));
    assert_eq!(published, "output o: hit in 0.046 s, 9,125 rows, version 3");
}
