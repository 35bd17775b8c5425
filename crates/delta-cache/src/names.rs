//! Names that a caller gives: each is of something that is there, or an error says what was probably meant.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use strsim::normalized_damerau_levenshtein;

use crate::error::CacheError;

/// Refuses the first of `wanted` that is none of `known`.
pub(crate) fn all_known<'n>(wanted: &[String], known: impl IntoIterator<Item = &'n str>) -> Result<(), CacheError> {
    if wanted.is_empty() {
        return Ok(());
    }
    let known: BTreeSet<&str> = known.into_iter().collect();
    match wanted.iter().find(|name| !known.contains(name.as_str())) {
        Some(name) => Err(no_such_entry(name, known)),
        None => Ok(()),
    }
}

/// There is nothing of this name; but of `known` ones.
pub(crate) fn no_such_entry<'n>(wanted: &str, known: impl IntoIterator<Item = &'n str>) -> CacheError {
    /// More of them would be a list of all.
    const MOST: usize = 3;
    const LIKE_ENOUGH: f64 = 0.6;
    let likeness = |name: &str| normalized_damerau_levenshtein(wanted, name);
    let known: BTreeSet<&str> = known.into_iter().filter(|name| likeness(name) >= LIKE_ENOUGH).collect();
    let mut near: Vec<&str> = known.into_iter().collect();
    // Likeness is between 0 and 1.
    near.sort_by_key(|name| Reverse((likeness(name) * 1e6) as u64));
    near.truncate(MOST);
    CacheError::NoSuchEntry { wanted: wanted.to_owned(), near: near.into_iter().map(str::to_owned).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_not_there_is_told_with_those_that_are_like_it() {
        let known = ["orders", "orders_clean", "daily", "orders"];
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert!(all_known(&names(&["daily", "orders"]), known).is_ok() && all_known(&[], []).is_ok());
        let error = all_known(&names(&["daily", "orders_claen", "no"]), known).unwrap_err();
        assert!(error.is_input());
        let said =
            "there is no entry `orders_claen`, did you mean `orders_clean`? `alluvium cache ls` lists what there is";
        assert_eq!(error.to_string(), said);
        let CacheError::NoSuchEntry { near, .. } = no_such_entry("order", known) else { panic!() };
        assert_eq!(near, ["orders"]);
        let said = "there is no entry `no`; `alluvium cache ls` lists what there is";
        assert_eq!(no_such_entry("no", known).to_string(), said);
    }
}
