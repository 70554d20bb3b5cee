//! Bouncer's own memory: where pages of tables come from.

// UNSAFETY: reads and writes table pages by their physical addresses, which are mapped one to one.
#![expect(unsafe_code)]

use core::sync::atomic::{AtomicU64, Ordering};

use memory::{ByteRange, Flushed, Frame, Frames, Hpa, OutOfFrames, PAGE_SIZE};

/// Bytes of a cache line on every x86-64 processor: CLFLUSH writes no less.
const LINE: u64 = 64;

/// Words in a page of tables.
const WORDS: usize = 512;

/// Pages of a run of memory: handed out in order, and again once given back.
///
/// Pages that were given back are chained through their first word.
#[derive(Debug)]
pub(crate) struct OwnFrames {
    all: ByteRange<Hpa>,
    next: Hpa,
    given_back: Option<Hpa>,
    /// How many are in that chain.
    returned: u64,
    /// Somebody walks tables without looking into the processors' caches.
    must_write_back: bool,
}

impl OwnFrames {
    /// The pages of `run`.
    ///
    /// # Safety
    /// `run` is page aligned, mapped one to one and used by nobody else, ever.
    pub(crate) unsafe fn new(run: ByteRange<Hpa>) -> Self {
        Self {
            all: run,
            next: run.start(),
            given_back: None,
            returned: 0,
            must_write_back: false,
        }
    }

    /// Takes `bytes` (whole pages) of zeroed memory in one piece, for ever.
    pub(crate) fn take_run(&mut self, bytes: u64) -> Result<Hpa, OutOfFrames> {
        let run = ByteRange::new(self.next, bytes).filter(|run| self.all.covers(run));
        let base = run.ok_or(OutOfFrames)?.start();
        self.next = base.checked_add(bytes).ok_or(OutOfFrames)?;
        // SAFETY: the bytes lie in our run and were not handed out before.
        unsafe { core::ptr::write_bytes(base.raw() as *mut u8, 0, bytes as usize) };
        if self.must_write_back {
            (0..bytes / LINE).for_each(|line| write_back(base.raw() + line * LINE));
        }
        Ok(base)
    }

    /// Keeps `value` in a page of its own or several, for ever.
    pub(crate) fn keep<T>(&mut self, value: T) -> Result<&'static mut T, OutOfFrames> {
        assert!(
            align_of::<T>() as u64 <= PAGE_SIZE,
            "a page is aligned enough"
        );
        let bytes = (size_of::<T>() as u64).next_multiple_of(PAGE_SIZE);
        let place = self.take_run(bytes)?.raw() as *mut T;
        // SAFETY: the run was just taken, is large and aligned enough, and is nobody else's, ever.
        unsafe {
            place.write(value);
            Ok(&mut *place)
        }
    }

    /// Writes every page back from the caches, and each change of a table from now on: a remapping
    /// unit that does not snoop reads what is in memory.
    pub(crate) fn write_back_from_now_on(&mut self) {
        self.must_write_back = true;
        let mut line = self.all.start();
        while line < self.next {
            write_back(line.raw());
            line = Hpa::new(line.raw() + LINE);
        }
    }

    /// Bytes that were never handed out.
    pub(crate) fn untouched(&self) -> u64 {
        (self.all.last().raw() + 1).saturating_sub(self.next.raw())
    }

    /// Bytes that could be handed out page by page.
    pub(crate) fn left(&self) -> u64 {
        self.untouched() + self.returned * PAGE_SIZE
    }

    fn word(&self, table: Hpa, index: usize) -> &AtomicU64 {
        assert!(
            self.all.contains(table) && table.page_offset() == 0,
            "a table of this pool"
        );
        assert!(index < WORDS, "a word of a table");
        // SAFETY: the word lies in our run, is mapped, aligned, and only ever accessed as an
        // atomic word by Bouncer; hardware that walks it reads and sets bits atomically, too.
        unsafe { AtomicU64::from_ptr((table.raw() as *mut u64).add(index)) }
    }
}

/// Writes the cache line at `at`, one of the pool's, back to memory, before any later store.
fn write_back(at: u64) {
    // SAFETY: every x86-64 processor has both instructions; the content does not change.
    unsafe {
        core::arch::x86_64::_mm_clflush(at as *const u8);
        core::arch::x86_64::_mm_mfence();
    }
}

impl Frames for OwnFrames {
    fn take(&mut self) -> Result<Frame, OutOfFrames> {
        let base = match self.given_back {
            Some(base) => {
                let next = self.word(base, 0).load(Ordering::Relaxed);
                self.given_back = (next != 0).then_some(Hpa::new(next));
                self.returned -= 1;
                for index in 0..WORDS {
                    self.publish(base, index, 0);
                }
                base
            }
            None => self.take_run(PAGE_SIZE)?,
        };
        Frame::new(base).ok_or(OutOfFrames)
    }

    fn read(&self, table: Hpa, index: usize) -> u64 {
        self.word(table, index).load(Ordering::Acquire)
    }

    fn publish(&mut self, table: Hpa, index: usize, word: u64) {
        let place = self.word(table, index);
        place.store(word, Ordering::Release);
        if self.must_write_back {
            write_back(place.as_ptr() as u64);
        }
    }

    fn give_back(&mut self, frame: Frame, _: &Flushed) {
        let next = self.given_back.map_or(0, Hpa::raw);
        self.word(frame.base(), 0).store(next, Ordering::Relaxed);
        self.given_back = Some(frame.base());
        self.returned += 1;
    }
}
