//! Vector and floating-point registers survive exits and neighbours.
//!
//! On every processor two threads with different patterns fill the registers, force exits with
//! CPUID (which every hypervisor intercepts) and compare: x87, SSE, AVX, and both control words.
#![expect(unsafe_code)]
// UNSAFETY: the registers are only reachable by inline assembly.

use crate::cpus;
use crate::noise::Noise;
use crate::verdict::{Figures, Verdict, ensure, failed};
use core::arch::asm;
use std::time::{Duration, Instant};

/// How long each thread goes on.
const LOAD: Duration = Duration::from_secs(1);
/// Exits between filling the registers and looking at them.
const EXITS: u64 = 16;
/// MXCSR with every exception masked, rounding towards zero (Intel SDM volume 1, 10.2.3).
const MXCSR: u32 = 0x7f80;
/// x87 control word: exceptions masked, 53-bit precision, rounding down (SDM volume 1, 8.1.5).
const X87_CONTROL: u16 = 0x067f;

pub(super) fn run(figures: &mut Figures) -> Verdict {
    let online = cpus::online()?;
    let has_avx = std::is_x86_feature_detected!("avx");
    let mut rounds = 0;
    std::thread::scope(|scope| {
        let threads: Vec<_> = online
            .iter()
            .flat_map(|&cpu| [(cpu, 0), (cpu, 1)])
            .map(|(cpu, twin)| scope.spawn(move || load(cpu, twin, has_avx)))
            .collect();
        for thread in threads {
            rounds += thread.join().map_err(|_| failed("a thread panicked"))??;
        }
        Ok(())
    })?;
    figures.tell("fpu.rounds", rounds);
    figures.tell("fpu.avx", u8::from(has_avx));
    Ok(())
}

/// Fills and compares on `cpu` until the time is over; gives the number of rounds.
fn load(cpu: usize, twin: u64, has_avx: bool) -> Result<u64, crate::verdict::Shortfall> {
    cpus::pin(cpu)?;
    let mut noise = Noise::new(cpu as u64 * 2 + twin);
    let began = Instant::now();
    let mut rounds = 0;
    while began.elapsed() < LOAD {
        let sse = Vectors::<16>::from(&mut noise);
        compare(cpu, "SSE", &sse, &sse_after_exits(&sse))?;
        if has_avx {
            let avx = Vectors::<32>::from(&mut noise);
            // SAFETY: (1) the caller asked CPUID and XGETBV for AVX.
            compare(cpu, "AVX", &avx, &unsafe { avx_after_exits(&avx) })?;
        }
        x87_survives(cpu, &mut noise)?;
        rounds += 1;
    }
    Ok(rounds)
}

/// The contents of sixteen vector registers of `WIDTH` bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(C, align(32))]
struct Vectors<const WIDTH: usize>([[u8; WIDTH]; 16]);

impl<const WIDTH: usize> Vectors<WIDTH> {
    fn from(noise: &mut Noise) -> Self {
        let mut vectors = Self([[0; WIDTH]; 16]);
        vectors
            .0
            .iter_mut()
            .for_each(|register| noise.fill(register));
        vectors
    }
}

fn compare<const WIDTH: usize>(
    cpu: usize,
    kind: &str,
    before: &Vectors<WIDTH>,
    (after, mxcsr): &(Vectors<WIDTH>, u32),
) -> Verdict {
    for (number, (before, after)) in before.0.iter().zip(&after.0).enumerate() {
        ensure!(
            before == after,
            "processor {cpu}: {kind} register {number} was {before:02x?} and is {after:02x?}"
        );
    }
    ensure!(
        *mxcsr == MXCSR,
        "processor {cpu}: MXCSR was {MXCSR:#x} and is {mxcsr:#x}"
    );
    Ok(())
}

/// Expands to the assembly that loads sixteen registers, exits, and stores them.
macro_rules! through_exits {
    ($move:literal, $register:literal, $width:literal, $before:expr, $after:expr) => {{
        let (mut mxcsr, mut kept) = (MXCSR, 0u32);
        asm!(
            "stmxcsr [{kept}]",
            "ldmxcsr [{mxcsr}]",
            concat!(
                ".irp n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n",
                $move, " ", $register, "\\n, [rsi + ", $width, " * \\n]\n",
                ".endr"
            ),
            // RBX is the compiler's own: CPUID overwrites it.
            "mov r8, rbx",
            "2:",
            "xor eax, eax",
            "xor ecx, ecx",
            "cpuid",
            "dec r9",
            "jnz 2b",
            "mov rbx, r8",
            concat!(
                ".irp n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n",
                $move, " [rdi + ", $width, " * \\n], ", $register, "\\n\n",
                ".endr"
            ),
            "stmxcsr [{mxcsr}]",
            "ldmxcsr [{kept}]",
            kept = in(reg) &raw mut kept,
            mxcsr = in(reg) &raw mut mxcsr,
            in("rsi") $before,
            in("rdi") $after,
            inout("r9") EXITS => _,
            out("r8") _, out("eax") _, out("ecx") _, out("edx") _,
            out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _,
            out("xmm4") _, out("xmm5") _, out("xmm6") _, out("xmm7") _,
            out("xmm8") _, out("xmm9") _, out("xmm10") _, out("xmm11") _,
            out("xmm12") _, out("xmm13") _, out("xmm14") _, out("xmm15") _,
            options(nostack)
        );
        mxcsr
    }};
}

