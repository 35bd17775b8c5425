//! What the contracts promise together, over every entry of the registry.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests too")]

#[path = "../../../../fuzz/check.rs"]
mod check;
#[cfg(feature = "toml")]
#[path = "../../../../fuzz/check_toml.rs"]
mod check_toml;

mod evolution;
mod fields;
mod golden;
mod hostile;
mod identities;
mod instances;
mod properties;
mod rules;
mod sweep;
#[cfg(feature = "toml")]
mod toml;

use alluvium_contracts::{ContractEntry, Encoding};
use serde_json::Value;

/// What files of a contract are called: first versions by their kind.
fn stem(contract: &ContractEntry) -> String {
    if contract.version == 1 { contract.kind.to_owned() } else { contract.name() }
}

/// The example of a contract as it is written.
fn example(contract: &ContractEntry) -> Value {
    serde_json::from_slice(&contract.example(Encoding::Json).unwrap()).unwrap()
}

/// Decodes a document and encodes it again as JSON.
fn recode(contract: &ContractEntry, document: &Value) -> Result<Value, alluvium_contracts::TranscodeError> {
    let bytes = serde_json::to_vec(document).unwrap();
    let json = contract.transcode(&bytes, Encoding::Json, Encoding::Json)?;
    Ok(serde_json::from_slice(&json).unwrap())
}
