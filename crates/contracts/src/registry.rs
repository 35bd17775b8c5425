//! Every contract, listed once: what it is, its schema, an example, and how it is checked and exported.

use schemars::Schema;
use serde::Serialize;

use crate::canonical::{CanonicalError, canonical_json, canonical_messagepack};
#[cfg(feature = "toml")]
use crate::decode::Toml;
use crate::decode::{Encoding, Limits, Node, quoted, read, typed};
use crate::digest::ArtifactId;
use crate::envelope::{Contract, Envelope, Form, Tagged, UnknownFields};
use crate::schema::{page, schema_of};
// Every version has its own line, and stays when a newer one takes its place in `latest`.
use crate::v1::*;

/// One contract of the registry.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct ContractEntry {
    /// Its kind.
    pub kind: &'static str,
    /// Its version.
    pub version: u32,
    /// What it is, in one line.
    pub doc: &'static str,
    /// What is written: the payload alone, or in its envelope.
    pub form: Form,
    /// What a reader does with a field that it does not know.
    pub unknown_fields: UnknownFields,
    /// Where there is one.
    pub written: Written,
    schema: fn() -> Schema,
    example: fn(Encoding) -> Result<Vec<u8>, CanonicalError>,
    transcode: fn(Node<'_>, Place, Encoding) -> Result<Vec<u8>, TranscodeError>,
}

