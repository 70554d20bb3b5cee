//! What a device reaches in the machine as it is, found without asking Bouncer: the machine is stopped, and the tables
//! that the remapping unit walks are walked here, in the machine's own memory.
//!
//! Owns a second reading of the tables ([`tables`]) and the search for what must not be within a device's reach
//! ([`canary`]). Uses nothing of Bouncer's code, on purpose: an error there must not repeat itself here.

pub mod canary;
pub mod tables;

use std::path::Path;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use qemu::{Error, Port, Session};
use serde_json::json;

use crate::attacker;
pub use canary::Canary;
pub use tables::{Page, Physical, Reach, Unit};

/// The registers of a q35 machine's remapping unit (VT-d specification, revision 4.1, 11.4): global status, and the
/// address of the root table.
const GSTS: u64 = 0xfed9_001c;
const RTADDR: u64 = 0xfed9_0020;
/// Where a bridge keeps the number of the bus behind it (PCI-to-PCI bridge specification 1.2, 3.2.5.3).
const SECONDARY_BUS: u64 = 0x19;

/// A device by its requester id: bus in bits 15:8, device in 7:3, function in 2:0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Requester(pub u16);

impl Requester {
    /// The first function behind the port in slot `slot` of bus 0, where the machine has its drives.
    ///
    /// # Panics
    /// If the machine has no bus or nothing behind that port.
    pub fn behind_port(session: &mut Session, slot: u16) -> Self {
        let at = attacker::config(slot << 3) + SECONDARY_BUS;
        let bus = demand(demand(session.qtest()).readb(at));
        assert_ne!(bus, 0, "there is a bus behind the port in slot {slot:#x}");
        Self(u16::from(bus) << 8)
    }
}

/// A machine's memory, whatever stands before it.
struct Bus<'a>(&'a mut Session);

impl Physical for Bus<'_> {
    fn page(&mut self, address: u64) -> Result<[u64; 512], String> {
        let bus = self.0.qtest().map_err(|error| error.to_string())?;
        let bytes = bus.read(address, 4096).map_err(|error| error.to_string())?;
        let mut words = [0; 512];
        for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(8)) {
            *word = u64::from_le_bytes(std::array::from_fn(|index| bytes[index]));
        }
        Ok(words)
    }
}

/// What `requester` reaches now. The machine should stand still: tables that change while they are walked may show
/// what never was.
///
/// # Panics
/// If the machine has no bus, or its tables cannot be read by the specification.
pub fn reach(session: &mut Session, requester: Requester) -> Reach {
    let bus = demand(session.qtest());
    let unit = Unit {
        status: demand(bus.readl(GSTS)),
        root: demand(bus.readq(RTADDR)),
    };
    tables::reach(unit, requester.0, &mut Bus(session))
        .unwrap_or_else(|why| panic!("the tables of {requester:x?}: {why}"))
}

/// Stops the machine, lets `look` look at it, and has it go on.
///
/// # Panics
/// If the monitor refuses.
pub fn standing_still<T>(session: &mut Session, look: impl FnOnce(&mut Session) -> T) -> T {
    demand(session.qmp().execute("stop", json!({})));
    let seen = look(session);
    demand(session.qmp().execute("cont", json!({})));
    seen
}

/// Stops the machine `times` times at random moments, none more than `apart` after the one before, and lets `look`
/// look at it each time.
///
/// # Panics
/// If the monitor refuses.
pub fn at_random<T>(
    session: &mut Session,
    times: u32,
    apart: Duration,
    mut look: impl FnMut(&mut Session) -> T,
) -> Vec<T> {
    let mut seed = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(1, |time| u64::from(time.subsec_nanos()) | 1);
    let mut seen = Vec::new();
    for _ in 0..times {
        // Knuth's MMIX generator; its upper bits.
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let share = (seed >> 40) as f64 / f64::from(1 << 24);
        thread::sleep(apart.mul_f64(share));
        seen.push(standing_still(session, &mut look));
    }
    seen
}

/// Bouncer's own memory, as it says it: base and length in bytes.
///
/// # Panics
/// If it has not said so.
#[must_use]
pub fn own_memory(session: &Session) -> (u64, u64) {
    let lines = session.lines_of(Port::Bouncer).iter();
    let mut own = lines.filter_map(
        |line| match qemu::protocol::BouncerLine::parse(&line.text) {
            qemu::protocol::BouncerLine::Own { base, bytes, .. } => Some((base, bytes)),
            _ => None,
        },
    );
    own.next_back().expect("Bouncer says where its memory is")
}

