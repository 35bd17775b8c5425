//! What may publish a row, and that no bit of one flips.

use std::sync::Arc;

use alluvium_contracts::{SchemaHash, Stability};
use alluvium_profile::{CacheRoot, KvKind};
use alluvium_telemetry::Seam;

use super::*;

#[test]
fn an_entry_that_was_adopted_stands_when_its_own_writer_was_overtaken() {
    let (dir, seam) = (tempfile::tempdir().unwrap(), Seam::system());
    let root = Arc::new(CacheRoot::open(dir.path(), &seam).unwrap());
    let index = Index::new(root.kv(KvKind::Index).unwrap().clone());
    let key = CacheKey::of(b"key");
    let draw = || index.begin_tenure(key.as_bytes(), 0, 1, Duration::from_secs(1)).unwrap().unwrap();
    let entry = |fencing_token| Entry {
        scope: EntryScope::View,
        key,
        view: "first".to_owned(),
        id: seam.entry_id(),
        dir: "view_cache/first".to_owned(),
        fencing_token,
        run_id: "019bbfd4-1f00-7def-8123-456789abcdef".parse().unwrap(),
        created_unix_ms: 0,
        plan_fingerprint: None,
        plan_artifact_id: None,
        schema_hash: SchemaHash::of(b"schema"),
        stability: Stability::Exact,
        compute_ms: 1.0,
        row_count: 0,
        files: Vec::new(),
        log_digest: ContentDigest::of(b"log"),
        components: BTreeMap::new(),
        unstable_rows: BTreeMap::new(),
        tags: Vec::new(),
        explanation: None,
    };
    let overtaken = entry(draw());
    let heir = entry(draw());
    let publish = |entry: &Entry, seen| index.publish(entry, None, seen, entry.fencing_token).unwrap();
    assert_eq!(publish(&overtaken, None), Publication::Superseded);
    assert!(index.adopt(&overtaken).unwrap());
    assert_eq!(publish(&overtaken, None), Publication::Published);
    assert_eq!(publish(&heir, None), Publication::Published);
    assert_eq!(publish(&overtaken, Some(heir.id)), Publication::Superseded);
}

#[test]
fn no_bit_of_a_row_flips_unnoticed() {
    let run_id = "019bbfd4-1f00-7def-8123-456789abcdef".parse().unwrap();
    let row = OutputRow { version: 7, run_id, fencing_token: Some(3), files: Vec::new() };
    let bytes = encode(&row);
    assert_eq!(decode::<OutputRow>(&bytes).map(|row| (row.version, row.fencing_token)), Some((7, Some(3))));
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << bit;
            assert!(decode::<OutputRow>(&flipped).is_none(), "bit {bit} of byte {at}");
        }
        assert!(decode::<OutputRow>(&bytes[..at]).is_none(), "cut off at {at}");
    }
    // Whole, and no row.
    assert!(decode::<OutputRow>(&[ContentDigest::of(b"{}").as_bytes().as_slice(), b"{}"].concat()).is_none());
}
