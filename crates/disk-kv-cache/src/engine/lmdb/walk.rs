//! Walking a data file page by page, through plain reads.
//!
//! LMDB trusts its file: a wrong page number or offset in a page that it maps makes it read, or later write, where it must
//! not, and can kill the process. So a file that may be damaged is walked first by code that trusts nothing. It maps
//! nothing, so that a page cannot be missing under it, and every number is checked before it is used: whatever the file
//! holds, the worst that comes of it is [`Damage`]. (A child process that walks with LMDB itself would be expendable too,
//! but could not be made safely by a library: forking a program with threads leaves a child in which little may be called.)
//!
//! Found is all that LMDB relies on: pages that are not what their parents say, are used twice, or are used and free at
//! once; nodes outside of their pages; keys out of order; counts that are not those of the tree. Not found are other
//! values, and other keys in the same order: there is nothing to tell them by. Nor is the state before the last commit, where
//! the ids in the meta pages were changed so that it seems the newer one.
//!
//! What `header` says of the format, and in addition, for tables without duplicates:
//! - A page of a tree has `mp_lower` and `mp_upper` (u16, u16) before its content: the end of the offsets of its nodes (u16
//!   each, in the order of keys) and the begin of the nodes.
//! - `MDB_node`: low and high part of a number (u16, u16), flags (u16), key length (u16), key, data. In a branch, number and
//!   flags are the child's page number, and the first key is not used. In a leaf, the number is the length of the data;
//!   flags: `F_BIGDATA` 1, the data is the number of the first of its overflow pages; `F_SUBDATA` 2, it is an `MDB_db`.
//! - Overflow pages: one header with the number of pages (u32) for all of them, then the data.
//! - The free list is a tree from the ids of the transactions that freed them (words, compared as numbers) to lists of pages:
//!   their number, then they, from the last to the first. LMDB takes pages to be adjacent by their places in the list.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::header::{self, CONTENT, HeaderError, P_BRANCH, P_LEAF, PAGE_FLAGS, WORD, u16_at, u32_at, word_at};
use crate::Damage;
use crate::engine::Counted;

const P_OVERFLOW: u16 = 0x04;
const BOUNDS: usize = WORD + 4;
const NODE: usize = 8;
const F_BIGDATA: u16 = 0x01;
const F_SUBDATA: u16 = 0x02;
/// `MDB_INTEGERKEY`.
const INTEGER_KEYS: u16 = 0x08;
/// `CURSOR_STACK`: no tree is deeper.
const MAX_DEPTH: u16 = 32;

/// Walks the newest committed state, or `None` if that is not the one of `txn_id`. In the latter case the caller has a
/// transaction of that id, so that its pages stay as they are; in the former, nobody has the file open.
pub(super) fn walk(file: &File, txn_id: Option<u64>) -> Result<Option<Walked>, HeaderError> {
    if header::read(file)?.is_none() {
        return Ok(Some(Walked { commits: 0, tables: Vec::new() }));
    }
    let metas = header::read_metas(file)?;
    let newest = header::newest(&metas);
    let page = match txn_id {
        None => newest,
        Some(txn_id) => match [newest, 1 - newest].into_iter().find(|page| id(&metas, *page) == txn_id) {
            // Read again: a commit that comes in between could be seen by half.
            Some(page) if header::read_metas(file)?[page] == metas[page] => page,
            _ => return Ok(None),
        },
    };
    let meta = &metas[page];
    if txn_id.is_none() {
        header::check(file, &metas)?;
    }
    let page_bytes = header::page_bytes(meta, page as u64)?;
    let last = word_at(meta, header::LAST_PAGE);
    let file_pages = file.metadata()?.len() / page_bytes;
    if last >= file_pages {
        return Err(Damage::Field { page: page as u64, field: "the last page", value: last }.into());
    }
    let commits = id(&metas, page);
    let mut walk = Walk { file, page_bytes: page_bytes as usize, commits, used: Pages::new(last), tables: Vec::new() };
    let [free, main] = header::CORE_TREES.map(|at| Tree::read(&meta[at..]));
    let mut freed = Vec::new();
    walk.tree(&free, "", Kind::Free(&mut freed))?;
    let mut tables = Vec::new();
    walk.tree(&main, "", Kind::Main(&mut tables))?;
    for (name, tree) in tables {
        walk.tree(&tree, &name, Kind::Table)?;
        walk.tables.push(Counted { table: name, rows: tree.entries });
    }
    for page in freed {
        walk.used.take(page)?;
    }
    Ok(Some(Walked { commits, tables: walk.tables }))
}

