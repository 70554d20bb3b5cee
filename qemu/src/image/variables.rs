//! Flash memory with UEFI variables: whom firmware trusts to start.
//!
//! Knows how edk2 keeps variables: a firmware volume (PI 1.8, volume 3, 3.2.1) with a store in it, whose format is in
//! edk2's `VariableFormat.h`.

use std::fs;
use std::path::{Path, PathBuf};

use crate::Error;

/// Where a volume says how long its header is, behind which the store begins.
const VOLUME_HEADER_BYTES: usize = 48;
/// What a store begins with, 28 bytes: its format, of variables that may be authenticated, and its size.
const STORE: [u8; 16] = [
    0x78, 0x2c, 0xf3, 0xaa, 0x7b, 0x94, 0x9a, 0x43, 0xa1, 0x80, 0x2e, 0x14, 0x4e, 0xc3, 0x77, 0x92,
];
const STORE_SIZE: usize = 16;
const STORE_HEADER: usize = 28;

/// What a variable begins with, 60 bytes; its name and its value follow.
const START: [u8; 2] = [0xaa, 0x55];
const STATE: usize = 2;
const NAME_SIZE: usize = 36;
const DATA_SIZE: usize = 40;
const VENDOR: usize = 44;
const HEADER: usize = 60;
/// One begins where four divides.
const ALIGNMENT: usize = 4;

/// States: there, and deleted.
const ADDED: u8 = 0x3f;
const DELETED: u8 = ADDED & 0xfd;

/// `db`, by whose signature lists firmware starts a program (UEFI 2.10, 32.4.1), by vendor and name.
const TRUSTED: ([u8; 16], &[u8]) = (
    [
        0xcb, 0xb2, 0x19, 0xd7, 0x3a, 0x3d, 0x96, 0x45, 0xa3, 0xbc, 0xda, 0xd0, 0x0e, 0x67, 0x65,
        0x6f,
    ],
    b"d\0b\0\0\0",
);

/// Writes to `output` the variables at `flash`, by which firmware starts what those at `other` would have it start,
/// too; returns `output`.
///
/// # Errors
/// If a file cannot be read or written, is none that OVMF would take, or has no room.
pub fn trusting_both(flash: &Path, other: &Path, output: &Path) -> Result<PathBuf, Error> {
    let read = |path: &Path| fs::read(path).map_err(|error| Error::file(path, "read", error));
    let malformed = |path: &Path, why: &str| Error::malformed(path.display().to_string(), why);
    let added = read(other)?;
    let added = Store::of(&added)
        .and_then(|store| store.find(TRUSTED.0, TRUSTED.1))
        .and_then(|at| value(&added, at))
        .ok_or_else(|| malformed(other, "there is no variable that says what is trusted"))?;
    let mut bytes = read(flash)?;
    append(&mut bytes, &added)
        .ok_or_else(|| malformed(flash, "what is trusted has no place or no room"))?;
    fs::write(output, bytes).map_err(|error| Error::file(output, "write", error))?;
    Ok(output.to_path_buf())
}

/// Appends signature lists to those that are there: the variable is written anew behind the others.
fn append(flash: &mut [u8], lists: &[u8]) -> Option<()> {
    let store = Store::of(flash)?;
    let old = store.find(TRUSTED.0, TRUSTED.1)?;
    let (new, end) = (store.free, store.end);
    let mut content = flash.get(old..end_of(flash, old)?)?.to_vec();
    content.extend_from_slice(lists);
    let size = u32::try_from(value(flash, old)?.len() + lists.len()).ok()?;
    content[DATA_SIZE..][..4].copy_from_slice(&size.to_le_bytes());
    let room = flash.get_mut(new..end)?.get_mut(..content.len())?;
    room.copy_from_slice(&content);
    flash[old + STATE] = DELETED;
    Some(())
}

/// A store of variables, and where in the flash memory they are.
struct Store<'a> {
    flash: &'a [u8],
    variables: Vec<usize>,
    /// Where the next one would be, and where the store ends.
    free: usize,
    end: usize,
}