/// What is wrong with the reach of an untrusted device whose pages must lie in `own`: a sentence for each fault.
#[must_use]
pub fn objections(reach: &Reach, own: (u64, u64)) -> Vec<String> {
    let pages = match reach {
        Reach::Nothing(_) => return Vec::new(),
        Reach::Everything(why) => return vec![format!("it reaches everything: {why}")],
        Reach::Pages(pages) => pages,
    };
    let end = own.0.saturating_add(own.1);
    let mut objections = Vec::new();
    for page in pages {
        let is_own = page.address >= own.0 && page.address.saturating_add(page.bytes) <= end;
        if !is_own {
            objections.push(format!(
                "{page} is not in Bouncer's memory, {:#x} to {end:#x}",
                own.0
            ));
        }
        if page.is_readable && page.is_writable {
            objections.push(format!("{page} can be read and written"));
        }
    }
    objections
}

/// Where in the memory that `reach` gives some of `canary` is: an address in each run of pages that holds any. Memory is
/// dumped through the file `scratch`.
///
/// # Panics
/// If memory cannot be dumped, or the device reaches everything.
pub fn holding(session: &mut Session, reach: &Reach, canary: Canary, scratch: &Path) -> Vec<u64> {
    let pages = match reach {
        Reach::Nothing(_) => return Vec::new(),
        Reach::Everything(why) => panic!("there is no list of pages: {why}"),
        Reach::Pages(pages) => pages,
    };
    let mut found = Vec::new();
    for (address, bytes) in runs(pages) {
        demand(session.qmp().dump_physical(address, bytes, scratch));
        let content =
            std::fs::read(scratch).unwrap_or_else(|error| panic!("{}: {error}", scratch.display()));
        found.extend(
            canary
                .find_in(&content)
                .map(|offset| address + offset as u64),
        );
    }
    let _ = std::fs::remove_file(scratch);
    found
}

/// Memory that the pages cover, each run of neighbours once: address and bytes.
fn runs(pages: &[Page]) -> Vec<(u64, u64)> {
    let mut pages: Vec<_> = pages
        .iter()
        .map(|page| (page.address, page.bytes))
        .collect();
    pages.sort_unstable();
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for (address, bytes) in pages {
        match runs.last_mut() {
            // Two pages of the device's may be one page of memory.
            Some((start, length)) if address <= *start + *length => {
                *length = (*length).max(address + bytes - *start);
            }
            _ => runs.push((address, bytes)),
        }
    }
    runs
}

fn demand<T>(result: Result<T, Error>) -> T {
    result.unwrap_or_else(|error| panic!("{error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: (u64, u64) = (0x3fa0_0000, 0x40_0000);

    fn page(address: u64, bytes: u64, is_readable: bool, is_writable: bool) -> Page {
        Page {
            iova: address,
            address,
            bytes,
            is_readable,
            is_writable,
        }
    }

    #[test]
    fn pages_of_bouncers_own_in_one_direction_each_are_in_order() {
        let reach = Reach::Pages(vec![
            page(0x3fa0_0000, 0x1000, true, false),
            page(0x3fc0_0000, 0x20_0000, false, true),
        ]);
        assert_eq!(objections(&reach, OWN), [""; 0]);
        assert_eq!(objections(&Reach::Nothing("no entry"), OWN), [""; 0]);
    }

    #[test]
    fn neighbours_are_looked_at_together_and_shared_pages_once() {
        let pages = [
            page(0x3000, 0x1000, true, false),
            page(0x1000, 0x1000, true, false),
            page(0x2000, 0x1000, false, true),
            page(0x2000, 0x1000, true, false),
            page(0x9000, 0x1000, true, false),
        ];
        assert_eq!(runs(&pages), [(0x1000, 0x3000), (0x9000, 0x1000)]);
    }

    #[test]
    fn a_page_of_the_guests_is_objected_to() {
        for (address, bytes) in [
            (0x3f9f_f000, 0x1000),
            (0x3fe0_0000, 0x1000),
            (0x3fc0_0000, 0x4000_0000),
            (u64::MAX - 0xfff, 0x1000),
        ] {
            let reach = Reach::Pages(vec![page(address, bytes, true, false)]);
            assert_eq!(objections(&reach, OWN).len(), 1, "{address:#x}");
        }
    }

    #[test]
    fn a_page_for_both_directions_and_a_device_without_tables_are_objected_to() {
        let both = Reach::Pages(vec![page(0x3fa0_0000, 0x1000, true, true)]);
        assert_eq!(objections(&both, OWN).len(), 1);
        assert_eq!(objections(&Reach::Everything("pass-through"), OWN).len(), 1);
    }
}
