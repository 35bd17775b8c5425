//! What was learned of files before: the digest of a file with this stamp, the schema of files with these digests, whether
//! their rows are in order and what is declared of them.

use alluvium_contracts::ContentDigest;
use alluvium_disk_kv_cache::{Store, StoreError};
use arrow::datatypes::{Schema, SchemaRef};

use crate::FileStamp;

const FILES: &str = "pins";
const SCHEMAS: &str = "schemas";
/// Raised when the meaning of a key or value changes.
const EPOCH: u8 = 1;
const SEAL_BYTES: usize = 16;

/// Digests and schemas remembered between runs. Losing it costs time, never rows: its failures are warned of and
/// counted in [`PinCounters::memo_failures`](crate::PinCounters::memo_failures), and the work is done without it.
#[derive(Debug, Clone)]
pub struct PinMemo {
    files: Store,
    schemas: Store,
}

impl PinMemo {
    /// A memo in the table `pins` of `files` and the table `schemas` of `schemas`; both may be handles of one directory.
    #[must_use]
    pub fn new(files: Store, schemas: Store) -> Self {
        Self { files, schemas }
    }

    /// The digests that are known of files with these stamps. Blocks.
    pub(crate) fn digests(&self, stamps: &[FileStamp]) -> Result<Vec<Option<ContentDigest>>, StoreError> {
        self.files.read(|txn| {
            let known = stamps.iter().map(|stamp| {
                let key = file_key(stamp);
                let payload = txn.get(FILES, &key)?.and_then(|value| open(&key, value));
                Ok(payload.and_then(|payload| payload.try_into().ok()).map(ContentDigest::from_bytes))
            });
            known.collect()
        })
    }

    /// Blocks.
    pub(crate) fn remember_digests(&self, known: &[(FileStamp, ContentDigest)]) -> Result<(), StoreError> {
        self.files.write(|txn| {
            for (stamp, digest) in known {
                let key = file_key(stamp);
                txn.put(FILES, &key, &seal(&key, digest.as_bytes()))?;
            }
            Ok(())
        })
    }

    /// Blocks.
    pub(crate) fn schema(&self, key: &[u8; 32]) -> Result<Option<SchemaRef>, StoreError> {
        self.schemas.read(|txn| Ok(txn.get(SCHEMAS, key)?.and_then(|value| decode(open(key, value)?))))
    }

    /// Blocks. A schema that the encoding cannot say is not remembered.
    pub(crate) fn remember_schema(&self, key: &[u8; 32], schema: &SchemaRef) -> Result<(), StoreError> {
        let payload = encode(schema);
        if decode(&payload).as_ref() != Some(schema) {
            return Ok(());
        }
        self.schemas.write(|txn| txn.put(SCHEMAS, key, &seal(key, &payload)))
    }

    /// Whether the rows behind this key were once found in order. Blocks.
    pub(crate) fn is_ordered(&self, key: &[u8; 32]) -> Result<bool, StoreError> {
        self.is_known(key, ORDERED)
    }

    /// Blocks.
    pub(crate) fn remember_ordered(&self, key: &[u8; 32]) -> Result<(), StoreError> {
        self.remember(key, ORDERED)
    }

    /// Whether the rows behind this key once satisfied what was declared of them. Blocks.
    pub(crate) fn is_satisfied(&self, key: &[u8; 32]) -> Result<bool, StoreError> {
        self.is_known(key, SATISFIED)
    }

    /// Blocks.
    pub(crate) fn remember_satisfied(&self, key: &[u8; 32]) -> Result<(), StoreError> {
        self.remember(key, SATISFIED)
    }

    fn is_known(&self, key: &[u8; 32], fact: &[u8]) -> Result<bool, StoreError> {
        self.schemas.read(|txn| Ok(txn.get(SCHEMAS, key)?.and_then(|value| open(key, value)) == Some(fact)))
    }

    fn remember(&self, key: &[u8; 32], fact: &[u8]) -> Result<(), StoreError> {
        self.schemas.write(|txn| txn.put(SCHEMAS, key, &seal(key, fact)))
    }
}

const ORDERED: &[u8] = b"ordered";
const SATISFIED: &[u8] = b"satisfied";

fn file_key(stamp: &FileStamp) -> Vec<u8> {
    [&[EPOCH], stamp.key().as_slice()].concat()
}

