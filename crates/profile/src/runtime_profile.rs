//! The resources that queries may use: a declared profile, resolved for this machine.

use alluvium_contracts::{Preset, ProfileSpec};

use crate::machine::Machine;

const GIB: u64 = 1 << 30;

/// How the engine runs: a [`ProfileSpec`] with its preset's values filled in for this machine. Nothing in it changes rows.
///
/// | preset | `target_partitions` | `memory_limit_bytes` |
/// |---|---|---|
/// | `dev` | 2 | 1 GiB |
/// | `default` | one a core | none |
/// | `prod` | one a core | 70 % of the memory this process may use; none where the system does not tell |
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimeProfile {
    name: Option<String>,
    preset: Preset,
    target_partitions: usize,
    memory_limit_bytes: Option<u64>,
}

impl RuntimeProfile {
    /// The free label.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// The preset that undeclared values came from.
    #[must_use]
    pub fn preset(&self) -> Preset {
        self.preset
    }

    /// Partitions that a query runs in.
    #[must_use]
    pub fn target_partitions(&self) -> usize {
        self.target_partitions
    }

    /// Memory that queries may hold before they spill, in bytes; `None`: no limit.
    #[must_use]
    pub fn memory_limit_bytes(&self) -> Option<u64> {
        self.memory_limit_bytes
    }

    fn resolve(spec: &ProfileSpec, machine: Machine) -> Self {
        let (partitions, memory) = match spec.preset {
            Preset::Dev => (2, Some(GIB)),
            Preset::Default => (machine.cores, None),
            Preset::Prod => (machine.cores, machine.memory_bytes.map(|bytes| bytes / 10 * 7)),
        };
        // A value that is out of range is kept, for the session factory to refuse by name.
        let declared = spec.target_partitions.map(|n| usize::try_from(n).unwrap_or(usize::MAX));
        Self {
            name: spec.name.clone(),
            preset: spec.preset,
            target_partitions: declared.unwrap_or(partitions),
            memory_limit_bytes: spec.memory_limit_bytes.or(memory),
        }
    }
}

impl From<&ProfileSpec> for RuntimeProfile {
    /// Asks the system for cores and memory where the preset depends on them.
    fn from(spec: &ProfileSpec) -> Self {
        Self::resolve(spec, Machine::detect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_are_what_the_contract_says_and_what_is_declared_wins() {
        let machine = Machine { cores: 6, memory_bytes: Some(10 * GIB) };
        let resolve = |preset, target_partitions, memory_limit_bytes| {
            let spec = ProfileSpec { preset, target_partitions, memory_limit_bytes, ..ProfileSpec::default() };
            let profile = RuntimeProfile::resolve(&spec, machine);
            assert_eq!(profile.preset(), preset);
            (profile.target_partitions(), profile.memory_limit_bytes())
        };
        assert_eq!(resolve(Preset::Dev, None, None), (2, Some(GIB)));
        assert_eq!(resolve(Preset::Default, None, None), (6, None));
        assert_eq!(resolve(Preset::Prod, None, None), (6, Some(7 * GIB)));
        assert_eq!(resolve(Preset::Prod, Some(3), Some(5)), (3, Some(5)));

        let silent = Machine { memory_bytes: None, ..machine };
        let prod = ProfileSpec { preset: Preset::Prod, name: Some("p".to_owned()), ..ProfileSpec::default() };
        let profile = RuntimeProfile::resolve(&prod, silent);
        assert_eq!((profile.memory_limit_bytes(), profile.name()), (None, Some("p")));
    }
}
