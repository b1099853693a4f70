//! How the process keeps memory between passes.

/// Tells glibc to keep freed blocks of up to 32 MB for the next pass instead of handing them back to the system.
///
/// Every pass allocates and frees the same activations. By default glibc maps each large block anew, and the kernel
/// clears its pages on every touch: a third of the processor time of a nano update. A program calls this once, before
/// it starts threads; elsewhere than on glibc it does nothing.
pub fn keep_freed_blocks() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        const LARGEST: libc::c_int = 32 << 20;
        // SAFETY: `mallopt` changes numbers of the allocator under its own lock; no memory of ours is involved.
        unsafe {
            libc::mallopt(libc::M_MMAP_THRESHOLD, LARGEST);
            libc::mallopt(libc::M_TRIM_THRESHOLD, libc::c_int::MAX);
            libc::mallopt(libc::M_TOP_PAD, 2 * LARGEST);
        }
    }
}
