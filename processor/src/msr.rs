//! Model-specific registers: which are the guest's own, and what the others answer.
//!
//! One table. What it does not name is not the guest's to write: reads show the real value,
//! writes are dropped and reported. SDM vol. 4 and APM vol. 2, appendix A.

use x86::msr;

use crate::mtrr;

/// Whose a register is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rule {
    /// The guest's own: reads and writes reach the processor without an exit.
    Direct,
    /// Reads without an exit, writes dropped.
    ReadOnly,
    /// Absent: both raise a general-protection fault, as on a processor without it.
    Absent,
    /// Extended features: all but the bit that turns on virtualization.
    Efer,
    /// Where the local APIC is and in which mode.
    ApicBase,
    /// Which supervisor states XSAVES and XRSTORS move: none by which memory is reached.
    SupervisorState,
    /// A memory type range register: the guest has a copy of its own ([`crate::mtrr`]).
    MemoryType,
    /// Reads show the register with some bits clear and others set, writes are dropped.
    Shown {
        /// Bits that read as zero.
        clear: u64,
        /// Bits that read as one.
        set: u64,
    },
    /// Which extensions the firmware allows: locked, and none of those that are not offered.
    FeatureControl,
    /// The x2APIC's interrupt command register.
    InterruptCommand,
    /// A vector of the x2APIC's local vector table, which has a delivery mode.
    LocalVector,
}

/// AMD's VM_CR, IGNNE, SMM_CTL and VM_HSAVE_PA (APM vol. 2, 15.30).
const SVM_FIRST: u32 = 0xc001_0114;
const SVM_LAST: u32 = 0xc001_0117;
/// AMD's SVM_KEY.
const SVM_KEY: u32 = 0xc001_0118;
const X2APIC_FIRST: u32 = 0x800;
const X2APIC_LAST: u32 = 0x8ff;
const X2APIC_ICR: u32 = 0x830;

/// IA32_PERF_CAPABILITIES (SDM vol. 4, table 2-2): what it says of event-based sampling into memory (6 to
/// 11, 14, 16, 17), which is not offered.
const SAMPLING: u64 = 0xfc0 | 1 << 14 | 1 << 16 | 1 << 17;
/// IA32_MISC_ENABLE: neither a branch trace in memory nor event-based sampling is there.
const NO_DEBUG_STORE: u64 = 1 << 11 | 1 << 12;

/// MSR_PLATFORM_INFO: CPUID can be made to fault for programs, by a register that is not the guest's.
const CPUID_FAULTING: u64 = 1 << 31;

use Rule::{
    Absent, ApicBase, Direct, Efer, FeatureControl, InterruptCommand, LocalVector, MemoryType,
    ReadOnly, Shown, SupervisorState,
};

