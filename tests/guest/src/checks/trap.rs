//! Debug exceptions arrive where and as often as they are due, also around instructions that exit.
//!
//! Single steps by RFLAGS.TF, breakpoints and watchpoints by the debug registers, which the kernel
//! sets for a process that is traced; alignment checks by RFLAGS.AC.
#![expect(unsafe_code)]
// UNSAFETY: changes RFLAGS, forks, and catches signals.

use crate::verdict::{Attempt, Figures, Shortfall, Verdict, ensure, failed};
use crate::{cpus, trial};
use core::arch::asm;
use core::sync::atomic::{AtomicU64, Ordering};
use nix::libc::user;
use nix::sys::ptrace;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, raise, sigaction};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};

/// Rounds of each kind on each processor.
const ROUNDS: u64 = 8;
/// Instructions from the one after TF was set to the POPF that clears it: each traps once.
const STEPS: u64 = 7;
/// DR7 (Intel SDM volume 3, 18.2.4): L0 on execution; L1 on writes of eight bytes.
const CONTROL: u64 = 1 | 1 << 2 | 0b1001 << 20;

static TRAPS: AtomicU64 = AtomicU64::new(0);
static WATCHED: AtomicU64 = AtomicU64::new(0);

pub(super) fn run(figures: &mut Figures) -> Verdict {
    let action = SigAction::new(
        SigHandler::Handler(count),
        SaFlags::empty(),
        SigSet::empty(),
    );
    // SAFETY: (1) the handler adds to a counter, which is async-signal-safe.
    unsafe { sigaction(Signal::SIGTRAP, &action) }.attempt("catching SIGTRAP")?;
    for cpu in cpus::online()? {
        cpus::pin(cpu)?;
        for _ in 0..ROUNDS {
            let steps = single_steps();
            ensure!(
                steps == STEPS,
                "processor {cpu}: {steps} single steps over {STEPS} instructions"
            );
        }
        let hits = debug_registers()?;
        ensure!(
            hits == (Hits {
                executed: ROUNDS,
                written: ROUNDS
            }),
            "processor {cpu}: {hits:?} of {ROUNDS} each"
        );
    }
    // Not every emulator checks alignment: what must not happen is that the machine hangs.
    let alignment = trial::attempt(misaligned_load)?;
    ensure!(
        alignment != trial::Attempted::Hung,
        "a misaligned load hangs"
    );
    figures.tell("trap.alignment", format_args!("{alignment:?}"));
    Ok(())
}

extern "C" fn count(_: libc::c_int) {
    TRAPS.fetch_add(1, Ordering::Relaxed);
}

/// Steps through a few instructions, two of which exit; gives how often SIGTRAP came.
fn single_steps() -> u64 {
    TRAPS.store(0, Ordering::Relaxed);
    // SAFETY: (1) TF is cleared again; the stack is balanced; every changed register is declared
    // and RBX, the compiler's own, is put back.
    unsafe {
        asm!(
            "mov r8, rbx",
            "xor eax, eax",
            "xor ecx, ecx",
            "pushfq",
            "or qword ptr [rsp], 0x100",
            "popfq",
            "cpuid",
            "nop",
            "cpuid",
            "nop",
            "pushfq",
            "and qword ptr [rsp], -0x101",
            "popfq",
            "mov rbx, r8",
            out("rax") _, out("rcx") _, out("rdx") _, out("r8") _,
        );
    }
    TRAPS.load(Ordering::Relaxed)
}

/// How often each debug register fired.
#[derive(Debug, Default, PartialEq, Eq)]
struct Hits {
    executed: u64,
    written: u64,
}

/// Traces a child with a breakpoint on [`landing`] and a watchpoint on [`WATCHED`].
fn debug_registers() -> Result<Hits, Shortfall> {
    // SAFETY: (1) a check is a process of one thread: no other can hold a lock.
    match unsafe { fork() }.attempt("fork")? {
        ForkResult::Child => {
            let is_traced = ptrace::traceme().is_ok() && raise(Signal::SIGSTOP).is_ok();
            (0..ROUNDS).for_each(|round| landing(round));
            std::process::exit(i32::from(!is_traced))
        }
        ForkResult::Parent { child } => count_hits(child),
    }
}

/// What the child runs into: executed once a round, writes once.
#[inline(never)]
extern "C" fn landing(round: u64) {
    WATCHED.store(round, Ordering::Relaxed);
    // An exit while the registers are armed.
    std::hint::black_box(core::arch::x86_64::__cpuid(0));
}

fn count_hits(child: Pid) -> Result<Hits, Shortfall> {
    let mut hits = Hits::default();
    let stopped = waitpid(child, None).attempt("waiting for the traced child")?;
    ensure!(
        matches!(stopped, WaitStatus::Stopped(_, Signal::SIGSTOP)),
        "the child to be traced is {stopped:?}"
    );
    let first = landing as *const () as u64;
    let second = &raw const WATCHED as u64;
    for (number, value) in [(0, first), (1, second), (7, CONTROL)] {
        ptrace::write_user(child, register(number), value.cast_signed())
            .attempt(&format!("setting DR{number}"))?;
    }
    loop {
        ptrace::cont(child, None).attempt("letting the traced child go on")?;
        match waitpid(child, None).attempt("waiting for the traced child")? {
            WaitStatus::Exited(_, 0) => return Ok(hits),
            WaitStatus::Stopped(_, Signal::SIGTRAP) => {
                let status = ptrace::read_user(child, register(6)).attempt("reading DR6")?;
                hits.executed += u64::from(status & 1 != 0);
                hits.written += u64::from(status & 2 != 0);
                // The processor never clears DR6 (SDM volume 3, 18.2.3).
                ptrace::write_user(child, register(6), 0).attempt("clearing DR6")?;
            }
            other => return Err(failed(format!("the traced child is {other:?}"))),
        }
    }
}

/// Where the kernel's `struct user` has a debug register.
fn register(number: usize) -> ptrace::AddressType {
    let offset = core::mem::offset_of!(user, u_debugreg) + number * size_of::<u64>();
    offset as ptrace::AddressType
}

/// Loads from an odd address with RFLAGS.AC set, which is SIGBUS; gives whether it loaded.
fn misaligned_load() -> bool {
    let bytes = [0u64; 2];
    // SAFETY: (1) four bytes from the second of sixteen; AC is cleared again.
    unsafe {
        asm!(
            "pushfq",
            "or qword ptr [rsp], 0x40000",
            "popfq",
            "mov {1:e}, [{0} + 1]",
            "pushfq",
            "and qword ptr [rsp], -0x40001",
            "popfq",
            in(reg) bytes.as_ptr(),
            out(reg) _,
        );
    }
    true
}
