//! The I/O commands: which bytes each is about. Section 7, and section 3.2 of the NVM command
//! set.

use super::Nvme;
use super::plan::{Extent, Plan};
use super::spec::{Command, Status, io};
use crate::World;

/// What the guest was told of a namespace.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Namespace {
    blocks: Blocks,
}

/// How long the blocks of a namespace are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Blocks {
    /// The guest was not told.
    Unknown,
    /// A power of two of bytes.
    Known(u8),
    /// The guest was told this and that.
    Contradictory,
}

impl Namespace {
    /// A namespace that the guest was told nothing of.
    pub const NEW: Self = Self {
        blocks: Blocks::Unknown,
    };

    /// Whether a block has at most `bytes` bytes.
    pub(super) fn has_blocks_of(&self, bytes: u32) -> bool {
        matches!(self.blocks, Blocks::Known(shift) if 1 << shift <= bytes)
    }

    /// The guest is about to be told. `false` if it was told something else before: nobody knows
    /// by which of both it counts.
    pub(super) fn learn(&mut self, shift: u8) -> bool {
        self.blocks = match self.blocks {
            Blocks::Unknown => Blocks::Known(shift),
            Blocks::Known(known) if known == shift => Blocks::Known(shift),
            _ => Blocks::Contradictory,
        };
        self.blocks == Blocks::Known(shift)
    }
}

/// Whether blocks of so many bytes, as a power of two, are usable: 512 bytes up to 64 KiB.
pub(super) fn is_block(shift: u8) -> bool {
    (9..=16).contains(&shift)
}

/// The place of a namespace of that number.
pub(super) fn place(number: u32) -> Option<usize> {
    Some(number.checked_sub(1)? as usize)
}

impl Nvme<'_> {
    /// What becomes of an I/O command.
    pub(super) fn plan_io(
        &mut self,
        world: &mut impl World,
        command: &Command,
    ) -> Result<Plan, Status> {
        self.check_form(command)?;
        let extent = match command.opcode() {
            io::READ => {
                let extent = Extent::FromDevice(self.blocks(command)?);
                return Ok(Plan::pass_soon_over(extent));
            }
            io::WRITE => {
                let extent = Extent::ToDevice(self.blocks(command)?);
                return Ok(Plan::pass_soon_over(extent));
            }
            io::COMPARE => Extent::ToDevice(self.blocks(command)?),
            io::FLUSH | io::WRITE_UNCORRECTABLE | io::WRITE_ZEROES | io::VERIFY => Extent::Nothing,
            // "Number of Ranges" is counted from 0; each has 16 bytes.
            io::DATASET_MANAGEMENT => {
                self.readable((u64::from(command.dword(10) & 0xff) + 1) * 16)?
            }
            io::RESERVATION_REGISTER | io::RESERVATION_ACQUIRE => self.readable(16)?,
            io::RESERVATION_RELEASE => self.readable(8)?,
            io::RESERVATION_REPORT => self.writable((u64::from(command.dword(10)) + 1) * 4)?,
            opcode => return Err(self.refuse(world, false, opcode)),
        };
        Ok(Plan::pass(extent))
    }

    /// Bytes of the blocks of a command, as the guest knows them: "Number of Logical Blocks" is
    /// counted from 0.
    fn blocks(&self, command: &Command) -> Result<u32, Status> {
        let namespace = place(command.namespace()).and_then(|place| self.namespaces.get(place));
        let Some(&Namespace {
            blocks: Blocks::Known(shift),
        }) = namespace
        else {
            return Err(Status::INVALID_NAMESPACE_OR_FORMAT);
        };
        // At most 2^16 blocks of 2^16 bytes: one byte more than a double word counts.
        let bytes = (u64::from(command.dword(12) & 0xffff) + 1) << shift;
        self.extent(bytes)
    }

    /// The guest has to ask again what the blocks of a namespace, or of all, are.
    pub(super) fn unlearn(&mut self, number: u32) {
        if number == u32::MAX {
            self.namespaces.fill(Namespace::NEW);
        } else if let Some(namespace) =
            place(number).and_then(|place| self.namespaces.get_mut(place))
        {
            *namespace = Namespace::NEW;
        }
    }
}
