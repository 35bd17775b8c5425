//! What configures or opens a cloud store. There are none in this build, so it is refused by its name; and what opens one is
//! shown nowhere, neither in errors nor by `Debug`.

use alluvium_telemetry::Redactor;

/// How options of cloud stores begin, in every spelling that a Delta or object store reader takes.
const STORES: &[&str] = &[
    "abfs", "abfss", "adl", "adls", "amazon", "aws", "az", "azure", "fs", "gcp", "gcs", "google", "gs", "hdfs", "http",
    "oss", "r2", "s3", "s3a",
];

/// Words in their names. A name is taken for one rather than shown with its value.
const WORDS: &[&str] = &[
    "account",
    "bearer",
    "bucket",
    "client",
    "credential",
    "credentials",
    "endpoint",
    "key",
    "keys",
    "passphrase",
    "passwd",
    "password",
    "pwd",
    "region",
    "sas",
    "secret",
    "signature",
    "tenant",
    "token",
];

/// Whether an option of this name configures a cloud store.
pub(crate) fn is_of_cloud_store(name: &str) -> bool {
    let name = name.to_lowercase();
    let mut words = name.split(|c: char| !c.is_alphanumeric());
    let first = words.next().unwrap_or_default();
    (name != first && STORES.contains(&first)) || are_mentioned(&name)
}

/// Whether a text names what may be a credential.
pub(crate) fn are_mentioned(text: &str) -> bool {
    let text = text.to_lowercase();
    let is_one =
        |word: &str| WORDS.contains(&word) || ["secret", "password", "token"].iter().any(|part| word.contains(part));
    text.split(|c: char| !c.is_alphanumeric()).any(is_one)
}

/// Whether a location is a URL with user, password or signature.
pub(crate) fn are_in(location: &str) -> bool {
    location.contains("://") && without(location) != location
}

/// A URL as an error may show it: without user and password, and without its query, which signs some.
pub(crate) fn without(url: &str) -> String {
    let place = url.split(['?', '#']).next().unwrap_or_default();
    // A password may hold a slash, which no redactor of whole texts can expect.
    let place = match place.split_once("://") {
        Some((scheme, rest)) => format!("{scheme}://{}", rest.rsplit_once('@').map_or(rest, |(_, place)| place)),
        None => place.to_owned(),
    };
    Redactor::default().kept(&place).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::names;

    #[test]
    fn options_of_cloud_stores_are_told_from_those_of_formats() {
        for name in [
            "aws_access_key_id",
            "AWS_SECRET_ACCESS_KEY",
            "aws.region",
            "access_key_id",
            "account_name",
            "sas_token",
            "token",
            "azure_storage_use_emulator",
            "google_service_account",
            "s3.endpoint",
            "secretAccessKey",
            "client_id",
            "http.timeout",
        ] {
            assert!(is_of_cloud_store(name), "{name}");
        }
        let formats = alluvium_contracts::DatasetFormat::ALL.iter().flat_map(|format| names(*format));
        for name in formats.copied().chain(["version", "timestamp", "alluvium.spec", "delimeter", "http"]) {
            assert!(!is_of_cloud_store(name), "{name}");
        }
    }

    #[test]
    fn urls_are_shown_without_what_opens_them() {
        for (url, shown) in [
            ("s3://bucket/a/b", "s3://bucket/a/b"),
            ("s3://id:pa/ss@word@bucket/a", "s3://bucket/a"),
            ("https://host/a?X-Amz-Signature=abc#sig", "https://host/a"),
            ("abfss://container@account.dfs/x", "abfss://account.dfs/x"),
        ] {
            assert_eq!(without(url), shown);
            assert_eq!(are_in(url), url != shown);
        }
    }
}
