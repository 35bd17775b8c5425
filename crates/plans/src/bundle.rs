//! The plan bundle: a view's plan with its identity and everything that went into it.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use alluvium_contracts::{
    ArtifactId, CacheKey, CanonicalError, DeltaInput, DeltaInputPin, Envelope, FunctionHash, Identity, InputKind,
    LineageSummary, PinDigest, PlanBundleArtifact, PlanComponents, PlanEncoding, PlanFingerprint, Stability,
    canonical_json,
};
use alluvium_datasets::PinnedDataset;
use alluvium_profile::{Query, QueryError, Session};
use alluvium_telemetry::Redactor;
use datafusion::common::TableReference;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::LogicalPlan;
use serde_json::json;

use crate::canonical::{Canonical, canonicalize, kept_text};
use crate::engine::engine_versions;
use crate::functions;
use crate::lineage::lineage;
use crate::outline::Outline;
use crate::published::{PublishError, PublishedSchema};
use crate::stability::instabilities;
use crate::stored::KeptPlan;
use crate::tables::Tables;

/// What a scan reference of a query stands for.
#[derive(Debug, Clone)]
pub enum Input {
    /// A pinned source.
    Dataset(PinnedDataset),
    /// An upstream view.
    View {
        /// Its cache key; none when it is uncacheable, which makes its readers uncacheable too.
        key: Option<CacheKey>,
        /// Whether its own rows are exact.
        stability: Stability,
    },
}

/// A view's analyzed plan and its identity. Nothing was executed to make it.
#[derive(Debug, Clone)]
pub struct PlanBundle {
    name: String,
    plan: LogicalPlan,
    published: PublishedSchema,
    reads: Vec<String>,
    identity: Identity,
    components: BTreeMap<String, String>,
    inputs: Vec<DeltaInput>,
    /// What the scans stand for, by name.
    sources: BTreeMap<String, Input>,
    fingerprinted: PlanComponents,
    /// Whether the query names credentials, which are literals of the plan then.
    names_credentials: bool,
    kept: Option<KeptPlan>,
    function_hashes: BTreeMap<String, FunctionHash>,
}

/// A view cannot be planned.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// The query itself is wrong: correct the SQL at the stated place.
    #[error("the query of view `{view}` is wrong")]
    Query {
        /// The view.
        view: String,
        /// What and where.
        #[source]
        source: QueryError,
    },
    /// Its columns cannot be published.
    #[error("the result of view `{view}` cannot be published")]
    Publish {
        /// The view.
        view: String,
        /// Which column, and what to do.
        #[source]
        source: PublishError,
    },
    /// A function of it has a description without a canonical encoding: a defect of this crate.
    #[error("the functions of view `{view}` cannot be described; please report this")]
    Functions {
        /// The view.
        view: String,
        /// Why.
        #[source]
        source: DataFusionError,
    },
    /// The identity has no canonical encoding: a defect of this crate.
    #[error("the identity of view `{view}` cannot be encoded; please report this")]
    Encode {
        /// The view.
        view: String,
        /// Why.
        #[source]
        source: CanonicalError,
    },
}

/// Plans `query` over the tables that are registered in `session`, and derives its identity from `inputs`: what each
/// registered name stands for. A table that is no key of `inputs` has no pin and makes the view uncacheable.
///
/// `inputs` speaks of the tables that the session has by these names when this is called. Another table of such a name has no pin: a
/// [`Query::DataFrame`], or a view of the engine that a query names, scans what had the name when and where it was made.
/// Nor is a table pinned whose schema makes it anew each time that it is asked for.
///
/// # Errors
/// [`PlanError::Query`] when the query is wrong or is no single one, [`PlanError::Publish`] when a column cannot be
/// published.
pub async fn plan_view(
    session: &Session,
    view: &str,
    query: impl Into<Query>,
    inputs: &BTreeMap<String, Input>,
) -> Result<PlanBundle, PlanError> {
    let query = query.into();
    let names_credentials = |text: &str| matches!(Redactor::default().kept(text), Cow::Owned(_));
    let of_text = match &query {
        Query::Sql { text, .. } => Some(names_credentials(text)),
        _ => None,
    };
    let planned =
        session.plan_query(query).await.map_err(|source| PlanError::Query { view: view.to_owned(), source })?;
    // What came without a text has that of its plan, which names columns.
    let names_credentials = of_text.unwrap_or_else(|| names_credentials(&planned.plan.display_indent().to_string()));
    Ok(PlanBundle { names_credentials, ..identify(session, view, planned.plan, inputs).await? })
}

