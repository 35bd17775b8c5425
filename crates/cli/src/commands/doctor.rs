//! `alluvium doctor`: what a project runs on, and what is wrong with it.

use std::fmt::Write;
use std::time::Duration;

use alluvium_contracts::{CheckStatus, DoctorDocument, ReplayCheck};
use alluvium_runs::{Project, doctor as examine};

use super::{open, runtime};
use crate::args::{DoctorArgs, DocumentFormat};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::{human, output};

/// How long past runs are looked at, whether they can be replayed.
const REPLAY_LIMIT: Duration = Duration::from_secs(10);

/// Examines the project and prints what was found. An error among the checks is a failure.
pub fn doctor(args: &DoctorArgs) -> Result<Exit, Failure> {
    let project = Project::load(args.project.directory(args.dir.as_deref()))?;
    let mut document = examine(&project, &args.project.open_options())?;
    let failed = document.checks.iter().any(|check| check.status == CheckStatus::Error);
    // Past runs are in a cache root that is there, and whole.
    if !failed && document.roots.iter().any(|root| root.root_id.is_some()) {
        let runtime = runtime()?;
        let _inside = runtime.enter();
        let pipeline = open(&args.project, args.dir.as_deref())?;
        let (lost, looked) = runtime.block_on(pipeline.unreplayable_runs(REPLAY_LIMIT))?;
        document.unreplayable_runs = lost;
        document.replay_check = Some(looked);
    }
    match args.format {
        DocumentFormat::Text => output::print(&text(&document))?,
        DocumentFormat::Json => output::print_document(document)?,
    }
    Ok(if failed { Exit::Failed } else { Exit::Done })
}

/// Checks first, since they are what one looks for; then everything by name.
fn text(document: &DoctorDocument) -> String {
    let mut lines = vec![format!("alluvium {}", document.alluvium_version)];
    for check in &document.checks {
        lines.push(format!("  {:<8}{}: {}", check.status.as_str(), check.name, check.message));
        lines.extend(check.fix.iter().map(|fix| format!("          fix: {fix}")));
    }
    for run in &document.unreplayable_runs {
        lines.push(format!("  run {} can no longer be replayed: {}", run.run_id, run.reasons.join("; ")));
    }
    lines.extend(document.replay_check.as_ref().map(replay_check));
    let mut section = |title: &str, rows: Vec<(String, String)>| {
        lines.push(format!("{title}:"));
        let width = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or_default();
        lines.extend(rows.into_iter().map(|(name, value)| format!("  {name:<width$}  {value}").trim_end().to_owned()));
    };
    let roots = document.roots.iter().map(|root| {
        let mut value = format!("{} ({})", root.path, root.origin);
        // Writing to a string does not fail.
        if let Some(bytes) = root.size_bytes {
            let _ = write!(value, ", {}", human::bytes(bytes));
        }
        (root.name.clone(), value)
    });
    section("roots", roots.collect());
    section("engine", document.engine_versions.clone().into_iter().collect());
    let limit = |limit: Option<u64>| limit.map_or_else(|| "none".to_owned(), human::count);
    section("limits", document.limits.iter().map(|(name, n)| (name.clone(), limit(*n))).collect());
    let gate = |on: bool| if on { "on" } else { "off" }.to_owned();
    section("features", document.feature_gates.iter().map(|(name, on)| (name.clone(), gate(*on))).collect());
    let hash = document.profile_hash.iter().map(|hash| ("profile_hash".to_owned(), hash.to_string()));
    let policy = document.sql_policy.iter().map(|policy| ("sql_policy".to_owned(), policy.clone()));
    section("profile", hash.chain(policy).chain(document.settings.clone()).collect());
    lines.join("\n") + "\n"
}

/// How far the look at past runs went.
fn replay_check(check: &ReplayCheck) -> String {
    let runs = |count| match count {
        1 => "1 run".to_owned(),
        count => format!("{} runs", human::count(count)),
    };
    let looked = format!("  {} of this project looked at for what a replay needs", runs(check.checked_count));
    match check.unchecked_count {
        0 => looked,
        count => {
            format!("{looked}; {} not: the {} s for that were up", runs(count), human::seconds(check.limit_ms as f64))
        }
    }
}

#[cfg(test)]
mod tests {
    use alluvium_contracts::Contract;

    use super::*;

    #[test]
    fn golden_text() {
        insta::assert_snapshot!(text(&DoctorDocument::example()));
    }
}
