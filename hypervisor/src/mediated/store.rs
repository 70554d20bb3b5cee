//! Memory for mediated devices: the pages they reach, and what is known of those.

// UNSAFETY: clears pages that devices reach, and makes slices of memory taken for ever.
#![expect(unsafe_code)]

use bounce::{Arena, Page};
use heapless::Vec;
use mediator::nvme;
use memory::{ByteRange, Hpa, Iova, PAGE_SIZE};

use super::MAX_DEVICES;
use crate::copy;
use crate::own::OwnFrames;

/// Requests that one device has at most.
const REQUESTS: usize = 1024;
/// Queues of one device at most.
const QUEUES: usize = 64;
/// Namespaces whose format is known at most.
const NAMESPACES: usize = 128;

/// Bytes of a large page of second-level tables.
const LARGE_PAGE: u64 = 2 << 20;

/// The memory set aside for the pages of untrusted devices.
#[derive(Debug)]
pub(crate) struct Pools {
    all: Option<ByteRange<Hpa>>,
    taken: Vec<ByteRange<Hpa>, MAX_DEVICES>,
    /// What lies below is full of zeros, but for what is taken.
    cleared_to: u64,
}

impl Pools {
    /// Nothing of `all` is taken; its first `cleared` bytes are zeros.
    ///
    /// # Safety
    /// `all` is mapped one to one, whole large pages, and used by nobody else, ever.
    pub(crate) unsafe fn new(all: Option<ByteRange<Hpa>>, cleared: u64) -> Self {
        Self {
            all,
            taken: Vec::new(),
            cleared_to: all.map_or(0, |all| all.start().raw() + cleared),
        }
    }

    /// Takes `bytes` bytes in one piece, filled with zeros; large pages from a certain size on.
    /// `None` if there is no such piece left.
    pub(crate) fn take(&mut self, bytes: u64) -> Option<ByteRange<Hpa>> {
        let all = self.all?;
        let align = if bytes >= LARGE_PAGE {
            LARGE_PAGE
        } else {
            PAGE_SIZE
        };
        let behind = |range: &ByteRange<Hpa>| range.last().raw() + 1;
        let starts = self.taken.iter().map(behind).chain([all.start().raw()]);
        let free = |start: u64| {
            let start = Hpa::new(start.next_multiple_of(align));
            let range = ByteRange::new(start, bytes)?;
            let is_free = !self.taken.iter().any(|taken| taken.overlaps(&range));
            (all.covers(&range) && is_free).then_some(range)
        };
        let found = starts.filter_map(free).min_by_key(ByteRange::start)?;
        self.taken.push(found).ok()?;
        // Pieces are cleared when they are given back; what lies above was never taken.
        let end = behind(&found);
        if let Some(rest) = end.checked_sub(self.cleared_to) {
            if let Some(rest) = ByteRange::new(Hpa::new(self.cleared_to), rest) {
                clear(rest);
            }
            self.cleared_to = end;
        }
        Some(found)
    }

    /// Gives a piece back that no device reaches any more. Nothing of what was in it stays.
    pub(crate) fn give_back(&mut self, piece: ByteRange<Hpa>) {
        if let Some(place) = self.taken.iter().position(|taken| *taken == piece) {
            clear(piece);
            self.taken.swap_remove(place);
        }
    }
}

fn clear(piece: ByteRange<Hpa>) {
    // SAFETY: a piece of the memory that `new` was promised, which is no Rust object.
    unsafe { copy::clear(piece.start().raw(), piece.len()) };
}

/// What is known of one device's pages and requests.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Store {
    pages: Run<Page>,
    /// Of the window, where whole pages are mapped.
    window: Option<Run<Page>>,
    requests: Run<nvme::Request>,
    queues: Run<nvme::QueuePair>,
    namespaces: Run<nvme::Namespace>,
    scratch: Run<[u8; PAGE_SIZE as usize]>,
}

