//! The way into the hypervisor, and out of it as its guest.
//!
//! The hypervisor is called on tables and a stack of this program's own; it never returns. What returns is
//! a guest that the hypervisor starts behind the call, on the firmware's tables, with the processor as it
//! was: only the stack pointer is fetched from where it was put.

// UNSAFETY: leaves the firmware's world and comes back to it; reads what the processor runs on.
#![expect(unsafe_code)]

use core::arch::global_asm;
use core::slice;

use boot::efi::{self, Registers};
use boot::handoff::{GuestStart, TableState};
use boot::identity;
use memory::{ByteRange, Hpa, PAGE_SIZE};
use x86::controlregs::{cr0, cr3, cr4};
use x86::dtables::{self, DescriptorTablePointer};
use x86::msr::{IA32_EFER, IA32_FS_BASE, IA32_GS_BASE, IA32_PAT, rdmsr};
use x86::segmentation::{cs, ds, es, fs, gs, ss};

use crate::place;
use crate::refusal::Refusal;
use crate::services::Firmware;

/// The hypervisor's first steps keep tables by value on their stack.
const STACK_BYTES: u64 = 2 << 20;

global_asm!(
    ".global bouncer_cross, bouncer_crossed",
    "bouncer_cross:", // rdi: entry, rsi: hand-over, rdx: tables, rcx: top of the stack
    "pushfq",
    "cli",
    "push rbx",
    "push rbp",
    "push r12",
    "push r13",
    "push r14",
    "push r15",
    "mov [rip + bouncer_stack], rsp",
    "mov rbx, cr3", // which the hypervisor keeps if it returns
    "mov rax, rdi",
    "mov rdi, rsi",
    "mov cr3, rdx",
    "mov rsp, rcx",
    "xor ebp, ebp",
    "call rax",
    "mov cr3, rbx",
    "bouncer_crossed:",
    "mov rsp, [rip + bouncer_stack]",
    "pop r15",
    "pop r14",
    "pop r13",
    "pop r12",
    "pop rbp",
    "pop rbx",
    "popfq",
    "ret",
    ".data",
    ".balign 8",
    "bouncer_stack:",
    ".quad 0",
    ".text",
);

unsafe extern "sysv64" {
    fn bouncer_cross(entry: u64, handoff: u64, tables: u64, stack: u64);
    fn bouncer_crossed();
}

/// What the hypervisor is called on.
pub(crate) struct Bridge {
    tables: ByteRange<Hpa>,
    stack_top: u64,
}

impl Bridge {
    /// Builds tables and a stack.
    pub(crate) fn build(firmware: Firmware) -> Result<Self, Refusal> {
        let near = bouncer_cross as *const () as u64;
        if near >= place::MAPPED {
            return Err(Refusal::TooHigh { at: near });
        }
        let tables = place::scratch(firmware, identity::PAGES as u64 * PAGE_SIZE)?;
        let (pages, _) = place::bytes(tables).as_chunks_mut();
        if let Some(pages) = pages.first_chunk_mut() {
            identity::fill(pages, tables.start());
        }
        let stack = place::scratch(firmware, STACK_BYTES)?;
        Ok(Self {
            tables,
            stack_top: stack.start().raw() + stack.len(),
        })
    }

    /// The state in which the firmware goes on. Its first instruction takes the firmware's own stack.
    pub(crate) fn far_side(&self) -> GuestStart {
        let (registers, gdt) = registers();
        let rip = bouncer_crossed as *const () as u64;
        efi::start(&registers, gdt, rip, self.stack_top)
    }

    /// Calls the hypervisor; comes back as its guest, or because it refuses the machine.
    pub(crate) fn cross(self, entry: u64, handoff: u64) {
        let tables = self.tables.start().raw();
        // SAFETY: the image was placed and relocated, the hand-over validated; the tables map them, this
        // code and the stack. The hypervisor starts its guest behind the call in the state told, which is
        // this one, so that for the compiler it is a call that returns.
        unsafe { bouncer_cross(entry, handoff, tables, self.stack_top) };
    }
}

/// What the processor runs on, and the bytes of its descriptor table.
fn registers() -> (Registers, &'static [u8]) {
    let mut gdt: DescriptorTablePointer<u64> = DescriptorTablePointer::default();
    let mut idt: DescriptorTablePointer<u64> = DescriptorTablePointer::default();
    let table = |pointer: &DescriptorTablePointer<u64>| TableState {
        base: pointer.base as u64,
        limit: pointer.limit.into(),
        reserved: 0,
    };
    // SAFETY: reads registers; a UEFI application runs at the most privileged level, on tables that are
    // mapped (UEFI 2.10, 2.3.4) and that nobody changes while it runs.
    unsafe {
        dtables::sgdt(&mut gdt);
        dtables::sidt(&mut idt);
        let segments = [es(), cs(), ss(), ds(), fs(), gs()].map(|selector| selector.bits());
        let registers = Registers {
            cr0: cr0().bits() as u64,
            cr3: cr3(),
            cr4: cr4().bits() as u64,
            efer: rdmsr(IA32_EFER),
            pat: rdmsr(IA32_PAT),
            fs_base: rdmsr(IA32_FS_BASE),
            gs_base: rdmsr(IA32_GS_BASE),
            gdt: table(&gdt),
            idt: table(&idt),
            segments,
            ldtr: dtables::ldtr().bits(),
            tr: x86::task::tr().bits(),
        };
        let base = gdt.base.cast::<u8>();
        let bytes = slice::from_raw_parts(base, usize::from(gdt.limit) + 1);
        (registers, bytes)
    }
}
