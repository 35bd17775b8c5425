//! Which rows of unstable views a view reads: what was computed from others is computed again with them.
//!
//! A key does not say which of the rows that an unstable view may have were read. *Invariant:* what a run takes from a cache was
//! computed from the rows that the run reads: an unstable view that is computed again takes its readers along, and one that came
//! back from an earlier time does too. See [`UnstableRows`].

use std::collections::BTreeMap;

use alluvium_delta_cache::UnstableRows;

/// What is read of unstable views that are kept, directly or through views that are computed with their readers: by the view's name
/// which of its rows, or none of those that are yet to be computed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Reads(BTreeMap<String, Option<String>>);

/// Something was computed from other rows than those that are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OtherRows<'r> {
    view: &'r str,
    since: Since,
}

/// What has become of rows that something was computed from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Since {
    /// They are computed anew in this run.
    IsComputed,
    /// They were computed anew.
    WasComputed,
    /// None were read of a view of this name.
    WasUnread,
    /// They are not read any more, or through another view.
    IsUnread,
}

impl Reads {
    /// The rows of one view.
    pub(crate) fn of(view: &str, rows: Option<String>) -> Self {
        Self(BTreeMap::from([(view.to_owned(), rows)]))
    }

    /// Reads what another view passes on, too.
    pub(crate) fn extend(&mut self, other: &Self) {
        self.0.extend(other.0.iter().map(|(view, rows)| (view.clone(), rows.clone())));
    }

    /// Whether it reads rows of this view.
    pub(crate) fn is_of(&self, view: &str) -> bool {
        self.0.contains_key(view)
    }

    /// The views, with which of their rows was known when it was decided what to do.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&String, Option<&String>)> {
        self.0.iter().map(|(view, rows)| (view, rows.as_ref()))
    }

    /// Which rows; none while some are yet to be computed.
    pub(crate) fn rows(&self) -> Option<UnstableRows> {
        self.0.iter().map(|(view, rows)| Some((view.clone(), rows.clone()?))).collect()
    }

    /// What differs where something was computed from these `rows`.
    pub(crate) fn other_than<'r>(&'r self, rows: &'r UnstableRows) -> Option<OtherRows<'r>> {
        let read = self.0.iter().find_map(|(view, read)| {
            let since = match (read, rows.get(view)) {
                (None, _) => Since::IsComputed,
                (Some(read), Some(rows)) if read == rows => return None,
                (Some(_), Some(_)) => Since::WasComputed,
                (Some(_), None) => Since::WasUnread,
            };
            Some(OtherRows { view, since })
        });
        let unread = || rows.keys().find(|view| !self.0.contains_key(*view));
        read.or_else(|| unread().map(|view| OtherRows { view, since: Since::IsUnread }))
    }
}

impl OtherRows<'_> {
    /// The reason why a view is computed again.
    pub(crate) fn of_reader(&self) -> String {
        let Self { view, since } = self;
        match since {
            Since::IsComputed => format!("reads the unstable view {view}, which is computed anew"),
            Since::WasComputed => format!("reads the unstable view {view}, which was computed anew since"),
            Since::WasUnread => format!("reads the unstable view {view}, which it did not read by this name before"),
            Since::IsUnread => format!("read the unstable view {view}, which it reads otherwise by now"),
        }
    }

    /// The reason why an output of `view` is published again.
    pub(crate) fn of_output(&self, view: &str) -> String {
        match self.since {
            _ if self.view != view => self.of_reader(),
            Since::IsComputed => "its view is unstable and is computed anew".to_owned(),
            Since::WasComputed => "its view is unstable and was computed anew since".to_owned(),
            Since::WasUnread | Since::IsUnread => "its view is unstable and was kept otherwise before".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(rows: &[(&str, &str)]) -> UnstableRows {
        rows.iter().map(|(view, rows)| ((*view).to_owned(), (*rows).to_owned())).collect()
    }

    #[test]
    fn only_the_very_rows_that_are_read_are_the_same() {
        let mut reads = Reads::of("a", Some("1".to_owned()));
        reads.extend(&Reads::of("b", Some("2".to_owned())));
        assert_eq!(reads.other_than(&rows(&[("a", "1"), ("b", "2")])), None);
        assert_eq!(reads.rows(), Some(rows(&[("a", "1"), ("b", "2")])));
        for (other, reason) in [
            (rows(&[("a", "1"), ("b", "1")]), "reads the unstable view b, which was computed anew since"),
            (rows(&[("b", "2")]), "reads the unstable view a, which it did not read by this name before"),
            (rows(&[("a", "1"), ("b", "2"), ("c", "3")]), "read the unstable view c, which it reads otherwise by now"),
        ] {
            assert_eq!(reads.other_than(&other).map(|other| other.of_reader()).as_deref(), Some(reason));
        }
        reads.extend(&Reads::of("b", None));
        let other = rows(&[("a", "1"), ("b", "2")]);
        let found = reads.other_than(&other).unwrap();
        assert_eq!(found.of_reader(), "reads the unstable view b, which is computed anew");
        assert_eq!(found.of_output("b"), "its view is unstable and is computed anew");
        assert_eq!(reads.rows(), None);
        assert_eq!(Reads::default().other_than(&UnstableRows::new()), None);
    }
}
