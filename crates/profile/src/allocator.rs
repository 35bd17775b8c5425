//! What the system's allocator does with memory that was freed.

/// Has freed buffers of 128 KiB and more go back to the system at once. For a program to call first in its `main`: a library
/// leaves its process's allocator alone.
///
/// A [`memory_limit_bytes`](crate::RuntimeProfile) bounds what queries hold, not what the allocator keeps of it. glibc
/// learns from every large buffer that is freed to keep the next ones, up to 32 MiB each: a write that sorts four times a
/// limit of 256 MiB then peaks at 1.3 to 1.6 times the limit, and at 1.1 times without. Does nothing with other C libraries,
/// nor to a program with an allocator of its own.
pub fn give_back_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: `mallopt` takes two integers. It must not race with itself alone; what refuses it leaves things as they are.
    unsafe {
        // Once it is set, it is learned no more.
        libc::mallopt(libc::M_MMAP_THRESHOLD, 128 << 10);
    }
}