impl<'a> Store<'a> {
    fn of(flash: &'a [u8]) -> Option<Self> {
        let begin = flash.get(VOLUME_HEADER_BYTES..)?.first_chunk()?;
        let begin = usize::from(u16::from_le_bytes(*begin));
        if flash.get(begin..)?.first_chunk()? != &STORE {
            return None;
        }
        let end = begin.checked_add(number(flash, begin + STORE_SIZE)?)?;
        let mut free = begin + STORE_HEADER;
        let mut variables = Vec::new();
        while flash.get(free..)?.first_chunk()? == &START {
            variables.push(free);
            free = end_of(flash, free)?.next_multiple_of(ALIGNMENT);
        }
        (free <= end).then_some(Self {
            flash,
            variables,
            free,
            end,
        })
    }

    /// The variable that is there under this name.
    fn find(&self, vendor: [u8; 16], name: &[u8]) -> Option<usize> {
        let mut variables = self.variables.iter().copied();
        variables.find(|at| {
            let variable = &self.flash[*at..];
            variable.get(STATE) == Some(&ADDED)
                && variable.get(VENDOR..HEADER) == Some(&vendor)
                && variable
                    .get(HEADER..)
                    .is_some_and(|it| it.starts_with(name))
                && number(variable, NAME_SIZE) == Some(name.len())
        })
    }
}

fn value(flash: &[u8], variable: usize) -> Option<Vec<u8>> {
    let begin = variable + HEADER + number(flash, variable + NAME_SIZE)?;
    Some(flash.get(begin..end_of(flash, variable)?)?.to_vec())
}

fn end_of(flash: &[u8], variable: usize) -> Option<usize> {
    let name = number(flash, variable + NAME_SIZE)?;
    (variable + HEADER)
        .checked_add(name)?
        .checked_add(number(flash, variable + DATA_SIZE)?)
}

fn number(flash: &[u8], at: usize) -> Option<usize> {
    let bytes = flash.get(at..)?.first_chunk()?;
    usize::try_from(u32::from_le_bytes(*bytes)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Flash memory with `db`, after a variable that is deleted and has the same name.
    fn flash(lists: &[u8], room: usize) -> Vec<u8> {
        const BEGIN: usize = 72;
        let mut flash = vec![0; BEGIN];
        flash[VOLUME_HEADER_BYTES] = BEGIN as u8;
        flash.extend(STORE);
        flash.extend([0; STORE_HEADER - STORE.len()]);
        for (state, lists) in [(DELETED, &b"old"[..]), (ADDED, lists)] {
            let mut header = [0; HEADER];
            header[..2].copy_from_slice(&START);
            header[STATE] = state;
            header[NAME_SIZE] = TRUSTED.1.len() as u8;
            header[DATA_SIZE] = lists.len() as u8;
            header[VENDOR..].copy_from_slice(&TRUSTED.0);
            flash.extend(header);
            flash.extend(TRUSTED.1);
            flash.extend(lists);
            flash.resize(flash.len().next_multiple_of(ALIGNMENT), 0xff);
        }
        flash.resize(flash.len() + room, 0xff);
        let size = (flash.len() - BEGIN) as u32;
        flash[BEGIN + STORE_SIZE..][..4].copy_from_slice(&size.to_le_bytes());
        // Other things follow the store.
        flash.extend([0xff; 64]);
        flash
    }

    fn trusted(flash: &[u8]) -> Option<Vec<u8>> {
        value(flash, Store::of(flash)?.find(TRUSTED.0, TRUSTED.1)?)
    }

    #[test]
    fn what_another_trusts_is_trusted_too() {
        let mut flash = flash(b"ours", 200);
        assert_eq!(append(&mut flash, b" and theirs"), Some(()));
        assert_eq!(trusted(&flash).as_deref(), Some(&b"ours and theirs"[..]));
    }

    #[test]
    fn where_there_is_no_room_nothing_is_changed() {
        let before = flash(b"ours", 70);
        let mut flash = before.clone();
        assert_eq!(append(&mut flash, b" and theirs"), None);
        assert_eq!(flash, before);
    }

    #[test]
    fn what_is_no_store_of_variables_is_none() {
        assert_eq!(trusted(&[0; 4096]), None);
        assert_eq!(trusted(&[]), None);
        let whole = flash(b"ours", 0);
        assert_eq!(trusted(&whole[..whole.len() - 70]), None);
    }
}
