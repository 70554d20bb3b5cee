//! Raises the other processors of the machine into Bouncer.
//!
//! They start in real mode in a page below 1 MiB, go straight to long mode with Bouncer's own page
//! tables, take a number, find their area by it, and enter Rust on its stack.

// UNSAFETY: code that runs before there is a stack, and a page shared with it.
#![expect(unsafe_code)]

use core::arch::global_asm;
use core::mem::offset_of;
use core::sync::atomic::{AtomicU32, Ordering};

use boot::reservation::PER_CPU_BYTES;
use memory::{Hpa, PAGE_SIZE};

use super::apic::{self, Signal};
use super::tables::{CODE, CODE_DESCRIPTOR, DATA_DESCRIPTOR};
use super::timer::Timer;

// The page begins with a jump over what `raise` fills in (`Filled`), whose places the code names as
// offsets from the page's start; so the code is the same in every page.
global_asm!(
    ".balign 16",
    ".global bouncer_trampoline, bouncer_trampoline_long, bouncer_trampoline_end",
    ".code16",
    "bouncer_trampoline:",
    ".byte 0xeb, {code} - 2", // jmp short
    ".skip {code} - 2",
    "cli",
    "cld",
    "mov ax, cs",
    "mov ds, ax",
    ".byte 0x66, 0x0f, 0x01, 0x16", // lgdt, 32-bit base
    ".word {gdt_pointer}",
    "mov eax, cr4",
    "or eax, 0xa0", // PAE, PGE
    "mov cr4, eax",
    ".byte 0x66, 0xa1", // mov eax, [page tables]
    ".word {page_tables}",
    "mov cr3, eax",
    "mov ecx, 0xc0000080",
    "rdmsr",
    "or eax, 0x900", // LME, NXE
    "wrmsr",
    "mov eax, 0x80010033", // PG, WP, NE, ET, MP, PE; caches on
    "mov cr0, eax",
    ".byte 0x66, 0xff, 0x2e", // jmp far, 32-bit offset
    ".word {far_pointer}",
    ".code64",
    "bouncer_trampoline_long:",
    "mov ax, 0x10",
    "mov ds, ax",
    "mov es, ax",
    "mov ss, ax",
    "lea rbx, [rip + bouncer_trampoline]",
    "mov eax, 1",
    "lock xadd [rbx + {next}], eax",
    "cmp eax, [rbx + {total}]",
    "jae 2f",
    "mov edi, eax",
    "mov rcx, [rbx + {area_bytes}]",
    "mul rcx",
    "mov rsi, [rbx + {areas}]",
    "add rsi, rax",
    "lea rsp, [rsi + rcx]",
    "xor ebp, ebp",
    "call [rbx + {entry}]",
    "2:",
    "cli",
    "hlt",
    "jmp 2b",
    "bouncer_trampoline_end:",
    code = const CODE_OFFSET,
    gdt_pointer = const offset_of!(Filled, gdt_pointer),
    far_pointer = const offset_of!(Filled, far_pointer),
    page_tables = const offset_of!(Filled, page_tables),
    next = const offset_of!(Filled, next),
    total = const offset_of!(Filled, total),
    area_bytes = const offset_of!(Filled, area_bytes),
    areas = const offset_of!(Filled, areas),
    entry = const offset_of!(Filled, entry),
);

/// Where the code begins behind `Filled`.
const CODE_OFFSET: usize = size_of::<Filled>();
const _: () = assert!(CODE_OFFSET - 2 < 0x80, "a short jump reaches it");

/// The start of the page.
#[repr(C, packed)]
struct Filled {
    jump: [u8; 8],
    page_tables: u64,
    areas: u64,
    entry: u64,
    next: u32,
    total: u32,
    area_bytes: u64,
    /// Null, 64-bit code, data.
    gdt: [u64; 3],
    /// Limit and base.
    gdt_pointer: Pointer16,
    /// Offset and selector.
    far_pointer: Pointer32,
}

