//! Bouncer's own memory: where pages of tables come from.

// UNSAFETY: reads and writes table pages by their physical addresses, which are mapped one to one.
#![expect(unsafe_code)]

use core::sync::atomic::{AtomicU64, Ordering};

use memory::{ByteRange, Flushed, Frame, Frames, Hpa, OutOfFrames, PAGE_SIZE};

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
        }
    }

    /// Takes `bytes` (whole pages) of zeroed memory in one piece, for ever.
    pub(crate) fn take_run(&mut self, bytes: u64) -> Result<Hpa, OutOfFrames> {
        let run = ByteRange::new(self.next, bytes).filter(|run| self.all.covers(run));
        let base = run.ok_or(OutOfFrames)?.start();
        self.next = base.checked_add(bytes).ok_or(OutOfFrames)?;
        // SAFETY: the bytes lie in our run and were not handed out before.
        unsafe { core::ptr::write_bytes(base.raw() as *mut u8, 0, bytes as usize) };
        Ok(base)
    }

    /// Bytes that were never handed out.
    pub(crate) fn untouched(&self) -> u64 {
        (self.all.last().raw() + 1).saturating_sub(self.next.raw())
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

impl Frames for OwnFrames {
    fn take(&mut self) -> Result<Frame, OutOfFrames> {
        let base = match self.given_back {
            Some(base) => {
                let next = self.word(base, 0).load(Ordering::Relaxed);
                self.given_back = (next != 0).then_some(Hpa::new(next));
                for index in 0..WORDS {
                    self.word(base, index).store(0, Ordering::Relaxed);
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
        self.word(table, index).store(word, Ordering::Release);
    }

    fn give_back(&mut self, frame: Frame, _: &Flushed) {
        let next = self.given_back.map_or(0, Hpa::raw);
        self.word(frame.base(), 0).store(next, Ordering::Relaxed);
        self.given_back = Some(frame.base());
    }
}