/// Where documents of a contract are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Written {
    /// Alluvium writes it here, or reads it here where a person wrote it.
    In(&'static str),
    /// Nothing in Alluvium writes or reads it yet; what it is meant for.
    NotYet(&'static str),
}

/// All contracts, by kind, and by version where a kind has several.
#[must_use]
pub fn contracts() -> Vec<ContractEntry> {
    use Written::{In, NotYet};
    // `cargo xtask contracts` holds against the sources that what is written in the workspace is `In`, and nothing else.
    vec![
        entry::<AdapterChoice>(In("diagnostics of a run")),
        entry::<CacheArtifact>(In("the ledger `cache_artifacts_v1`")),
        entry::<CacheCommitMetadata>(In("the `commitInfo` of commits to entries, outputs and ledgers")),
        entry::<CacheEntryDocument>(In("`alluvium cache show --format json`")),
        entry::<CacheExport>(In("`alluvium cache export --format json`")),
        entry::<CacheInventoryEntry>(In("the ledger `datafusion_view_cache_inventory_v1`")),
        entry::<CacheListing>(In("`alluvium cache ls --format json`")),
        entry::<CacheOperations>(In("the ledger `cache_artifacts_v1`")),
        entry::<CacheOutcome>(In("memory: spans, metrics and ledger rows are made of it")),
        entry::<CacheRebuild>(In("`alluvium cache rebuild-index --format json`")),
        entry::<CacheRemoval>(In("`alluvium cache evict|gc --format json`; the ledger `cache_artifacts_v1`")),
        entry::<CacheRootReport>(In("diagnostics of a run")),
        entry::<CacheRunSummary>(In("the ledger `datafusion_cache_run_summary_v1`; diagnostics")),
        entry::<CacheSnapshotEntry>(In("the ledger `datafusion_cache_snapshot_registry_v1`")),
        entry::<CacheVerification>(In("`alluvium cache verify --format json`")),
        entry::<CdfCursor>(In(
            "memory: what a pinned change feed answers; the queue store of a cache root, for the consumers of pipelines",
        )),
        entry::<CdfOptions>(In("`[sources.NAME.cdf]`; `DatasetSpec.cdf`, which a library user declares")),
        entry::<DatasetSpec>(In(
            "what a library user declares, as a value or as DDL; a pipeline file has the smaller `[sources.NAME]`; the ledger \
             `cache_artifacts_v1`",
        )),
        entry::<DeltaInputPin>(In("plan bundles and run manifests")),
        entry::<DeltaSchemaPolicy>(NotYet(
            "library users; its fields stand in `delta_write_policy` too, which is what is read",
        )),
        entry::<DeltaStatsDecision>(In(
            "the ledger `cache_artifacts_v1`; what a write decides, and `pending_stats` answers",
        )),
        entry::<DeltaWritePolicy>(In(
            "`[outputs.NAME.write]`; the table property `alluvium.writePolicy`; the ledger `cache_artifacts_v1`",
        )),
        entry::<DiagnosticsEvent>(In("diagnostics sinks")),
        entry::<DoctorDocument>(In("`alluvium doctor --format json`")),
        entry::<ErrorReport>(In("what decoding answers; `alluvium contracts validate` prints it as text")),
        entry::<EvolutionSpec>(In("`DatasetSpec.evolution`, which a library user declares")),
        entry::<FieldSpec>(In("plan bundles, table documents")),
        entry::<KvCheck>(In("`alluvium kv DIR check --format json`")),
        entry::<KvKeys>(In("`alluvium kv DIR ls --format json`")),
        entry::<KvRemoval>(In("`alluvium kv DIR delete|evict|expire|cull|clear --format json`")),
        entry::<KvStats>(In("`alluvium kv DIR stats --format json`; diagnostics")),
        entry::<LineageDocument>(In("`alluvium lineage --format json`")),
        entry::<LineageSummary>(In("plan bundles and lineage documents")),
        entry::<MaintenanceEvent>(In(
            "table maintenance documents; the ledger `cache_artifacts_v1`; diagnostics of a run",
        )),
        entry::<MissExplanation>(In("plan documents; the ledger `cache_artifacts_v1`")),
        entry::<PipelineSpec>(In("`alluvium.toml`")),
        entry::<PlanBundleArtifact>(In("the ledger `cache_artifacts_v1`; what `Pipeline::bundles` answers")),
        entry::<PlanDocument>(In("`alluvium plan --format json`")),
        entry::<PreparedStatementUse>(In("diagnostics of a session, and so of a run")),
        entry::<ProtocolReport>(In("write reports; the ledger `cache_artifacts_v1`")),
        entry::<ReplayDocument>(In("`alluvium runs replay --format json`; the ledger `cache_artifacts_v1`")),
        entry::<RunDifference>(In("`alluvium runs diff --format json`")),
        entry::<RunDocument>(In("`alluvium run --format json`")),
        entry::<RunList>(In("`alluvium runs ls --format json`")),
        entry::<RunManifest>(In("the ledger `run_manifest_v1`")),
        entry::<RunRecord>(In("`alluvium runs show --format json`")),
        entry::<ScanConfiguration>(In("diagnostics of a run")),
        entry::<SemanticColumnSpec>(In("semantic validations")),
        entry::<SemanticValidation>(In(
            "the ledger `cache_artifacts_v1`; diagnostics of a run; what a write that breaks `semantic_types` is refused with",
        )),
        entry::<TableDocument>(In("`alluvium table show --format json`")),
        entry::<TableHistory>(In("`alluvium table history --format json`")),
        entry::<TableMaintenance>(In("`alluvium table maintain --format json`")),
        entry::<TableVerification>(In("`alluvium table verify --format json`")),
        entry::<TranspileDocument>(In("`alluvium transpile --format json`")),
        entry::<ViewCacheArtifact>(In("the ledger `cache_artifacts_v1`")),
        entry::<WriteReport>(In("what a write answers; the ledger `cache_artifacts_v1`")),
        entry::<WriterPropertiesPolicy>(In("`[outputs.NAME.write.writer_properties]`")),
    ]
}

/// The contract of a name: of a kind, which means its newest version, or of one version, as `KIND.vN`.
#[must_use]
pub fn contract(name: &str) -> Option<ContractEntry> {
    find(&contracts(), name).map(|named| named.entry)
}

fn entry<T: Contract>(written: Written) -> ContractEntry {
    ContractEntry {
        kind: T::KIND,
        version: T::VERSION,
        doc: T::DOC,
        form: T::FORM,
        unknown_fields: T::UNKNOWN_FIELDS,
        written,
        schema: schema_of::<T>,
        example: |encoding| encode(&T::example(), T::FORM, encoding),
        transcode: |node, place, encoding| {
            let payload: T = typed(node, place.steps())?;
            Ok(encode(&payload, place.form(), encoding)?)
        },
    }
}

/// Where in its document a payload lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Alone,
    InEnvelope,
}

impl Place {
    const fn steps(self) -> &'static [&'static str] {
        match self {
            Self::Alone => &[],
            Self::InEnvelope => &["payload"],
        }
    }

    const fn form(self) -> Form {
        match self {
            Self::Alone => Form::Bare,
            Self::InEnvelope => Form::Enveloped,
        }
    }
}

