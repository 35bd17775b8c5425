//! Every file of a cache root deleted, cut off or changed by one bit, one at a time: the next run has the right rows, and
//! says what it found; the one after it has nothing to say.

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use alluvium_contracts::{OutputResult, RunResult, ViewResult};
use alluvium_runs::{OpenOptions, Pipeline, Project};

use crate::crash;
use crate::lab::{Lab, answer, copy_dir, later, run};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Harm {
    Deleted,
    CutOff,
    Flipped,
}

impl Harm {
    const ALL: [Self; 3] = [Self::Deleted, Self::CutOff, Self::Flipped];

    /// Does it to a file; `false` where it would change nothing.
    fn befalls(self, file: &Path) -> bool {
        let mut bytes = std::fs::read(file).unwrap();
        match self {
            Self::Deleted => {
                std::fs::remove_file(file).unwrap();
                return true;
            }
            Self::CutOff => bytes.truncate(bytes.len() / 2),
            Self::Flipped if !bytes.is_empty() => {
                let middle = bytes.len() / 2;
                bytes[middle] ^= 4;
            }
            Self::Flipped => {}
        }
        let changes = bytes != std::fs::read(file).unwrap();
        if changes {
            std::fs::write(file, bytes).unwrap();
        }
        changes
    }
}

/// The files below a directory, relative to it.
fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut dirs = vec![PathBuf::new()];
    while let Some(relative) = dirs.pop() {
        for entry in std::fs::read_dir(dir.join(&relative)).unwrap() {
            let entry = entry.unwrap();
            let path = relative.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() { dirs.push(path) } else { files.push(path) }
        }
    }
    files.sort();
    files
}

/// A file's place without what is drawn anew each time.
fn kind_of(file: &Path) -> String {
    let words = file.iter().map(|word| {
        let word = word.to_string_lossy();
        let stem = word.split('.').next().unwrap_or_default();
        let drawn =
            uuid::Uuid::parse_str(stem).is_ok() || (stem.len() == 64 && stem.chars().all(|c| c.is_ascii_hexdigit()));
        match word.split_once("__") {
            Some((view, _)) => format!("{view}__KEY"),
            None if word.ends_with(".parquet") => "FILE.parquet".to_owned(),
            None if drawn => word.replace(stem, "ID"),
            None => word.into_owned(),
        }
    });
    words.collect::<Vec<_>>().join("/")
}

/// What a run over the damage said: nothing, that it found something, or that it did something anew.
async fn aftermath(lab: &Lab, file: &Path, harm: Harm) -> Option<(String, Harm, &'static str)> {
    let case = format!("{} {harm:?}", file.display());
    let hurt = Lab::new("");
    copy_dir(lab.dir(), hurt.dir());
    if !harm.befalls(&hurt.path(".alluvium").join(file)) {
        return None;
    }
    let options = OpenOptions { seam: Some(later()), ..OpenOptions::default() };
    let pipeline = match Pipeline::open(Project::load(hurt.dir()).unwrap(), options) {
        Ok(pipeline) => pipeline,
        Err(error) => panic!("{case}: {error:?}"),
    };
    let document = run(&pipeline).await;
    assert_eq!(document.result, RunResult::Succeeded, "{case}: {document:#?}");
    let both = "select s, total from second union all select s, total + 10 from outputs.second";
    let rows =
        answer(&pipeline, &format!("select s, sum(total) as total from ({both}) as t group by s order by s")).await;
    assert!(rows.contains("| a | 12    |") && rows.contains("| b | 20    |"), "{case}: {rows}");
    // The ledgers answer: with what is left, where one was set aside with what it held.
    let runs = answer(&pipeline, "select count(*) as n from alluvium.cache_runs").await;
    assert!(runs.contains("| n |"), "{case}: {runs}");
    drop(pipeline);

    let pipeline = hurt.open();
    let again = run(&pipeline).await;
    assert_eq!(again.result, RunResult::Succeeded, "{case}: {again:#?}");
    assert!(again.views.iter().all(|view| view.result == ViewResult::Hit), "{case}: {again:#?}");
    assert!(again.outputs.iter().all(|output| output.result == OutputResult::Hit), "{case}: {again:#?}");
    assert_eq!(again.notices, Vec::<String>::new(), "{case}: told twice");

    let anew = document.views.iter().any(|view| view.result != ViewResult::Hit)
        || document.outputs.iter().any(|output| output.result != OutputResult::Hit);
    let said = match (document.notices.is_empty(), anew) {
        (false, _) => "told",
        (true, true) => "computed anew",
        (true, false) => "nothing",
    };
    Some((kind_of(file), harm, said))
}

/// Every file with every harm, a few at a time; the setting of [`aftermath`] is copied for each.
fn aftermaths(lab: &Lab) -> Vec<(String, Harm, &'static str)> {
    let files = files_below(&lab.path(".alluvium"));
    let cases = files.iter().flat_map(|file| Harm::ALL.map(|harm| (file, harm)));
    let cases = Mutex::new(cases);
    std::thread::scope(|scope| {
        let work = || {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            let next = || cases.lock().unwrap().next();
            let done = std::iter::from_fn(next).filter_map(|(file, harm)| runtime.block_on(aftermath(lab, file, harm)));
            done.collect::<Vec<_>>()
        };
        let workers: Vec<_> = (0..4).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    })
}

#[test]
fn every_file_of_a_cache_root_may_be_damaged() {
    let lab = crash::lab();
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        lab.run().await;
        lab.run().await;
        // Drains the outbox, so that the ledgers are there.
        lab.sql("select count(*) as n from alluvium.cache_runs").await;
    });
    for (kind, harm, said) in aftermaths(&lab) {
        println!("{kind} {harm:?}: {said}");
        // Locks hold nothing, and of logs and ledgers a run that hits reads nothing. What it serves it has looked at.
        if (kind.starts_with("view_cache/") && kind.ends_with(".parquet")) || kind == "root.json" {
            assert_eq!(said, "told", "{kind} {harm:?}");
        }
    }
}
