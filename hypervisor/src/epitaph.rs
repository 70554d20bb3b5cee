//! The epitaph: last words, then silence.
//!
//! A panic or an exception of Bouncer itself prints what happened, the registers and the chain of
//! frames, and stops every processor. Offsets are from the start of the image, so that the host
//! can put names to them.

// UNSAFETY: walks frame pointers.
#![expect(unsafe_code)]

use core::arch::asm;
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicBool, Ordering};

use crate::console::last_line;
use crate::cpu::apic::{self, Signal};
use crate::cpu::exceptions::Frame;
use crate::cpu::{area, instructions};
use crate::machine::Machine;

/// Bouncer is dead; processors that see it stop.
static DEAD: AtomicBool = AtomicBool::new(false);

/// Frames printed at most.
const DEPTH: usize = 32;

/// Whether some processor has died, so that this one must stop.
pub(crate) fn is_written() -> bool {
    DEAD.load(Ordering::Acquire)
}

/// The last words after an exception inside Bouncer.
pub(crate) fn exception(frame: &Frame) -> ! {
    begin();
    let [
        rax,
        rcx,
        rdx,
        rbx,
        rbp,
        rsi,
        rdi,
        r8,
        r9,
        r10,
        r11,
        r12,
        r13,
        r14,
        r15,
    ] = frame.general;
    last_line(format_args!(
        "@panic exception {} (error code {:#x}) at {:#x}, address {:#x}",
        frame.vector,
        frame.error,
        frame.rip,
        fault_address(),
    ));
    last_line(format_args!(
        "Bouncer stopped: exception {} inside the hypervisor, error code {:#x}, address {:#x}",
        frame.vector,
        frame.error,
        fault_address(),
    ));
    last_line(format_args!(
        "  rip {:016x}  rsp {:016x}  flags {:08x}",
        frame.rip, frame.rsp, frame.rflags
    ));
    last_line(format_args!(
        "  rax {rax:016x}  rcx {rcx:016x}  rdx {rdx:016x}  rbx {rbx:016x}"
    ));
    last_line(format_args!(
        "  rbp {rbp:016x}  rsi {rsi:016x}  rdi {rdi:016x}  r8  {r8:016x}"
    ));
    last_line(format_args!(
        "  r9  {r9:016x}  r10 {r10:016x}  r11 {r11:016x}  r12 {r12:016x}"
    ));
    last_line(format_args!(
        "  r13 {r13:016x}  r14 {r14:016x}  r15 {r15:016x}"
    ));
    trace(frame.rip, rbp);
    end()
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    begin();
    let (at, rsp, base): (u64, u64, u64);
    // SAFETY: reads three registers.
    unsafe {
        asm!("lea {}, [rip]", "mov {}, rsp", "mov {}, rbp", out(reg) at, out(reg) rsp, out(reg) base,
            options(nomem, nostack, preserves_flags));
    }
    last_line(format_args!("@panic {}", info.message()));
    last_line(format_args!("Bouncer stopped: {}", info.message()));
    if let Some(place) = info.location() {
        last_line(format_args!(
            "  at {}:{}:{}",
            place.file(),
            place.line(),
            place.column()
        ));
    }
    last_line(format_args!(
        "  rip {at:016x}  rsp {rsp:016x}  rbp {base:016x}"
    ));
    trace(at, base);
    end()
}

/// Only the first processor to die speaks; all others are told to stop.
fn begin() {
    if DEAD.swap(true, Ordering::AcqRel) {
        instructions::stop();
    }
    let Some(machine) = Machine::published() else {
        return;
    };
    let own = area::current().index();
    for other in machine.areas.iter().filter(|other| other.index() != own) {
        apic::send(Signal::Nmi, other.apic_id());
    }
}

fn end() -> ! {
    last_line(format_args!(
        "All processors are stopped. Turn the machine off and on again."
    ));
    last_line(format_args!("@ended panic"));
    instructions::stop()
}

/// Prints the chain of frames that begins with `rip` and the frame pointer `base`.
fn trace(rip: u64, base: u64) {
    let Some(machine) = Machine::published() else {
        last_line(format_args!("@frame {:#x}", rip.wrapping_sub(image_base())));
        return;
    };
    let image = machine.handoff.image;
    let (low, high) = area::current().stack();
    let (mut rip, mut base) = (rip, base);
    for _ in 0..DEPTH {
        let offset = rip.wrapping_sub(image.base);
        if offset >= image.len {
            break;
        }
        last_line(format_args!("@frame {offset:#x}"));
        if base < low || base > high - 16 || !base.is_multiple_of(8) {
            break;
        }
        // SAFETY: both words lie on this processor's own stack, which is mapped.
        unsafe {
            rip = (base as *const u64).add(1).read();
            base = (base as *const u64).read();
        }
    }
}

/// Where the image starts, before the machine is known.
fn image_base() -> u64 {
    unsafe extern "C" {
        /// The linker's name for the first byte of the image.
        static __ehdr_start: u8;
    }
    &raw const __ehdr_start as u64
}

/// CR2: the address of the last page fault.
fn fault_address() -> u64 {
    // SAFETY: reading CR2 has no effect.
    unsafe { x86::controlregs::cr2() as u64 }
}
