//! The command register reached sideways: by accesses that begin in another register, in another
//! function, on a port beside, or by instructions no driver uses for it.
//!
//! Whatever an access is cut into on the way, the piece that lands in the command register is a
//! write to the command register.
#![expect(unsafe_code)]
// UNSAFETY: the instruction itself is what is tested, so it must be written out.

use core::arch::asm;

use super::function::Function;
use super::mastering::{Pages, is_really_off};
use super::parties::{self, register};
use super::roads::Roads;
use super::truth::Truth;
use super::vitals::Vitals;
use crate::trial;
use crate::verdict::{Figures, Verdict, ensure};

const ADDRESS_PORT: u16 = 0xcf8;
const WANTED: u64 = (register::MEMORY | register::MASTER | register::NO_INTX) as u64;

/// One sideways way to the command register.
struct Form {
    text: &'static str,
    make: fn(&Roads, Function),
}

/// How far before an address stores begin that touch the command register with their last bytes,
/// and the instructions that change it in place.
const FORMS: [Form; 14] = [
    Form {
        text: "four bytes from 1",
        make: |roads, foe| store(roads, foe, 1, 4, WANTED << 24 | 0x0011_e812),
    },
    Form {
        text: "four bytes from 2",
        make: |roads, foe| store(roads, foe, 2, 4, WANTED << 16 | 0x11e8),
    },
    Form {
        text: "two bytes from 3",
        make: |roads, foe| store(roads, foe, 3, 2, WANTED << 8 | 0x11),
    },
    Form {
        text: "eight bytes from 0",
        make: |roads, foe| store(roads, foe, 0, 8, WANTED << 32 | 0x11e8_1234),
    },
    Form {
        text: "eight bytes from 1",
        make: |roads, foe| store(roads, foe, 1, 8, WANTED << 24 | 0x0011_e812),
    },
    Form {
        text: "eight bytes from the function before",
        make: |roads, foe| {
            let at = roads.address(foe, 0) - 2;
            roads.window().store(at, 8, WANTED << 48);
        },
    },
    Form {
        text: "four bytes to port CFAh",
        make: |roads, foe| port(roads, foe, 0xcfa, WANTED << 16),
    },
    Form {
        text: "four bytes to port CFBh",
        make: |roads, foe| port(roads, foe, 0xcfb, WANTED << 8),
    },
    Form {
        text: "four bytes to port CFCh, the address with its low bits set",
        make: |roads, foe| {
            let id = u32::from(foe.requester_id());
            let ports = roads.ports();
            ports.output(ADDRESS_PORT, 4, 1 << 31 | id << 8 | 0x07);
            ports.output(0xcfc, 4, WANTED as u32);
        },
    },
    Form {
        text: "outsd",
        make: |roads, foe| {
            aim(roads, foe);
            roads.ports().output_string(0xcfc, WANTED as u32);
        },
    },
    Form {
        text: "lock or",
        make: |roads, foe| {
            let at = command(roads, foe);
            // SAFETY: (1) the register is mapped; what is written is what is tested.
            unsafe { asm!("lock or dword ptr [{p}], 6", p = in(reg) at) };
        },
    },
    Form {
        text: "bts",
        make: |roads, foe| {
            let at = command(roads, foe);
            // SAFETY: as above.
            unsafe { asm!("bts word ptr [{p}], 2", p = in(reg) at) };
        },
    },
    Form {
        text: "movdqu",
        make: |roads, foe| {
            let header = header(roads, foe);
            let at = roads.window().place(roads.address(foe, 0), 16);
            // SAFETY: (1) sixteen bytes are mapped there; (2) XMM0 is declared.
            unsafe {
                asm!(
                    "movdqu xmm0, [{h}]",
                    "movdqu [{p}], xmm0",
                    h = in(reg) header.as_ptr(),
                    p = in(reg) at,
                    out("xmm0") _,
                );
            }
        },
    },
    Form {
        text: "rep movsb",
        make: |roads, foe| {
            let header = header(roads, foe);
            let at = roads.window().place(roads.address(foe, 0), 16);
            // SAFETY: (1) sixteen bytes are mapped there and sixteen are copied.
            unsafe {
                asm!(
                    "rep movsb",
                    inout("rcx") 16u64 => _,
                    inout("rsi") header.as_ptr() => _,
                    inout("rdi") at => _,
                );
            }
        },
    },
];

/// Tries each form on each untrusted device, in a child: an instruction that is not carried out may
/// end it.
pub(in super::super) fn run(figures: &mut Figures) -> Verdict {
    let roads = Roads::open()?;
    let truth = Truth::open()?;
    let vitals = Vitals::watch()?;
    let pages = Pages::new()?;
    let (mut wrote, mut died) = (0, 0);
    for foe in parties::foes(&roads)? {
        let edu = parties::wake(&roads, foe)?;
        let before = roads.word(foe, register::COMMAND);
        for form in FORMS {
            let what = format!("{foe}: {}", form.text);
            let child = trial::attempt(|| {
                (form.make)(&roads, foe);
                true
            })?;
            match child {
                trial::Attempted::Held => wrote += 1,
                trial::Attempted::Died => died += 1,
                other => return Err(crate::verdict::failed(format!("{what}: {other:?}"))),
            }
            is_really_off(&roads, &truth, foe)?;
            parties::demand_edu(&roads, foe)?;
            vitals.hold(&what)?;
            if roads.word(foe, register::COMMAND) & register::MASTER != 0 {
                figures.tell("meddle.forms.reads-back", &what);
            }
            roads.put_word(foe, register::COMMAND, before & !register::MASTER);
        }
        // All of them at once, and then the device is told to copy.
        FORMS
            .iter()
            .take(9)
            .for_each(|form| (form.make)(&roads, foe));
        pages.resist(&edu, &foe.to_string())?;
        roads.put_word(foe, register::COMMAND, before);
        ensure!(
            edu.is_alive(),
            "{foe}: its registers no longer answer where they were"
        );
    }
    figures.tell("meddle.forms.carried-out", wrote);
    figures.tell("meddle.forms.faulted", died);
    Ok(())
}

fn store(roads: &Roads, foe: Function, offset: u16, bytes: usize, value: u64) {
    roads
        .window()
        .store(roads.address(foe, offset), bytes, value);
}

fn command(roads: &Roads, foe: Function) -> *mut u8 {
    let at = roads.address(foe, register::COMMAND);
    roads.window().place(at, 4)
}

fn aim(roads: &Roads, foe: Function) {
    let id = u32::from(foe.requester_id());
    let latch = 1 << 31 | id << 8 | u32::from(register::COMMAND);
    roads.ports().output(ADDRESS_PORT, 4, latch);
}

/// A double word whose later bytes are the data window's first.
fn port(roads: &Roads, foe: Function, port: u16, value: u64) {
    aim(roads, foe);
    roads.ports().output(port, 4, value as u32);
}

/// The first sixteen bytes of the header, with the command that is wanted.
fn header(roads: &Roads, foe: Function) -> [u8; 16] {
    let mut header = [0; 16];
    for (place, offset) in header.chunks_exact_mut(4).zip((0..).step_by(4)) {
        place.copy_from_slice(&roads.dword(foe, offset).to_le_bytes());
    }
    header[4..6].copy_from_slice(&(WANTED as u16).to_le_bytes());
    // Status: written ones would clear what is recorded there.
    header[6..8].fill(0);
    header
}
