//! Interrupts: what a guest's entry makes of a request in remappable format.
//!
//! Owns the reading of the guest's interrupt-remapping table (sections 5.1 and 9.10), with the
//! check of who asks. What comes out is a vector by fixed or lowest-priority delivery, or a
//! refusal: nothing else is a device's to raise.

use memory::{Gpa, GuestMemory};
use pci::Bdf;
use vtd::remap::{Delivery, Destination, Route, Trigger};
use vtd::spec::fault::Reason;
use vtd::spec::interrupt::{ADDRESS_PREFIX, RemappableAddress, RemappableRedirection, delivery};
use vtd::spec::irte::{IrteHigh, IrteLow, SIZE, svt};

/// What a device or a pin asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Request {
    /// A message.
    Message {
        /// Its address.
        address: u64,
        /// Its data.
        data: u32,
    },
    /// A redirection entry of an I/O APIC.
    Redirection(u64),
}

/// An interrupt may not be raised.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Blocked {
    /// The index of its entry.
    pub index: u16,
    /// The reason, as a unit records it.
    pub reason: Reason,
    /// The guest asked not to hear of this entry's faults.
    pub is_quiet: bool,
}

/// Entries of an interrupt-remapping table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entries {
    /// The first.
    pub first: u16,
    /// 2^this of them, aligned to as many.
    pub mask: u8,
}

impl Entries {
    /// All there can be.
    pub const ALL: Self = Self { first: 0, mask: 16 };

    /// Whether the entry is one of them.
    pub fn contain(self, index: u16) -> bool {
        (u32::from(self.first) ^ u32::from(index)) >> self.mask.min(16) == 0
    }
}

/// The table in use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Remapping {
    pub(crate) base: Gpa,
    /// 2^this entries, less one bit: the field S.
    pub(crate) size: u8,
    /// Destinations have 32 bits.
    pub(crate) is_wide: bool,
}

/// The index of the entry that `request` asks for, if it is in remappable format.
pub fn handle_of(request: Request) -> Option<u16> {
    match request {
        Request::Message { address, data } => {
            let fields = RemappableAddress(u32::try_from(address).ok()?);
            if fields.prefix() != ADDRESS_PREFIX || !fields.format() {
                return None;
            }
            let handle = fields.handle_14_0() | u16::from(fields.handle_15()) << 15;
            let sub = if fields.shv() { data as u16 } else { 0 };
            handle.checked_add(sub)
        }
        Request::Redirection(entry) => {
            let fields = RemappableRedirection(entry);
            fields
                .format()
                .then(|| fields.handle_14_0() | u16::from(fields.handle_15()) << 15)
        }
    }
}

impl Remapping {
    /// What the entry `index` makes of a request of `source`.
    pub(crate) fn route(
        &self,
        memory: &impl GuestMemory,
        source: Bdf,
        index: u16,
        is_level: bool,
    ) -> Result<Route, Blocked> {
        let (low, high) = self.fetch(memory, index).map_err(|reason| Blocked {
            index,
            reason,
            is_quiet: false,
        })?;
        // Of an entry that was fetched its own bit counts, present or not.
        let blocked = |reason| Blocked {
            index,
            reason,
            is_quiet: low.fpd(),
        };
        self.read(low, high, source, is_level).map_err(blocked)
    }

    fn fetch(&self, memory: &impl GuestMemory, index: u16) -> Result<(IrteLow, IrteHigh), Reason> {
        if u32::from(index) >= 2 << self.size {
            return Err(Reason::INTERRUPT_BEYOND_TABLE);
        }
        let at = self.base.checked_add(u64::from(index) * SIZE as u64);
        let words = at.and_then(|at| {
            let low = memory.read_u64(at).ok()?;
            Some((low, memory.read_u64(at.checked_add(8)?).ok()?))
        });
        let (low, high) = words.ok_or(Reason::INTERRUPT_TABLE_UNREACHABLE)?;
        Ok((IrteLow(low), IrteHigh(high)))
    }

    fn read(
        &self,
        low: IrteLow,
        high: IrteHigh,
        source: Bdf,
        is_level: bool,
    ) -> Result<Route, Reason> {
        if !low.p() {
            return Err(Reason::INTERRUPT_NOT_PRESENT);
        }
        // Bits 14:12 and 31:24; posted format, which there is not; what the narrow form leaves of
        // the destination; bits 127:84.
        let destination = if self.is_wide {
            low.dst()
        } else {
            low.dst() >> 8 & 0xff
        };
        let is_narrow_clean = self.is_wide || low.dst() & !0xff00 == 0;
        if low.0 & 0xff00_f000 != 0 || !is_narrow_clean || high.0 >> 20 != 0 {
            return Err(Reason::INTERRUPT_ENTRY_RESERVED);
        }
        if !is_source(high, source)? {
            return Err(Reason::INTERRUPT_WRONG_SOURCE);
        }
        let delivery = match low.dlm() {
            delivery::FIXED => Delivery::Fixed,
            delivery::LOWEST_PRIORITY => Delivery::LowestPriority,
            _ => return Err(Reason::INTERRUPT_ENTRY_RESERVED),
        };
        let to = if low.dm() {
            Destination::logical(destination)
        } else {
            Destination::physical(destination)
        };
        let to = if low.rh() { to.hinted() } else { to };
        let trigger = if is_level {
            Trigger::Level
        } else {
            Trigger::Edge
        };
        Route::new(low.v(), delivery, trigger, to).map_err(|_| Reason::INTERRUPT_ENTRY_RESERVED)
    }
}

/// Section 9.10, SVT and SQ.
fn is_source(high: IrteHigh, source: Bdf) -> Result<bool, Reason> {
    let id = source.requester_id();
    match high.svt() {
        svt::NONE => Ok(true),
        svt::SOURCE_ID => {
            let ignored = match high.sq() {
                0b00 => 0,
                0b01 => 0b100,
                0b10 => 0b110,
                _ => 0b111,
            };
            Ok((id ^ high.sid()) & !ignored == 0)
        }
        svt::BUS_RANGE => {
            let [last, first] = high.sid().to_le_bytes();
            Ok((first..=last).contains(&source.bus()))
        }
        _ => Err(Reason::INTERRUPT_ENTRY_RESERVED),
    }
}
