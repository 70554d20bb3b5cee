//! The files that lie beside this program.

// UNSAFETY: calls the file protocols of the firmware, and walks the path it gave.
#![expect(unsafe_code)]

use core::ptr::{self, NonNull};

use uefi_raw::Status;
use uefi_raw::protocol::device_path::{DevicePathProtocol, DeviceSubType, DeviceType};
use uefi_raw::protocol::file_system::{
    FileAttribute, FileMode, FileProtocolV1, SimpleFileSystemProtocol,
};
use uefi_raw::protocol::loaded_image::LoadedImageProtocol;

use crate::place;
use crate::refusal::Refusal;
use crate::services::Firmware;

/// Bytes that a file may have, but for one.
const LARGEST: u64 = 256 * 1024;
/// Characters that a path may have.
const LONGEST: usize = 512;
/// Nodes that a path may have.
const NODES: usize = 64;
const SEPARATOR: u16 = b'\\' as u16;

/// What each device may reach.
pub(crate) const POLICY: &str = "policy.toml";
/// Bouncer's own command line; there need not be one.
pub(crate) const OPTIONS: &str = "options.txt";

/// The directory of this program.
pub(crate) struct Files {
    firmware: Firmware,
    root: NonNull<FileProtocolV1>,
    /// The path of the directory, with a backslash at its end.
    path: Path,
}

/// Letters of a path.
#[derive(Clone, Copy)]
struct Path {
    letters: [u16; LONGEST],
    len: usize,
}

impl Path {
    /// One letter remains zero. A letter beyond the room is lost, and so will the file be.
    fn push(&mut self, letter: u16) {
        if self.len + 1 < LONGEST {
            self.letters[self.len] = letter;
            self.len += 1;
        }
    }

    /// Forgets what stands behind the last backslash.
    fn leave_file(&mut self) {
        let letters = &self.letters[..self.len];
        let last = letters.iter().rposition(|letter| *letter == SEPARATOR);
        self.len = last.map_or(0, |last| last + 1);
        self.letters[self.len..].fill(0);
    }
}

impl Files {
    /// Finds the directory this program was loaded from.
    pub(crate) fn beside_this(firmware: Firmware) -> Result<Self, Refusal> {
        // SAFETY: the specification gives these interfaces these types; the image's stays while it runs.
        let (image, system) = unsafe {
            let image: NonNull<LoadedImageProtocol> = firmware
                .protocol(firmware.image(), &LoadedImageProtocol::GUID)
                .map_err(Refusal::NoFiles)?;
            let image = image.as_ref();
            let system: NonNull<SimpleFileSystemProtocol> = firmware
                .protocol(image.device_handle, &SimpleFileSystemProtocol::GUID)
                .map_err(Refusal::NoFiles)?;
            (image, system)
        };
        let mut root = ptr::null_mut();
        // SAFETY: the root's place is written.
        let status = unsafe { (system.as_ref().open_volume)(system.as_ptr(), &mut root) };
        let root = NonNull::new(root).filter(|_| status == Status::SUCCESS);
        // SAFETY: the path is the firmware's, made for this image.
        let mut path = unsafe { path_at(image.file_path) };
        path.leave_file();
        Ok(Self {
            firmware,
            root: root.ok_or(Refusal::NoFiles(status))?,
            path,
        })
    }

    /// Reads a file whole, into memory that stays; `None` if there is none.
    pub(crate) fn read(&self, name: &'static str) -> Result<Option<&'static [u8]>, Refusal> {
        let failed = |status| Refusal::Unreadable { file: name, status };
        let mut path = self.path;
        name.bytes().for_each(|letter| path.push(letter.into()));
        let mut file = ptr::null_mut();
        // SAFETY: the root is open, the path ends with zero, and the file's place is written.
        let status = unsafe {
            (self.root.as_ref().open)(
                self.root.as_ptr(),
                &mut file,
                path.letters.as_ptr(),
                FileMode::READ,
                FileAttribute::empty(),
            )
        };
        if status == Status::NOT_FOUND {
            return Ok(None);
        }
        let file = NonNull::new(file).filter(|_| status == Status::SUCCESS);
        let file: NonNull<FileProtocolV1> = file.ok_or(failed(status))?;
        let room = place::bytes(place::scratch(self.firmware, LARGEST)?);
        let mut len = room.len();
        // SAFETY: the room has `len` bytes.
        let status = unsafe {
            let status = (file.as_ref().read)(file.as_ptr(), &mut len, room.as_mut_ptr().cast());
            let _ = (file.as_ref().close)(file.as_ptr());
            status
        };
        match status {
            Status::SUCCESS if len < room.len() => Ok(Some(&room[..len])),
            Status::SUCCESS => Err(failed(Status::BUFFER_TOO_SMALL)),
            status => Err(failed(status)),
        }
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        // SAFETY: the root is open, and nobody uses it any more.
        let _ = unsafe { (self.root.as_ref().close)(self.root.as_ptr()) };
    }
}

/// The letters of all file nodes of the path at `node`, with backslashes between them.
///
/// # Safety
/// `node` is null or a device path as the specification has it (UEFI 2.10, 10.3).
unsafe fn path_at(mut node: *const DevicePathProtocol) -> Path {
    /// Bytes of a node before its own.
    const HEAD: usize = 4;
    let mut path = Path {
        letters: [0; LONGEST],
        len: 0,
    };
    for _ in 0..NODES {
        if node.is_null() {
            break;
        }
        // SAFETY: a node has a head, and as many bytes as that says (caller).
        unsafe {
            let head = node.read_unaligned();
            let len = usize::from(head.length());
            if head.major_type == DeviceType::END || len < HEAD {
                break;
            }
            if head.major_type == DeviceType::MEDIA
                && head.sub_type == DeviceSubType::MEDIA_FILE_PATH
            {
                if path.len != 0 && path.letters[path.len - 1] != SEPARATOR {
                    path.push(SEPARATOR);
                }
                let letters = node.byte_add(HEAD).cast::<u16>();
                let letters =
                    (0..(len - HEAD) / 2).map(|index| letters.add(index).read_unaligned());
                letters
                    .take_while(|letter| *letter != 0)
                    .for_each(|letter| path.push(letter));
            }
            node = node.byte_add(len);
        }
    }
    path
}
