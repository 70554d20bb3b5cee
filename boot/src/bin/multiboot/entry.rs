//! From GRUB's 32-bit world to long mode.
//!
//! Multiboot2 specification 2.0, section 3.3: protected mode, paging off, EAX holds the magic number,
//! EBX the address of the information, and there is no stack.

// UNSAFETY: the first instructions of the loader.
#![expect(unsafe_code)]

use core::arch::global_asm;

use boot::multiboot2::{BOOT_MAGIC, HEADER};

/// The header GRUB looks for.
#[used]
#[unsafe(link_section = ".multiboot")]
static MULTIBOOT_HEADER: Aligned = Aligned(HEADER);

#[repr(C, align(8))]
struct Aligned([u8; size_of_val(&HEADER)]);

global_asm!(
    ".bss",
    ".balign 4096",
    "bouncer_tables:", // PML4, PDPT, four page directories
    ".skip 6 * 4096",
    "bouncer_stack:",
    ".skip 2048 * 1024", // the loader's pages and tables by value, and the hypervisor's first steps
    "bouncer_stack_top:",
    ".section .rodata",
    "bouncer_no_long_mode:",
    ".asciz \"Bouncer does not start: this processor has no 64-bit mode (long mode).\"",
    "bouncer_wrong_magic:",
    ".asciz \"Bouncer does not start: it must be loaded by a Multiboot2 loader (GRUB: multiboot2).\"",
    ".balign 8",
    "bouncer_gdt:",
    ".quad 0",
    ".quad 0x00af9b000000ffff",
    ".quad 0x00cf93000000ffff",
    "bouncer_gdt_pointer:",
    ".word 23",
    ".long bouncer_gdt",
    ".text",
    ".code32",
    ".global bouncer_entry",
    "bouncer_entry:",
    "cli",
    "cld",
    "mov esp, offset bouncer_stack_top",
    "mov ebp, ebx",
    "mov esi, offset bouncer_wrong_magic",
    "cmp eax, {magic}",
    "jne bouncer_complain",
    // Long mode? SDM vol. 3A, 9.8.5.
    "mov esi, offset bouncer_no_long_mode",
    "mov eax, 0x80000000",
    "cpuid",
    "cmp eax, 0x80000001",
    "jb bouncer_complain",
    "mov eax, 0x80000001",
    "cpuid",
    "bt edx, 29",
    "jnc bouncer_complain",
    // The first 4 GiB one to one, in pages of 2 MiB.
    "mov edi, offset bouncer_tables",
    "lea eax, [edi + 0x1003]",
    "mov [edi], eax",
    "lea eax, [edi + 0x2003]",
    "mov ecx, 4",
    "lea edx, [edi + 0x1000]",
    "2:",
    "mov [edx], eax",
    "add eax, 0x1000",
    "add edx, 8",
    "loop 2b",
    "lea edx, [edi + 0x2000]",
    "mov eax, 0x83", // present, writable, large
    "mov ecx, 2048",
    "2:",
    "mov [edx], eax",
    "add eax, 0x200000",
    "add edx, 8",
    "loop 2b",
    "mov cr3, edi",
    "mov eax, cr4",
    "or eax, 0x20", // PAE
    "mov cr4, eax",
    "mov ecx, 0xc0000080",
    "rdmsr",
    "or eax, 0x100", // LME
    "wrmsr",
    "mov eax, cr0",
    "or eax, 0x80000000", // PG
    "mov cr0, eax",
    "lgdt [bouncer_gdt_pointer]",
    "push 8",
    "mov eax, offset bouncer_long",
    "push eax",
    "retf",
    // Prints the sentence at ESI on the screen and the serial ports, and stops.
    "bouncer_complain:",
    "mov edi, 0xb8000",
    "2:",
    "lodsb",
    "test al, al",
    "jz 3f",
    "mov dx, 0x3f8",
    "out dx, al",
    "mov dx, 0x3e8",
    "out dx, al",
    "mov ah, 0x0f",
    "stosw",
    "jmp 2b",
    "3:",
    "hlt",
    "jmp 3b",
    ".code64",
    "bouncer_long:",
    "mov ax, 0x10",
    "mov ds, ax",
    "mov es, ax",
    "mov fs, ax",
    "mov gs, ax",
    "mov ss, ax",
    "mov edi, ebp",
    "mov esp, offset bouncer_stack_top",
    "xor ebp, ebp",
    "call {main}",
    "2:",
    "hlt",
    "jmp 2b",
    magic = const BOOT_MAGIC,
    main = sym crate::main,
);