/// A state that fits together.
pub(super) struct Walked {
    /// The id of the transaction that committed it.
    pub(super) commits: u64,
    pub(super) tables: Vec<Counted>,
}

fn id(metas: &header::Metas, page: usize) -> u64 {
    word_at(&metas[page], header::TXN_ID)
}

struct Walk<'f> {
    file: &'f File,
    page_bytes: usize,
    /// The id of the transaction that committed the state.
    commits: u64,
    used: Pages,
    tables: Vec<Counted>,
}

/// What a tree holds, and where that goes which is needed of it.
enum Kind<'w> {
    /// Lists of free pages.
    Free(&'w mut Vec<u64>),
    /// The trees of the tables.
    Main(&'w mut Vec<(String, Tree)>),
    Table,
}

/// An `MDB_db`.
#[derive(Debug, Clone, Copy)]
struct Tree {
    flags: u16,
    depth: u16,
    branch_pages: u64,
    leaf_pages: u64,
    overflow_pages: u64,
    entries: u64,
    root: u64,
}

impl Tree {
    /// From at least `TREE_BYTES` bytes.
    fn read(bytes: &[u8]) -> Tree {
        let word = |n| word_at(bytes, 8 + n * WORD);
        Tree {
            flags: u16_at(bytes, 4),
            depth: u16_at(bytes, 6),
            branch_pages: word(0),
            leaf_pages: word(1),
            overflow_pages: word(2),
            entries: word(3),
            root: word(4),
        }
    }
}

/// What was counted in a tree.
#[derive(Default)]
struct Counts {
    branch_pages: u64,
    leaf_pages: u64,
    overflow_pages: u64,
    entries: u64,
}

/// The keys that may occur below a branch: from the first on, and less than the second.
#[derive(Clone, Copy, Default)]
struct Between<'k>(Option<&'k [u8]>, Option<&'k [u8]>);

impl Walk<'_> {
    fn tree(&mut self, tree: &Tree, name: &str, mut kind: Kind<'_>) -> Result<(), HeaderError> {
        let count = |counted, expected, found| {
            if expected == found {
                return Ok(());
            }
            Err(HeaderError::Damaged(Damage::Count { table: name.to_owned(), counted, expected, found }))
        };
        let expected_flags = if matches!(kind, Kind::Free(_)) { INTEGER_KEYS } else { 0 };
        count("flags", expected_flags.into(), tree.flags.into())?;
        let mut counts = Counts::default();
        if tree.root == header::NO_ROOT {
            count("levels", tree.depth.into(), 0)?;
        } else {
            if tree.depth == 0 || tree.depth > MAX_DEPTH {
                return count("levels", tree.depth.into(), MAX_DEPTH.into());
            }
            self.page(tree.root, tree.depth, Between::default(), &mut kind, &mut counts)?;
        }
        count("branch pages", tree.branch_pages, counts.branch_pages)?;
        count("leaf pages", tree.leaf_pages, counts.leaf_pages)?;
        count("overflow pages", tree.overflow_pages, counts.overflow_pages)?;
        count("entries", tree.entries, counts.entries)
    }

    /// Walks a page that is `levels` above the ground, 1 for a leaf, and all below it.
    fn page(
        &mut self,
        number: u64,
        levels: u16,
        between: Between<'_>,
        kind: &mut Kind<'_>,
        counts: &mut Counts,
    ) -> Result<(), HeaderError> {
        self.used.take(number)?;
        let mut bytes = vec![0; self.page_bytes];
        self.read(number, &mut bytes)?;
        let page = Page { number, bytes: &bytes };
        page.expect(if levels == 1 { P_LEAF } else { P_BRANCH })?;
        let nodes = page.nodes()?;
        let is_free_list = matches!(kind, Kind::Free(_));
        page.is_packed(&nodes, levels == 1)?;
        let keys_of_branch = if levels == 1 { 0 } else { 1 };
        if is_free_list && nodes.iter().skip(keys_of_branch).any(|node| node.key.len() != WORD) {
            return page.is_wrong("has a key that is no transaction id");
        }
        for pair in nodes.get(keys_of_branch..).unwrap_or_default().windows(2) {
            if !is_less(pair[0].key, pair[1].key, is_free_list) {
                return page.is_wrong("has keys out of order");
            }
        }
        let mut keys = nodes.iter().skip(keys_of_branch).map(|node| node.key);
        if keys.any(|key| {
            between.0.is_some_and(|from| is_less(key, from, is_free_list))
                || between.1.is_some_and(|to| !is_less(key, to, is_free_list))
        }) {
            return page.is_wrong("has keys that belong elsewhere");
        }
        if levels == 1 {
            counts.leaf_pages += 1;
            counts.entries += nodes.len() as u64;
            return nodes.iter().try_for_each(|node| self.entry(&page, node, kind, counts));
        }
        counts.branch_pages += 1;
        for (n, node) in nodes.iter().enumerate() {
            let from = if n == 0 { between.0 } else { Some(node.key) };
            let to = nodes.get(n + 1).map_or(between.1, |next| Some(next.key));
            self.page(node.child(), levels - 1, Between(from, to), kind, counts)?;
        }
        Ok(())
    }

    /// Looks at an entry of a leaf.
    fn entry(
        &mut self,
        page: &Page<'_>,
        node: &Node<'_>,
        kind: &mut Kind<'_>,
        counts: &mut Counts,
    ) -> Result<(), HeaderError> {
        let is_table = matches!(kind, Kind::Main(_));
        match node.flags {
            0 | F_BIGDATA if is_table => return page.is_wrong("has an entry that is no table among the tables"),
            0 | F_BIGDATA => {}
            F_SUBDATA if is_table => {}
            _ => return page.is_wrong("has an entry of a kind that is not used here"),
        }
        if node.key.is_empty() {
            return page.is_wrong("has an empty key");
        }
        if matches!(kind, Kind::Free(_)) && !(1..=self.commits).contains(&word_at(node.key, 0)) {
            return page.is_wrong("has pages that no transaction freed");
        }
        let Some(data) = page.data(node) else {
            return page.is_wrong("has an entry that reaches beyond it");
        };
        if node.flags == F_BIGDATA {
            let data_bytes = node.number as usize;
            self.overflow(page, word_at(data, 0), data_bytes, counts)?;
            if let Kind::Free(freed) = kind {
                let mut list = vec![0; data_bytes];
                let first = word_at(data, 0) * self.page_bytes as u64 + CONTENT as u64;
                self.file.read_exact_at(&mut list, first)?;
                return free_list(page, &list, freed);
            }
            return Ok(());
        }
        match kind {
            Kind::Free(freed) => free_list(page, data, freed),
            Kind::Main(tables) => match std::str::from_utf8(node.key) {
                Ok(name) if data.len() == header::TREE_BYTES => {
                    tables.push((name.to_owned(), Tree::read(data)));
                    Ok(())
                }
                _ => page.is_wrong("has an entry that is no table among the tables"),
            },
            Kind::Table => Ok(()),
        }
    }

    /// Looks at the overflow pages of one entry.
    fn overflow(
        &mut self,
        page: &Page<'_>,
        first: u64,
        data_bytes: usize,
        counts: &mut Counts,
    ) -> Result<(), HeaderError> {
        if first > self.used.last {
            return page.is_wrong("leads to a page that does not exist");
        }
        let mut head = [0; CONTENT];
        self.read(first, &mut head)?;
        let overflow = Page { number: first, bytes: &head };
        overflow.expect(P_OVERFLOW)?;
        let pages = u64::from(u32_at(&head, BOUNDS));
        let needed = (CONTENT - 1 + data_bytes) / self.page_bytes + 1;
        // A value that was replaced by a shorter one keeps its pages.
        if pages < needed as u64 {
            return overflow.is_wrong("begins fewer overflow pages than its value takes");
        }
        counts.overflow_pages += pages;
        (first..first.saturating_add(pages)).try_for_each(|number| self.used.take(number))
    }

    fn read(&self, number: u64, bytes: &mut [u8]) -> Result<(), HeaderError> {
        match self.file.read_exact_at(bytes, number * self.page_bytes as u64) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Err(Damage::Page { page: number, problem: "lies beyond the end of the file" }.into())
            }
            read => Ok(read?),
        }
    }
}

