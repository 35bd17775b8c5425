//! What the machine has: cores and memory, as far as this process may use them.

use std::fs;
use std::path::Path;
use std::thread::available_parallelism;

/// Cores and memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Machine {
    /// Threads that can run at once, at least 1; the CPU quota of a container counts.
    pub(crate) cores: usize,
    /// Memory this process may use, in bytes: the machine's, or less if its control group has a limit. `None` where
    /// the system does not tell (everywhere but on Linux).
    pub(crate) memory_bytes: Option<u64>,
}

impl Machine {
    /// Asks the system.
    pub(crate) fn detect() -> Self {
        Self { cores: available_parallelism().map_or(1, usize::from), memory_bytes: memory_bytes(Path::new("/")) }
    }
}

/// The smallest of the machine's memory and the limits of the process's control groups. `root` is `/` but in tests.
fn memory_bytes(root: &Path) -> Option<u64> {
    let read = |path: &Path| fs::read_to_string(path).ok();
    let total = total_bytes(&read(&root.join("proc/meminfo"))?)?;
    let groups = read(&root.join("proc/self/cgroup")).unwrap_or_default();
    let limits = groups.lines().flat_map(|line| {
        // `0::/a/b` in version 2, `9:memory:/a/b` in version 1.
        let mut fields = line.splitn(3, ':').skip(1);
        let (mount, file) = match fields.next() {
            Some("") => ("sys/fs/cgroup", "memory.max"),
            Some(controllers) if controllers.split(',').any(|c| c == "memory") => {
                ("sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            _ => return Vec::new(),
        };
        // Every group above the process's own binds it too. In a container the path may be the host's and not exist
        // here; then only the last one, the mount itself, is found, which is the container's own group.
        let group = Path::new(fields.next().unwrap_or("/"));
        let mount = root.join(mount);
        group
            .ancestors()
            .map(|group| mount.join(group.strip_prefix("/").unwrap_or(group)).join(file))
            .filter_map(|path| read(&path)?.trim().parse::<u64>().ok())
            .collect()
    });
    Some(limits.fold(total, u64::min))
}

fn total_bytes(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(files: &[(&str, &str)]) -> Option<u64> {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        memory_bytes(root.path())
    }

    const MEMINFO: (&str, &str) = ("proc/meminfo", "MemTotal:        1000 kB\nMemFree:  1 kB\n");

    #[test]
    fn the_tightest_limit_counts() {
        assert_eq!(machine(&[]), None);
        assert_eq!(machine(&[MEMINFO]), Some(1_024_000));
        let v2 = [MEMINFO, ("proc/self/cgroup", "0::/a/b\n"), ("sys/fs/cgroup/a/memory.max", "4096\n")];
        assert_eq!(machine(&v2), Some(4096));
        let unlimited = [MEMINFO, ("proc/self/cgroup", "0::/a\n"), ("sys/fs/cgroup/a/memory.max", "max\n")];
        assert_eq!(machine(&unlimited), Some(1_024_000));
        let container = [MEMINFO, ("proc/self/cgroup", "0::/of/host\n"), ("sys/fs/cgroup/memory.max", "2048\n")];
        assert_eq!(machine(&container), Some(2048));
        let v1 = [
            MEMINFO,
            ("proc/self/cgroup", "3:cpu:/x\n9:memory:/x\n"),
            ("sys/fs/cgroup/memory/x/memory.limit_in_bytes", "8192\n"),
        ];
        assert_eq!(machine(&v1), Some(8192));
    }

    #[test]
    fn this_machine_has_something() {
        assert!(Machine::detect().cores > 0);
    }
}