fn encode<T: Contract>(payload: &T, form: Form, encoding: Encoding) -> Result<Vec<u8>, CanonicalError> {
    match form {
        Form::Bare => canonical(payload, encoding),
        Form::Enveloped => canonical(&Envelope { kind: T::KIND.to_owned(), version: T::VERSION, payload }, encoding),
    }
}

fn canonical<T: Serialize>(value: &T, encoding: Encoding) -> Result<Vec<u8>, CanonicalError> {
    match encoding {
        Encoding::Json => canonical_json(value),
        Encoding::MessagePack => canonical_messagepack(value),
    }
}

impl ContractEntry {
    /// Kind and version, as `KIND.vN`.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}.v{}", self.kind, self.version)
    }

    /// What a reader may rely on, in one line.
    #[must_use]
    pub const fn compatibility(&self) -> &'static str {
        match self.unknown_fields {
            UnknownFields::Refused => {
                "a person writes it: unknown fields are refused; later versions of Alluvium may know more optional fields"
            }
            UnknownFields::Ignored => {
                "a program writes it: readers ignore unknown fields; new optional fields may appear"
            }
        }
    }

    /// The JSON Schema (2020-12) of what is written.
    #[must_use]
    pub fn schema(&self) -> Schema {
        (self.schema)()
    }

    /// The schema as the text of its exported file.
    #[must_use]
    pub fn schema_text(&self) -> String {
        page(self.schema().as_value())
    }

    /// The name of the exported schema file.
    #[must_use]
    pub fn file_name(&self) -> String {
        format!("{}.schema.json", self.name())
    }

    /// An example of what is written, in its canonical form.
    ///
    /// # Errors
    /// [`CanonicalError`] where the example has no canonical form: a defect of this crate, which its tests exclude.
    pub fn example(&self, encoding: Encoding) -> Result<Vec<u8>, CanonicalError> {
        (self.example)(encoding)
    }

    /// The example as indented JSON text.
    ///
    /// # Errors
    /// As of [`ContractEntry::example`].
    pub fn example_text(&self) -> Result<String, CanonicalError> {
        let json = self.example(Encoding::Json)?;
        Ok(page(&serde_json::from_slice(&json).unwrap_or_default()))
    }

    /// Decodes a document of this contract and encodes what this version knows of it anew, in canonical form.
    ///
    /// # Errors
    /// [`TranscodeError::Invalid`] where the document is not of this contract.
    pub fn transcode(&self, bytes: &[u8], from: Encoding, to: Encoding) -> Result<Vec<u8>, TranscodeError> {
        let (place, node) = self.locate(bytes, from, Limits::default())?;
        (self.transcode)(node, place, to).map_err(|error| match error {
            TranscodeError::Invalid(report) => TranscodeError::Invalid(report.about(self.kind)),
            encode => encode,
        })
    }

    /// The payload's node, where the document is this contract's: bare, or in an envelope of this kind and version.
    fn locate<'de>(
        &self,
        bytes: &'de [u8],
        encoding: Encoding,
        limits: Limits,
    ) -> Result<(Place, Node<'de>), ErrorReport> {
        let node = read(bytes, encoding, limits).map_err(|report| report.about(self.kind))?;
        if self.form == Form::Bare && !is_envelope(&node) {
            return Ok((Place::Alone, node));
        }
        let tagged = Tagged::of(node).map_err(|report| report.about(self.kind))?;
        self.check_tag(&tagged)?;
        Ok((Place::InEnvelope, tagged.payload))
    }

    fn check_tag(&self, tagged: &Tagged<'_>) -> Result<(), ErrorReport> {
        let (pointer, expected, found) = if tagged.kind != self.kind {
            ("/kind", quoted(self.kind), quoted(&tagged.kind))
        } else if tagged.version != self.version {
            ("/version", self.version.to_string(), tagged.version.to_string())
        } else {
            return Ok(());
        };
        Err(ErrorReport::new(ErrorCode::UnknownContract, pointer, expected, found).about(self.kind))
    }
}

/// A document could not be turned into another encoding.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TranscodeError {
    /// It is not of the contract.
    #[error("the document is not valid")]
    Invalid(#[from] ErrorReport),
    /// Its payload has no canonical form.
    #[error("the payload cannot be encoded")]
    Encode(#[from] CanonicalError),
}

/// A document that was found to be valid.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Validated {
    /// Its contract.
    pub kind: &'static str,
    /// The contract's version.
    pub version: u32,
    /// The identity of the document, fields that this version does not know included: the SHA-256 of its canonical
    /// MessagePack. None for a bare payload, which has none.
    pub artifact_id: Option<ArtifactId>,
}

