//! [`Deque`]: a persistent double-ended queue.

#![expect(
    clippy::redundant_closure_for_method_calls,
    reason = "a method of a type with lifetimes of its own is not general enough for `transact`"
)]

mod items;
mod txn;

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use crate::collection::{BATCH, CollectionIter};
use crate::{CollectionError, OpenError, ReadTxn, Settings, Store, StoreError, Value};

pub use txn::DequeTxn;

/// A double-ended queue in a directory of its own, shared by any number of threads and processes. It never evicts.
///
/// Every method is one transaction: all of it happens or nothing, and no other writer comes between. [`transact`] makes
/// one transaction of several. Items are reached by index in logarithmic time, as in a `VecDeque`.
///
/// With [`Settings::new`], each change is synced to the device.
///
/// ```
/// use alluvium_disk_kv_cache::{Deque, Settings};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let temp = tempfile::tempdir()?;
/// # let dir = temp.path();
/// let deque: Deque<String> = Deque::open(dir, Settings::new())?;
/// deque.extend_back(["b", "c"].map(String::from))?;
/// deque.push_front(&"a".into())?;
/// deque.rotate(1)?;
/// assert_eq!(deque.to_vec()?, ["c", "a", "b"]);
/// assert_eq!(deque.pop_back()?.as_deref(), Some("b"));
/// # Ok(()) }
/// ```
///
/// [`transact`]: Deque::transact
pub struct Deque<V> {
    store: Store,
    values: PhantomData<fn() -> V>,
}

