//! Ways an instruction can touch memory, each a few lines of assembly and what it must see.
//!
//! Owns the instructions; knows neither where they are pointed nor what a miss means. Every form
//! is pointed at memory of which all bytes read as ones, and turns what it saw of it into ones
//! in RAX.
#![expect(unsafe_code)]
// UNSAFETY: the instruction itself is what is tested, so it must be written out.

use core::arch::asm;

/// The bytes a form may touch from where it is pointed.
pub(super) const REACH: usize = 64;

/// One way to touch memory.
#[derive(Clone, Copy)]
pub(super) struct Form {
    /// The instructions, for the report.
    pub(super) text: &'static str,
    /// How many low bytes of the result come from the memory; 0 for a form that only writes.
    pub(super) seen: usize,
    run: unsafe fn(*mut u8, u64, &mut [u8; REACH]) -> u64,
}

impl Form {
    /// Touches `at`, writing `pattern` if it is a form that writes; gives what it saw.
    ///
    /// # Safety
    /// [`REACH`] bytes at `at` must be mapped, and their contents must matter to nobody.
    pub(super) unsafe fn touch(&self, at: *mut u8, pattern: u64) -> u64 {
        let mut beside = [0; REACH];
        // SAFETY: (1) the caller vouches for the memory at `at`; (2) `beside` is REACH bytes.
        unsafe { (self.run)(at, pattern, &mut beside) }
    }

    /// What [`Form::touch`] gives when every byte of the memory reads as ones.
    pub(super) fn expected(&self) -> u64 {
        // 64 - 8 * 8 and 64 - 8 * 0 shift by 0 and by 64.
        u64::MAX.checked_shr(64 - 8 * self.seen as u32).unwrap_or(0)
    }

    /// The part of what it gave that comes from the memory.
    pub(super) fn told(&self, given: u64) -> u64 {
        given & self.expected()
    }
}

/// A form: RDI points at the memory, RSI at REACH bytes beside it, RAX holds the pattern and
/// leaves with what was seen; RCX, RDX, RSI, RDI, R8, XMM0 and ST(0) may
/// be changed. The direction flag is clear.
macro_rules! form {
    ($seen:literal, $($text:literal),+) => {{
        unsafe fn run(at: *mut u8, pattern: u64, beside: &mut [u8; REACH]) -> u64 {
            let mut rax = pattern;
            // SAFETY: (1) the caller vouches for REACH bytes at `at`, `beside` is REACH bytes,
            // and no form goes further; (2) every register a form may change is declared.
            unsafe {
                asm!(
                    $($text,)+
                    inout("rdi") at => _,
                    inout("rsi") beside.as_mut_ptr() => _,
                    inout("rax") rax,
                    out("rcx") _,
                    out("rdx") _,
                    out("r8") _,
                    out("xmm0") _,
                    out("st(0)") _,
                );
            }
            rax
        }
        Form { text: concat!($($text, "; "),+), seen: $seen, run }
    }};
}

/// Loads, of which every width must see ones.
pub(super) const LOADS: &[Form] = &[
    form!(1, "mov al, [rdi]"),
    form!(2, "mov ax, [rdi]"),
    form!(4, "mov eax, [rdi]"),
    form!(8, "mov rax, [rdi]"),
];

/// Stores of the pattern, of every width.
pub(super) const STORES: &[Form] = &[
    form!(0, "mov [rdi], al"),
    form!(0, "mov [rdi], ax"),
    form!(0, "mov [rdi], eax"),
    form!(0, "mov [rdi], rax"),
];