/// Puts `before` into XMM0 to XMM15, exits, and gives what is there then, with MXCSR.
fn sse_after_exits(before: &Vectors<16>) -> (Vectors<16>, u32) {
    let mut after = Vectors([[0; 16]; 16]);
    // SAFETY: (1) the block reads 256 bytes of `before` and writes 256 bytes of `after`, which
    // is their size; (2) every register it changes is declared, RBX is put back.
    let mxcsr = unsafe {
        through_exits!(
            "movups",
            "xmm",
            "16",
            before.0.as_ptr(),
            after.0.as_mut_ptr()
        )
    };
    (after, mxcsr)
}

/// Puts `before` into YMM0 to YMM15, exits, and gives what is there then, with MXCSR.
///
/// # Safety
/// The processor must have AVX and the kernel must have enabled it.
unsafe fn avx_after_exits(before: &Vectors<32>) -> (Vectors<32>, u32) {
    let mut after = Vectors([[0; 32]; 16]);
    // SAFETY: (1) the block reads 512 bytes of `before` and writes 512 bytes of `after`, which
    // is their size; (2) every register it changes is declared, RBX is put back; (3) the
    // caller vouches for AVX.
    let mxcsr = unsafe {
        through_exits!(
            "vmovups",
            "ymm",
            "32",
            before.0.as_ptr(),
            after.0.as_mut_ptr()
        )
    };
    // SAFETY: (1) the caller vouches for AVX; (2) only the upper halves change, which code
    // compiled without AVX never uses.
    unsafe { asm!("vzeroupper", options(nostack, nomem)) };
    (after, mxcsr)
}

/// The eight x87 registers in their 80-bit memory form, one every 16 bytes.
#[repr(C, align(16))]
struct Stack([[u8; 16]; 8]);

fn x87_survives(cpu: usize, noise: &mut Noise) -> Verdict {
    let mut before = Stack([[0; 16]; 8]);
    for register in &mut before.0 {
        // A normal number: integer bit set, exponent 16383 + 5 (Intel SDM volume 1, 4.2.2).
        let significand = noise.next() | 1 << 63;
        register[..8].copy_from_slice(&significand.to_le_bytes());
        register[8..10].copy_from_slice(&0x4004u16.to_le_bytes());
    }
    let mut after = Stack([[0; 16]; 8]);
    let mut control = X87_CONTROL;
    // SAFETY: (1) the block reads ten of each sixteen bytes of `before` and writes ten of each
    // sixteen of `after`; (2) it leaves the register stack empty with the default control
    // word, as it found it, and declares every register it changes; RBX is put back.
    unsafe {
        asm!(
            "fninit",
            "fldcw [{control}]",
            ".irp n,7,6,5,4,3,2,1,0\n fld tbyte ptr [rsi + 16 * \\n]\n .endr",
            "mov r8, rbx",
            "2:",
            "xor eax, eax",
            "xor ecx, ecx",
            "cpuid",
            "dec r9",
            "jnz 2b",
            "mov rbx, r8",
            ".irp n,0,1,2,3,4,5,6,7\n fstp tbyte ptr [rdi + 16 * \\n]\n .endr",
            "fnstcw [{control}]",
            "fninit",
            control = in(reg) &raw mut control,
            in("rsi") before.0.as_ptr(),
            in("rdi") after.0.as_mut_ptr(),
            inout("r9") EXITS => _,
            out("r8") _, out("eax") _, out("ecx") _, out("edx") _,
            out("st(0)") _, out("st(1)") _, out("st(2)") _, out("st(3)") _,
            out("st(4)") _, out("st(5)") _, out("st(6)") _, out("st(7)") _,
            options(nostack)
        );
    }
    for (number, (before, after)) in before.0.iter().zip(&after.0).enumerate() {
        ensure!(
            before == after,
            "processor {cpu}: x87 register {number} was {before:02x?} and is {after:02x?}"
        );
    }
    ensure!(
        control == X87_CONTROL,
        "processor {cpu}: the x87 control word was {X87_CONTROL:#x} and is {control:#x}"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_registers_survive_here() {
        let mut noise = Noise::new(1);
        let sse = Vectors::from(&mut noise);
        assert_eq!(compare(0, "SSE", &sse, &sse_after_exits(&sse)), Ok(()));
        assert_eq!(x87_survives(0, &mut noise), Ok(()));
    }

    #[test]
    fn one_changed_byte_is_noticed() {
        let sse = Vectors::<16>::from(&mut Noise::new(1));
        let mut changed = sse;
        changed.0[15][15] ^= 1;
        assert!(compare(0, "SSE", &sse, &(changed, MXCSR)).is_err());
        assert!(compare(0, "SSE", &sse, &(sse, MXCSR ^ 0x6000)).is_err());
    }
}