/// Checks a document, in JSON or MessagePack, against the contract that its envelope names, or against `name`, which
/// a bare payload needs: a kind, or one version of it as `KIND.vN`. Of a kind alone, an envelope says which version it is,
/// and a bare payload is of the newest.
///
/// What is checked is the shape: whether the contract's type can be made of the document. What a type cannot say, such as
/// that a view which an output publishes exists, is for those who act on it.
///
/// # Errors
/// [`ErrorReport`] with the place, what was expected there, and what was found.
pub fn validate(bytes: &[u8], name: Option<&str>) -> Result<Validated, ErrorReport> {
    let contracts = contracts();
    let named = named(&contracts, name)?;
    let node = read(bytes, Encoding::of(bytes), Limits::default()).map_err(|report| about(named, report))?;
    check(&contracts, node, named)
}

/// Checks a document in TOML as [`validate`] does one in JSON. Its numbers are held to the same rule; a date or time, which
/// JSON does not have, is refused. It may have up to 1 MiB: people do not write more.
///
/// # Errors
/// [`ErrorReport`] with the place, line and column too, what was expected there, and what was found.
#[cfg(feature = "toml")]
pub fn validate_toml(bytes: &[u8], name: Option<&str>) -> Result<Validated, ErrorReport> {
    let contracts = contracts();
    let named = named(&contracts, name)?;
    let document = Toml::parse(bytes).map_err(|report| about(named, report))?;
    let node = document.node().map_err(|report| about(named, report));
    let checked = node.and_then(|node| check(&contracts, node, named));
    checked.map_err(|report| document.locate(report))
}

/// A contract that was asked for.
#[derive(Debug, Clone, Copy)]
struct Named {
    entry: ContractEntry,
    /// Whether its version was asked for too.
    one_version: bool,
}

fn find(contracts: &[ContractEntry], name: &str) -> Option<Named> {
    let exact = contracts.iter().find(|contract| contract.name() == name);
    let newest =
        || contracts.iter().filter(|contract| contract.kind == name).max_by_key(|contract| contract.version).copied();
    match exact {
        Some(entry) => Some(Named { entry: *entry, one_version: true }),
        None => newest().map(|entry| Named { entry, one_version: false }),
    }
}

fn named(contracts: &[ContractEntry], name: Option<&str>) -> Result<Option<Named>, ErrorReport> {
    name.map(|name| find(contracts, name).ok_or_else(|| unknown(contracts, name, ""))).transpose()
}

fn about(named: Option<Named>, report: ErrorReport) -> ErrorReport {
    match named {
        Some(named) => report.about(named.entry.kind),
        None => report,
    }
}

/// The contract of an envelope, which has to be the one that was asked for.
fn tagged_as(
    contracts: &[ContractEntry],
    tagged: &Tagged<'_>,
    named: Option<Named>,
) -> Result<ContractEntry, ErrorReport> {
    let one_version = named.filter(|named| named.one_version || named.entry.kind != tagged.kind);
    if let Some(Named { entry, .. }) = one_version {
        return entry.check_tag(tagged).map(|()| entry);
    }
    let versions: Vec<_> = contracts.iter().filter(|contract| contract.kind == tagged.kind).collect();
    match versions.iter().find(|contract| contract.version == tagged.version) {
        Some(entry) => Ok(**entry),
        None if versions.is_empty() => Err(unknown(contracts, &tagged.kind, "/kind")),
        None => {
            let expected: Vec<_> = versions.iter().map(|contract| contract.version.to_string()).collect();
            let (expected, found) = (expected.join(" or "), tagged.version.to_string());
            let report = ErrorReport::new(ErrorCode::UnknownContract, "/version", expected, found);
            Err(report.about(versions[0].kind))
        }
    }
}

