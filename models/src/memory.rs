//! How the process keeps memory between passes, and an allocator that counts.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

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

/// Smallest block that is counted: what is smaller is not worth the counting.
const COUNTED: usize = 1024;

/// Bytes in use, and the most there were since the last [`Counting::watch`].
static IN_USE: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

/// The system's allocator, and a count of the bytes in use in blocks of 1 KiB and more.
///
/// ```
/// use imagent_models::memory::Counting;
/// #[global_allocator]
/// static ALLOCATOR: Counting = Counting;
///
/// let before = Counting::in_use();
/// let outer = Counting::watch();
/// drop(vec![0u8; 1 << 20]);
/// assert_eq!(Counting::in_use(), before);
/// assert!(Counting::most(outer) >= before + (1 << 20));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Counting;

impl Counting {
    /// Bytes in use; 0 where this is not the program's allocator.
    pub fn in_use() -> usize {
        IN_USE.load(Ordering::Relaxed)
    }

    /// Begins to watch for the most bytes in use. What it returns is for [`Self::most`], so that watches may nest.
    pub fn watch() -> usize {
        MOST.swap(Self::in_use(), Ordering::Relaxed)
    }

    /// The most bytes in use since a watch began, which ends with this.
    pub fn most(outer: usize) -> usize {
        let most = MOST.load(Ordering::Relaxed);
        MOST.fetch_max(outer, Ordering::Relaxed);
        most
    }

    fn took(bytes: usize) {
        if bytes >= COUNTED {
            let now = IN_USE.fetch_add(bytes, Ordering::Relaxed) + bytes;
            MOST.fetch_max(now, Ordering::Relaxed);
        }
    }

    fn gave(bytes: usize) {
        if bytes >= COUNTED {
            IN_USE.fetch_sub(bytes, Ordering::Relaxed);
        }
    }
}

// SAFETY: every call goes to the system's allocator unchanged; only sizes are counted.
unsafe impl GlobalAlloc for Counting {
    // SAFETY: the caller keeps the contract of `alloc`, which is handed on; so below.
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::took(layout.size());
        // SAFETY: as above.
        unsafe { System.alloc(layout) }
    }

    // SAFETY: as above.
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        Self::took(layout.size());
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    // SAFETY: as above.
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        Self::took(size);
        Self::gave(layout.size());
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }

    // SAFETY: as above.
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        Self::gave(layout.size());
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}
