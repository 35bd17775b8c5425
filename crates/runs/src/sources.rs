//! Sources: pinned when a run or a query begins, and those with a `cache` read from their files once a pin.
//!
//! A kept source is planned over like any other, under the pin of its files. Its rows are looked up when something that is
//! computed scans it, and not before: a run in which every view hits asks for no source.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use alluvium_contracts::{CacheInventoryEntry, CacheScope, CdfCursor, LedgerEvent, RunId, SourceSpec, ViewResult};
use alluvium_datasets::{Changes, Dataset, PinnedDataset};
use alluvium_delta_cache::{CacheError, DatasetRequest, KeptDataset, Reading};
use alluvium_ledgers::CursorMove;
use alluvium_plans::ViewRef;
use alluvium_profile::Session;
use datafusion::catalog::TableProvider;
use tokio::sync::OnceCell;

use crate::decide::{Decisions, register};
use crate::error::{RunError, chain};
use crate::execute::{Attempt, Outcomes};
use crate::graph::Graph;
use crate::pipeline::Pipeline;
use crate::project::CHANGES;

/// The sources that something mentions.
#[derive(Default)]
pub(crate) struct Sources {
    pub(crate) pins: BTreeMap<String, PinnedDataset>,
    /// Those that are to be kept.
    kept: BTreeMap<String, KeptSource>,
    /// What of the pins is read on behalf of a consumer, and where that stood.
    consumed: Vec<Consumed>,
}

/// Changes that are read on behalf of a consumer.
struct Consumed {
    changes: Changes,
    consumer: String,
    from: Option<CdfCursor>,
}

struct KeptSource {
    dataset: KeptDataset,
    /// What is registered under its name.
    reference: Arc<ViewRef>,
    /// The row of the inventory about it, once its rows are there.
    filled: OnceCell<CacheInventoryEntry>,
}

impl Sources {
    /// Pins every source that is mentioned, and registers what scans exactly the pinned files, or what keeps their rows; and the
    /// changes of those whose changes are mentioned, since their consumer last read them.
    pub(crate) async fn pin(
        pipeline: &Pipeline,
        session: &Session,
        mentioned: &BTreeSet<&String>,
    ) -> Result<Self, RunError> {
        let project = &pipeline.project;
        let mut sources = Self::default();
        for (name, source) in &project.spec().sources {
            let of_changes = format!("{name}{CHANGES}");
            let reads_changes = source.cdf.is_some() && mentioned.contains(&of_changes);
            if !mentioned.contains(name) && !reads_changes {
                continue;
            }
            let place = || project.place("sources", name);
            let pin_error = |source| RunError::Pin { place: place(), name: name.clone(), source };
            let spec_error = |source| RunError::Source { place: place(), name: name.clone(), source };
            let from = match (&source.cdf_consumer, reads_changes) {
                (Some(consumer), true) => pipeline.ledgers.cursor(consumer, name)?,
                _ => None,
            };
            let dataset = match reads_changes {
                true => Dataset::of_source(name, source, project.dir()).map_err(spec_error)?,
                // Nobody asks where its changes begin.
                false => {
                    let source = SourceSpec { cdf: None, ..source.clone() };
                    Dataset::of_source(name, &source, project.dir()).map_err(spec_error)?
                }
            };
            let dataset = match &from {
                Some(cursor) => dataset.after(cursor.clone()),
                None => dataset,
            };
            let pinned = pipeline.pinner.pin(session.context(), &dataset).await.map_err(pin_error)?;
            if let Some(changes) = pinned.changes_input(session.context()).map_err(pin_error)? {
                register(session, &of_changes, changes.provider().map_err(pin_error)?).map_err(RunError::execute)?;
                if let (Some(consumer), Some(changes)) = (&source.cdf_consumer, changes.changes()) {
                    let (changes, consumer) = (changes.clone(), consumer.clone());
                    sources.consumed.push(Consumed { changes, consumer, from });
                }
                sources.pins.insert(of_changes, changes);
            }
            if !mentioned.contains(name) {
                continue;
            }
            let provider: Arc<dyn TableProvider> = match pipeline.cache.kept_dataset(session, &dataset, &pinned)? {
                Some(dataset) => {
                    let reference = Arc::new(ViewRef::new(name, Arc::clone(pinned.schema())));
                    let kept = KeptSource { dataset, reference: Arc::clone(&reference), filled: OnceCell::new() };
                    sources.kept.insert(name.clone(), kept);
                    reference
                }
                None => pinned.provider().map_err(pin_error)?,
            };
            register(session, name, provider).map_err(RunError::execute)?;
            sources.pins.insert(name.clone(), pinned);
        }
        Ok(sources)
    }

    /// Holds the rows of the sources against what is declared of them, those of which the answer is not known.
    pub(crate) async fn check_constraints(&self, pipeline: &Pipeline, session: &Session) -> Result<(), RunError> {
        for (name, pin) in &self.pins {
            let checked = pipeline.pinner.check_constraints(session, pin).await;
            checked.map_err(|source| RunError::Constraints {
                place: pipeline.project.place("sources", name),
                name: name.clone(),
                source,
            })?;
        }
        Ok(())
    }

