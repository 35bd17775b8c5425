//! Where entries lie.

use alluvium_contracts::CacheKey;

use crate::scope::EntryScope;

/// Where the entries of a name under a key lie, relative to the cache root.
pub(crate) fn entry_parent(scope: EntryScope, name: &str, key: CacheKey) -> String {
    format!("{}/{}__{}", scope.dir_name(), segment(name), key.hex())
}

/// A name as one path segment that can neither escape nor collide: everything but letters, digits, `_` and `-` is
/// percent-encoded, and a name too long for a file system ends in its digest.
fn segment(name: &str) -> String {
    const LONGEST: usize = 120;
    let encoded: String = name
        .bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect();
    if encoded.len() <= LONGEST {
        return encoded;
    }
    let digest = alluvium_contracts::ContentDigest::of(name.as_bytes()).hex();
    format!("{}~{}", &encoded[..LONGEST - 17], &digest[..16])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_neither_escape_nor_collide() {
        assert_eq!(segment("route_delays"), "route_delays");
        assert_eq!(segment("../x"), "%2E%2E%2Fx");
        assert_ne!(segment("a/b"), segment("a%2Fb"));
        let long = "x".repeat(300);
        assert!(segment(&long).len() <= 120);
        assert_ne!(segment(&long), segment(&format!("{long}y")));
    }
}