/// Memory for so many values.
#[derive(Debug)]
struct Run<T> {
    first: *mut T,
    len: usize,
}

impl<T> Clone for Run<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Run<T> {}

// SAFETY: the memory is one device's alone, and the device its lock holder's.
unsafe impl<T> Send for Run<T> {}

impl<T> Run<T> {
    fn take(frames: &mut OwnFrames, len: usize) -> Option<Self> {
        assert!(
            align_of::<T>() as u64 <= PAGE_SIZE,
            "a page is aligned enough"
        );
        let bytes = (len * size_of::<T>()) as u64;
        let run = frames.take_run(bytes.next_multiple_of(PAGE_SIZE)).ok()?;
        let first = run.raw() as *mut T;
        Some(Self { first, len })
    }

    /// The first `len` values, each `new`.
    ///
    /// # Safety
    /// No earlier slice of this memory is alive.
    unsafe fn slice(self, len: usize, new: impl Fn() -> T) -> &'static mut [T] {
        let len = len.min(self.len);
        // SAFETY: the run was taken for ever, is large and aligned enough, and not borrowed (caller).
        unsafe {
            (0..len).for_each(|index| self.first.add(index).write(new()));
            core::slice::from_raw_parts_mut(self.first, len)
        }
    }
}

impl Store {
    /// Memory for a device with this arena, and a window if there is one. `None` if there is not
    /// enough.
    pub(crate) fn take(
        arena: &Arena,
        window: Option<ByteRange<Iova>>,
        frames: &mut OwnFrames,
    ) -> Option<Self> {
        let window = match window {
            Some(window) => Some(Run::take(frames, (window.len() / PAGE_SIZE) as usize)?),
            None => None,
        };
        Some(Self {
            pages: Run::take(frames, pages_of(arena))?,
            window,
            requests: Run::take(frames, REQUESTS)?,
            queues: Run::take(frames, QUEUES)?,
            namespaces: Run::take(frames, NAMESPACES)?,
            scratch: Run::take(frames, 1)?,
        })
    }

    /// Whether there is enough for a device with this arena.
    pub(crate) fn suffices(&self, arena: &Arena, window: Option<ByteRange<Iova>>) -> bool {
        let has_window = window.is_none_or(|window| {
            let pages = (window.len() / PAGE_SIZE) as usize;
            self.window.is_some_and(|run| run.len == pages)
        });
        self.pages.len >= pages_of(arena) && has_window
    }

    /// What is known of the arena's pages.
    ///
    /// # Safety
    /// Nothing that this was called for earlier is alive.
    pub(super) unsafe fn pages(self, arena: &Arena) -> &'static mut [Page] {
        // SAFETY: as the caller says.
        unsafe { self.pages.slice(pages_of(arena), || Page::NEW) }
    }

    /// What is known of the window's pages.
    ///
    /// # Safety
    /// Nothing that this was called for earlier is alive.
    pub(super) unsafe fn window(self) -> Option<&'static mut [Page]> {
        // SAFETY: as the caller says.
        self.window
            .map(|run| unsafe { run.slice(run.len, || Page::NEW) })
    }

    /// What the mediator of an NVM Express controller keeps.
    ///
    /// # Safety
    /// Nothing that this was called for earlier is alive.
    pub(super) unsafe fn nvme(self, arena: &Arena) -> nvme::Storage<'static> {
        // SAFETY: as the caller says.
        unsafe {
            nvme::Storage {
                pages: self.pages.slice(pages_of(arena), || Page::NEW),
                requests: self.requests.slice(REQUESTS, || nvme::Request::NEW),
                queues: self.queues.slice(QUEUES, || nvme::QueuePair::NEW),
                namespaces: self.namespaces.slice(NAMESPACES, || nvme::Namespace::NEW),
                scratch: &mut self.scratch.slice(1, || [0; PAGE_SIZE as usize])[0],
            }
        }
    }
}

fn pages_of(arena: &Arena) -> usize {
    (arena.bytes() / PAGE_SIZE) as usize
}