/// First matching row wins; both ends belong to the row.
const TABLE: &[(u32, u32, Rule)] = &[
    (msr::IA32_EFER, msr::IA32_EFER, Efer),
    (msr::IA32_APIC_BASE, msr::IA32_APIC_BASE, ApicBase),
    (X2APIC_ICR, X2APIC_ICR, InterruptCommand),
    // The local vectors but the timer's, which has no delivery mode.
    (0x82f, 0x82f, LocalVector),
    (0x833, 0x837, LocalVector),
    (0x850, 0x853, LocalVector),
    (X2APIC_FIRST, X2APIC_LAST, Direct),
    // Virtualization, Intel's and AMD's.
    (
        msr::IA32_FEATURE_CONTROL,
        msr::IA32_FEATURE_CONTROL,
        FeatureControl,
    ),
    (msr::IA32_VMX_BASIC, 0x493, Absent),
    (SVM_FIRST, SVM_LAST, Absent),
    (SVM_KEY, SVM_KEY, Absent),
    // Time.
    (
        msr::IA32_TIME_STAMP_COUNTER,
        msr::IA32_TIME_STAMP_COUNTER,
        Direct,
    ),
    (msr::IA32_TSC_ADJUST, msr::IA32_TSC_ADJUST, Direct),
    (msr::IA32_TSC_DEADLINE, msr::IA32_TSC_DEADLINE, Direct),
    (
        msr::MSR_C1_PMON_EVNT_SEL0,
        msr::MSR_C1_PMON_EVNT_SEL0,
        ReadOnly,
    ),
    (msr::IA32_MPERF, msr::IA32_APERF, Direct),
    // Entry points, segment bases and what else a context switch writes.
    (msr::IA32_SYSENTER_CS, msr::IA32_SYSENTER_EIP, Direct),
    (msr::IA32_STAR, msr::IA32_FMASK, Direct),
    (msr::IA32_FS_BASE, msr::IA32_KERNEL_GSBASE, Direct),
    (0xc000_0103, 0xc000_0103, Direct), // TSC_AUX
    (0x6a0, 0x6a8, Direct),             // CET
    (xss::REGISTER, xss::REGISTER, SupervisorState),
    (0x1c4, 0x1c5, Direct), // XFD, XFD_ERR
    (0xe1, 0xe1, Direct),   // UMWAIT_CONTROL
    // Side-channel controls: the guest decides for itself.
    (0x48, 0x49, Direct),               // SPEC_CTRL, PRED_CMD
    (0x10b, 0x10b, Direct),             // FLUSH_CMD
    (0x122, 0x123, Direct),             // TSX_CTRL, MCU_OPT_CTRL
    (0xc001_011f, 0xc001_011f, Direct), // VIRT_SPEC_CTRL
    // Memory types. SVM combines the guest's PAT with the MTRRs in hardware (APM vol. 2, 15.25.8);
    // EPT repeats the MTRRs as the firmware left them, and combines the PAT with those. Bouncer runs
    // under the real ones, which therefore stay as they are.
    (msr::IA32_PAT, msr::IA32_PAT, Direct),
    (msr::IA32_MTRRCAP, msr::IA32_MTRRCAP, ReadOnly),
    (mtrr::VARIABLE_FIRST, mtrr::VARIABLE_LAST, MemoryType),
    (
        msr::IA32_MTRR_FIX64K_00000,
        msr::IA32_MTRR_FIX64K_00000,
        MemoryType,
    ),
    (
        msr::IA32_MTRR_FIX16K_80000,
        msr::IA32_MTRR_FIX16K_A0000,
        MemoryType,
    ),
    (
        msr::IA32_MTRR_FIX4K_C0000,
        msr::IA32_MTRR_FIX4K_F8000,
        MemoryType,
    ),
    (msr::IA32_MTRR_DEF_TYPE, msr::IA32_MTRR_DEF_TYPE, MemoryType),
    // Machine checks.
    (msr::IA32_MCG_CAP, 0x17b, Direct),
    (msr::IA32_MC0_CTL, 0x47f, Direct),
    (0x280, 0x29f, Direct),
    (0xc000_2000, 0xc000_2fff, Direct),
    // Performance counters and debugging.
    (0xc1, 0xc8, Direct),
    (0x4c1, 0x4c8, Direct), // the same counters in full width
    (msr::IA32_PERFEVTSEL0, 0x18d, Direct),
    (0x309, 0x30c, Direct),
    (
        0x345,
        0x345,
        Shown {
            clear: SAMPLING,
            set: 0,
        },
    ),
    (0x38d, 0x390, Direct),
    (msr::IA32_DEBUGCTL, 0x1de, Direct),
    (0xc001_0000, 0xc001_0007, Direct),
    (0xc001_0200, 0xc001_020b, Direct),
    (0xc000_0300, 0xc000_0303, Direct),
    // Power and frequency.
    (0x198, 0x19c, Direct),
    (0x1b0, 0x1b2, Direct),
    (0x770, 0x777, Direct),
    (0xc001_0061, 0xc001_0063, Direct),
    (0xc001_0064, 0xc001_006b, ReadOnly), // what a P-state is: voltage and frequency
    (0xc001_02b0, 0xc001_02b4, Direct),
    // What a guest reads often and has no business writing.
    (0x17, 0x17, ReadOnly), // PLATFORM_ID
    (
        0xce,
        0xce,
        Shown {
            clear: CPUID_FAULTING,
            set: 0,
        },
    ), // PLATFORM_INFO
    (
        msr::IA32_MISC_ENABLE,
        msr::IA32_MISC_ENABLE,
        Shown {
            clear: 0,
            set: NO_DEBUG_STORE,
        },
    ),
    (0xc001_0140, 0xc001_0141, ReadOnly), // OSVW
];