/// A page, or only its head.
struct Page<'b> {
    number: u64,
    bytes: &'b [u8],
}

/// A node that lies within its page, as far as its key goes.
struct Node<'b> {
    number: u32,
    flags: u16,
    key: &'b [u8],
    /// Where its data begins in the page.
    data: usize,
}

impl<'b> Page<'b> {
    fn is_wrong<T>(&self, problem: &'static str) -> Result<T, HeaderError> {
        Err(Damage::Page { page: self.number, problem }.into())
    }

    fn expect(&self, kind: u16) -> Result<(), HeaderError> {
        if word_at(self.bytes, 0) != self.number {
            return self.is_wrong("has the number of another page");
        }
        // No other flag may be there: LMDB writes into a page that says it is dirty, which a map for reading is not made for,
        // and forgets to write one that says it is to be kept.
        if u16_at(self.bytes, PAGE_FLAGS) != kind {
            return self.is_wrong("is of another kind than the tree says");
        }
        Ok(())
    }

    fn nodes(&self) -> Result<Vec<Node<'b>>, HeaderError> {
        let (lower, upper) = (usize::from(u16_at(self.bytes, BOUNDS)), usize::from(u16_at(self.bytes, BOUNDS + 2)));
        if lower < CONTENT + 2 || lower % 2 != 0 || lower > upper || upper > self.bytes.len() {
            return self.is_wrong("has bounds that cannot be");
        }
        let mut nodes = Vec::with_capacity((lower - CONTENT) / 2);
        for at in (CONTENT..lower).step_by(2) {
            let at = usize::from(u16_at(self.bytes, at));
            if at < upper || at % 2 != 0 || at + NODE > self.bytes.len() {
                return self.is_wrong("has a node outside of it");
            }
            let data = at + NODE + usize::from(u16_at(self.bytes, at + 6));
            let Some(key) = self.bytes.get(at + NODE..data) else {
                return self.is_wrong("has a key that reaches beyond it");
            };
            nodes.push(Node {
                number: u32::from(u16_at(self.bytes, at)) | u32::from(u16_at(self.bytes, at + 2)) << 16,
                flags: u16_at(self.bytes, at + 4),
                key,
                data,
            });
        }
        Ok(nodes)
    }

    /// Nodes fill the end of a page without a gap, each of an even number of bytes.
    fn is_packed(&self, nodes: &[Node<'_>], is_leaf: bool) -> Result<(), HeaderError> {
        let mut spans = Vec::with_capacity(nodes.len());
        for node in nodes {
            let data_bytes = match (is_leaf, node.flags) {
                (false, _) => 0,
                (true, F_BIGDATA) => WORD,
                (true, _) => node.number as usize,
            };
            spans.push((node.data - node.key.len() - NODE, node.data.saturating_add(data_bytes)));
        }
        spans.sort_unstable();
        let mut end = usize::from(u16_at(self.bytes, BOUNDS + 2));
        for (from, to) in spans {
            if from != end {
                return self.is_wrong("has nodes that overlap or leave a gap");
            }
            end = to.saturating_add(to % 2);
        }
        if end == self.bytes.len() { Ok(()) } else { self.is_wrong("has nodes that overlap or leave a gap") }
    }

    /// What a leaf holds of a node's data: all of it, or the number of its first overflow page.
    fn data(&self, node: &Node<'_>) -> Option<&'b [u8]> {
        let bytes = if node.flags == F_BIGDATA { WORD } else { node.number as usize };
        self.bytes.get(node.data..node.data.checked_add(bytes)?)
    }
}

impl Node<'_> {
    /// The page number in a branch.
    fn child(&self) -> u64 {
        let high = if WORD > 4 { u64::from(self.flags) << 32 } else { 0 };
        u64::from(self.number) | high
    }
}

