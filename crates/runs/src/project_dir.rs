//! Where the project of a run lies. Several projects may share a cache root, and what a manifest names by a relative path is below the
//! directory of the run's own project, whichever project asks.

use std::path::{Path, PathBuf};

use alluvium_contracts::RunManifest;
use alluvium_profile::real_path;
use alluvium_telemetry::Redactor;

use crate::pipeline::Pipeline;

impl Pipeline {
    /// This project's directory, as manifests have it.
    pub(crate) fn project_dir(&self) -> Option<String> {
        let written = written(&real_path(self.project.dir()).ok()?, &real_path(self.root.path()).ok()?)?;
        // A path with something in it that is kept nowhere leads nowhere without that.
        (Redactor::default().kept(&written) == written).then_some(written)
    }

    /// The directory of the project of a run; this project's for a run that does not say.
    pub(crate) fn dir_of(&self, manifest: &RunManifest) -> PathBuf {
        match &manifest.project_dir {
            Some(dir) => self.root.path().join(dir),
            None => self.project.dir().to_owned(),
        }
    }
}

/// `project` as seen from a cache root below it, absolute otherwise; none where it is no text.
fn written(project: &Path, root: &Path) -> Option<String> {
    match root.strip_prefix(project).map(|below| below.components().count()) {
        Ok(0) => Some(".".to_owned()),
        Ok(depth) => Some(vec![".."; depth].join("/")),
        Err(_) => project.to_str().map(str::to_owned),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_within_its_project_sees_it_wherever_both_are_moved() {
        let from = |root: &str| written(Path::new("/srv/flights"), Path::new(root)).unwrap();
        assert_eq!(from("/srv/flights/.alluvium"), "..");
        assert_eq!(from("/srv/flights/cache/root"), "../..");
        assert_eq!(from("/srv/flights"), ".");
        assert_eq!(from("/srv/flights-2/.alluvium"), "/srv/flights");
        assert_eq!(from("/srv"), "/srv/flights");
    }
}