/// The engine below keeps no checksums, and a digest with one bit flipped is still a digest: so each value carries one,
/// which binds it to its key too.
fn seal(key: &[u8], payload: &[u8]) -> Vec<u8> {
    [&checksum(key, payload), payload].concat()
}

fn open<'v>(key: &[u8], value: &'v [u8]) -> Option<&'v [u8]> {
    let (seal, payload) = value.split_at_checked(SEAL_BYTES)?;
    let intact = seal == checksum(key, payload);
    if !intact {
        tracing::warn!("an entry of the pin memo is damaged and is ignored");
    }
    intact.then_some(payload)
}

fn checksum(key: &[u8], payload: &[u8]) -> [u8; SEAL_BYTES] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&(key.len() as u64).to_be_bytes()).update(key).update(payload);
    let mut seal = [0; SEAL_BYTES];
    seal.copy_from_slice(&hasher.finalize().as_bytes()[..SEAL_BYTES]);
    seal
}

fn encode(schema: &Schema) -> Vec<u8> {
    let mut tracker = arrow::ipc::writer::DictionaryTracker::new(false);
    arrow::ipc::writer::IpcDataGenerator::default()
        .schema_to_bytes_with_dictionary_tracker(schema, &mut tracker, &arrow::ipc::writer::IpcWriteOptions::default())
        .ipc_message
}

fn decode(payload: &[u8]) -> Option<SchemaRef> {
    // Copied, because the encoding wants its bytes aligned.
    let payload = payload.to_vec();
    let message = arrow::ipc::root_as_message(&payload).ok()?;
    Some(arrow::ipc::convert::fb_to_schema(message.header_as_schema()?).into())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use alluvium_disk_kv_cache::Settings;
    use arrow::datatypes::{DataType, Field, TimeUnit};

    use super::*;

    fn memo(dir: &std::path::Path) -> PinMemo {
        let store = Store::open(dir, &[FILES, SCHEMAS], Settings::new()).unwrap();
        PinMemo::new(store.clone(), store)
    }

    fn stamp(inode: u64) -> FileStamp {
        FileStamp { dev: 1, inode, size_bytes: 3, modified_ns: 4, changed_ns: 5 }
    }

    #[test]
    fn what_is_remembered_is_found_under_its_own_key_only() {
        let dir = tempfile::tempdir().unwrap();
        let memo = memo(dir.path());
        let digest = ContentDigest::of(b"x");
        memo.remember_digests(&[(stamp(2), digest)]).unwrap();
        assert_eq!(memo.digests(&[stamp(1), stamp(2)]).unwrap(), [None, Some(digest)]);

        let list = DataType::List(Arc::new(Field::new("item", DataType::Timestamp(TimeUnit::Nanosecond, None), true)));
        let metadata = || [("k".to_owned(), "v".to_owned())].into();
        let fields = vec![
            Field::new("a", DataType::Utf8View, false).with_metadata(metadata()),
            Field::new("l", list, true),
            Field::new("d", DataType::Dictionary(Box::new(DataType::UInt16), Box::new(DataType::Utf8)), true),
        ];
        let schema = Arc::new(Schema::new(fields).with_metadata(metadata()));
        memo.remember_schema(&[7; 32], &schema).unwrap();
        assert_eq!(memo.schema(&[7; 32]).unwrap(), Some(schema));
        assert_eq!(memo.schema(&[8; 32]).unwrap(), None);
    }

    #[test]
    fn damage_is_a_miss() {
        let dir = tempfile::tempdir().unwrap();
        let memo = memo(dir.path());
        let digest = ContentDigest::of(b"x");
        memo.remember_digests(&[(stamp(1), digest)]).unwrap();
        let key = file_key(&stamp(1));
        let good: Vec<u8> =
            memo.files.read(|txn| Ok::<_, StoreError>(txn.get(FILES, &key)?.map(<[u8]>::to_vec))).unwrap().unwrap();
        let mut flipped = good.clone();
        flipped[SEAL_BYTES] ^= 1;
        for bad in [&flipped[..], &good[..SEAL_BYTES + 31], &[], b"short"] {
            memo.files.write(|txn| txn.put(FILES, &key, bad)).unwrap();
            assert_eq!(memo.digests(&[stamp(1)]).unwrap(), [None]);
        }
        // An intact value, but of another file.
        memo.files.write(|txn| txn.put(FILES, &file_key(&stamp(2)), &good)).unwrap();
        assert_eq!(memo.digests(&[stamp(2)]).unwrap(), [None]);
    }
}