/// Everything a compiler or a kernel touches device memory with.
pub(super) const ALL: &[Form] = &[
    form!(1, "mov al, [rdi]"),
    form!(2, "mov ax, [rdi]"),
    form!(4, "mov eax, [rdi]"),
    form!(8, "mov rax, [rdi]"),
    form!(1, "mov ah, [rdi]", "shr eax, 8"),
    form!(1, "mov r8b, [rdi]", "mov al, r8b"),
    form!(2, "movzx eax, word ptr [rdi]"),
    form!(8, "movsx rax, byte ptr [rdi]"),
    form!(4, "movsx eax, word ptr [rdi]"),
    form!(8, "movsxd rax, dword ptr [rdi]"),
    form!(0, "mov [rdi], al"),
    form!(0, "mov [rdi], ah"),
    form!(0, "mov [rdi], ax"),
    form!(0, "mov [rdi], eax"),
    form!(0, "mov [rdi], rax"),
    form!(0, "mov byte ptr [rdi], 0x5a"),
    form!(0, "mov word ptr [rdi], 0x5aa5"),
    form!(0, "mov dword ptr [rdi], 0x5aa55aa5"),
    form!(0, "mov qword ptr [rdi], 0x5aa55aa5"),
    form!(0, "mov qword ptr [rdi + 56], 0"),
    form!(0, "movnti [rdi], rax"),
    form!(1, "mov rsi, rdi", "lodsb"),
    form!(2, "mov rsi, rdi", "lodsw"),
    form!(4, "mov rsi, rdi", "lodsd"),
    form!(8, "mov rsi, rdi", "lodsq"),
    form!(0, "stosb"),
    form!(0, "stosw"),
    form!(0, "stosd"),
    form!(0, "stosq"),
    form!(0, "mov ecx, 64", "rep stosb"),
    form!(0, "mov ecx, 8", "rep stosq"),
    form!(1, "xchg rsi, rdi", "movsb", "mov al, [rdi - 1]"),
    form!(2, "xchg rsi, rdi", "movsw", "mov ax, [rdi - 2]"),
    form!(4, "xchg rsi, rdi", "movsd", "mov eax, [rdi - 4]"),
    form!(8, "xchg rsi, rdi", "movsq", "mov rax, [rdi - 8]"),
    form!(
        8,
        "xchg rsi, rdi",
        "mov ecx, 64",
        "rep movsb",
        "mov rax, [rdi - 8]"
    ),
    form!(
        8,
        "xchg rsi, rdi",
        "mov ecx, 8",
        "rep movsq",
        "mov rax, [rdi - 64]"
    ),
    form!(0, "movsb"),
    form!(0, "movsw"),
    form!(0, "movsd"),
    form!(0, "movsq"),
    form!(0, "mov ecx, 64", "rep movsb"),
    form!(0, "mov ecx, 8", "rep movsq"),
    form!(1, "xchg [rdi], al"),
    form!(2, "xchg [rdi], ax"),
    form!(4, "xchg [rdi], eax"),
    form!(8, "xchg [rdi], rax"),
    form!(4, "lock xadd [rdi], eax"),
    form!(8, "lock xadd [rdi], rax"),
    form!(4, "mov rcx, rax", "mov eax, -1", "lock cmpxchg [rdi], ecx"),
    form!(8, "mov rcx, rax", "mov rax, -1", "lock cmpxchg [rdi], rcx"),
    form!(0, "or [rdi], al"),
    form!(0, "or dword ptr [rdi], 0x5a"),
    form!(0, "lock or [rdi], rax"),
    form!(0, "and [rdi], al"),
    form!(0, "and word ptr [rdi], 0x5a"),
    form!(0, "and dword ptr [rdi], 0"),
    form!(0, "lock and [rdi], rax"),
    form!(8, "and rax, 0", "or rax, [rdi]"),
    form!(8, "mov rax, -1", "and rax, [rdi]"),
    form!(0, "xor [rdi], rax"),
    form!(8, "xor eax, eax", "add rax, [rdi]"),
    // All ones and one carry.
    form!(8, "add dword ptr [rdi], 1", "sbb rax, rax"),
    form!(0, "sub [rdi], rax"),
    form!(0, "not qword ptr [rdi]"),
    form!(0, "neg dword ptr [rdi]"),
    form!(1, "inc dword ptr [rdi]", "setz al", "neg al"),
    form!(0, "lock dec qword ptr [rdi]"),
    form!(1, "cmp dword ptr [rdi], -1", "setz al", "neg al"),
    form!(1, "test byte ptr [rdi], 0x80", "setnz al", "neg al"),
    // The old bit goes to the carry flag.
    form!(8, "bt dword ptr [rdi], 7", "sbb rax, rax"),
    form!(8, "bts dword ptr [rdi], 3", "sbb rax, rax"),
    form!(8, "lock bts qword ptr [rdi], 63", "sbb rax, rax"),
    form!(8, "mov ecx, 17", "bts [rdi], ecx", "sbb rax, rax"),
    // A register's bit number reaches beyond the operand: byte 32 here.
    form!(8, "mov ecx, 256", "lock bts [rdi], rcx", "sbb rax, rax"),
    form!(8, "lock btr dword ptr [rdi], 3", "sbb rax, rax"),
    form!(8, "btc word ptr [rdi], 3", "sbb rax, rax"),
    form!(0, "setc byte ptr [rdi]"),
];

