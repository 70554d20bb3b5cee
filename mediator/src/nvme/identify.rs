//! What the device says of itself and of its namespaces, rewritten: section 5.17.
//!
//! The data is copied once, into memory of ours; what is believed and what the guest sees is that
//! copy.

use bounce::{FromDevice, Returned};
use memory::Hole;

use super::completion::Then;
use super::events::LIMIT;
use super::plan::Plan;
use super::requests::{Given, Loan};
use super::spec::{Command, Status, admin};
use super::{Nvme, io};
use crate::{Notice, World};

/// Bytes of every structure: section 5.17.1.
const BYTES: u32 = 4096;

/// The controller, by Controller or Namespace Structure: figure 273.
const CONTROLLER: u8 = 0x01;
/// The list of the active namespaces above the one that is named.
const ACTIVE: u8 = 0x02;
/// The version from which on every device has it: 1.1 has it, too, but some of those do not.
const LISTS_SINCE: u32 = 0x0001_0200;

/// Fields of the Identify Controller data structure: figure 275.
mod controller {
    use core::ops::Range;

    pub(super) const MDTS: usize = 77;
    pub(super) const CTRATT: usize = 96;
    /// Of a management interface that is not reached from here.
    pub(super) const MANAGEMENT: Range<usize> = 240..256;
    pub(super) const OACS: usize = 256;
    pub(super) const AERL: usize = 259;
    pub(super) const AVSCC: usize = 264;
    /// HMPRE and HMMIN.
    pub(super) const HOST_MEMORY: Range<usize> = 272..280;
    /// HMMINDS and HMMAXD.
    pub(super) const HOST_MEMORY_MORE: Range<usize> = 332..338;
    pub(super) const ENTRY_SIZES: usize = 512;
    pub(super) const NN: usize = 516;
    pub(super) const ONCS: usize = 520;
    pub(super) const FUSES: usize = 522;
    pub(super) const NVSCC: usize = 530;
    /// OCFS and SGLS.
    pub(super) const COPY_AND_SGLS: Range<usize> = 534..540;
    pub(super) const MNAN: usize = 540;
    /// Of fabrics, which this is not.
    pub(super) const FABRICS: Range<usize> = 1792..2048;
    pub(super) const VENDOR: Range<usize> = 3072..4096;
}

/// Host identifiers, non-operational power, sets, recovery levels, endurance groups, predictable
/// latency, keep-alive by traffic, granularity, UUIDs.
const ATTRIBUTES: u32 = 0x0000_02ff;
/// Security, Format, Firmware, namespace management, self-test, block status.
const ADMIN_COMMANDS: u16 = 0x021f;
/// Doorbell Buffer Config, which is ours.
const DOORBELL_BUFFERS: u16 = 1 << 8;
/// All but Copy and what is newer.
const IO_COMMANDS: u16 = 0x00ff;

/// Fields of the Identify Namespace data structure of the NVM command set: its figure 97.
mod namespace {
    pub(super) const NLBAF: usize = 25;
    pub(super) const FLBAS: usize = 26;
    pub(super) const FORMATS: core::ops::Range<usize> = 128..192;
    /// Formats from number 16 on, which only some drivers know of.
    pub(super) const MORE_FORMATS: core::ops::Range<usize> = 192..384;
}

