//! The guest's physical region pages: which pages the bytes of a request are in.
//!
//! Section 4.1.1. Each entry is fetched once, and no more of them than the request has pages.

use memory::{Gpa, PAGE_SIZE};

use super::spec::{Command, Status};
use crate::World;

/// Entries fetched at once.
const CHUNK: u64 = 32;

/// Tells `each` the guest's page that `command` names for each of `pages` pages, in order, and
/// returns how many bytes of lists were read.
pub(super) fn walk<W: World>(
    command: &Command,
    pages: u32,
    world: &mut W,
    mut each: impl FnMut(&mut W, u32, Gpa) -> Result<(), Status>,
) -> Result<u64, Status> {
    each(world, 0, command.prp1())?;
    match pages {
        1 => Ok(0),
        2 => {
            each(world, 1, entry(command.prp2())?)?;
            Ok(0)
        }
        _ => walk_list(command.prp2(), pages, world, each),
    }
}

fn walk_list<W: World>(
    mut list: Gpa,
    pages: u32,
    world: &mut W,
    mut each: impl FnMut(&mut W, u32, Gpa) -> Result<(), Status>,
) -> Result<u64, Status> {
    if !list.raw().is_multiple_of(8) {
        return Err(Status::PRP_OFFSET_INVALID);
    }
    let mut fetched = 0;
    let mut page = 1;
    while page < pages {
        let wanted = u64::from(pages - page);
        let to_end = (PAGE_SIZE - list.page_offset()) / 8;
        let count = wanted.min(to_end).min(CHUNK);
        let mut bytes = [0; CHUNK as usize * 8];
        let bytes = &mut bytes[..count as usize * 8];
        world
            .read(list, bytes)
            .map_err(|_| Status::DATA_TRANSFER_ERROR)?;
        fetched += count * 8;
        list = Gpa::new(list.raw().wrapping_add(count * 8));
        let mut entries = bytes.as_chunks().0;
        // The last entry of a page points to the next list, if more are needed than fit.
        let next = match entries.split_last() {
            Some((last, rest)) if count == to_end && wanted > count => {
                entries = rest;
                Some(last)
            }
            _ => None,
        };
        for bytes in entries {
            let at = entry(Gpa::new(u64::from_le_bytes(*bytes)))?;
            each(world, page, at)?;
            page += 1;
        }
        if let Some(next) = next {
            list = entry(Gpa::new(u64::from_le_bytes(*next)))?;
        }
    }
    Ok(fetched)
}

/// "PRP entries contained within a PRP List shall have a memory page offset of 0h."
fn entry(at: Gpa) -> Result<Gpa, Status> {
    if at.page_offset() == 0 {
        Ok(at)
    } else {
        Err(Status::PRP_OFFSET_INVALID)
    }
}