/// Whose register `index` is, or `None` for one that the table does not name.
pub fn rule(index: u32) -> Option<Rule> {
    TABLE
        .iter()
        .find(|(first, last, _)| (*first..=*last).contains(&index))
        .map(|row| row.2)
}

/// Calls `each` for every register that reads (and, with `true`, also writes) without an exit.
///
/// For building permission bitmaps, which name every register once.
pub fn without_exit(mut each: impl FnMut(u32, Rule)) {
    for (first, last, row) in TABLE {
        if !matches!(row, Direct | ReadOnly) {
            continue;
        }
        for index in *first..=*last {
            if rule(index) == Some(*row) {
                each(index, *row);
            }
        }
    }
}

/// The instruction must fault in the guest: a general-protection fault with error code 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fault;

/// The feature-control register as the guest knows it.
pub mod feature_control {
    /// SDM vol. 4, table 2-2: locked, so that every write faults.
    const LOCK: u64 = 1 << 0;
    /// VMX inside and outside safer mode, SENTER and its functions.
    const NOT_OFFERED: u64 = 0b110 | 0xff00;

    /// What the guest reads when the register holds `real`.
    pub fn read(real: u64) -> u64 {
        real & !NOT_OFFERED | LOCK
    }
}

/// EFER as the guest knows it.
pub mod efer {
    use super::Fault;

    /// Secure virtual machine enable (APM vol. 2, 3.1.7).
    pub const SVME: u64 = 1 << 12;
    const SCE: u64 = 1 << 0;
    const LME: u64 = 1 << 8;
    const LMA: u64 = 1 << 10;
    const NXE: u64 = 1 << 11;
    const FFXSR: u64 = 1 << 14;
    const TCE: u64 = 1 << 15;
    const AUTO_IBRS: u64 = 1 << 21;
    const CR0_PG: u64 = 1 << 31;

    /// What the guest reads when the register holds `real`.
    pub fn read(real: u64) -> u64 {
        real & !SVME
    }

    /// What the register must hold when the guest writes `value`. `real` is what it holds now,
    /// `optional` which of FFXSR, TCE and AutoIBRS the processor has.
    pub fn write(real: u64, value: u64, cr0: u64, optional: u64) -> Result<u64, Fault> {
        let allowed = SCE | LME | LMA | NXE | (optional & (FFXSR | TCE | AUTO_IBRS));
        // APM vol. 2, 14.6.1: changing LME while paging is enabled is a fault.
        let changes_mode = (real ^ value) & LME != 0 && cr0 & CR0_PG != 0;
        if value & !allowed != 0 || changes_mode {
            return Err(Fault);
        }
        // LMA is the processor's to set: a write does not change it.
        Ok(value & !LMA | real & LMA | real & SVME)
    }
}

/// IA32_XSS as the guest knows it.
///
/// XRSTORS loads the registers of the states that it names without a look at the bitmap of MSRs, those
/// of the processor trace among them, whose output goes to physical addresses past nested tables.
pub mod xss {
    use super::Fault;

    /// Its number.
    pub const REGISTER: u32 = 0xda0;
    /// Shadow stacks, user's and supervisor's (SDM vol. 1, 13.3): registers that are the guest's own,
    /// and name memory by linear addresses.
    pub const OFFERED: u64 = 1 << 11 | 1 << 12;