/// The bundle of an analyzed plan, wherever that came from: a query without credentials.
pub(crate) async fn identify(
    session: &Session,
    view: &str,
    plan: LogicalPlan,
    inputs: &BTreeMap<String, Input>,
) -> Result<PlanBundle, PlanError> {
    let published =
        PublishedSchema::of(plan.schema()).map_err(|source| PlanError::Publish { view: view.to_owned(), source })?;
    let canonical = canonicalize(&plan);
    let leaves = Leaves::of(session, &canonical, inputs).await;
    let function_hashes = functions::hashes(&canonical.functions, session)
        .map_err(|source| PlanError::Functions { view: view.to_owned(), source })?;
    let functions = functions::judge(&canonical.functions, session);

    let settings = session.semantic_settings();
    let engine = engine_versions();
    let encode = |source| PlanError::Encode { view: view.to_owned(), source };
    let fingerprint = PlanFingerprint::of(
        &canonical_json(&json!({
            "plan": canonical.text,
            "published": published.canonical(),
            "functions": functions.versions,
            "settings": settings,
            "engine": engine,
        }))
        .map_err(encode)?,
    );

    let denials: Vec<String> =
        canonical.denials.iter().chain(&functions.denials).chain(&leaves.denials).cloned().collect();
    let cache_key = match denials.is_empty() {
        true => Some(CacheKey::of(
            &canonical_json(&json!({ "plan_fingerprint": fingerprint, "pins": leaves.pins })).map_err(encode)?,
        )),
        false => None,
    };
    let mut unstable = instabilities(&plan);
    unstable.extend(leaves.unstable);
    let stability = if unstable.is_empty() { Stability::Exact } else { Stability::Unstable };

    let mut components = leaves.components;
    components.insert("plan".to_owned(), PlanFingerprint::of(canonical.text.as_bytes()).to_string());
    components.insert("columns".to_owned(), published.hash().to_string());
    let named = [("function", &functions.versions), ("setting", &settings), ("engine", &engine)];
    for (prefix, values) in named {
        components.extend(values.iter().map(|(name, value)| (format!("{prefix} {name}"), value.clone())));
    }
    let read = |name: &String| Some((name.clone(), inputs.get(name)?.clone()));

    Ok(PlanBundle {
        name: view.to_owned(),
        plan,
        published,
        sources: leaves.reads.iter().filter_map(read).collect(),
        fingerprinted: PlanComponents {
            canonical_plan: canonical.text,
            functions: functions.versions,
            semantic_settings: settings,
            engine_versions: engine,
        },
        names_credentials: false,
        function_hashes,
        reads: leaves.reads,
        identity: Identity {
            plan_fingerprint: fingerprint,
            cache_key,
            stability,
            reasons: if denials.is_empty() { unstable.into_iter().collect() } else { denials },
        },
        components,
        inputs: leaves.inputs,
        kept: None,
    })
}

impl PlanBundle {
    /// The view's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The analyzed, unoptimised plan: what is executed.
    #[must_use]
    pub fn plan(&self) -> &LogicalPlan {
        &self.plan
    }

    /// The schema at the view's boundary.
    #[must_use]
    pub fn published(&self) -> &PublishedSchema {
        &self.published
    }

    /// The sources and views that it scans, sorted.
    #[must_use]
    pub fn reads(&self) -> &[String] {
        &self.reads
    }

