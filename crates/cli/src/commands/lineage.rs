//! `alluvium lineage`: where a view, or one of its columns, comes from.

use alluvium_contracts::{ColumnInfluence, ColumnLineage, IndirectInput, LineageDocument, LineageSummary};
use alluvium_runs::open_lineage_facet;

use super::{open, runtime};
use crate::args::{LineageArgs, LineageFormat};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output;
use crate::signals::Stop;
use crate::terminal::Terminal;

/// Plans the pipeline and prints the lineage that was asked for.
pub fn lineage(args: &LineageArgs, terminal: &Terminal) -> Result<Exit, Failure> {
    let runtime = runtime()?;
    let stop = Stop::listen(terminal)
        .map_err(|error| Failure::failed("cannot listen for signals".to_owned()).because(error))?;
    let document = {
        let _inside = runtime.enter();
        let pipeline = open(&args.project, args.dir())?;
        runtime.block_on(stop.or(pipeline.lineage(args.target())))
    };
    // Work that was dropped half-way may still hold a worker; nothing waits for it.
    runtime.shutdown_background();
    let document = document.map_err(Failure::stopped)??;
    match args.format {
        LineageFormat::Text => output::print(&text(&document))?,
        LineageFormat::Json => output::print_document(document)?,
        LineageFormat::Openlineage => output::print(&facet(&document, &args.namespace))?,
    }
    Ok(Exit::Done)
}

/// The facet of the view that was asked about, over what it reads itself.
fn facet(document: &LineageDocument, namespace: &str) -> String {
    let asked = document.views.first().map(|view| &view.lineage);
    asked.map(|lineage| format!("{:#}\n", open_lineage_facet(lineage, namespace))).unwrap_or_default()
}

/// Every view of the document: its columns with what goes into each, and what decides.
fn text(document: &LineageDocument) -> String {
    let views = document.views.iter().map(|view| {
        let reads = view.lineage.tables.join(", ");
        let head = if reads.is_empty() { "nothing".to_owned() } else { reads };
        format!("{} reads {head}\n{}{}", view.view, columns(&view.lineage), decisions("its rows:", &view.lineage.rows))
    });
    views.collect::<Vec<_>>().join("\n")
}

fn columns(lineage: &LineageSummary) -> String {
    let width = lineage.columns.iter().map(|column| column.column.chars().count()).max().unwrap_or_default();
    lineage.columns.iter().map(|column| self::column(column, width)).collect()
}

fn column(column: &ColumnLineage, width: usize) -> String {
    let mut inputs: Vec<_> = column.inputs.iter().map(|input| format!("{}.{}", input.table, input.column)).collect();
    // One column may go in in two ways.
    inputs.dedup();
    let line = format!("  {:width$}  {:14}  {}", column.column, column.transformation, inputs.join(", "));
    format!("{}\n{}", line.trim_end(), decisions("  its value:", &column.indirect))
}

/// `  its rows: joined by a.x, b.y; filtered by a.z`; nothing where nothing decides.
fn decisions(what: &str, inputs: &[IndirectInput]) -> String {
    let kinds = ColumnInfluence::ALL.iter().filter_map(|influence| {
        let of_kind = inputs.iter().filter(|input| input.influence == *influence);
        let columns: Vec<_> = of_kind.map(|input| format!("{}.{}", input.table, input.column)).collect();
        (!columns.is_empty()).then(|| format!("{} {}", verb(*influence), columns.join(", ")))
    });
    let kinds: Vec<_> = kinds.collect();
    if kinds.is_empty() { String::new() } else { format!("  {what} {}\n", kinds.join("; ")) }
}

const fn verb(influence: ColumnInfluence) -> &'static str {
    match influence {
        ColumnInfluence::Join => "joined by",
        ColumnInfluence::Filter => "filtered by",
        ColumnInfluence::GroupBy => "grouped by",
        ColumnInfluence::Sort => "ordered by",
        ColumnInfluence::Window => "in a window by",
        ColumnInfluence::Conditional => "chosen by",
    }
}

#[cfg(test)]
mod tests {
    use alluvium_contracts::Contract;

    use super::*;

    #[test]
    fn golden_lineage_as_text() {
        insta::assert_snapshot!(text(&LineageDocument::example()));
    }

    #[test]
    fn the_facet_is_that_of_the_view_that_was_asked_about() {
        let facet: serde_json::Value = serde_json::from_str(&facet(&LineageDocument::example(), "warehouse")).unwrap();
        let inputs = &facet["columnLineage"]["fields"]["mean_delay"]["inputFields"];
        assert_eq!((inputs[0]["namespace"].as_str(), inputs[0]["name"].as_str()), (Some("warehouse"), Some("flights")));
    }
}