/// Holds a document against the contract that was asked for, or the one that its envelope names.
fn check(contracts: &[ContractEntry], node: Node<'_>, named: Option<Named>) -> Result<Validated, ErrorReport> {
    let enveloped = is_envelope(&node);
    let artifact_id = match enveloped {
        // Numbers, keys and depth were checked on reading, so a node always has a canonical form.
        true => canonical_messagepack(&node).ok().map(|bytes| ArtifactId::of(&bytes)),
        false => None,
    };
    let (entry, place, payload) = match named {
        Some(named) if !enveloped => (named.entry, Place::Alone, node),
        named => {
            let tagged = Tagged::of(node)?;
            (tagged_as(contracts, &tagged, named)?, Place::InEnvelope, tagged.payload)
        }
    };
    (entry.transcode)(payload, place, Encoding::MessagePack).map_err(|error| {
        let report = match error {
            TranscodeError::Invalid(report) => report,
            TranscodeError::Encode(CanonicalError { pointer, problem }) => {
                ErrorReport::new(ErrorCode::BadValue, pointer, "a value with a canonical form", problem.to_string())
            }
        };
        report.about(entry.kind)
    })?;
    Ok(Validated { kind: entry.kind, version: entry.version, artifact_id })
}

fn unknown(contracts: &[ContractEntry], kind: &str, pointer: &str) -> ErrorReport {
    let mut kinds: Vec<_> = contracts.iter().map(|contract| contract.kind).collect();
    kinds.dedup();
    let expected = format!("one of {}", kinds.join(", "));
    ErrorReport::new(ErrorCode::UnknownContract, pointer, expected, quoted(kind))
}

fn is_envelope(node: &Node<'_>) -> bool {
    let Node::Object(entries) = node else {
        return false;
    };
    ["kind", "version", "payload"].iter().all(|name| entries.iter().any(|(key, _)| key == name))
}

/// The name of the index page among the exported files.
pub const INDEX: &str = "README.md";

/// Every exported file, by name: a schema for each contract, and their index page.
#[must_use]
pub fn export() -> Vec<(String, String)> {
    let contracts = contracts();
    let mut files: Vec<_> = contracts.iter().map(|contract| (contract.file_name(), contract.schema_text())).collect();
    files.push((INDEX.to_owned(), index(&contracts)));
    files
}

fn index(contracts: &[ContractEntry]) -> String {
    let mut page = String::from(
        "# Contracts\n\n\
         What Alluvium writes for others to read, as JSON Schema 2020-12. Written by `cargo xtask contracts`; the binary\n\
         writes the same with `alluvium contracts export DIR`.\n\n\
         An *enveloped* contract is written as `{kind, version, payload}`; a *bare* one is the payload alone, because its\n\
         place says what it is. Where *a person* writes, unknown fields are refused, and later versions of Alluvium may\n\
         know more optional fields. Where *a program* writes, readers ignore unknown fields, and new optional fields may\n\
         appear. Nothing else changes within a version.\n\n\
         **Numbers**, in fields of any type and of none: a number is taken in if it equals the shortest decimal spelling of\n\
         its double, which is its canonical form (RFC 8785), and is refused with its place if that would round it. So `5`,\n\
         `5.0` and `5e0` are one number, `9007199254740993` and `0.10000000000000001` are none, and integers that may be\n\
         wider than 2^53-1 are decimal strings. NaN, the infinities and -0.0 are refused too.\n\n\
         **Text** is UTF-8. A byte order mark is refused before JSON, and ignored before TOML.\n\n\
         **Identities** say how they were made. A digest has its algorithm in front (`b3:`, `sha256:`). An id that is drawn,\n\
         such as a `run_id`, is a UUID, whose third group begins with its version: 7 for runs, 4 for roots, entries and\n\
         stores. Text of another algorithm or version is refused.\n\n\
         Every `--format json` of the command line is an enveloped contract, but for `alluvium sql`: its rows are the\n\
         query's.\n\n\
         | contract | version | what it is | form | who writes it | where |\n\
         |---|---|---|---|---|---|\n",
    );
    for contract in contracts {
        let form = match contract.form {
            Form::Bare => "bare",
            Form::Enveloped => "enveloped",
        };
        let writer = match contract.unknown_fields {
            UnknownFields::Refused => "a person",
            UnknownFields::Ignored => "a program",
        };
        let place = match contract.written {
            Written::In(place) => place.to_owned(),
            Written::NotYet(purpose) => format!("*nowhere yet*: for {purpose}"),
        };
        page.push_str(&format!(
            "| [{}]({}) | {} | {} | {form} | {writer} | {} |\n",
            contract.kind,
            contract.file_name(),
            contract.version,
            cell(contract.doc),
            cell(&place),
        ));
    }
    page
}

/// Text in a cell of a table, where `|` ends it.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

#[cfg(test)]
mod tests;