    /// Says where the rows of kept sources are for a query, which publishes nothing: what is not there is read from its files.
    pub(crate) fn bind(&self, pipeline: &Pipeline, reading: &Reading) -> Result<(), RunError> {
        for (name, kept) in &self.kept {
            let provider = match pipeline.cache.lookup_dataset(reading, &kept.dataset)? {
                Some(rows) => rows.provider(),
                None => kept.dataset.pinned().provider().map_err(|source| RunError::Pin {
                    place: pipeline.project.place("sources", name),
                    name: name.clone(),
                    source,
                })?,
            };
            kept.reference.bind(provider);
        }
        Ok(())
    }

    /// Whether its rows come from what is kept, so that its files are not read any more.
    pub(crate) fn is_filled(&self, source: &str) -> bool {
        self.kept.get(source).is_some_and(|kept| kept.filled.initialized())
    }

    /// What there is to record of kept sources that `outcomes` does not know.
    pub(crate) fn events(&self, outcomes: &mut Outcomes) -> Vec<LedgerEvent> {
        let filled = self.kept.iter().filter_map(|(name, kept)| Some((name, kept.filled.get()?)));
        let mut events = Vec::new();
        for (name, row) in filled {
            // What the first attempt wrote is a hit of the second.
            if outcomes.sources.get(name).is_some_and(|known| known.cache_key == row.cache_key) {
                continue;
            }
            outcomes.put_source(name, row.clone());
            events.push(LedgerEvent::CacheInventory(row.clone()));
        }
        events
    }

    /// Who reads the changes that are pinned under this name.
    pub(crate) fn consumer_of(&self, pin: &str) -> Option<&str> {
        self.consumed.iter().find(|consumed| consumed.changes.name() == pin).map(|consumed| consumed.consumer.as_str())
    }
}

impl Decisions {
    /// Where the consumers stand once this run has succeeded, and what is to be said then of those that stay where they are: what a
    /// consumer has passed is read by nobody any more, so it waits for every view of the project that reads its changes.
    pub(crate) fn cursor_moves(
        &self,
        pipeline: &Pipeline,
        run_id: RunId,
        unix_ms: i64,
    ) -> (Vec<CursorMove>, Vec<String>) {
        let (mut moves, mut notices) = (Vec::new(), Vec::new());
        // Who has read nothing new stays where it is.
        let mut consumed =
            self.sources.consumed.iter().filter(|consumed| consumed.changes.range().is_some()).peekable();
        if consumed.peek().is_none() {
            return (moves, notices);
        }
        let project = Graph::of(&pipeline.project, &self.session, &[]).map_err(|error| chain(&error));
        for Consumed { changes, consumer, from } in consumed {
            let to = changes.cursor(consumer, Some(run_id), unix_ms);
            let why = match &project {
                Ok(project) => {
                    let mut unread = project.downstream(&changes.name());
                    unread.retain(|view| !self.views.contains_key(*view));
                    if unread.is_empty() {
                        moves.push(CursorMove { from: from.clone(), to });
                        continue;
                    }
                    let unread: Vec<String> = unread.iter().map(|view| format!("`{view}`")).collect();
                    format!(
                        "not read by {}, which this run left out; a run of every view that reads them moves it",
                        unread.join(", ")
                    )
                }
                // A view that cannot be understood may read them.
                Err(error) => format!("perhaps not read by every view, of which one is wrong: {error}"),
            };
            notices.push(format!(
                "the consumer `{consumer}` of the changes of `{}` stays where it was: they were {why}",
                to.dataset_name
            ));
        }
        (moves, notices)
    }
}

impl Attempt<'_> {
    /// Sees that the kept sources which a computation of `view` scans have their rows.
    pub(crate) async fn fill_sources(&self, view: &str) -> Result<(), CacheError> {
        let Decisions { session, sources, reading, .. } = self.decisions;
        for name in self.decisions.live_sources_of(view) {
            let Some(kept) = sources.kept.get(name) else { continue };
            let fill = async || {
                let request = DatasetRequest { dataset: &kept.dataset, run_id: self.run_id, reading };
                let begin = || {
                    self.publishing.begin(CacheScope::Dataset, name);
                    Ok(())
                };
                let rows = self.pipeline.cache.dataset(session, request, &begin).await;
                self.publishing.end(CacheScope::Dataset, name);
                let rows = rows?;
                kept.reference.bind(rows.provider());
                Ok::<_, CacheError>(rows.inventory(self.run_id, self.pipeline.seam.unix_ms()))
            };
            kept.filled.get_or_try_init(fill).await?;
        }
        Ok(())
    }
}

/// The tables that a run wrote for sources: name, directory relative to the cache root, version.
pub(crate) fn written(outcomes: &Outcomes) -> impl Iterator<Item = (&String, &String, Option<u64>)> {
    let written = outcomes.sources.iter().filter(|(_, row)| row.result == ViewResult::Write);
    written.filter_map(|(name, row)| Some((name, row.cache_path.as_ref()?, row.delta_version)))
}
