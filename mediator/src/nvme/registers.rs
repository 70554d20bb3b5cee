//! The registers as the guest finds them: section 3.1.3.

use memory::Gpa;

use super::Nvme;
use super::spec::{Configuration, csts, offset};
use crate::{Looked, World};

/// What the guest wrote, and how far the controller is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Registers {
    pub(super) power: Power,
    /// Whether Controller Fatal Status is shown.
    pub(super) is_fatal: bool,
    /// Whether the device was cut off, for good.
    pub(super) is_cut_off: bool,
    pub(super) configuration: Configuration,
    /// The interrupts that INTMS masks.
    pub(super) mask: u32,
    queue_attributes: u32,
    submission_base: u64,
    completion_base: u64,
}

/// How far the controller is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Power {
    /// Disabled, and it said so.
    Off,
    /// Enabled.
    On,
    /// Told to disable itself: until it says so, it may use what it was given.
    Stopping,
}

impl Registers {
    pub(super) const NEW: Self = Self {
        power: Power::Stopping,
        is_fatal: false,
        is_cut_off: false,
        configuration: Configuration(0),
        mask: 0,
        queue_attributes: 0,
        submission_base: 0,
        completion_base: 0,
    };

    /// Whether queues are served.
    pub(super) fn is_on(&self) -> bool {
        self.power == Power::On && !self.is_fatal && !self.is_cut_off
    }

    /// Everything is as after a reset. Who was cut off stays so.
    pub(super) fn reset(&mut self) {
        *self = Self {
            power: Power::Off,
            is_fatal: self.is_cut_off,
            is_cut_off: self.is_cut_off,
            ..Self::NEW
        };
    }

    /// Where the guest's admin queues are, and how many entries they have.
    pub(super) fn admin_queues(&self) -> [(Gpa, u32); 2] {
        let entries = |field: u32| (field & 0xfff) + 1;
        [
            (
                Gpa::new(self.submission_base),
                entries(self.queue_attributes),
            ),
            (
                Gpa::new(self.completion_base),
                entries(self.queue_attributes >> 16),
            ),
        ]
    }
}

impl Nvme<'_> {
    /// "Host software shall access registers in their native width or as aligned 32-bit accesses":
    /// others read as ones.
    pub(super) fn read_registers(&mut self, world: &mut impl World, offset: u32, to: &mut [u8]) {
        to.fill(0xff);
        let is_aligned = offset.is_multiple_of(to.len().max(1) as u32);
        match to.len() {
            4 if is_aligned => {
                to.copy_from_slice(&self.register(world, offset).to_le_bytes());
            }
            8 if is_aligned => {
                let (low, high) = to.split_at_mut(4);
                low.copy_from_slice(&self.register(world, offset).to_le_bytes());
                high.copy_from_slice(&self.register(world, offset + 4).to_le_bytes());
            }
            _ => {}
        }
    }

    fn register(&mut self, world: &mut impl World, offset: u32) -> u32 {
        let registers = &self.registers;
        match offset {
            offset::CAP => self.limits.capabilities as u32,
            offset::CAP_HIGH => (self.limits.capabilities >> 32) as u32,
            offset::VS => self.limits.version,
            offset::INTMS | offset::INTMC => registers.mask,
            offset::CC => registers.configuration.0,
            offset::CSTS => self.status(world),
            offset::AQA => registers.queue_attributes,
            offset::ASQ => registers.submission_base as u32,
            offset::ASQ_HIGH => (registers.submission_base >> 32) as u32,
            offset::ACQ => registers.completion_base as u32,
            offset::ACQ_HIGH => (registers.completion_base >> 32) as u32,
            // What there is besides is not offered: no memory of the controller, no boot
            // partition, no reset of the subsystem.
            _ => 0,
        }
    }

    /// CSTS: ready when both the device and we are. The device's word that it is not is what
    /// ends everything it was given.
    fn status(&mut self, world: &mut impl World) -> u32 {
        if self.registers.is_cut_off {
            return csts::FATAL;
        }
        let device = world.load_register(offset::CSTS);
        if device == u32::MAX {
            // It is gone, and drivers know that by these ones.
            return device;
        }
        if self.registers.power == Power::Stopping && device & csts::READY == 0 {
            self.settle(world);
        }
        let mut shown = device & (csts::SHUTDOWN_STATUS | csts::FATAL);
        if self.registers.power != Power::Off {
            shown |= device & csts::READY;
        }
        if self.registers.is_fatal {
            shown |= csts::FATAL;
        }
        shown
    }

    pub(super) fn write_registers(
        &mut self,
        world: &mut impl World,
        offset: u32,
        from: &[u8],
    ) -> Looked {
        if !offset.is_multiple_of(from.len().max(1) as u32) {
            return Looked::Nothing;
        }
        if let Ok(value) = from.try_into().map(u32::from_le_bytes) {
            self.write_register(world, offset, value)
        } else if let Ok(value) = from.try_into().map(u64::from_le_bytes)
            && offset < offset::DOORBELLS
        {
            let _ = self.write_register(world, offset, value as u32);
            self.write_register(world, offset + 4, (value >> 32) as u32)
        } else {
            Looked::Nothing
        }
    }

    fn write_register(&mut self, world: &mut impl World, offset: u32, value: u32) -> Looked {
        if offset >= offset::DOORBELLS {
            return self.ring_from_guest(world, (offset - offset::DOORBELLS) / 4, value);
        }
        let registers = &mut self.registers;
        let is_open = !registers.configuration.is_enabled();
        match offset {
            offset::INTMS => registers.mask |= value,
            offset::INTMC => {
                registers.mask &= !value;
                self.raise(world);
            }
            offset::CC => self.configure(world, Configuration(value & Configuration::KEPT)),
            // "Host software shall not modify these while the controller is enabled."
            offset::AQA if is_open => registers.queue_attributes = value & 0x0fff_0fff,
            offset::ASQ if is_open => set_low(&mut registers.submission_base, value),
            offset::ASQ_HIGH if is_open => set_high(&mut registers.submission_base, value),
            offset::ACQ if is_open => set_low(&mut registers.completion_base, value),
            offset::ACQ_HIGH if is_open => set_high(&mut registers.completion_base, value),
            _ => {}
        }
        Looked::Nothing
    }
}

/// Sets the low half of a queue's base, whose lowest 12 bits are reserved.
fn set_low(base: &mut u64, value: u32) {
    *base = *base >> 32 << 32 | u64::from(value & !0xfff);
}

fn set_high(base: &mut u64, value: u32) {
    *base = u64::from(value) << 32 | *base & 0xffff_ffff;
}
