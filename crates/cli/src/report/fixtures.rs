//! Documents for tests.

use alluvium_contracts::{
    CacheKey, CachePolicy, ComponentChange, Identity, MissExplanation, OutputReport, OutputResult, PlanDocument,
    PlanFingerprint, PlannedOutput, PlannedView, RunDocument, RunResult, Stability, ViewReport, ViewResult,
};

/// A view of a run.
pub fn view(name: &str, result: ViewResult, reason: Option<&str>) -> ViewReport {
    let cached = matches!(result, ViewResult::Hit | ViewResult::Write);
    ViewReport {
        name: name.to_owned(),
        result,
        cache_policy: CachePolicy::DeltaStaging,
        rows: cached.then_some(583_102),
        bytes: cached.then_some(12_345_678),
        duration_ms: if result == ViewResult::Hit { 2.4 } else { 1234.5 },
        saved_ms: (result == ViewResult::Hit).then_some(3210.0),
        cache_key: None,
        plan_fingerprint: None,
        stability: None,
        reason: reason.map(str::to_owned),
        explanation: None,
        shadow: None,
    }
}

/// An output of a run.
pub fn output(name: &str, result: OutputResult, reason: Option<&str>) -> OutputReport {
    OutputReport {
        name: name.to_owned(),
        view: name.to_owned(),
        path: format!("out/{name}"),
        result,
        delta_version: Some(3),
        rows: Some(9_125),
        duration_ms: 45.6,
        reason: reason.map(str::to_owned),
    }
}

/// A run with every result in it.
pub fn run() -> RunDocument {
    RunDocument {
        run_id: "0190b3a5-7c1e-7def-8123-456789abcdef".parse().unwrap(),
        result: RunResult::Failed,
        duration_ms: 4321.0,
        saved_ms: 3210.0,
        views: vec![
            view("airports_clean", ViewResult::Hit, None),
            view("flights_clean", ViewResult::Write, Some("source flights: file 2001-06.parquet added")),
            view("rolled_dice", ViewResult::Computed, Some("uncacheable: random() is volatile")),
            view("route_delays", ViewResult::Error, Some("views/route_delays.sql:3:8: no column `arr_dly`\nhelp: …")),
            view("route_ranking", ViewResult::Skipped, Some("route_delays failed")),
        ],
        outputs: vec![
            output("airport_scorecard", OutputResult::Hit, None),
            output("route_delays", OutputResult::Skipped, Some("its view failed")),
        ],
        notices: vec!["the index was lost and is rebuilt".to_owned()],
    }
}

/// A plan with a hit, an explained miss and a first one.
pub fn plan() -> PlanDocument {
    let planned = |name: &str, result, reason: Option<&str>, explanation| PlannedView {
        name: name.to_owned(),
        result,
        cache_policy: CachePolicy::DeltaStaging,
        reads: vec!["flights".to_owned()],
        identity: Identity {
            plan_fingerprint: PlanFingerprint::of(name.as_bytes()),
            cache_key: Some(CacheKey::of(name.as_bytes())),
            stability: Stability::Exact,
            reasons: Vec::new(),
        },
        saved_ms: (result == ViewResult::Hit).then_some(1500.0),
        reason: reason.map(str::to_owned),
        explanation,
    };
    let change = |component: &str, before: Option<&str>, after: Option<&str>| ComponentChange {
        component: component.to_owned(),
        before: before.map(str::to_owned),
        after: after.map(str::to_owned),
    };
    let explanation = MissExplanation {
        compared_with: Some(CacheKey::of(b"earlier")),
        changes: vec![
            change("source flights: option delimiter", Some(","), Some(";")),
            change("source flights: file 2001-06.parquet", None, Some("b3:0c1e")),
        ],
        ..MissExplanation::default()
    };
    PlanDocument {
        views: vec![
            planned("airports_clean", ViewResult::Hit, None, None),
            planned("flights_clean", ViewResult::Write, Some("its source flights changed"), Some(explanation)),
            planned("route_delays", ViewResult::Write, Some("never cached here"), None),
        ],
        outputs: vec![PlannedOutput {
            name: "route_delays".to_owned(),
            view: "route_delays".to_owned(),
            result: OutputResult::Error,
            reason: Some("version 7 is not ours".to_owned()),
        }],
    }
}