impl<V: Value> Deque<V> {
    /// Opens the deque in `dir`, creating it if there is none.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open(dir: impl AsRef<Path>, settings: Settings) -> Result<Deque<V>, OpenError> {
        Ok(Deque { store: Store::open(dir, items::TABLES, settings)?, values: PhantomData })
    }

    /// Opens the deque in `dir` for reading only, also where the file system can only be read. What would change it is
    /// [`StoreError::ReadOnly`].
    ///
    /// # Errors
    /// As [`Store::open_read_only`].
    pub fn open_read_only(dir: impl AsRef<Path>) -> Result<Deque<V>, OpenError> {
        Ok(Deque { store: Store::open_read_only(dir, items::TABLES)?, values: PhantomData })
    }

    /// The directory, as a canonical path.
    pub fn path(&self) -> &Path {
        self.store.path()
    }

    /// Runs `f` in one write transaction: what it did is committed when it returns `Ok`, and undone when it returns an
    /// error.
    ///
    /// `f` may run more than once, each time from the same state: see [`Store::write`]. It should have no effect but on
    /// the deque.
    ///
    /// # Errors
    /// What `f` returns, or a [`CollectionError`].
    pub fn transact<T, E: From<StoreError>>(
        &self,
        mut f: impl FnMut(&mut DequeTxn<'_, '_, V>) -> Result<T, E>,
    ) -> Result<T, E> {
        self.store.write(|txn| f(&mut DequeTxn::new(txn)))
    }

    /// Adds an item at the back. When the deque then has more than [`max_len`](Deque::max_len) items, one is dropped from
    /// the front.
    ///
    /// # Errors
    /// [`CollectionError`].
    #[doc(alias = "append")]
    pub fn push_back(&self, value: &V) -> Result<(), CollectionError> {
        self.transact(|txn| txn.push_back(value))
    }

    /// Adds an item at the front. When the deque then has more than [`max_len`](Deque::max_len) items, one is dropped
    /// from the back.
    ///
    /// # Errors
    /// [`CollectionError`].
    #[doc(alias = "appendleft")]
    pub fn push_front(&self, value: &V) -> Result<(), CollectionError> {
        self.transact(|txn| txn.push_front(value))
    }

    /// Takes the item at the back, if there is one.
    ///
    /// # Errors
    /// [`CollectionError`].
    #[doc(alias = "pop")]
    pub fn pop_back(&self) -> Result<Option<V>, CollectionError> {
        self.transact(|txn| txn.pop_back())
    }

    /// Takes the item at the front, if there is one.
    ///
    /// # Errors
    /// [`CollectionError`].
    #[doc(alias = "popleft")]
    pub fn pop_front(&self) -> Result<Option<V>, CollectionError> {
        self.transact(|txn| txn.pop_front())
    }

    /// The item at the back, if there is one.
    ///
    /// # Errors
    /// [`CollectionError`].
    #[doc(alias = "peek")]
    pub fn back(&self) -> Result<Option<V>, CollectionError> {
        self.read(|txn| items::back(txn).and_then(decoded))
    }

    /// The item at the front, if there is one.
    ///
    /// # Errors
    /// [`CollectionError`].
    #[doc(alias = "peekleft")]
    pub fn front(&self) -> Result<Option<V>, CollectionError> {
        self.read(|txn| items::front(txn).and_then(decoded))
    }

    /// The item at `index`, counted from the front, from 0.
    ///
    /// # Errors
    /// [`CollectionError`].
    pub fn get(&self, index: u64) -> Result<Option<V>, CollectionError> {
        self.read(|txn| items::get(txn, index).and_then(decoded))
    }

    /// Replaces the item at `index`. `false`: there is none.
    ///
    /// # Errors
    /// [`CollectionError`].
    pub fn set(&self, index: u64, value: &V) -> Result<bool, CollectionError> {
        self.transact(|txn| txn.set(index, value))
    }

    /// Takes the item at `index` out, moving those on the shorter side of it, in one transaction.
    ///
    /// # Errors
    /// [`CollectionError`].
    pub fn remove(&self, index: u64) -> Result<Option<V>, CollectionError> {
        self.transact(|txn| txn.remove(index))
    }

    /// Takes the first item that equals `value` out. `false`: there is none.
    ///
    /// # Errors
    /// [`CollectionError`].
    #[doc(alias = "remove")]
    pub fn remove_value(&self, value: &V) -> Result<bool, CollectionError>
    where
        V: PartialEq,
    {
        self.transact(|txn| txn.remove_value(value))
    }

    /// How many items equal `value`.
    ///
    /// # Errors
    /// [`CollectionError`].
    pub fn count(&self, value: &V) -> Result<u64, CollectionError>
    where
        V: PartialEq,
    {
        self.read(|txn| {
            let mut count = 0;
            for item in items::scan(txn)? {
                count += u64::from(V::from_bytes(item?.1)? == *value);
            }
            Ok(count)
        })
    }

    /// Adds items at the back, one after the other, in one transaction.
    ///
    /// # Errors
    /// [`CollectionError`].
    #[doc(alias = "extend")]
    pub fn extend_back<B: Borrow<V>>(&self, values: impl IntoIterator<Item = B>) -> Result<(), CollectionError> {
        let values: Vec<B> = values.into_iter().collect();
        self.transact(|txn| values.iter().try_for_each(|value| txn.push_back(value.borrow())))
    }

    /// Adds items at the front, one after the other, in one transaction: the last of them is then in front.
    ///
    /// # Errors
    /// [`CollectionError`].
    #[doc(alias = "extendleft")]
    pub fn extend_front<B: Borrow<V>>(&self, values: impl IntoIterator<Item = B>) -> Result<(), CollectionError> {
        let values: Vec<B> = values.into_iter().collect();
        self.transact(|txn| values.iter().try_for_each(|value| txn.push_front(value.borrow())))
    }

    /// Moves `steps` items from the back to the front; a negative number, from the front to the back.
    ///
    /// # Errors
    /// [`CollectionError`].
    pub fn rotate(&self, steps: i64) -> Result<(), CollectionError> {
        self.transact(|txn| txn.rotate(steps))
    }

    /// Turns the order of the items around.
    ///
    /// # Errors
    /// [`CollectionError`].
    pub fn reverse(&self) -> Result<(), CollectionError> {
        self.transact(|txn| txn.reverse())
    }

    /// Removes all items. The bound of [`set_max_len`](Deque::set_max_len) stays.
    ///
    /// # Errors
    /// [`CollectionError`].
    pub fn clear(&self) -> Result<(), CollectionError> {
        self.transact(|txn| txn.clear())
    }

    /// The number of items.
    ///
    /// # Errors
    /// [`CollectionError`].
    pub fn len(&self) -> Result<u64, CollectionError> {
        self.read(items::len)
    }

    /// Whether there is no item.
    ///
    /// # Errors
    /// [`CollectionError`].
    pub fn is_empty(&self) -> Result<bool, CollectionError> {
        Ok(self.len()? == 0)
    }

    /// The largest number of items, if there is a bound. Default: none.
    ///
    /// # Errors
    /// [`CollectionError`].
    pub fn max_len(&self) -> Result<Option<u64>, CollectionError> {
        self.read(items::max_len)
    }

    /// Sets the largest number of items, which is stored and holds for every process, and drops items from the front
    /// until it is kept.
    ///
    /// # Errors
    /// [`CollectionError`].
    pub fn set_max_len(&self, max_len: Option<u64>) -> Result<(), CollectionError> {
        self.transact(|txn| txn.set_max_len(max_len))
    }

    /// The items from front to back, or from either end, in batches: see [`CollectionIter`]. [`to_vec`](Deque::to_vec) is a
    /// snapshot instead.
    ///
    /// An item that others move meanwhile, by taking out one before it, may be missed or met twice.
    ///
    /// # Errors
    /// [`CollectionError`].
    pub fn iter(&self) -> Result<CollectionIter<'_, V>, CollectionError> {
        let span = self.read(items::span)?;
        Ok(CollectionIter::new(span, |range, order| {
            self.read(|txn| {
                let mut batch = Vec::new();
                for item in items::scan_range(txn, range.clone(), order)?.take(BATCH) {
                    let (position, value) = item?;
                    batch.push((position, V::from_bytes(value)?));
                }
                Ok(batch)
            })
        }))
    }

    /// All items from front to back, as they were at one moment.
    ///
    /// # Errors
    /// [`CollectionError`].
    pub fn to_vec(&self) -> Result<Vec<V>, CollectionError> {
        self.read(|txn| items::scan(txn)?.map(|item| Ok(V::from_bytes(item?.1)?)).collect())
    }

    /// Compares the items with others, one by one from the front, as slices compare. `None`: two of them have no order.
    ///
    /// ```
    /// # use alluvium_disk_kv_cache::{Deque, Settings};
    /// # use std::cmp::Ordering;
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let temp = tempfile::tempdir()?;
    /// # let deque: Deque<u64> = Deque::open(temp.path(), Settings::new())?;
    /// deque.extend_back([1, 2, 3])?;
    /// assert_eq!(deque.compare(&[1, 2, 4])?, Some(Ordering::Less));
    /// assert!(deque.compare(&deque.to_vec()?)?.is_some_and(Ordering::is_eq));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`CollectionError`].
    pub fn compare(&self, others: &[V]) -> Result<Option<Ordering>, CollectionError>
    where
        V: PartialOrd,
    {
        self.read(|txn| {
            let mut others = others.iter();
            for item in items::scan(txn)? {
                let item = V::from_bytes(item?.1)?;
                match others.next().map(|other| item.partial_cmp(other)) {
                    Some(Some(Ordering::Equal)) => {}
                    Some(different) => return Ok(different),
                    None => return Ok(Some(Ordering::Greater)),
                }
            }
            Ok(Some(if others.next().is_none() { Ordering::Equal } else { Ordering::Less }))
        })
    }

    /// Copies the items and the bound of this moment into `dir`, and opens the copy there.
    ///
    /// # Errors
    /// [`CopyError::Itself`] if `dir` is the deque's own; [`CollectionError::NotEmpty`] if the deque in `dir` has items;
    /// and otherwise as the variants of [`CopyError`] say.
    pub fn copy_to(&self, dir: impl AsRef<Path>, settings: Settings) -> Result<Deque<V>, CopyError> {
        if dir.as_ref().canonicalize().is_ok_and(|dir| dir == self.path()) {
            return Err(CopyError::Itself { path: self.path().to_path_buf() });
        }
        let copy = Deque::open(dir, settings)?;
        self.read(|from| copy.store.write(|to| items::copy(from, to)))?;
        Ok(copy)
    }

    fn read<T>(&self, f: impl FnOnce(&ReadTxn<'_>) -> Result<T, CollectionError>) -> Result<T, CollectionError> {
        self.store.read(f)
    }
}

/// Why a collection could not be copied.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CopyError {
    /// The target could not be opened.
    #[error("the target of the copy could not be opened")]
    Open(#[from] OpenError),
    /// The target is the collection that was to be copied.
    #[error("the collection in {} cannot be copied into itself: name another directory", path.display())]
    Itself {
        /// The directory.
        path: PathBuf,
    },
    /// Reading the source or writing the target failed; the target is empty.
    #[error("the copy was not made")]
    Collection(#[from] CollectionError),
}

/// The value of a found item.
fn decoded<V: Value>(item: Option<items::Item<'_>>) -> Result<Option<V>, CollectionError> {
    Ok(item.map(|(_, bytes)| V::from_bytes(bytes)).transpose()?)
}

impl<V> Clone for Deque<V> {
    fn clone(&self) -> Deque<V> {
        Deque { store: self.store.clone(), values: PhantomData }
    }
}

impl<V> fmt::Debug for Deque<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deque").field("path", &self.store.path()).finish_non_exhaustive()
    }
}
