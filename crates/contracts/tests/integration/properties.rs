//! What holds for every document of every contract, tried on random ones.

use alluvium_contracts::{Encoding, contracts, validate};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::Value;

use crate::instances::instances;

/// Documents tried for each contract.
const CASES: u32 = 48;

/// Runs `property` over random documents of each contract; a failure names the contract and the document.
fn over_every_contract(property: impl Fn(&alluvium_contracts::ContractEntry, &Value) -> Result<(), TestCaseError>) {
    for contract in contracts() {
        let documents = instances(contract.schema().as_value());
        let mut runner = TestRunner::new(Config { cases: CASES, failure_persistence: None, ..Config::default() });
        if let Err(failure) = runner.run(&documents, |document| property(&contract, &document)) {
            panic!("{}: {failure}", contract.kind);
        }
    }
}

#[test]
fn what_the_schema_accepts_decodes_and_both_encodings_agree() {
    over_every_contract(|contract, document| {
        let bytes = serde_json::to_vec(document).unwrap();
        let transcode = |bytes: &[u8], from, to| {
            contract.transcode(bytes, from, to).map_err(|error| TestCaseError::fail(format!("{error:?}")))
        };
        let json = transcode(&bytes, Encoding::Json, Encoding::Json)?;
        let packed = transcode(&bytes, Encoding::Json, Encoding::MessagePack)?;
        // Each canonical form is a fixed point, and leads to the other.
        prop_assert_eq!(&transcode(&json, Encoding::Json, Encoding::Json)?, &json);
        prop_assert_eq!(&transcode(&packed, Encoding::MessagePack, Encoding::MessagePack)?, &packed);
        prop_assert_eq!(&transcode(&json, Encoding::Json, Encoding::MessagePack)?, &packed);
        prop_assert_eq!(&transcode(&packed, Encoding::MessagePack, Encoding::Json)?, &json);
        Ok(())
    });
}

#[test]
fn the_order_of_fields_and_white_space_do_not_move_an_identity() {
    over_every_contract(|contract, document| {
        let id = |text: &str| {
            validate(text.as_bytes(), Some(contract.kind))
                .map_err(|report| TestCaseError::fail(format!("{text}: {report}")))
        };
        let plain = id(&document.to_string())?;
        let (mut reversed, mut packed) = (String::new(), Vec::new());
        backwards(document, &mut reversed);
        backwards_packed(document, &mut packed);
        prop_assert_eq!(&id(&reversed)?, &plain);
        prop_assert_eq!(plain.artifact_id.is_some(), document.get("payload").is_some());
        let from_packed =
            validate(&packed, Some(contract.kind)).map_err(|report| TestCaseError::fail(report.to_string()))?;
        prop_assert_eq!(from_packed.artifact_id, plain.artifact_id);
        Ok(())
    });
}

/// JSON with every object's keys in falling order and spaces wherever they may be.
fn backwards(value: &Value, text: &mut String) {
    match value {
        Value::Object(map) => {
            text.push_str("{ ");
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_by(|a, b| b.0.cmp(a.0));
            for (index, (key, value)) in entries.into_iter().enumerate() {
                text.push_str(if index > 0 { " ,\n" } else { "" });
                text.push_str(&Value::from(key.as_str()).to_string());
                text.push_str("\t: ");
                backwards(value, text);
            }
            text.push_str(" }");
        }
        Value::Array(items) => {
            text.push('[');
            for (index, item) in items.iter().enumerate() {
                text.push_str(if index > 0 { " , " } else { " " });
                backwards(item, text);
            }
            text.push(']');
        }
        scalar => text.push_str(&scalar.to_string()),
    }
}

/// MessagePack with every object's keys in falling order, every length in its longest form, and every integer that fits as a float.
fn backwards_packed(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Object(map) => {
            out.push(0xdf);
            out.extend((map.len() as u32).to_be_bytes());
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_by(|a, b| b.0.cmp(a.0));
            for (key, value) in entries {
                backwards_packed(&Value::from(key.as_str()), out);
                backwards_packed(value, out);
            }
        }
        Value::Array(items) => {
            out.push(0xdd);
            out.extend((items.len() as u32).to_be_bytes());
            items.iter().for_each(|item| backwards_packed(item, out));
        }
        Value::String(text) => {
            out.push(0xdb);
            out.extend((text.len() as u32).to_be_bytes());
            out.extend(text.as_bytes());
        }
        Value::Number(number) => {
            out.push(0xcb);
            out.extend(number.as_f64().unwrap().to_be_bytes());
        }
        scalar => out.extend(rmp_serde::to_vec(scalar).unwrap()),
    }
}
