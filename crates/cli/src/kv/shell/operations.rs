//! The operations by name.

use serde_json::{Value, json};

use super::request::{Declared, Fields, OP, Request};
use super::session::Session;
use super::{answer, cache, coordination, deque, index, queue, stampede};
use crate::kv::fault::{Fault, kind};

/// One operation.
pub struct Operation {
    name: &'static str,
    fields: Declared,
    run: Run,
}

/// Does an operation. Fields are read before anything is opened, so that a bad request makes nothing.
pub type Run = fn(&mut Session, &Fields<'_>) -> Result<Value, Fault>;

/// An operation with the fields it takes.
pub const fn op(name: &'static str, fields: Declared, run: Run) -> Operation {
    Operation { name, fields, run }
}

const SHELL: &[Operation] = &[op("operations", &[], |_, _| {
    Ok(all().map(|operation| json!({ "op": operation.name, "fields": operation.fields })).collect())
})];

fn all() -> impl Iterator<Item = &'static Operation> {
    let tables = [
        SHELL,
        cache::OPERATIONS,
        stampede::OPERATIONS,
        deque::OPERATIONS,
        index::OPERATIONS,
        queue::OPERATIONS,
        coordination::OPERATIONS,
    ];
    tables.into_iter().flatten()
}

/// Does what a request asks for.
pub fn run(session: &mut Session, request: &Request) -> Result<Value, Fault> {
    let name = name(request, "")?;
    let Some(operation) = all().find(|operation| operation.name == name) else {
        let message = format!("there is no operation `{name}`: {{\"op\": \"operations\"}} lists all");
        return Err(Fault::new(kind::UNKNOWN_OPERATION, message));
    };
    answer::fit((operation.run)(session, &Fields::of(request, "", operation.fields)?)?)
}

/// The operation that a request, or a step at a place of it, names.
pub fn name<'r>(request: &'r Request, at: &str) -> Result<&'r str, Fault> {
    let place = format!("{at}{OP}");
    let name = request.get(OP).ok_or_else(|| Fault::field(&place, "is missing"))?;
    name.as_str().ok_or_else(|| Fault::field(&place, "must be a string"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_operation_has_a_name_of_its_own() {
        let names: Vec<_> = all().map(|operation| operation.name).collect();
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
    }
}
