//! Keys and tags of cached entries: text that means the same in every version, process and language.
//!
//! A key is `KIND:v1:PART:…`. Digests stand as they print, with their algorithm. Any other part is percent-encoded but for
//! letters, digits, `.`, `_` and `-`, so that no two lists of parts give one key. The version goes up when the meaning of a key
//! or of the value under it changes; old entries are then never found and expire.

use std::fmt;

use alluvium_contracts::{CacheKey, ContentDigest, PlanFingerprint, ProfileHash, SchemaHash, SqlPolicyHash};
use alluvium_disk_kv_cache::Key;

use crate::kv_kind::KvKind;

const VERSION: &str = "v1";

/// The key of an entry in the cache of a kind.
///
/// ```
/// use alluvium_contracts::ContentDigest;
/// use alluvium_profile::KvKey;
///
/// let key = KvKey::extract("ast", &ContentDigest::of(b"fn main() {}"), "edition=2024");
/// assert!(key.to_string().starts_with("extract:v1:ast:b3:"));
/// assert!(key.to_string().ends_with(":edition%3D2024"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KvKey {
    kind: KvKind,
    text: String,
}

impl KvKey {
    /// A stored plan: the query that it is the plan of with all that planning depends on but the tables, the profile it was
    /// planned under, and how it is encoded, such as `engine`.
    #[must_use]
    pub fn plan(query: &ContentDigest, profile: &ProfileHash, encoding: &str) -> Self {
        Self::of(KvKind::Plan, [query.to_string(), profile.to_string(), encoded(encoding)])
    }

    /// What an extractor made of a file's content under some options.
    #[must_use]
    pub fn extract(extractor: &str, content: &ContentDigest, options: &str) -> Self {
        Self::of(KvKind::Extract, [encoded(extractor), content.to_string(), encoded(options)])
    }

    /// The answer to a question about schemas, such as `tables`, about `subject` (a table, or nothing for all).
    #[must_use]
    pub fn schema(question: &str, subject: &str, profile: &ProfileHash) -> Self {
        Self::of(KvKind::Schema, [encoded(question), encoded(subject), profile.to_string()])
    }

    /// The listing of a repository under some options.
    #[must_use]
    pub fn repo_scan(root: &str, options: &str) -> Self {
        Self::of(KvKind::RepoScan, [encoded(root), encoded(options)])
    }

    /// What was measured of a dataset while it had this schema.
    #[must_use]
    pub fn runtime(dataset: &str, schema: &SchemaHash) -> Self {
        Self::of(KvKind::Runtime, [encoded(dataset), schema.to_string()])
    }

    /// What is known of a runtime artifact of this name and key.
    #[must_use]
    pub fn artifact(name: &str, key: &CacheKey) -> Self {
        Self::of(KvKind::Runtime, ["artifact".to_owned(), encoded(name), key.to_string()])
    }

    /// What the keys of all artifacts begin with.
    pub const ARTIFACTS: &str = "runtime:v1:artifact:";

    /// The kind that it belongs to.
    #[must_use]
    pub fn kind(&self) -> KvKind {
        self.kind
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    fn of(kind: KvKind, parts: impl IntoIterator<Item = String>) -> Self {
        let mut text = format!("{kind}:{VERSION}");
        for part in parts {
            text.push(':');
            text.push_str(&part);
        }
        Self { kind, text }
    }
}

impl fmt::Display for KvKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

impl Key for KvKey {
    fn encode_into(&self, out: &mut Vec<u8>) {
        self.text.encode_into(out);
    }
}

/// What entries have in common that may become wrong together: evicting by a tag removes them all.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KvTag(String);

impl KvTag {
    /// Made under a profile.
    #[must_use]
    pub fn profile(hash: &ProfileHash) -> Self {
        Self(format!("profile:{hash}"))
    }

    /// Made under an SQL policy.
    #[must_use]
    pub fn sql_policy(hash: &SqlPolicyHash) -> Self {
        Self(format!("sql_policy:{hash}"))
    }

    /// Made while the registered tables had these schemas.
    #[must_use]
    pub fn schema_map(hash: &SchemaHash) -> Self {
        Self(format!("schema_map:{hash}"))
    }

    /// Made for a plan.
    #[must_use]
    pub fn plan(fingerprint: &PlanFingerprint) -> Self {
        Self(format!("plan:{fingerprint}"))
    }

    /// Made from a repository.
    #[must_use]
    pub fn repo(id: &str) -> Self {
        Self(format!("repo:{}", encoded(id)))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KvTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

fn encoded(part: &str) -> String {
    use std::fmt::Write;
    let mut encoded = String::with_capacity(part.len());
    for byte in part.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-' => encoded.push(char::from(byte)),
            // Writing to a string does not fail.
            other => drop(write!(encoded, "%{other:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Entries on disk have these keys: a difference here orphans them, and asks for another version.
    #[test]
    fn golden_keys_and_tags() {
        let plan = PlanFingerprint::of(b"plan");
        let profile = ProfileHash::of(b"profile");
        let schema = SchemaHash::of(b"schema");
        let keys = [
            KvKey::plan(&ContentDigest::of(b"plan"), &profile, "engine"),
            KvKey::extract("ast", &ContentDigest::of(b"content"), "a=1;b:2"),
            KvKey::schema("columns", "public.flights", &profile),
            KvKey::repo_scan("/srv/repo", "include=**/*.rs"),
            KvKey::runtime("flights", &schema),
            KvKey::artifact("a/b", &CacheKey::of(b"artifact")),
        ];
        assert!(keys[5].as_str().starts_with(KvKey::ARTIFACTS));
        let tags = [
            KvTag::profile(&profile),
            KvTag::sql_policy(&SqlPolicyHash::of(b"read_only")),
            KvTag::schema_map(&schema),
            KvTag::plan(&plan),
            KvTag::repo("git@host:a/b"),
        ];
        let lines: Vec<_> = keys.iter().map(ToString::to_string).chain(tags.iter().map(ToString::to_string)).collect();
        insta::assert_snapshot!(lines.join("\n"));
    }

    #[test]
    fn parts_cannot_run_into_each_other() {
        assert_ne!(KvKey::repo_scan("a:b", "c"), KvKey::repo_scan("a", "b:c"));
        assert_ne!(KvKey::repo_scan("a%3Ab", "c"), KvKey::repo_scan("a:b", "c"));
        assert_ne!(KvKey::repo_scan("", "a"), KvKey::repo_scan("a", ""));
        assert_eq!(KvKey::repo_scan("ü", "\0").as_str(), "repo_scan:v1:%C3%BC:%00");
    }
}
