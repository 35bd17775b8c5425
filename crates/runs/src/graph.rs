//! The graph of views: what reads what, and an order in which everything is read after it is there.

use std::collections::{BTreeMap, BTreeSet};

use alluvium_profile::Session;

use crate::error::RunError;
use crate::locate::meant;
use crate::project::Project;

/// The selected views in topological order, with what each reads.
#[derive(Debug, Default)]
pub(crate) struct Graph {
    pub(crate) order: Vec<String>,
    /// Every name that a selected view's SQL mentions.
    pub(crate) mentions: BTreeMap<String, Vec<String>>,
}

impl Graph {
    /// The graph of `selected` views and their ancestors; of all views when nothing is selected.
    pub(crate) fn of(project: &Project, session: &Session, selected: &[String]) -> Result<Self, RunError> {
        for name in selected {
            if !project.queries().contains_key(name) {
                let suggestion = meant(name, project.queries().keys().map(String::as_str));
                return Err(RunError::UnknownView { name: name.clone(), suggestion });
            }
        }
        let roots: Vec<&String> = match selected {
            [] => project.queries().keys().collect(),
            selected => selected.iter().collect(),
        };
        let mut walk = Walk { project, session, graph: Self::default(), path: Vec::new() };
        for root in roots {
            walk.visit(root)?;
        }
        Ok(walk.graph)
    }

    /// The selected views that `view` reads directly.
    pub(crate) fn upstream<'a>(&'a self, view: &str) -> impl Iterator<Item = &'a String> {
        self.mentions.get(view).into_iter().flatten().filter(|name| self.mentions.contains_key(*name))
    }

    /// The selected views that read each view directly.
    pub(crate) fn readers(&self) -> BTreeMap<&str, BTreeSet<&str>> {
        let mut readers: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for view in &self.order {
            for upstream in self.upstream(view) {
                readers.entry(upstream).or_default().insert(view);
            }
        }
        readers
    }

    /// The selected views that read `table`, directly or through other views.
    pub(crate) fn downstream(&self, table: &str) -> Vec<&str> {
        let mut readers: Vec<&str> = Vec::new();
        // Views stand after what they read, so that one pass finds all.
        for view in &self.order {
            let mut mentions = self.mentions.get(view).into_iter().flatten();
            if mentions.any(|name| name == table || readers.contains(&name.as_str())) {
                readers.push(view);
            }
        }
        readers
    }
}

struct Walk<'a> {
    project: &'a Project,
    session: &'a Session,
    graph: Graph,
    path: Vec<String>,
}

impl Walk<'_> {
    fn visit(&mut self, view: &str) -> Result<(), RunError> {
        if self.graph.mentions.contains_key(view) && !self.path.iter().any(|name| name == view) {
            return Ok(());
        }
        if let Some(start) = self.path.iter().position(|name| name == view) {
            let mut path = self.path[start..].to_vec();
            path.push(view.to_owned());
            return Err(RunError::Cycle { place: self.project.place("views", view), path });
        }
        let Some(query) = self.project.queries().get(view) else {
            return Ok(());
        };
        let mentions =
            self.session.referenced_tables(&query.sql).map_err(|source| RunError::query(self.project, view, source))?;
        self.graph.mentions.insert(view.to_owned(), mentions.clone());
        self.path.push(view.to_owned());
        for name in &mentions {
            self.visit(name)?;
        }
        self.path.pop();
        self.graph.order.push(view.to_owned());
        Ok(())
    }
}
