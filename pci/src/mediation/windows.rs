//! The memory windows of a bridge: what the guest wrote, and what the bridge is given.
//!
//! Owns the shadow of the window registers. A window that would cover something protected is
//! closed in the bridge while the guest reads back what it wrote.
//!
//! Source: PCI-to-PCI Bridge Architecture 1.2, sections 3.2.5.8 to 3.2.5.10.

use memory::{ByteRange, Hpa};

use super::decision::{Decision, Reason};
use super::placement::Keepouts;
use crate::Address;
use crate::config::{ConfigSpace, Register};
use crate::spec::header::{self, Window};

/// Base and limit bits of a window register.
const WRITABLE: u32 = 0xfff0_fff0;

/// A window register whose base is above its limit: nothing passes.
const CLOSED: u32 = 0x0000_fff0;

/// The window registers of one bridge as the guest wrote them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Windows {
    memory: u32,
    prefetchable: Prefetchable,
    low: u32,
    base_upper: u32,
    limit_upper: u32,
}

/// How much of the prefetchable window a bridge implements.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Prefetchable {
    Absent,
    Narrow,
    Wide,
}

impl Windows {
    /// Whether the double word at `offset` of a bridge's header is one of these registers.
    pub(super) const fn contain(offset: u16) -> bool {
        matches!(
            offset,
            header::MEMORY_WINDOW
                | header::PREFETCHABLE_WINDOW
                | header::PREFETCHABLE_BASE_UPPER
                | header::PREFETCHABLE_LIMIT_UPPER
        )
    }

    /// Reads the registers of the bridge at `at`.
    ///
    /// A prefetchable window that reads zero may be absent, which only a write can tell; the one
    /// made here has its base above its limit.
    pub(super) fn read(space: &mut impl ConfigSpace, at: Address) -> Self {
        let low = space.read_u32(at, header::PREFETCHABLE_WINDOW);
        let mut probed = low;
        if low == 0 {
            let register = Register::dword(header::PREFETCHABLE_WINDOW);
            space.write(at, register, 0xffe0_fff0);
            probed = space.read_u32(at, header::PREFETCHABLE_WINDOW);
            space.write(at, register, low);
        }
        let prefetchable = match (probed, Window::new(probed).base_type()) {
            (0, _) => Prefetchable::Absent,
            (_, 1) => Prefetchable::Wide,
            _ => Prefetchable::Narrow,
        };
        let upper = |offset| match prefetchable {
            Prefetchable::Wide => space.read_u32(at, offset),
            _ => 0,
        };
        Self {
            memory: space.read_u32(at, header::MEMORY_WINDOW) & WRITABLE,
            prefetchable,
            low: low & WRITABLE,
            base_upper: upper(header::PREFETCHABLE_BASE_UPPER),
            limit_upper: upper(header::PREFETCHABLE_LIMIT_UPPER),
        }
    }

    /// The double word at `offset` as the guest reads it.
    pub(super) const fn view(&self, offset: u16) -> u32 {
        match offset {
            header::MEMORY_WINDOW => self.memory,
            header::PREFETCHABLE_WINDOW => match self.prefetchable {
                Prefetchable::Absent => 0,
                Prefetchable::Narrow => self.low,
                Prefetchable::Wide => self.low | 0x0001_0001,
            },
            header::PREFETCHABLE_BASE_UPPER => self.base_upper,
            header::PREFETCHABLE_LIMIT_UPPER => self.limit_upper,
            _ => 0,
        }
    }

    /// Takes a write of the guest.
    pub(super) const fn write(&mut self, register: Register, value: u32) {
        let offset = register.dword_offset();
        let new = register.merge(self.view(offset), value);
        match (offset, self.prefetchable) {
            (header::MEMORY_WINDOW, _) => self.memory = new & WRITABLE,
            (header::PREFETCHABLE_WINDOW, Prefetchable::Narrow | Prefetchable::Wide) => {
                self.low = new & WRITABLE;
            }
            (header::PREFETCHABLE_BASE_UPPER, Prefetchable::Wide) => self.base_upper = new,
            (header::PREFETCHABLE_LIMIT_UPPER, Prefetchable::Wide) => self.limit_upper = new,
            _ => {}
        }
    }

    /// What reset leaves.
    pub(super) const fn reset(&mut self) {
        self.memory = 0;
        self.low = 0;
        self.base_upper = 0;
        self.limit_upper = 0;
    }

    /// Adds the stores that give the bridge what it may have, and says what it may not.
    pub(super) fn apply(
        &self,
        keepouts: &Keepouts,
        at: Address,
        decision: &mut Decision,
    ) -> Result<(), Reason> {
        let memory = admitted(keepouts, self.memory_range());
        let dword = if memory.is_ok() { self.memory } else { CLOSED };
        decision.store(at, Register::dword(header::MEMORY_WINDOW), dword);

        let prefetchable = admitted(keepouts, self.prefetchable_range());
        let low = if prefetchable.is_ok() {
            self.low
        } else {
            CLOSED
        };
        let mut store = |offset, value| decision.store(at, Register::dword(offset), value);
        match self.prefetchable {
            Prefetchable::Absent => {}
            Prefetchable::Narrow => store(header::PREFETCHABLE_WINDOW, low),
            // Closed by its base first and opened by its base last: no mixture of old and new ever
            // passes anything.
            Prefetchable::Wide => {
                store(header::PREFETCHABLE_BASE_UPPER, u32::MAX);
                store(header::PREFETCHABLE_WINDOW, low);
                if prefetchable.is_ok() {
                    store(header::PREFETCHABLE_LIMIT_UPPER, self.limit_upper);
                    store(header::PREFETCHABLE_BASE_UPPER, self.base_upper);
                }
            }
        }
        memory.and(prefetchable)
    }

    fn memory_range(&self) -> Option<ByteRange<Hpa>> {
        range(Window::new(self.memory), 0, 0)
    }

    fn prefetchable_range(&self) -> Option<ByteRange<Hpa>> {
        match self.prefetchable {
            Prefetchable::Absent => None,
            _ => range(Window::new(self.low), self.base_upper, self.limit_upper),
        }
    }
}

fn range(window: Window, base_upper: u32, limit_upper: u32) -> Option<ByteRange<Hpa>> {
    let base = u64::from(base_upper) << 32 | u64::from(window.base()) << 20;
    let limit = u64::from(limit_upper) << 32 | u64::from(window.limit()) << 20 | 0xf_ffff;
    ByteRange::inclusive(Hpa::new(base), Hpa::new(limit))
}

fn admitted(keepouts: &Keepouts, range: Option<ByteRange<Hpa>>) -> Result<(), Reason> {
    range.map_or(Ok(()), |range| keepouts.admit(range))
}
