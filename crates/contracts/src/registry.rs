//! Every contract, listed once: what it is, its schema, an example, and how it is checked and exported.

use schemars::Schema;
use serde::Serialize;

use crate::canonical::{CanonicalError, canonical_json, canonical_messagepack};
use crate::decode::{Encoding, Limits, Node, read, typed};
use crate::digest::ArtifactId;
use crate::envelope::{Contract, Envelope, Form, Tagged, UnknownFields};
use crate::latest::*;
use crate::schema::{page, schema_of};

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
    schema: fn() -> Schema,
    example: fn(Encoding) -> Result<Vec<u8>, CanonicalError>,
    transcode: fn(Node<'_>, Place, Encoding) -> Result<Vec<u8>, TranscodeError>,
}

/// All contracts, by kind.
#[must_use]
pub fn contracts() -> Vec<ContractEntry> {
    vec![
        entry::<CacheArtifact>(),
        entry::<CacheCommitMetadata>(),
        entry::<CacheInventoryEntry>(),
        entry::<CacheOutcome>(),
        entry::<CacheRunSummary>(),
        entry::<CacheSnapshotEntry>(),
        entry::<CdfCursor>(),
        entry::<CdfOptions>(),
        entry::<DatasetSpec>(),
        entry::<DeltaInputPin>(),
        entry::<DeltaSchemaPolicy>(),
        entry::<DeltaStatsDecision>(),
        entry::<DeltaWritePolicy>(),
        entry::<DiagnosticsEvent>(),
        entry::<DoctorDocument>(),
        entry::<ErrorReport>(),
        entry::<EvolutionSpec>(),
        entry::<FieldSpec>(),
        entry::<KvCheck>(),
        entry::<KvKeys>(),
        entry::<KvRemoval>(),
        entry::<KvStats>(),
        entry::<LineageDocument>(),
        entry::<LineageSummary>(),
        entry::<MaintenanceEvent>(),
        entry::<MissExplanation>(),
        entry::<PipelineSpec>(),
        entry::<PlanBundleArtifact>(),
        entry::<PlanDocument>(),
        entry::<ProtocolReport>(),
        entry::<ReplayDocument>(),
        entry::<RunDifference>(),
        entry::<RunDocument>(),
        entry::<RunList>(),
        entry::<RunManifest>(),
        entry::<RunRecord>(),
        entry::<SemanticColumnSpec>(),
        entry::<SemanticValidation>(),
        entry::<TableDocument>(),
        entry::<TableHistory>(),
        entry::<TableMaintenance>(),
        entry::<TableVerification>(),
        entry::<ViewCacheArtifact>(),
        entry::<WriteReport>(),
        entry::<WriterPropertiesPolicy>(),
    ]
}

/// The contract of a kind.
#[must_use]
pub fn contract(kind: &str) -> Option<ContractEntry> {
    contracts().into_iter().find(|contract| contract.kind == kind)
}

fn entry<T: Contract>() -> ContractEntry {
    ContractEntry {
        kind: T::KIND,
        version: T::VERSION,
        doc: T::DOC,
        form: T::FORM,
        unknown_fields: T::UNKNOWN_FIELDS,
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
        format!("{}.v{}.schema.json", self.kind, self.version)
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
            ("/kind", format!("`{}`", self.kind), format!("`{}`", tagged.kind))
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
    /// How the document is encoded.
    pub encoding: Encoding,
    /// The identity of the document, fields that this version does not know included: the SHA-256 of its canonical
    /// MessagePack. None for a bare payload, which has none.
    pub artifact_id: Option<ArtifactId>,
}

/// Checks a document, in JSON or MessagePack, against the contract that its envelope names, or against `kind`, which
/// a bare payload needs.
///
/// # Errors
/// [`ErrorReport`] with the place, what was expected there, and what was found.
pub fn validate(bytes: &[u8], kind: Option<&str>) -> Result<Validated, ErrorReport> {
    let encoding = Encoding::of(bytes);
    let named = match kind {
        Some(kind) => Some(known(kind, "")?),
        None => None,
    };
    let node = read(bytes, encoding, Limits::default()).map_err(|report| match named {
        Some(entry) => report.about(entry.kind),
        None => report,
    })?;
    let enveloped = is_envelope(&node);
    let artifact_id = match enveloped {
        // Numbers, keys and depth were checked on reading, so a node always has a canonical form.
        true => canonical_messagepack(&node).ok().map(|bytes| ArtifactId::of(&bytes)),
        false => None,
    };
    let (entry, place, payload) = match named {
        Some(entry) if !enveloped => (entry, Place::Alone, node),
        Some(entry) => {
            let tagged = Tagged::of(node)?;
            entry.check_tag(&tagged)?;
            (entry, Place::InEnvelope, tagged.payload)
        }
        None => {
            let tagged = Tagged::of(node)?;
            let entry = known(&tagged.kind, "/kind")?;
            entry.check_tag(&tagged)?;
            (entry, Place::InEnvelope, tagged.payload)
        }
    };
    (entry.transcode)(payload, place, encoding).map_err(|error| {
        let report = match error {
            TranscodeError::Invalid(report) => report,
            TranscodeError::Encode(CanonicalError { pointer, problem }) => {
                ErrorReport::new(ErrorCode::BadValue, pointer, "a value with a canonical form", problem.to_string())
            }
        };
        report.about(entry.kind)
    })?;
    Ok(Validated { kind: entry.kind, version: entry.version, encoding, artifact_id })
}

fn known(kind: &str, pointer: &str) -> Result<ContractEntry, ErrorReport> {
    contract(kind).ok_or_else(|| {
        let kinds: Vec<_> = contracts().iter().map(|contract| contract.kind).collect();
        let expected = format!("one of {}", kinds.join(", "));
        ErrorReport::new(ErrorCode::UnknownContract, pointer, expected, crate::decode::quoted(kind))
    })
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
         **Numbers**, in fields of any type and of none: a number is taken in if its canonical form (RFC 8785, that is a\n\
         double) has the same value, and is refused with its place if that would round it. So `5`, `5.0` and `5e0` are one\n\
         number, `9007199254740993` and `0.10000000000000001` are none, and integers that may be wider than 2^53-1 are\n\
         decimal strings. NaN, the infinities and -0.0 are refused too.\n\n\
         **Identities** say how they were made. A digest has its algorithm in front (`b3:`, `sha256:`). An id that is drawn,\n\
         such as a `run_id`, is a UUID, whose third group begins with its version: 7 for runs, 4 for roots, entries and\n\
         stores. Text of another algorithm or version is refused.\n\n\
         Every `--format json` of the command line is an enveloped contract, but for `alluvium sql`: its rows are the\n\
         query's.\n\n\
         | contract | version | what it is | form | who writes it |\n\
         |---|---|---|---|---|\n",
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
        page.push_str(&format!(
            "| [{}]({}) | {} | {} | {form} | {writer} |\n",
            contract.kind,
            contract.file_name(),
            contract.version,
            contract.doc,
        ));
    }
    page
}