impl Nvme<'_> {
    pub(super) fn plan_identify(&mut self, command: &mut Command) -> Result<Plan, Status> {
        let structure = command.dword(10) as u8;
        let command_set = command.dword(11) >> 24;
        let namespace = command.namespace();
        let then = match structure {
            0x00 => Then::Namespace {
                learnt: Some(namespace),
            },
            // An allocated namespace, which need not be attached.
            0x11 => Then::Namespace { learnt: None },
            // The device says first which namespaces it has, if it is not older than that question.
            CONTROLLER if self.limits.version < LISTS_SINCE => Then::Controller { last: u32::MAX },
            CONTROLLER => {
                command.set_dword(1, 0);
                command.set_dword(10, ACTIVE.into());
                Then::LastNamespace
            }
            // Lists and descriptors.
            ACTIVE | 0x03 | 0x04 | 0x08 | 0x10 | 0x12 | 0x13 | 0x16..=0x19 => Then::Show,
            // Of the NVM command set alone.
            0x05..=0x07 if command_set == 0 => Then::Show,
            // Of virtual functions, of other command sets, and unknown.
            _ => return Err(Status::INVALID_FIELD),
        };
        let extent = self.writable(BYTES.into())?;
        Ok(Plan::pass_then(extent, then))
    }

    /// The device has said which namespaces it has, in the pages of a request for what it says of itself, which
    /// is asked now. A driver that knows no lists asks for each namespace up to NN, firmware's twice; devices say
    /// 128 or 256 there and have one. So the guest is told the number of the last, of the first 1024. One that
    /// comes later is in the lists, and in NN when that is asked for again.
    pub(super) fn ask_for_controller(
        &mut self,
        world: &mut impl World,
        given: Given,
        status: Status,
    ) {
        let Loan::FromDevice(lent) = &given.loan else {
            return;
        };
        let mut last = u32::MAX;
        if status.is_success() {
            world.load(lent.at(), self.scratch);
            let (numbers, _) = self.scratch.as_chunks();
            let numbers = numbers.iter().map(|number| u32::from_le_bytes(*number));
            // NN is never 0.
            last = numbers.fold(1, u32::max);
        }
        let pointers = self.lists.writable(lent);
        let given = Given {
            then: Then::Controller { last },
            ..given
        };
        let mut command = Command::of(admin::IDENTIFY, 0);
        command.set_dword(10, CONTROLLER.into());
        self.put(world, given, &mut command, pointers);
    }

    pub(super) fn hand_out_controller(
        &mut self,
        world: &mut impl World,
        returned: &Returned<FromDevice>,
        last: u32,
    ) -> Result<(), Hole> {
        world.load(returned.lent().at(), self.scratch);
        let data = &mut *self.scratch;
        let most = self.limits.transfer_shift();
        let shift = &mut data[controller::MDTS];
        *shift = if *shift == 0 { most } else { most.min(*shift) };
        mask_u32(data, controller::CTRATT, ATTRIBUTES);
        mask_u16(data, controller::OACS, ADMIN_COMMANDS);
        if self.limits.has_buffers {
            data[controller::OACS + 1] |= (DOORBELL_BUFFERS >> 8) as u8;
        }
        mask_u16(data, controller::ONCS, IO_COMMANDS);
        mask_u16(data, controller::FUSES, 0);
        let events = &mut data[controller::AERL];
        *events = (*events).min(LIMIT as u8 - 1);
        data[controller::ENTRY_SIZES] = 0x66;
        data[controller::ENTRY_SIZES + 1] = 0x44;
        let namespaces = last.min(self.namespaces.len() as u32);
        clamp_u32(data, controller::NN, namespaces);
        clamp_u32(data, controller::MNAN, namespaces);
        data[controller::AVSCC] = 0;
        data[controller::NVSCC] = 0;
        for hidden in [
            controller::MANAGEMENT,
            controller::HOST_MEMORY,
            controller::HOST_MEMORY_MORE,
            controller::COPY_AND_SGLS,
            controller::FABRICS,
            controller::VENDOR,
        ] {
            data[hidden].fill(0);
        }
        self.hand_out_scratch(world, returned)
    }

    /// Formats with metadata are not offered: it would travel through a pointer of its own. A
    /// namespace that has one now is shown as one that is not there. So is one for which there
    /// is no room, and one whose blocks are not as long as the guest was told before: there may
    /// be requests that count the old ones.
    pub(super) fn hand_out_namespace(
        &mut self,
        world: &mut impl World,
        returned: &Returned<FromDevice>,
        learnt: Option<u32>,
    ) -> Result<(), Hole> {
        world.load(returned.lent().at(), self.scratch);
        let data = &mut *self.scratch;
        let is_empty = data.iter().all(|byte| *byte == 0);
        // Drivers differ in which bits of FLBAS they read when there are more than 16 formats. All
        // of them, and we, have to find the same blocks.
        let is_late = data[namespace::NLBAF] >= 16 && data[namespace::FLBAS] & 0x60 != 0;
        let last = data[namespace::NLBAF].min(15);
        data[namespace::NLBAF] = last;
        data[namespace::FLBAS] &= 0x1f;
        data[namespace::MORE_FORMATS].fill(0);
        let current = data[namespace::FLBAS] & 0xf;
        let mut shift = 0;
        let mut is_usable = false;
        let formats = data[namespace::FORMATS].as_chunks_mut().0;
        for (format, index) in formats.iter_mut().zip(0..) {
            let [metadata_low, metadata_high, block, _] = *format;
            if index > last || [metadata_low, metadata_high] != [0, 0] {
                *format = [0; 4];
            } else if index == current && !is_late {
                shift = block;
                is_usable = io::is_block(block);
            }
        }
        // All namespaces' common capabilities have a number that none has.
        let number = learnt.filter(|number| *number != u32::MAX);
        let place = number.and_then(io::place);
        let known = place.and_then(|place| self.namespaces.get_mut(place));
        let hidden = match (number, known) {
            (None, _) => None,
            (Some(namespace), None) => Some(Notice::NoRoomForNamespace { namespace }),
            (Some(_), Some(_)) if is_empty => None,
            (Some(namespace), Some(_)) if !is_usable => Some(Notice::UnusableBlocks { namespace }),
            (Some(namespace), Some(known)) => {
                (!known.learn(shift)).then_some(Notice::OtherBlocks { namespace })
            }
        };
        if let Some(notice) = hidden {
            data.fill(0);
            world.tell(notice);
        }
        self.hand_out_scratch(world, returned)
    }

    /// Copies the rewritten data to where the guest wants it.
    fn hand_out_scratch(
        &mut self,
        world: &mut impl World,
        returned: &Returned<FromDevice>,
    ) -> Result<(), Hole> {
        let mut rest: &[u8] = self.scratch;
        for (to, _) in self.pools.from.extents(returned.lent(), BYTES) {
            let (bytes, after) = rest.split_at(to.len() as usize);
            world.write(to.start(), bytes)?;
            rest = after;
        }
        Ok(())
    }
}

fn mask_u16(data: &mut [u8], at: usize, mask: u16) {
    for (byte, mask) in data[at..].iter_mut().zip(mask.to_le_bytes()) {
        *byte &= mask;
    }
}

fn mask_u32(data: &mut [u8], at: usize, mask: u32) {
    for (byte, mask) in data[at..].iter_mut().zip(mask.to_le_bytes()) {
        *byte &= mask;
    }
}

fn clamp_u32(data: &mut [u8], at: usize, most: u32) {
    if let Some(bytes) = data[at..].first_chunk_mut() {
        *bytes = u32::from_le_bytes(*bytes).min(most).to_le_bytes();
    }
}