#[repr(C, packed)]
struct Pointer16(u16, u32);

#[repr(C, packed)]
struct Pointer32(u32, u16);

const _: () = assert!(offset_of!(Filled, next).is_multiple_of(4));

unsafe extern "sysv64" {
    fn bouncer_trampoline();
    fn bouncer_trampoline_long();
    fn bouncer_trampoline_end();
}

/// What the processors need to find their way.
#[derive(Debug)]
pub(crate) struct Plan<'a> {
    /// A page below 1 MiB that nobody uses.
    pub(crate) trampoline: Hpa,
    /// Bouncer's page tables, below 4 GiB, which map that page executable.
    pub(crate) page_tables: Hpa,
    /// The areas, one behind the other; the first belongs to the running processor.
    pub(crate) areas: Hpa,
    /// APIC ids of the processors to be raised.
    pub(crate) apic_ids: &'a [u32],
}

/// Microseconds between INIT and start-up. SDM vol. 3A, 9.4.4.1.
const AFTER_INIT: u32 = 10_000;
/// Microseconds before the start-up is repeated.
const AFTER_STARTUP: u32 = 200;
/// Microseconds until a processor is given up.
const PATIENCE: u32 = 500_000;

/// Raises the processors; each calls `entry` with its number (from 1) and the address of its
/// area. Returns how many came.
///
/// # Safety
/// The plan's page is free, its tables map everything Bouncer uses, and there is a zeroed area of
/// `PER_CPU_BYTES` for each processor behind the first.
pub(crate) unsafe fn raise(
    plan: &Plan<'_>,
    timer: Timer,
    entry: extern "sysv64" fn(u32, u64) -> !,
) -> u32 {
    let page = plan.trampoline.raw();
    let start = bouncer_trampoline as *const () as usize;
    let len = bouncer_trampoline_end as *const () as usize - start;
    let long = bouncer_trampoline_long as *const () as usize - start;
    assert!(len as u64 <= PAGE_SIZE, "the trampoline fits its page");
    let filled = page as *mut Filled;
    let total = plan.apic_ids.len() as u32 + 1;
    // SAFETY: the page is free and mapped (caller); every store lies inside it, and `next`, at a
    // multiple of four, is from then on only accessed as an atomic.
    let arrived = unsafe {
        core::ptr::copy_nonoverlapping(start as *const u8, page as *mut u8, len);
        filled.write(Filled {
            jump: (*filled).jump,
            page_tables: plan.page_tables.raw(),
            areas: plan.areas.raw(),
            entry: entry as *const () as u64,
            next: 1,
            total,
            area_bytes: PER_CPU_BYTES,
            gdt: [0, CODE_DESCRIPTOR, DATA_DESCRIPTOR],
            gdt_pointer: Pointer16(23, (page + offset_of!(Filled, gdt) as u64) as u32),
            far_pointer: Pointer32((page + long as u64) as u32, CODE),
        });
        AtomicU32::from_ptr(&raw mut (*filled).next)
    };
    let startup = Signal::Startup {
        page: (page / PAGE_SIZE) as u8,
    };
    for id in plan.apic_ids {
        apic::send(Signal::Init, *id);
    }
    timer.wait_until(AFTER_INIT, || false);
    for id in plan.apic_ids {
        apic::send(startup, *id);
    }
    let all_here = || arrived.load(Ordering::Acquire) >= total;
    if !timer.wait_until(AFTER_STARTUP, all_here) {
        for id in plan.apic_ids {
            apic::send(startup, *id);
        }
    }
    timer.wait_until(PATIENCE, all_here);
    // A processor that comes from now on finds no number left and stops for ever.
    let came = arrived.swap(u32::MAX / 2, Ordering::AcqRel);
    if came < total {
        // SAFETY: nobody starts in the page any more but late processors, and those must stop: the
        // first instruction becomes a jump to itself.
        unsafe { (page as *mut u16).write_volatile(0xfeeb) };
    }
    came.min(total) - 1
}
