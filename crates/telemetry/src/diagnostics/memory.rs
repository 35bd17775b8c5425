//! Events in memory, for tests and for whoever asks a running process.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use alluvium_contracts::DiagnosticsEvent;

use super::DiagnosticsSink;

/// Keeps the latest events.
#[derive(Debug)]
pub struct MemorySink {
    capacity: usize,
    events: Mutex<VecDeque<DiagnosticsEvent>>,
}

impl Default for MemorySink {
    /// Keeps 1,000 events.
    fn default() -> Self {
        Self::with_capacity(1_000)
    }
}

impl MemorySink {
    /// Keeps the latest `capacity` events.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        Self { capacity, events: Mutex::default() }
    }

    /// The events kept, oldest first.
    #[must_use]
    pub fn events(&self) -> Vec<DiagnosticsEvent> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

impl DiagnosticsSink for MemorySink {
    fn emit(&self, event: &DiagnosticsEvent) {
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        if events.len() >= self.capacity {
            events.pop_front();
        }
        if self.capacity > 0 {
            events.push_back(event.clone());
        }
    }
}
