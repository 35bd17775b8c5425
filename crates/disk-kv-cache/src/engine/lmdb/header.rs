//! The little of LMDB's file format that must hold before a file may be mapped.
//!
//! A damaged file that is mapped can kill the process: a page past the end of the file is a SIGBUS. So the two meta
//! pages, the length of the file and the roots of the two core trees are checked through plain reads first.
//!
//! The facts are those of `mdb.c` in LMDB's `mdb.master` branch, as bundled by `lmdb-master-sys` 0.2.6 (data version 1).
//! Numbers are in the machine's byte order; a word is as wide as a pointer (`mdb_size_t`, `pgno_t`, `txnid_t`):
//! - `MDB_page`: page number (word), pad (u16), flags (u16), 4 bytes of bounds; then, from `PAGEHDRSZ` on, the content.
//!   Flags: `P_BRANCH` 1, `P_LEAF` 2, `P_OVERFLOW` 4, `P_META` 8.
//! - `MDB_meta`, the content of pages 0 and 1: `mm_magic` (u32, `0xBEEFC0DE`), `mm_version` (u32, 1), `mm_address` (word),
//!   `mm_mapsize` (word), `mm_dbs[2]` (free list, main), `mm_last_pg` (word), `mm_txnid` (word).
//! - `MDB_db`: `md_pad` (u32; in the first one it is the page size), `md_flags` (u16), `md_depth` (u16), branch, leaf and
//!   overflow pages, entries, `md_root` (words; `P_INVALID`, all ones, is the empty tree).
//! - Transaction N writes meta page N mod 2, so the one with the higher `mm_txnid` counts (`mdb_env_pick_meta`), which LMDB
//!   then finds by N mod 2 in turn, and the other one is of transaction N - 1. (Both are 0 in a new file.)
//! - `MAX_PAGESIZE` is 32 KiB.
//!
//! What lies below the roots is for `walk`.
//!
//! "The file may be shorter if the freeDB lists the final pages", says `mdb.c` of `mm_last_pg`: LMDB alone does not
//! promise the length that is asked for here. This crate does, by making the file as long as its map before it uses it
//! (see the module above).

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::Damage;

pub(super) const WORD: usize = size_of::<usize>();
pub(super) const PAGE_FLAGS: usize = WORD + 2;
/// `PAGEHDRSZ`: where the content of a page begins.
pub(super) const CONTENT: usize = WORD + 8;
const MAGIC: usize = CONTENT;
const VERSION: usize = MAGIC + 4;
const MAP_BYTES: usize = VERSION + 4 + WORD;
pub(super) const CORE_TREES: [usize; 2] = [MAP_BYTES + WORD, MAP_BYTES + WORD + TREE_BYTES];
pub(super) const TREE_BYTES: usize = 8 + 5 * WORD;
pub(super) const TREE_ROOT: usize = 8 + 4 * WORD;
pub(super) const LAST_PAGE: usize = CORE_TREES[1] + TREE_BYTES;
pub(super) const TXN_ID: usize = LAST_PAGE + WORD;
pub(super) const META_BYTES: usize = TXN_ID + WORD;

const EXPECTED_MAGIC: u32 = 0xBEEF_C0DE;
const EXPECTED_VERSION: u32 = 1;
pub(super) const P_BRANCH: u16 = 0x01;
pub(super) const P_LEAF: u16 = 0x02;
const P_META: u16 = 0x08;
pub(super) const NO_ROOT: u64 = usize::MAX as u64;
const MIN_PAGE_BYTES: u64 = 512;
const MAX_PAGE_BYTES: u64 = 32 << 10;
/// No machine maps more than this for one process.
const MAX_MAP_BYTES: u64 = 1 << 47;
/// How often a file that changes while it is read is read again. A writer cannot keep up with that.
const ATTEMPTS: usize = 100;

/// What the header of a sound data file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    /// The largest map that a committed transaction was made with, in bytes.
    pub(super) map_bytes: u64,
    /// The end of the last page that a committed transaction may refer to, in bytes.
    pub(super) used_bytes: u64,
}

/// Why there is no [`Header`].
#[derive(Debug)]
pub(super) enum HeaderError {
    Io(io::Error),
    Damaged(Damage),
}

impl From<io::Error> for HeaderError {
    fn from(error: io::Error) -> HeaderError {
        HeaderError::Io(error)
    }
}

impl From<Damage> for HeaderError {
    fn from(damage: Damage) -> HeaderError {
        HeaderError::Damaged(damage)
    }
}