fn is_less(a: &[u8], b: &[u8], as_numbers: bool) -> bool {
    if as_numbers && a.len() == WORD && b.len() == WORD { word_at(a, 0) < word_at(b, 0) } else { a < b }
}

/// Collects one entry of the free list.
fn free_list(page: &Page<'_>, data: &[u8], freed: &mut Vec<u64>) -> Result<(), HeaderError> {
    let words: Vec<u64> = data.chunks_exact(WORD).map(|word| word_at(word, 0)).collect();
    match words.split_first() {
        Some((length, pages)) if *length as usize <= pages.len() => {
            let pages = &pages[..*length as usize];
            if !pages.is_sorted_by(|page, next| page > next) {
                return page.is_wrong("has a list of free pages out of order");
            }
            freed.extend(pages);
            Ok(())
        }
        _ => page.is_wrong("has a list of free pages that is cut short"),
    }
}

/// The pages that have been met, a bit each.
struct Pages {
    last: u64,
    met: Vec<u64>,
}

impl Pages {
    fn new(last: u64) -> Pages {
        Pages { last, met: vec![0; last as usize / 64 + 1] }
    }

    /// Fails if there is no such page, or if it has been met.
    fn take(&mut self, page: u64) -> Result<(), HeaderError> {
        if page < 2 || page > self.last {
            return Err(Damage::Page { page, problem: "is used and does not exist" }.into());
        }
        let (word, bit) = (&mut self.met[page as usize / 64], 1 << (page % 64));
        if *word & bit != 0 {
            return Err(Damage::Page { page, problem: "is used twice" }.into());
        }
        *word |= bit;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::{Settings, Store, StoreError};

    /// The bytes of a store with a tree of two levels, values on overflow pages, and a free list.
    fn sound(dir: &Path) -> Vec<u8> {
        let store = Store::open(dir, &["table"], Settings::new()).unwrap();
        for n in (0..300_u32).chain(0..20) {
            let value = vec![7; if n.is_multiple_of(50) { 9_000 } else { 100 }];
            store.write::<_, StoreError>(|txn| txn.put("table", &n.to_be_bytes(), &value)).unwrap();
        }
        drop(store);
        std::fs::read(dir.join("data.mdb")).unwrap()
    }

    fn page_bytes(bytes: &[u8]) -> usize {
        u32_at(bytes, header::CORE_TREES[0]) as usize
    }

    fn tree_at(bytes: &[u8], core: usize) -> (Tree, usize) {
        let metas = [
            bytes[..header::META_BYTES].try_into().unwrap(),
            bytes[page_bytes(bytes)..][..header::META_BYTES].try_into().unwrap(),
        ];
        let at = header::newest(&metas) * page_bytes(bytes) + header::CORE_TREES[core];
        (Tree::read(&bytes[at..]), at)
    }

    fn page(bytes: &[u8], number: u64) -> Page<'_> {
        Page { number, bytes: &bytes[number as usize * page_bytes(bytes)..][..page_bytes(bytes)] }
    }