    /// What the register may hold when the guest writes `value`, on a processor that has the states
    /// `supported` (CPUID 0Dh, subleaf 1, EDX:ECX).
    pub fn write(value: u64, supported: u64) -> Result<u64, Fault> {
        match value & !(OFFERED & supported) {
            0 => Ok(value),
            _ => Err(Fault),
        }
    }
}

/// The local APIC's base register.
///
/// The real APIC stays on: a processor whose APIC is off cannot be called by its neighbours. A guest
/// that turns its own off reads that it is.
pub mod apic_base {
    use super::Fault;

    /// The APIC is on.
    pub const ENABLE: u64 = 1 << 11;
    /// It is in x2APIC mode.
    pub const X2APIC: u64 = 1 << 10;
    const BSP: u64 = 1 << 8;
    const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
    const MODE: u64 = ENABLE | X2APIC;

    /// What a write of the guest's asks.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub enum Change {
        /// Nothing.
        Nothing,
        /// Turn the APIC off.
        Off,
        /// Turn it on again, in xAPIC mode.
        On,
        /// Go over to x2APIC mode.
        X2apic,
    }

    /// What the guest reads when the register holds `real`, and it has turned its APIC off or not.
    pub fn read(real: u64, is_off: bool) -> u64 {
        if is_off { real & !MODE } else { real }
    }

    /// The largest id that an APIC in xAPIC mode can be reached by.
    pub const LARGEST_XAPIC_ID: u32 = 254;

    /// What the guest asks when it writes `value` over what it reads, `shown`, on a machine with a
    /// processor of the id `largest_id`. The APIC stays where it is: its page is watched for start-up
    /// messages, and moving it would lay it over memory. SDM vol. 3A, 12.12.5: x2APIC without enable,
    /// x2APIC to xAPIC directly, and to x2APIC from a disabled one, are faults. So is leaving x2APIC mode
    /// where not everybody could be reached without it, as where firmware has locked it on.
    pub fn write(shown: u64, value: u64, largest_id: u32) -> Result<Change, Fault> {
        let is_reserved = value & !(ADDRESS | MODE | BSP) != 0;
        let moves = (shown ^ value) & ADDRESS != 0;
        if is_reserved || moves {
            return Err(Fault);
        }
        match (shown & MODE, value & MODE) {
            (_, X2APIC) | (MODE, ENABLE) | (0, MODE) => Err(Fault),
            (MODE, 0) if largest_id > LARGEST_XAPIC_ID => Err(Fault),
            (old, new) if old == new => Ok(Change::Nothing),
            (_, 0) => Ok(Change::Off),
            (_, ENABLE) => Ok(Change::On),
            _ => Ok(Change::X2apic),
        }
    }

    /// What the real register must hold, one value after the other, when it holds `real` and the
    /// guest asks for `change`: on whenever it is at rest. From x2APIC mode the way to any other leads
    /// through a moment in which it is off.
    pub fn steps(real: u64, change: Change) -> impl Iterator<Item = u64> {
        let leaves_x2apic = real & X2APIC != 0;
        let (first, then) = match change {
            Change::Off if leaves_x2apic => (Some(real & !MODE), Some(real & !MODE | ENABLE)),
            Change::X2apic => (None, Some(real | MODE)),
            _ => (None, None),
        };
        first.into_iter().chain(then)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_starts_processors_or_virtualizes_is_never_direct() {
        for index in [
            0xc000_0080,
            0x1b,
            0x830,
            0x480,
            0x491,
            0xc001_0114,
            0xc001_0117,
            0xda0,
        ] {
            assert!(
                !matches!(rule(index), Some(Direct | ReadOnly)),
                "{index:#x}"
            );
        }
    }

    #[test]
    fn the_extension_reads_as_locked_off() {
        for real in [0, 1, 5, 0xff07] {
            assert_eq!(feature_control::read(real), 1, "{real:#x}");
        }
        assert_eq!(
            feature_control::read(1 << 20 | 5),
            1 << 20 | 1,
            "machine checks stay"
        );
        assert_eq!(rule(0x3a), Some(FeatureControl));
        for index in 0x480..=0x493 {
            assert_eq!(rule(index), Some(Absent), "{index:#x}");
        }
    }

    /// SDM vol. 3C, 34.5: a trace or a debug store that the guest turned on would be written past its
    /// nested tables, or where Bouncer's own code runs.
    #[test]
    fn what_writes_memory_behind_the_guests_back_is_not_the_guests_to_write() {
        let trace = 0x560..=0x58b;
        // The debug store, precise sampling, and the feedback of the hardware to the scheduler.
        for index in trace.chain([0x600, 0x3f1, 0x17d0, 0x17d1]) {
            assert!(!matches!(rule(index), Some(Direct)), "{index:#x}");
        }
    }

    /// SDM vol. 1, 13.3: component 8 is the state of the processor trace.
    #[test]
    fn no_state_that_names_physical_memory_is_moved_by_xrstors() {
        assert_eq!(xss::write(0x1800, !0), Ok(0x1800));
        assert_eq!(xss::write(0, 0), Ok(0));
        assert_eq!(xss::write(0x800, 0x1000), Err(Fault), "not there");
        for bit in (0..64).filter(|bit| !matches!(bit, 11 | 12)) {
            assert_eq!(xss::write(1 << bit, !0), Err(Fault), "bit {bit}");
        }
    }

    /// Under nested paging those of the guest would say how Bouncer's own accesses are cached.
    #[test]
    fn no_memory_type_range_register_is_the_guests_to_write() {
        for index in (0x200..=0x23f).chain(mtrr::FIXED).chain([0x2ff]) {
            assert_eq!(rule(index), Some(MemoryType), "{index:#x}");
        }
    }

    #[test]
    fn sampling_into_memory_is_not_shown() {
        let shown = |index| match rule(index) {
            Some(Shown { clear, set }) => !clear | set,
            _ => panic!("{index:#x} is shown as it is"),
        };
        assert_eq!(shown(0x345) & 0x3_4fc0, 0);
        assert_eq!(shown(0x1a0) & 0x1800, 0x1800);
    }

    #[test]
    fn registers_of_features_that_cpuid_shows_are_the_guests() {
        // Extended feature disable, and the counters in full width.
        for index in (0x1c4..=0x1c5).chain(0x4c1..=0x4c8) {
            assert_eq!(rule(index), Some(Direct), "{index:#x}");
        }
        let auto_ibrs = 1 << 21;
        assert_eq!(efer::write(0, auto_ibrs, 0, auto_ibrs), Ok(auto_ibrs));
        assert_eq!(efer::write(0, auto_ibrs, 0, 0), Err(Fault));
    }

    #[test]
    fn what_could_move_memory_or_microcode_is_not_the_guests_to_write() {
        // Feature control, microcode, SMRR, SYSCFG, HWCR, IORR, TOP_MEM, MMIO base, SMM.
        for index in [
            0x3a,
            0x79,
            0x1f2,
            0x1f3,
            0xc001_0010,
            0xc001_0015,
            0xc001_0016,
            0xc001_001a,
            0xc001_001d,
            0xc001_0020,
            0xc001_0058,
            0xc001_0111,
            0xc001_0112,
            0xc001_0113,
        ] {
            assert_ne!(rule(index), Some(Direct), "{index:#x}");
        }
    }

    #[test]
    fn a_register_is_listed_without_exit_once_at_most() {
        extern crate std;
        let mut seen = std::collections::BTreeSet::new();
        without_exit(|index, rule| {
            assert!(seen.insert(index), "{index:#x} twice");
            assert!(matches!(rule, Direct | ReadOnly));
        });
        assert!(seen.contains(&0x80b), "end of interrupt must cost no exit");
        assert!(!seen.contains(&0x830), "start-up messages must be seen");
    }

    #[test]
    fn the_apic_may_change_its_mode_and_not_its_place() {
        use apic_base::Change;
        let write = |shown, value| apic_base::write(shown, value, 3);
        let (off, xapic, x2apic) = (0xfee0_0100, 0xfee0_0900, 0xfee0_0d00);
        assert_eq!(write(xapic, x2apic), Ok(Change::X2apic));
        assert_eq!(write(xapic, off), Ok(Change::Off));
        assert_eq!(write(x2apic, off), Ok(Change::Off));
        assert_eq!(write(off, xapic), Ok(Change::On));
        assert_eq!(write(xapic, 0xfed9_0900), Err(Fault), "moved");
        let without_enable = 0xfee0_0500;
        assert_eq!(write(xapic, without_enable), Err(Fault));
        assert_eq!(write(x2apic, xapic), Err(Fault), "x2APIC to xAPIC");
        assert_eq!(write(off, x2apic), Err(Fault), "off to x2APIC");
        let without_bsp = 0xfee0_0800;
        assert_eq!(write(xapic, without_bsp), Ok(Change::Nothing));
    }

    #[test]
    fn x2apic_stays_where_a_processor_cannot_be_reached_without_it() {
        let (off, x2apic) = (0xfee0_0100, 0xfee0_0d00);
        for (largest_id, answer) in [
            (254, Ok(apic_base::Change::Off)),
            (255, Err(Fault)),
            (1000, Err(Fault)),
        ] {
            assert_eq!(apic_base::write(x2apic, off, largest_id), answer);
        }
        let xapic = 0xfee0_0900;
        assert!(apic_base::write(xapic, x2apic, 1000).is_ok());
    }

    #[test]
    fn an_apic_that_is_off_reads_as_off_and_is_on() {
        assert_eq!(apic_base::read(0xfee0_0900, true), 0xfee0_0100);
        assert_eq!(apic_base::read(0xfee0_0d00, false), 0xfee0_0d00);
        for real in [0xfee0_0900, 0xfee0_0d00] {
            let change = apic_base::write(real, 0xfee0_0100, 3).unwrap();
            let last = apic_base::steps(real, change).last().unwrap_or(real);
            assert_eq!(last, 0xfee0_0900, "{real:#x}");
        }
    }

    proptest! {
        #[test]
        fn the_guest_can_neither_see_nor_clear_svme(value: u64, cr0: u64, lma in 0..2_u64) {
            let real = efer::SVME | lma << 10;
            prop_assert_eq!(efer::read(real) & efer::SVME, 0);
            if let Ok(written) = efer::write(real, value, cr0, !0) {
                prop_assert_eq!(value & efer::SVME, 0);
                prop_assert_eq!(written & efer::SVME, efer::SVME);
                prop_assert_eq!(written & 1 << 10, real & 1 << 10, "LMA is the processor's");
            }
        }

        /// A processor takes no NMI from its neighbours while its APIC is off.
        #[test]
        fn whatever_the_guest_writes_its_apic_is_on_and_where_it_was(
            writes in prop::collection::vec((any::<u64>(), 0..8_u64, any::<bool>()), 0..40),
        ) {
            let (mut real, mut is_off) = (0xfee0_0900, false);
            for (noise, mode, is_near) in writes {
                let near = 0xfee0_0000 | (mode << 9 & 0xc00) | (mode & 1) << 8;
                let value = if is_near { near } else { noise };
                let shown = apic_base::read(real, is_off);
                let Ok(change) = apic_base::write(shown, value, 3) else { continue };
                real = apic_base::steps(real, change).last().unwrap_or(real);
                is_off = match change {
                    apic_base::Change::Nothing => is_off,
                    change => change == apic_base::Change::Off,
                };
                prop_assert_eq!(real & !apic_base::X2APIC, 0xfee0_0900);
                prop_assert_eq!((apic_base::read(real, is_off) ^ value) & 0xc00, 0, "reads back");
            }
        }
    }
}