    /// Fingerprint, key, stability and the reasons.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The key; none when the view is uncacheable.
    #[must_use]
    pub fn cache_key(&self) -> Option<CacheKey> {
        self.identity.cache_key
    }

    /// Every component of the identity by name, as stored with an entry so that a later miss can be explained.
    #[must_use]
    pub fn components(&self) -> &BTreeMap<String, String> {
        &self.components
    }

    /// What the query reads, and where each of its columns comes from. Derived from the plan at every call.
    #[must_use]
    pub fn lineage(&self) -> LineageSummary {
        lineage(&self.plan)
    }

    /// What its query is made of, in words, for the explanation of a later miss; none where it would be too large. Derived from the plan at
    /// every call.
    #[must_use]
    pub fn outline(&self) -> Option<Outline> {
        Outline::of(&self.plan, &self.published, self.names_credentials)
    }

    /// Whether its plan was taken from a [`PlanStore`](crate::PlanStore), and not made of the SQL.
    #[must_use]
    pub fn is_replayed(&self) -> bool {
        self.kept.as_ref().is_some_and(|kept| kept.is_replayed)
    }

    /// What became of its plan in a store.
    pub(crate) fn with_kept(self, kept: KeptPlan) -> Self {
        Self { kept: Some(kept), ..self }
    }

    /// All of it as a document that may be stored: without credentials in the text of the plan, in options or in metadata of columns. A
    /// plan whose query names credentials has `?` for each of its literals; its fingerprint is of the real ones. How the plan is
    /// kept, and under which profile and SQL policy, is said where a [`PlanStore`](crate::PlanStore) was asked to keep it; it is
    /// the same whether the plan was kept now or before.
    #[must_use]
    pub fn artifact(&self) -> PlanBundleArtifact {
        let redactor = Redactor::default();
        let canonical_plan = kept_text(&self.plan, self.names_credentials);
        let components = PlanComponents { canonical_plan, ..self.fingerprinted.clone() };
        let mut pins: Vec<_> = self.sources.iter().filter_map(|(name, input)| input.artifact(name)).collect();
        let mut schema = self.published.fields();
        let options = pins.iter_mut().flat_map(|pin| &mut pin.options);
        for (name, value) in options.chain(schema.iter_mut().flat_map(|field| &mut field.metadata)) {
            *value = redactor.kept_option(name, value).into_owned();
        }
        let stored = self.kept.as_ref();
        PlanBundleArtifact {
            view_name: self.name.clone(),
            plan_fingerprint: self.identity.plan_fingerprint,
            cache_key: self.identity.cache_key,
            components,
            function_hashes: self.function_hashes.clone(),
            lineage: self.lineage(),
            pins,
            schema,
            schema_hash: self.published.hash(),
            cacheable: self.identity.cache_key.is_some(),
            stability: self.identity.stability,
            reasons: self.identity.reasons.iter().map(|reason| redactor.kept(reason).into_owned()).collect(),
            plan_encoding: stored.map_or(PlanEncoding::None, |stored| stored.encoding),
            plan_encoding_reason: stored.and_then(|stored| stored.reason.clone()),
            substrait_hash: stored.and_then(|stored| stored.substrait),
            profile_hash: stored.map(|stored| stored.profile),
            sql_policy_hash: stored.map(|stored| stored.sql_policy),
        }
    }

    /// The identity of [`artifact`](Self::artifact), for commits that belong to it.
    ///
    /// # Errors
    /// [`CanonicalError`] when it has no canonical form.
    pub fn artifact_id(&self) -> Result<ArtifactId, CanonicalError> {
        Envelope::new(self.artifact()).artifact_id()
    }

    /// The pinned inputs, as commits record them.
    #[must_use]
    pub fn inputs(&self) -> &[DeltaInput] {
        &self.inputs
    }
}

