//! Commands that a program gives the drive itself, through the driver's ioctls.
#![expect(unsafe_code)]
// UNSAFETY: ioctl(2) takes a pointer to a structure with another pointer in it.

use crate::verdict::{Shortfall, failed};
use std::fs::File;
use std::os::fd::AsRawFd;

/// `_IOWR('N', 0x41, struct nvme_passthru_cmd)` and its sibling for input and output (`linux/nvme_ioctl.h`).
const ADMIN: libc::c_ulong = 0xc048_4e41;
const INPUT_OUTPUT: libc::c_ulong = 0xc048_4e43;

/// What the drive is asked. Fields that are not set are zero.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Question {
    /// The opcode.
    pub(super) opcode: u8,
    /// The namespace, zero for none.
    pub(super) namespace: u32,
    /// Command words 10 to 15.
    pub(super) words: [u32; 6],
}

/// What it answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Answer {
    /// Status code and type, without the phase; zero is success.
    pub(super) status: u16,
    /// Command-specific: dword 0 of the completion.
    pub(super) result: u32,
}

impl Answer {
    /// Whether the command succeeded.
    pub(super) fn is_success(self) -> bool {
        self.status == 0
    }
}

/// Which queue a command goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Queue {
    /// The administration's.
    Admin,
    /// One for input and output.
    InputOutput,
}

/// `struct nvme_passthru_cmd`.
#[repr(C)]
#[derive(Debug, Default)]
struct Passthrough {
    opcode: u8,
    flags: u8,
    reserved: u16,
    namespace: u32,
    words_2_3: [u32; 2],
    metadata: u64,
    address: u64,
    metadata_length: u32,
    data_length: u32,
    words: [u32; 6],
    timeout_ms: u32,
    result: u32,
}

const _: () = assert!(size_of::<Passthrough>() == 72);

/// Asks, with `data` as the command's buffer, and waits for the answer for at most twenty seconds.
///
/// # Errors
/// If the kernel does not pass the command on.
pub(super) fn ask(
    file: &File,
    queue: Queue,
    question: Question,
    data: &mut [u8],
) -> Result<Answer, Shortfall> {
    let mut command = Passthrough {
        opcode: question.opcode,
        namespace: question.namespace,
        address: if data.is_empty() {
            0
        } else {
            data.as_mut_ptr().expose_provenance() as u64
        },
        data_length: data.len() as u32,
        words: question.words,
        timeout_ms: 20_000,
        ..Passthrough::default()
    };
    let request = match queue {
        Queue::Admin => ADMIN,
        Queue::InputOutput => INPUT_OUTPUT,
    };
    // SAFETY: (1) the structure is the kernel's, of the size in the request's number, and lives until the call
    // returns. (2) The buffer it names is borrowed for writing as long, and is as long as it says.
    let status = unsafe { libc::ioctl(file.as_raw_fd(), request as _, &raw mut command) };
    match u16::try_from(status) {
        Ok(status) => Ok(Answer {
            status,
            result: command.result,
        }),
        Err(_) => Err(failed(format!(
            "command {:#04x}: {}",
            question.opcode,
            std::io::Error::last_os_error()
        ))),
    }
}
