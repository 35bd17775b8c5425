//! `alluvium doctor`: what a project runs on, and what is wrong with it.

use std::fmt::Write;

use alluvium_contracts::{CheckStatus, DoctorDocument};
use alluvium_runs::{Project, doctor as examine};

use super::{open, runtime};
use crate::args::{DoctorArgs, DocumentFormat};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::{human, output};

/// The newest runs of which it is told whether they can be replayed.
const RUNS: usize = 20;

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
        document.unreplayable_runs = runtime.block_on(pipeline.unreplayable_runs(RUNS))?;
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

#[cfg(test)]
mod tests {
    use alluvium_contracts::Contract;

    use super::*;

    #[test]
    fn golden_text() {
        insta::assert_snapshot!(text(&DoctorDocument::example()));
    }
}