impl Input {
    /// The pin as a document, under the name that plans scan; none for an uncacheable view, which has no pin.
    fn artifact(&self, name: &str) -> Option<DeltaInputPin> {
        match self {
            Self::Dataset(dataset) => Some(DeltaInputPin { name: name.to_owned(), ..dataset.artifact() }),
            Self::View { key, .. } => key.map(|key| DeltaInputPin {
                name: name.to_owned(),
                kind: InputKind::View,
                pin: pin_of_view(key),
                format: None,
                path: None,
                cache_key: Some(key),
                table_id: None,
                version: None,
                timestamp_unix_ms: None,
                commit_digest: None,
                schema_hash: None,
                options: BTreeMap::new(),
                file_count: None,
                size_bytes: None,
                files: Vec::new(),
                cdf_range: None,
            }),
        }
    }
}

/// An upstream view is pinned by its own key, so that keys chain.
fn pin_of_view(key: CacheKey) -> PinDigest {
    PinDigest::of(format!("view {key}").as_bytes())
}

/// What the scans of a plan contribute.
#[derive(Default)]
struct Leaves {
    reads: Vec<String>,
    pins: BTreeMap<String, PinDigest>,
    inputs: Vec<DeltaInput>,
    components: BTreeMap<String, String>,
    unstable: Vec<String>,
    denials: Vec<String>,
}

impl Leaves {
    async fn of(session: &Session, canonical: &Canonical, inputs: &BTreeMap<String, Input>) -> Self {
        let names: BTreeSet<&str> = canonical.scans.iter().map(|scan| scan.table_name.table()).collect();
        let names: Vec<&str> = names.into_iter().filter(|name| inputs.contains_key(*name)).collect();
        let pinned = Tables::of(session, &names).await;
        // Not by its text: a bare `a.b` reads like the table `b` of a schema `a`. Nor by its name: a frame of another session, or
        // one from before a table was registered anew, scans another table of that name.
        let tables: BTreeSet<(&TableReference, bool)> =
            canonical.scans.iter().map(|scan| (&scan.table_name, pinned.has(scan))).collect();
        let mut leaves = Self::default();
        for (table, is_pinned) in tables {
            leaves.add(table, is_pinned, inputs);
        }
        leaves
    }

    /// `is_pinned`: whether it is the very table that `inputs` speaks of, if they know its name.
    fn add(&mut self, table: &TableReference, is_pinned: bool, inputs: &BTreeMap<String, Input>) {
        let name = table.to_string();
        // Only a bare name can be an input: what is qualified lives in a schema of the engine's or of the ledgers.
        let bare = table.schema().is_none().then(|| table.table());
        let Some((name, input)) = bare.and_then(|bare| inputs.get_key_value(bare)) else {
            self.denials.push(format!("{name} has no pin: its content has no identity"));
            return;
        };
        if !is_pinned {
            self.denials.push(format!(
                "{name} is not the table that the session has by this name: its content has no identity"
            ));
            return;
        }
        self.reads.push(name.clone());
        let (pin, version) = match input {
            Input::Dataset(dataset) => {
                // They are stored with entries, to explain misses; what they stand for is in the pin.
                let redactor = Redactor::default();
                let parts = dataset.components().iter();
                self.components.extend(parts.map(|(part, value)| {
                    (format!("source {name}: {part}"), redactor.kept_option(part, value).into_owned())
                }));
                (dataset.digest(), dataset.delta_version())
            }
            Input::View { key, stability } => {
                if *stability == Stability::Unstable {
                    self.unstable.push(format!("reads the unstable view {name}"));
                }
                let Some(key) = key else {
                    self.denials.push(format!("reads the uncacheable view {name}"));
                    return;
                };
                self.components.insert(format!("view {name}"), key.to_string());
                (pin_of_view(*key), None)
            }
        };
        self.pins.insert(name.clone(), pin);
        self.inputs.push(DeltaInput { name: name.clone(), pin, version });
    }
}

#[cfg(test)]
mod tests;
