//! The descriptor tables of one processor: GDT, TSS, IDT.

// UNSAFETY: loads tables whose addresses the processor keeps.
#![expect(unsafe_code)]

use core::arch::asm;
use core::mem::offset_of;

use x86::dtables::{DescriptorTablePointer, lgdt, lidt};

use super::exceptions;

/// Selector of Bouncer's code segment.
pub(crate) const CODE: u16 = 0x08;
/// Selector of Bouncer's data segment.
pub(crate) const DATA: u16 = 0x10;
/// Selector of Bouncer's task state segment.
pub(crate) const TASK: u16 = 0x18;

/// Present, 64-bit code, execute and read. SDM vol. 3A, 3.4.5.
pub(super) const CODE_DESCRIPTOR: u64 = 0x00af_9b00_0000_ffff;
/// The same for data.
pub(super) const DATA_DESCRIPTOR: u64 = 0x00cf_9300_0000_ffff;
/// Gate: present, 64-bit interrupt gate. SDM vol. 3A, 6.14.1.
const INTERRUPT_GATE: u64 = 0x8e00;
const DOUBLE_FAULT: usize = 8;
const DOUBLE_FAULT_STACK: u64 = 1;

/// Bytes of a 64-bit task state segment. SDM vol. 3A, figure 9-11 (task management).
const TSS_BYTES: usize = 104;
/// Where IST1 stands in it.
const IST1: usize = 36;

/// The tables of one processor. Must not move once loaded.
#[repr(C, align(16))]
pub(crate) struct Tables {
    gdt: [u64; 5],
    tss: [u8; TSS_BYTES],
    idt: [[u64; 2]; exceptions::VECTORS],
}

impl Tables {
    /// Fills the tables in and makes this processor use them. Double faults run on the stack
    /// that ends at `emergency_stack`.
    ///
    /// # Safety
    /// `self` must stay where it is, and be this processor's alone, for ever.
    pub(crate) unsafe fn load(&mut self, emergency_stack: u64) {
        self.tss = [0; TSS_BYTES];
        self.tss[IST1..IST1 + 8].copy_from_slice(&emergency_stack.to_le_bytes());
        // No I/O permission map: its base lies behind the limit.
        self.tss[102..104].copy_from_slice(&(TSS_BYTES as u16).to_le_bytes());
        let tss = (&raw const self.tss) as u64;
        self.gdt = [
            0,
            CODE_DESCRIPTOR,
            DATA_DESCRIPTOR,
            task_descriptor(tss),
            tss >> 32,
        ];
        for (vector, gate) in self.idt.iter_mut().enumerate() {
            let stack = if vector == DOUBLE_FAULT {
                DOUBLE_FAULT_STACK
            } else {
                0
            };
            *gate = interrupt_gate(exceptions::entry(vector), stack);
        }
        // SAFETY: the tables are complete, stay where they are (caller), and describe the flat
        // segments the running code already uses; the far return reloads CS with an equal one.
        unsafe {
            lgdt(&DescriptorTablePointer::new(&self.gdt));
            asm!(
                "push {code}",
                "lea {scratch}, [rip + 2f]",
                "push {scratch}",
                "retfq",
                "2:",
                "mov ds, {data:e}",
                "mov es, {data:e}",
                "mov ss, {data:e}",
                "mov fs, {zero:e}",
                "mov gs, {zero:e}",
                "lldt {zero:x}",
                "ltr {task:x}",
                code = in(reg) u64::from(CODE),
                data = in(reg) u32::from(DATA),
                task = in(reg) TASK,
                zero = in(reg) 0_u32,
                scratch = out(reg) _,
            );
            lidt(&DescriptorTablePointer::new(&self.idt));
        }
    }
}

impl Tables {
    /// Where the task state segment of `tables` is.
    pub(super) fn task_state(tables: *const Self) -> u64 {
        tables as u64 + offset_of!(Self, tss) as u64
    }
}

/// The low half of the descriptor of an available 64-bit TSS.
fn task_descriptor(base: u64) -> u64 {
    const AVAILABLE_TSS: u64 = 0x89 << 40;
    AVAILABLE_TSS | (TSS_BYTES as u64 - 1) | (base & 0x00ff_ffff) << 16 | (base >> 24 & 0xff) << 56
}

fn interrupt_gate(entry: u64, stack: u64) -> [u64; 2] {
    let low = entry & 0xffff
        | u64::from(CODE) << 16
        | stack << 32
        | INTERRUPT_GATE << 32
        | (entry >> 16 & 0xffff) << 48;
    [low, entry >> 32]
}