/// Checks the header of a data file. `None` is an empty file: one whose creator died before its first write.
///
/// Other processes may commit meanwhile: what fails the check is read again if it has changed.
pub(super) fn read(file: &File) -> Result<Option<Header>, HeaderError> {
    if file.metadata()?.len() == 0 {
        return Ok(None);
    }
    let mut metas = read_metas(file)?;
    for _ in 0..ATTEMPTS {
        let outcome = check(file, &metas);
        let Err(HeaderError::Damaged(_)) = outcome else {
            return outcome.map(Some);
        };
        let again = read_metas(file)?;
        if again == metas {
            return outcome.map(Some);
        }
        metas = again;
    }
    check(file, &metas).map(Some)
}

pub(super) type Metas = [[u8; META_BYTES]; 2];

pub(super) fn read_metas(file: &File) -> Result<Metas, HeaderError> {
    let first = read_exactly(file, 0)?;
    let page_bytes = page_bytes(&first, 0)?;
    Ok([first, read_exactly(file, page_bytes)?])
}

/// The page size, which must be known before the second meta page can be found.
pub(super) fn page_bytes(meta: &[u8; META_BYTES], page: u64) -> Result<u64, Damage> {
    if u16_at(meta, PAGE_FLAGS) & P_META == 0 || u32_at(meta, MAGIC) != EXPECTED_MAGIC {
        return Err(Damage::NotMeta { page });
    }
    let found = u32_at(meta, VERSION);
    if found != EXPECTED_VERSION {
        return Err(Damage::Version { found, expected: EXPECTED_VERSION });
    }
    let bytes = u64::from(u32_at(meta, CORE_TREES[0]));
    if !bytes.is_power_of_two() || !(MIN_PAGE_BYTES..=MAX_PAGE_BYTES).contains(&bytes) {
        return Err(Damage::Field { page, field: "the page size", value: bytes });
    }
    Ok(bytes)
}

/// Checks what the newer meta page says.
pub(super) fn check(file: &File, metas: &Metas) -> Result<Header, HeaderError> {
    let size = page_bytes(&metas[0], 0)?;
    let second = page_bytes(&metas[1], 1)?;
    if second != size {
        return Err(Damage::Field { page: 1, field: "the page size", value: second }.into());
    }
    let page = newest(metas);
    let meta = &metas[page];
    let page = page as u64;
    let field = |field, value| HeaderError::from(Damage::Field { page, field, value });

    let (id, before) = (word_at(meta, TXN_ID), word_at(&metas[1 - newest(metas)], TXN_ID));
    if id % 2 != page || before != id.saturating_sub(1) {
        return Err(field("the transaction id", id));
    }
    let map_bytes = word_at(meta, MAP_BYTES);
    if map_bytes > MAX_MAP_BYTES {
        return Err(field("the map size", map_bytes));
    }
    let last = word_at(meta, LAST_PAGE);
    if last < 1 || last > MAX_MAP_BYTES / size {
        return Err(field("the last page", last));
    }
    let used_bytes = (last + 1) * size;
    let bytes = file.metadata()?.len();
    if bytes < used_bytes {
        return Err(Damage::TooShort { bytes, needed_bytes: used_bytes }.into());
    }
    for tree in CORE_TREES {
        let root = word_at(meta, tree + TREE_ROOT);
        if root == NO_ROOT {
            continue;
        }
        if root < 2 || root > last {
            return Err(field("the root of a tree", root));
        }
        let head: [u8; CONTENT] = read_exactly(file, root * size)?;
        if word_at(&head, 0) != root || ![P_BRANCH, P_LEAF].contains(&u16_at(&head, PAGE_FLAGS)) {
            return Err(Damage::Root { page: root }.into());
        }
    }
    Ok(Header { map_bytes, used_bytes })
}

/// Which of the two counts.
pub(super) fn newest(metas: &Metas) -> usize {
    usize::from(word_at(&metas[1], TXN_ID) > word_at(&metas[0], TXN_ID))
}

fn read_exactly<const N: usize>(file: &File, at: u64) -> Result<[u8; N], HeaderError> {
    let mut bytes = [0; N];
    match file.read_exact_at(&mut bytes, at) {
        Ok(()) => Ok(bytes),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            Err(Damage::TooShort { bytes: file.metadata()?.len(), needed_bytes: at + N as u64 }.into())
        }
        Err(error) => Err(error.into()),
    }
}

fn array_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(&bytes[at..at + N]);
    array
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_ne_bytes(array_at(bytes, at))
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(array_at(bytes, at))
}