    #[test]
    fn everything_that_lmdb_relies_on_is_checked() {
        let dir = tempfile::tempdir().unwrap();
        let good = sound(dir.path());
        let size = page_bytes(&good);
        let path = dir.path().join("damaged");
        let walked = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            walk(&File::open(&path).unwrap(), None)
        };
        assert_eq!(walked(&good).unwrap().unwrap().tables, [Counted { table: "table".to_owned(), rows: 300 }]);
        let damage = |at: usize, new: &[u8]| {
            let mut bytes = good.clone();
            assert_ne!(&bytes[at..at + new.len()], new);
            bytes[at..at + new.len()].copy_from_slice(new);
            match walked(&bytes) {
                Err(HeaderError::Damaged(damage)) => damage.to_string(),
                other => panic!("at {at}: {:?}", other.map(|walked| walked.map(|walked| walked.tables))),
            }
        };

        let (main, _) = tree_at(&good, 1);
        let main_nodes = page(&good, main.root).nodes().unwrap();
        let tree_at_byte = main.root as usize * size + main_nodes[0].data;
        let tree = Tree::read(&good[tree_at_byte..]);
        assert_eq!(tree.depth, 2);
        for (offset, counted) in [(4, "flags"), (8, "branch"), (16, "leaf"), (24, "overflow"), (32, "entries")] {
            let said = damage(tree_at_byte + offset, &[0x55]);
            assert!(said.contains(counted), "{said}");
        }
        assert!(damage(tree_at_byte + 6, &[9]).contains("another kind"));
        assert!(damage(tree_at_byte + 6, &[99]).contains("levels"));