/// What no driver does: a hypervisor may answer with any fault, but not with a byte of itself.
pub(super) const ODD: &[Form] = &[
    form!(8, "movups xmm0, [rdi]", "movq rax, xmm0"),
    form!(0, "movq xmm0, rax", "movups [rdi], xmm0"),
    form!(0, "movntdq [rdi], xmm0"),
    form!(8, "movq xmm0, [rdi]", "movq rax, xmm0"),
    form!(0, "fld tbyte ptr [rdi]", "fstp st(0)"),
    form!(0, "fld1", "fstp qword ptr [rdi]"),
    form!(8, "push qword ptr [rdi]", "pop rax"),
    form!(0, "push rax", "pop qword ptr [rdi]"),
    form!(
        8,
        "mov rcx, -1",
        "xor eax, eax",
        "cmp rax, rax",
        "cmovz rax, [rdi]"
    ),
    form!(8, "imul rax, [rdi], 1"),
    form!(0, "mul qword ptr [rdi]"),
    form!(0, "xor edx, edx", "div qword ptr [rdi]"),
    form!(0, "shl qword ptr [rdi], 3"),
    form!(0, "ror byte ptr [rdi], 1"),
    form!(1, "mov al, -1", "scasb", "setz al", "neg al"),
    form!(0, "cmpsb"),
    form!(0, "mov ecx, 64", "repne scasb"),
    form!(0, "crc32 rax, qword ptr [rdi]"),
    form!(8, "movbe rax, [rdi]"),
    form!(4, "bsf eax, [rdi]", "dec eax"),
    form!(0, "lock cmpxchg16b [rdi]"),
    form!(0, "clflush [rdi]"),
    form!(0, "prefetcht0 [rdi]"),
    form!(0, "fxsave [rdi]"),
    form!(0, "stmxcsr [rdi]"),
    form!(0, "mov ecx, 64", "std", "rep stosb", "cld"),
    // Running what is there.
    form!(0, "call rdi"),
    form!(0, "jmp [rdi]"),
    form!(0, "call [rdi]"),
    form!(0, "mov rsp, rdi", "ret"),
    // Below: an operating system's own instructions, which a program may only try.
    form!(0, "lgdt [rdi]"),
    form!(0, "lidt [rdi]"),
    form!(0, "sgdt [rdi]"),
    form!(0, "xrstor [rdi]"),
    form!(0, "invlpg [rdi]"),
];

#[cfg(test)]
mod tests {
    use super::*;

    /// Memory that starts as ones; what each form sees of it is what the table says.
    #[test]
    fn every_form_sees_ones_in_memory_of_ones() {
        for form in LOADS.iter().chain(STORES).chain(ALL) {
            let mut memory = [0xffu8; REACH];
            // SAFETY: (1) REACH bytes of our own.
            let given = unsafe { form.touch(memory.as_mut_ptr(), 0x1122_3344_5566_7788) };
            assert_eq!(form.told(given), form.expected(), "{}", form.text);
        }
    }

    /// Memory that starts as zeros: a form that claims to see must not claim ones.
    #[test]
    fn every_form_that_sees_notices_memory_that_is_not_ones() {
        for form in LOADS.iter().chain(ALL).filter(|form| form.seen > 0) {
            let mut memory = [0u8; REACH];
            // SAFETY: (1) REACH bytes of our own.
            let given = unsafe { form.touch(memory.as_mut_ptr(), 0x1122_3344_5566_7788) };
            assert_ne!(form.told(given), form.expected(), "{}", form.text);
        }
    }

    #[test]
    fn every_form_that_writes_changes_ordinary_memory() {
        let writes = ALL.iter().filter(|form| form.seen == 0).chain(STORES);
        for form in writes {
            let mut memory = [0x24u8; REACH];
            // SAFETY: (1) REACH bytes of our own.
            unsafe { form.touch(memory.as_mut_ptr(), 0x1122_3344_5566_7788) };
            assert_ne!(memory, [0x24; REACH], "{}", form.text);
        }
    }
}
