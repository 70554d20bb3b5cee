//! The admin commands, one by one: which bytes each is about, and what it may ask.
//!
//! What the mediator does not know to the byte the device never hears: figure 138 and sections
//! 5.1 to 5.28.

use super::Nvme;
use super::buffers::Buffers;
use super::completion::Then;
use super::plan::{Extent, Plan};
use super::spec::{Command, Status, admin};
use crate::{Notice, World};

/// Which opcodes were refused already, so that each is told once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Refused {
    admin: [u64; 4],
    io: [u64; 4],
}

impl Refused {
    pub(super) const NEW: Self = Self {
        admin: [0; 4],
        io: [0; 4],
    };

    /// Whether this is the first time.
    fn is_new(&mut self, is_admin: bool, opcode: u8) -> bool {
        let said = if is_admin {
            &mut self.admin
        } else {
            &mut self.io
        };
        let (word, bit) = (usize::from(opcode / 64), 1 << (opcode % 64));
        let is_new = said[word] & bit == 0;
        said[word] |= bit;
        is_new
    }
}

impl Nvme<'_> {
    /// What becomes of an admin command.
    // Apart from what every read and write runs through.
    #[inline(never)]
    pub(super) fn plan_admin(
        &mut self,
        world: &mut impl World,
        command: &mut Command,
    ) -> Result<Plan, Status> {
        self.check_form(command)?;
        let nothing = Plan::pass(Extent::Nothing);
        let opcode = command.opcode();
        Ok(match opcode {
            admin::CREATE_SUBMISSION_QUEUE => self.plan_create_submission(world, command)?,
            admin::CREATE_COMPLETION_QUEUE => self.plan_create_completion(world, command)?,
            admin::DELETE_SUBMISSION_QUEUE => self.plan_delete_submission(command)?,
            admin::DELETE_COMPLETION_QUEUE => self.plan_delete_completion(command)?,
            admin::IDENTIFY => self.plan_identify(command)?,
            admin::SET_FEATURES => self.plan_set_features(command)?,
            admin::READ_FEATURES => self.plan_read_features(command)?,
            admin::ABORT => self.plan_abort(command),
            admin::EVENT_REQUEST => self.plan_event_request(command)?,
            admin::DOORBELL_BUFFERS if self.limits.has_buffers => {
                self.plan_buffers(world, command)?
            }
            admin::LOG_PAGE => {
                // Number of Dwords is counted from 0: dword 11, 15:0, and dword 10, 31:16.
                let dwords = command.dword(11) << 16 | command.dword(10) >> 16;
                Plan::pass(self.writable((u64::from(dwords) + 1) * 4)?)
            }
            admin::FIRMWARE_DOWNLOAD => {
                let dwords = u64::from(command.dword(10)) + 1;
                Plan::pass(self.readable(dwords * 4)?)
            }
            admin::BLOCK_STATUS => {
                let dwords = u64::from(command.dword(12)) + 1;
                Plan::pass(self.writable(dwords * 4)?)
            }
            // "Transfer Length" and "Allocation Length": dword 11, in bytes.
            admin::SECURITY_SEND => Plan::pass(self.readable(command.dword(11).into())?),
            admin::SECURITY_RECEIVE => Plan::pass(self.writable(command.dword(11).into())?),
            admin::NAMESPACE_MANAGEMENT => match command.dword(10) & 0xf {
                0 => Plan::pass(self.readable(4096)?),
                1 => {
                    let then = Then::Unlearn(command.namespace());
                    Plan::pass_then(Extent::Nothing, then)
                }
                _ => return Err(Status::INVALID_FIELD),
            },
            admin::NAMESPACE_ATTACHMENT => {
                let then = Then::Unlearn(command.namespace());
                Plan::pass_then(self.readable(4096)?, then)
            }
            admin::FORMAT => {
                let then = Then::Unlearn(command.namespace());
                Plan::pass_then(Extent::Nothing, then)
            }
            admin::FIRMWARE_COMMIT | admin::SELF_TEST | admin::KEEP_ALIVE | admin::SANITIZE => {
                nothing
            }
            _ => return Err(self.refuse(world, true, opcode)),
        })
    }

    /// What no command here may have: a fused other half, or SGLs, neither of which is offered.
    pub(super) fn check_form(&self, command: &Command) -> Result<(), Status> {
        if command.is_fused() || command.has_sgl() {
            Err(Status::INVALID_FIELD)
        } else {
            Ok(())
        }
    }

    /// `bytes` bytes that the device reads, if that is not more than a request may have.
    pub(super) fn readable(&self, bytes: u64) -> Result<Extent, Status> {
        self.extent(bytes).map(|bytes| match bytes {
            0 => Extent::Nothing,
            bytes => Extent::ToDevice(bytes),
        })
    }

    /// The same of bytes that the device writes.
    pub(super) fn writable(&self, bytes: u64) -> Result<Extent, Status> {
        self.extent(bytes).map(|bytes| match bytes {
            0 => Extent::Nothing,
            bytes => Extent::FromDevice(bytes),
        })
    }

    /// "If a command is submitted that exceeds this transfer size, then the command is aborted
    /// with a status code of Invalid Field in Command": section 5.17.2.1, MDTS.
    pub(super) fn extent(&self, bytes: u64) -> Result<u32, Status> {
        u32::try_from(bytes)
            .ok()
            .filter(|bytes| *bytes <= self.limits.transfer)
            .ok_or(Status::INVALID_FIELD)
    }

    /// A command that the device never hears.
    pub(super) fn refuse(&mut self, world: &mut impl World, is_admin: bool, opcode: u8) -> Status {
        if self.refused.is_new(is_admin, opcode) {
            world.tell(Notice::RefusedCommand { is_admin, opcode });
        }
        Status::INVALID_OPCODE
    }

    /// The request to abort is known to the device under another identifier; section 5.1. What
    /// it does not have it cannot abort: bit 0 of the answer says so.
    fn plan_abort(&self, command: &mut Command) -> Plan {
        const NOT_ABORTED: u32 = 1;
        let [queue, id] = [command.dword(10) as u16, (command.dword(10) >> 16) as u16];
        let known_as = self
            .requests
            .known_as(usize::from(queue), id)
            .filter(|known_as| {
                let found = self.requests.find(*known_as);
                found.is_some_and(|given| given.then != Then::Event)
            });
        let through = known_as.and_then(|known_as| self.requests.find(known_as));
        let through = through.map_or(0, |given| given.through);
        match known_as {
            Some(known_as) => {
                let dword = u32::from(known_as) << 16 | through as u32;
                command.set_dword(10, dword);
                Plan::pass(Extent::Nothing)
            }
            None => Plan::Answer(Status::SUCCESS, NOT_ABORTED),
        }
    }

    fn plan_buffers(&mut self, world: &impl World, command: &Command) -> Result<Plan, Status> {
        let buffers = Buffers::new(world, command.prp1(), command.prp2());
        self.use_buffers(buffers.ok_or(Status::INVALID_FIELD)?);
        Ok(Plan::Answer(Status::SUCCESS, 0))
    }
}
