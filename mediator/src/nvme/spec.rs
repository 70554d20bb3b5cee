//! The bits of the NVM Express base specification, revision 2.0, as far as the mediator reads or
//! writes them. No opinion of ours.

mod command;
mod opcode;
mod register;
mod status;

pub(super) use command::{Command, ENTRY_BYTES, Entry};
pub(super) use opcode::{admin, io};
pub(super) use register::{Capabilities, Configuration, csts, offset};
pub(super) use status::Status;
