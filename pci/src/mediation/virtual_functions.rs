//! Virtual functions of a trusted device: announced before they exist, confined where they decode.
//!
//! Owns the shadow of an SR-IOV capability. Virtual functions are in the topology before they
//! appear, so that the caller can give each what it is to reach; they have their physical
//! function's bus, or they do not appear.
//!
//! Source: PCI Express Base 6.0, section 9.2.1 and 9.3.3.

use memory::{ByteRange, Hpa};

use super::decision::{Effect, Reason};
use crate::bars::{self, Bar, Bars, Decode};
use crate::config::{ConfigSpace, Register};
use crate::spec::extended::{SriovControl, sriov};
use crate::{Address, Bdf, FunctionId};

/// One physical function's virtual functions.
#[derive(Clone, Debug)]
pub(super) struct VirtualFunctions {
    offset: u16,
    control: SriovControl,
    total: u16,
    page: u64,
    bars: Bars,
    decode: Decode,
}

impl VirtualFunctions {
    /// Reads the capability at `offset` of `at`.
    pub(super) fn read(space: &mut impl ConfigSpace, at: Address, offset: u16) -> Self {
        let control = SriovControl::new(space.read_u16(at, offset + sriov::CONTROL));
        let decode = if control.memory_space() {
            Decode::Fixed
        } else {
            Decode::Switchable
        };
        Self {
            offset,
            control,
            total: space.read_u16(at, offset + sriov::LIMITS + 2),
            page: page(space, at, offset),
            bars: bars::probe_virtual(space, at, offset + sriov::BARS, decode),
            decode,
        }
    }

    /// Whether virtual functions exist or decode.
    pub(super) fn exist(&self) -> bool {
        self.control.enable() || self.control.memory_space()
    }

    /// Every range they decode.
    pub(super) fn decoded(&self) -> impl Iterator<Item = ByteRange<Hpa>> {
        let live = self.bars.iter().filter(|_| self.control.memory_space());
        live.filter_map(|bar| self.extent(bar))
    }

    /// The register at `offset` as the guest reads it, if it is shadowed.
    pub(super) fn view(&self, offset: u16) -> Option<u32> {
        self.bars.iter().find_map(|bar| bar.read(offset))
    }

    /// Takes a write to a register other than control.
    pub(super) fn write(&mut self, register: Register, value: u32) -> Result<(), Reason> {
        if self.exist() || self.decode == Decode::Fixed {
            return Err(Reason::VirtualFunctions);
        }
        for bar in &mut self.bars {
            if bar.write(register, value) {
                break;
            }
        }
        Ok(())
    }

    /// Takes a write to control and says what follows from it: an effect to obey before the
    /// store, and one after it.
    ///
    /// # Errors
    /// Why the write must be dropped.
    pub(super) fn control(
        &mut self,
        space: &impl ConfigSpace,
        owner: Owner,
        written: SriovControl,
        admit: impl Fn(ByteRange<Hpa>) -> Result<(), Reason>,
    ) -> Result<(Option<Effect>, Option<Effect>), Reason> {
        if written.memory_space() && !self.control.memory_space() {
            self.page = page(space, owner.at, self.offset);
            for bar in &self.bars {
                if bar.kind() == bars::Kind::Io {
                    continue;
                }
                let bar_index = bar.index();
                let extent = self.extent(bar);
                admit(extent.ok_or(Reason::Unplaced { bar: bar_index })?)?;
            }
        }
        if written.enable() && self.control.enable() && written.raw() != self.control.raw() {
            return Err(Reason::VirtualFunctions);
        }
        let appear = if written.enable() && !self.control.enable() {
            if written.ari_hierarchy() != self.control.ari_hierarchy() {
                // It moves the first one by the same write.
                return Err(Reason::VirtualNumbers);
            }
            self.announce(space, owner)?
        } else {
            None
        };
        let vanish = (self.control.enable() && !written.enable()).then_some(
            Effect::VirtualFunctionsVanish {
                function: owner.function,
            },
        );
        self.control = written;
        Ok((appear, vanish))
    }

    /// The control register as the guest wrote it last.
    pub(super) const fn written(&self) -> SriovControl {
        self.control
    }

    /// Where its control is.
    pub(super) fn control_register(&self) -> Register {
        Register::word(self.offset + sriov::CONTROL)
    }

    /// What reset leaves.
    pub(super) fn reset(&mut self) {
        self.control = SriovControl::default();
        self.bars.iter_mut().for_each(Bar::reset);
    }

    fn announce(&self, space: &impl ConfigSpace, owner: Owner) -> Result<Option<Effect>, Reason> {
        let count = space.read_u16(owner.at, self.offset + sriov::COUNT);
        if count == 0 {
            return Ok(None);
        }
        if count > self.total {
            return Err(Reason::VirtualNumbers);
        }
        let offset = space.read_u16(owner.at, self.offset + sriov::NUMBERING);
        let stride = space.read_u16(owner.at, self.offset + sriov::NUMBERING + 2);
        let first = owner.at.bdf.requester_id().checked_add(offset);
        let last = first.and_then(|first| first.checked_add(stride.checked_mul(count - 1)?));
        let (Some(first), Some(last)) = (first, last) else {
            return Err(Reason::VirtualNumbers);
        };
        let first = Bdf::from_requester_id(first);
        let is_elsewhere = Bdf::from_requester_id(last).bus() != owner.at.bdf.bus();
        if offset == 0 || (stride == 0 && count > 1) || is_elsewhere {
            return Err(Reason::VirtualNumbers);
        }
        Ok(Some(Effect::VirtualFunctionsAppear {
            function: owner.function,
            first,
            stride,
            count,
        }))
    }

    /// What the `number`th of them decodes.
    pub(super) fn bars_of(&self, number: u16) -> Bars {
        let live = self.bars.iter().filter(|_| self.control.memory_space());
        let memory = live.filter(|bar| bar.kind() != bars::Kind::Io);
        memory
            .filter_map(|bar| bar.slice(number, bar.size().max(self.page)))
            .collect()
    }

    /// The device id that they have.
    pub(super) fn device(&self, space: &impl ConfigSpace, at: Address) -> u16 {
        space.read_u16(at, self.offset + sriov::DEVICE + 2)
    }

    /// What one register decodes for all virtual functions there may be: each gets a block of
    /// the register's size, of a system page at least.
    fn extent(&self, bar: &Bar) -> Option<ByteRange<Hpa>> {
        let one = bar.memory()?;
        let each = bar.size().max(self.page);
        let all = each.saturating_mul(u64::from(self.total.max(1)));
        let rest = || ByteRange::inclusive(one.start(), Hpa::new(u64::MAX));
        ByteRange::new(one.start(), all).or_else(rest)
    }
}

/// The physical function, as far as its virtual ones depend on it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Owner {
    pub(super) function: FunctionId,
    pub(super) at: Address,
}

fn page(space: &impl ConfigSpace, at: Address, offset: u16) -> u64 {
    let bits = space.read_u32(at, offset + sriov::PAGE_SIZE);
    // The device answers; a bit field without bits is taken for the smallest page.
    4096 << bits.checked_ilog2().unwrap_or(0)
}