        let branch = tree.root as usize * size;
        let node = |page_at: usize, n: usize| page_at + usize::from(u16_at(&good[page_at..], CONTENT + 2 * n));
        let children: Vec<u64> = page(&good, tree.root).nodes().unwrap().iter().map(Node::child).collect();
        assert!(children.len() > 3);
        let (first, second) = (children[0] as usize * size, children[1] as usize * size);
        for (at, new, problem) in [
            (branch, &[0xEE][..], "the number of another page"),
            (branch + PAGE_FLAGS, &[P_LEAF as u8], "another kind"),
            (node(branch, 1), &(children[0] as u16).to_ne_bytes(), "used twice"),
            (node(branch, 1), &[0xFF, 0xFF], "does not exist"),
            (node(branch, 1) + NODE, &[0xFF], "out of order"),
            (node(branch, 1) + NODE + 3, &[1], "belong elsewhere"),
            (first, &[0xEE], "the number of another page"),
            (first + PAGE_FLAGS, &[P_LEAF as u8 | 0x10], "another kind"),
            (first + PAGE_FLAGS + 1, &[0x80], "another kind"),
            (branch + PAGE_FLAGS + 1, &[0x40], "another kind"),
            (first + BOUNDS, &[0xFF, 0xFF], "bounds"),
            (first + BOUNDS + 2, &[0, 0], "bounds"),
            (first + CONTENT, &[0xFF, 0xFF], "outside of it"),
            (node(first, 1) + 6, &[5], "overlap or leave a gap"),
            (node(first, 1) + 6, &[0xFF, 0xFF], "reaches beyond"),
            (node(first, 1), &[96], "overlap or leave a gap"),
            (node(first, 1) + 4, &[0x04], "not used here"),
            (node(first, 1) + NODE, &[0xFF], "out of order"),
            (node(second, 0) + NODE + 3, &[0], "belong elsewhere"),
        ] {
            let said = damage(at, new);
            assert!(said.contains(problem), "byte {at}: {said}, not {problem}");
        }

        let leaf = page(&good, children[0]);
        let nodes = leaf.nodes().unwrap();
        let large = nodes.iter().find(|node| node.flags == F_BIGDATA).unwrap();
        let overflow = word_at(leaf.data(large).unwrap(), 0) as usize * size;
        assert!(damage(overflow + PAGE_FLAGS, &[P_LEAF as u8]).contains("another kind"));
        assert!(damage(overflow + BOUNDS, &[2]).contains("fewer overflow pages"));
        assert!(damage(overflow + BOUNDS, &[0xFF]).contains("used"));

        let (free, at) = tree_at(&good, 0);
        let last = word_at(&good, at - header::CORE_TREES[0] + header::LAST_PAGE);
        let list = page(&good, free.root).nodes().unwrap()[0].data + free.root as usize * size;
        assert!(damage(list, &[0xFF, 0xFF]).contains("cut short"));
        let freed: Vec<u64> = (1..=word_at(&good, list) as usize).map(|n| word_at(&good, list + n * WORD)).collect();
        assert!(freed.len() > 1, "{freed:?}");
        assert!(damage(list + freed.len() * WORD, &[1]).contains("does not exist"));
        let swapped = [freed[1].to_ne_bytes(), freed[0].to_ne_bytes()].concat();
        assert!(damage(list + WORD, &swapped).contains("out of order"));
        assert!(damage(list + WORD, &(last + 1).to_ne_bytes()).contains("does not exist"));
        let frees = page(&good, free.root).nodes().unwrap().len();
        let key = |n: usize| node(free.root as usize * size, n) + NODE;
        assert!(damage(key(frees - 1), &u64::MAX.to_ne_bytes()).contains("no transaction freed"));
        assert!(damage(key(0), &[0; WORD]).contains("no transaction freed"));
    }
}
