//! Lineage in the words of OpenLineage.

use std::collections::BTreeMap;

use alluvium_contracts::{ColumnInfluence, ColumnTransformation, DirectInput, IndirectInput, LineageSummary};
use serde_json::{Value, json};

const PRODUCER: &str = concat!(env!("CARGO_PKG_REPOSITORY"), "/tree/v", env!("CARGO_PKG_VERSION"));
const SCHEMA: &str =
    "https://openlineage.io/spec/facets/1-2-0/ColumnLineageDatasetFacet.json#/$defs/ColumnLineageDatasetFacet";

/// The column-lineage facet (1-2-0) of a dataset that a query makes: `{"columnLineage": …}`, as it stands in the `facets` of
/// an output. Every table of the query is called a dataset of `namespace`.
///
/// `fields` has an entry for every column; what decides over all of its rows is said once, in `dataset`.
#[must_use]
pub fn open_lineage_facet(lineage: &LineageSummary, namespace: &str) -> Value {
    let fields: serde_json::Map<String, Value> = lineage
        .columns
        .iter()
        .map(|column| {
            let direct = column.inputs.iter().map(direct);
            let inputs = input_fields(namespace, direct.chain(column.indirect.iter().map(indirect)));
            (column.column.clone(), json!({ "inputFields": inputs }))
        })
        .collect();
    json!({
        "columnLineage": {
            "_producer": PRODUCER,
            "_schemaURL": SCHEMA,
            "fields": fields,
            "dataset": input_fields(namespace, lineage.rows.iter().map(indirect)),
        }
    })
}

type Step<'l> = ((&'l str, &'l str), Value);

/// One entry a source column, with everything that happens to it.
fn input_fields<'l>(namespace: &str, steps: impl Iterator<Item = Step<'l>>) -> Vec<Value> {
    let mut fields: BTreeMap<(&str, &str), Vec<Value>> = BTreeMap::new();
    for (field, transformation) in steps {
        let transformations = fields.entry(field).or_default();
        // Two of our words may be one of theirs.
        if !transformations.contains(&transformation) {
            transformations.push(transformation);
        }
    }
    fields
        .into_iter()
        .map(|((name, field), transformations)| {
            json!({ "namespace": namespace, "name": name, "field": field, "transformations": transformations })
        })
        .collect()
}

fn direct(input: &DirectInput) -> Step<'_> {
    let subtype = match input.transformation {
        ColumnTransformation::Identity => "IDENTITY",
        ColumnTransformation::Aggregation => "AGGREGATION",
        // A window's WINDOW is its keys; what it computes from its arguments is a transformation.
        ColumnTransformation::Expression | ColumnTransformation::Window | ColumnTransformation::Constant => {
            "TRANSFORMATION"
        }
    };
    ((&input.table, &input.column), json!({ "type": "DIRECT", "subtype": subtype }))
}

fn indirect(input: &IndirectInput) -> Step<'_> {
    let subtype = match input.influence {
        ColumnInfluence::Join => "JOIN",
        ColumnInfluence::Filter => "FILTER",
        ColumnInfluence::GroupBy => "GROUP_BY",
        ColumnInfluence::Sort => "SORT",
        ColumnInfluence::Window => "WINDOW",
        ColumnInfluence::Conditional => "CONDITIONAL",
    };
    ((&input.table, &input.column), json!({ "type": "INDIRECT", "subtype": subtype }))
}
