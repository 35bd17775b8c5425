//! What `Debug` shows of a declaration: nobody knows what a person put into it, and it may be a credential.

use std::collections::BTreeMap;
use std::fmt;

/// Options by their names, without values.
pub(crate) struct Options<'a>(pub(crate) &'a BTreeMap<String, String>);

impl fmt::Debug for Options<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.0.keys().map(|name| (name, Withheld))).finish()
    }
}

/// A path as it is, and of a URL, which may hold a password or a signature, no more than its scheme.
pub(crate) struct Place<'a>(pub(crate) &'a str);

impl fmt::Debug for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.split_once("://") {
            None => self.0.fmt(f),
            Some((scheme, _)) => write!(f, "\"{scheme}://…\""),
        }
    }
}

struct Withheld;

impl fmt::Debug for Withheld {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

#[cfg(test)]
mod tests {
    use crate::v1::{DatasetFormat, DatasetSpec, PipelineSpec, SourceFormat, SourcePath, SourceSpec};

    #[test]
    fn declarations_show_names_and_places_and_no_credential() {
        let options: super::BTreeMap<_, _> = [("aws_secret_access_key".to_owned(), "hunter2".to_owned())].into();
        let path = SourcePath::Many(vec!["s3://me:hunter2@bucket/a?sig=hunter2".to_owned(), "data/*.csv".to_owned()]);
        let source = SourceSpec { options: options.clone(), ..SourceSpec::new(SourceFormat::Csv, path.clone()) };
        let dataset = DatasetSpec { options, ..DatasetSpec::new(DatasetFormat::Csv, path) };
        let pipeline = PipelineSpec { sources: [("s".to_owned(), source.clone())].into(), ..PipelineSpec::default() };
        for shown in [format!("{source:?}"), format!("{dataset:#?}"), format!("{pipeline:?}")] {
            assert!(!shown.contains("hunter2"), "{shown}");
            assert!(shown.contains("aws_secret_access_key") && shown.contains("data/*.csv"), "{shown}");
            assert!(shown.contains("\"s3://…\""), "{shown}");
        }
    }

    #[test]
    fn every_field_is_shown() {
        for (shown, declared) in [
            (
                format!("{:?}", SourceSpec::new(SourceFormat::Csv, SourcePath::One("a".to_owned()))),
                crate::schema::schema_of::<PipelineSpec>().to_value()["$defs"]["SourceSpec"]["properties"].clone(),
            ),
            (
                format!("{:?}", DatasetSpec::new(DatasetFormat::Csv, SourcePath::One("a".to_owned()))),
                crate::schema::schema_of::<DatasetSpec>().to_value()["$defs"]["DatasetSpec"]["properties"].clone(),
            ),
        ] {
            let fields = declared.as_object().unwrap();
            assert!(!fields.is_empty());
            fields.keys().for_each(|field| assert!(shown.contains(&format!("{field}: ")), "{field}: {shown}"));
        }
    }
}