pub(super) fn word_at(bytes: &[u8], at: usize) -> u64 {
    usize::from_ne_bytes(array_at(bytes, at)) as u64
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;
    use std::path::{Path, PathBuf};

    use super::*;
    use crate::{Settings, Store, StoreError};

    /// A closed store with some data in it.
    fn sound(dir: &Path) -> PathBuf {
        let store = Store::open(dir, &["table"], Settings::new()).unwrap();
        for n in 0..300_u32 {
            store.write::<_, StoreError>(|txn| txn.put("table", &n.to_be_bytes(), &[7; 100])).unwrap();
        }
        dir.join("data.mdb")
    }

    fn open(file: &Path) -> File {
        OpenOptions::new().read(true).write(true).open(file).unwrap()
    }

    fn damage(file: &Path) -> Damage {
        match read(&open(file)) {
            Err(HeaderError::Damaged(damage)) => damage,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_sound_file_says_how_long_it_must_be() {
        let dir = tempfile::tempdir().unwrap();
        let file = sound(dir.path());
        let header = read(&open(&file)).unwrap().unwrap();
        assert_eq!(header.map_bytes, 1 << 20);
        assert!((300 * 100..1 << 20).contains(&header.used_bytes), "{header:?}");

        // A file cut at exactly that length is whole; a byte less is not.
        open(&file).set_len(header.used_bytes).unwrap();
        assert_eq!(read(&open(&file)).unwrap(), Some(header));
        open(&file).set_len(header.used_bytes - 1).unwrap();
        assert!(matches!(damage(&file), Damage::TooShort { needed_bytes, .. } if needed_bytes == header.used_bytes));
        for bytes in [1, 100, 4095, 4096, 8191, 8192] {
            open(&file).set_len(bytes).unwrap();
            assert!(matches!(damage(&file), Damage::TooShort { .. } | Damage::NotMeta { .. }), "{bytes}");
        }
        open(&file).set_len(0).unwrap();
        assert_eq!(read(&open(&file)).unwrap(), None);
    }

    #[test]
    fn every_field_that_is_relied_on_is_checked() {
        let dir = tempfile::tempdir().unwrap();
        let file = sound(dir.path());
        let good = std::fs::read(&file).unwrap();
        let page = u32_at(&good, CORE_TREES[0]) as usize;
        let newest = if word_at(&good[page..], TXN_ID) > word_at(&good, TXN_ID) { page } else { 0 };
        let broken = |at: usize, bytes: &[u8]| {
            let mut bad = good.clone();
            bad[at..at + bytes.len()].copy_from_slice(bytes);
            std::fs::write(&file, bad).unwrap();
            damage(&file)
        };
        for (number, at) in [(0, 0), (1, page)] {
            assert!(matches!(broken(at + PAGE_FLAGS, &[0, 0]), Damage::NotMeta { page } if page == number));
            assert!(matches!(broken(at + MAGIC, b"SQLi"), Damage::NotMeta { page } if page == number));
            let version = broken(at + VERSION, &2_u32.to_ne_bytes());
            assert!(matches!(version, Damage::Version { found: 2, expected: 1 }), "{version}");
            let size = broken(at + CORE_TREES[0], &12_345_u32.to_ne_bytes());
            assert!(matches!(size, Damage::Field { page, value: 12_345, .. } if page == number), "{size}");
        }
        let (id, other) = (word_at(&good, newest + TXN_ID), page - newest);
        for (at, id) in [(newest, id + 1), (newest, id + 256), (other, id + 3), (other, id - 3)] {
            let id = broken(at + TXN_ID, &id.to_ne_bytes());
            assert!(matches!(id, Damage::Field { field: "the transaction id", .. }), "{id}");
        }
        let last = broken(newest + LAST_PAGE, &usize::MAX.to_ne_bytes());
        assert!(matches!(last, Damage::Field { field: "the last page", .. }), "{last}");
        let far = broken(newest + LAST_PAGE, &100_000_usize.to_ne_bytes());
        assert!(matches!(far, Damage::TooShort { .. }), "{far}");
        let map = broken(newest + MAP_BYTES, &usize::MAX.to_ne_bytes());
        assert!(matches!(map, Damage::Field { field: "the map size", .. }), "{map}");
        for tree in CORE_TREES {
            let at = newest + tree + TREE_ROOT;
            let root = broken(at, &1_usize.to_ne_bytes());
            assert!(matches!(root, Damage::Field { field: "the root of a tree", value: 1, .. }), "{root}");
            let root = word_at(&good, at) as usize;
            for (offset, bytes) in [(0, &[0xEE; WORD][..]), (PAGE_FLAGS, &[0, 0][..])] {
                let garbage = broken(root * page + offset, bytes);
                assert!(matches!(garbage, Damage::Root { page } if page == root as u64), "{garbage}");
            }
        }
    }
}
