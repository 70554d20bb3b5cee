//! CPUID as the guest reads it.
//!
//! The guest sees the real processor less virtualization, and a hypervisor leaf through which it
//! may detect Bouncer and read its counters without a driver.

use memory::{ByteRange, Gpa};

use crate::Reason;
use crate::msr::xss;

/// The signature in EBX, ECX, EDX of leaf 4000_0000h.
pub const SIGNATURE: &[u8; 12] = b"Bouncer VT-d";

/// The version of the leaves below, in EAX of leaf 4000_0001h.
pub const INTERFACE: u32 = 1;

/// Highest basic hypervisor leaf; EAX of leaf 4000_0000h.
const HIGHEST: u32 = 0x4000_0002;
const OWN_RANGE: u32 = HIGHEST;
/// First leaf of the exit counters, one a reason, ended by a leaf of zeros.
const COUNTERS: u32 = 0x4000_0100;
/// First leaf of what was done for mediated devices, ended in the same way.
const WORK: u32 = 0x4000_0200;

/// Where KVM's signature stands beside ours: stock kernels look for it at every 100h-th leaf.
const COMPATIBLE: u32 = 0x4000_1000;
/// Linux, Documentation/virt/kvm/x86/cpuid.rst: the signature, and a leaf of features, of which there
/// are none.
const COMPATIBLE_SIGNATURE: &[u8; 12] = b"KVMKVMKVM\0\0\0";

const VMX: u32 = 1 << 5;
const SMX: u32 = 1 << 6;
const XSAVE: u32 = 1 << 26;
const OSXSAVE: u32 = 1 << 27;
const HYPERVISOR: u32 = 1 << 31;
const APIC: u32 = 1 << 9;
const OSPKE: u32 = 1 << 4;
const SVM: u32 = 1 << 2;
/// Leaf 1: the debug store, into memory, and what belongs to it.
const DEBUG_STORE: u32 = 1 << 21;
const DEBUG_STORE_64: u32 = 1 << 2 | 1 << 4;
/// Leaf 6, EAX: feedback of the hardware, which it writes to physical addresses, and thread director.
const FEEDBACK: u32 = 1 << 19 | 1 << 23;

/// Leaf 7, subleaf 0, and EAX of subleaf 1: what is written to physical addresses past nested tables
/// (SDM vol. 3C, 34.5), what keeps state that nobody switches, and what is of no use without registers
/// that are not the guest's.
mod not_offered {
    /// Monitoring and allocation of caches; the processor trace.
    pub(super) const EBX: u32 = 1 << 12 | 1 << 15 | 1 << 25;
    /// Encryption of memory with several keys, ENQCMD, launch control of enclaves, supervisor keys.
    pub(super) const ECX: u32 = 1 << 13 | 1 << 29 | 1 << 30 | 1 << 31;
    /// User interrupts, PCONFIG, architectural last-branch records.
    pub(super) const EDX: u32 = 1 << 5 | 1 << 18 | 1 << 19;
    /// Further leaves of performance monitoring, FRED, history reset, masked addresses.
    pub(super) const EAX_1: u32 = 1 << 8 | 1 << 17 | 1 << 22 | 1 << 26;
}

const SKINIT: u32 = 1 << 12;
const CR4_OSXSAVE: u64 = 1 << 18;
const CR4_PKE: u64 = 1 << 22;

/// The four registers of one answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs)]
pub struct Leaf {
    pub eax: u32,
    pub ebx: u32,
    pub ecx: u32,
    pub edx: u32,
}

/// What an answer depends on besides the processor.
#[derive(Clone, Copy, Debug)]
pub struct Context {
    /// The guest's CR4, two bits of which CPUID reflects.
    pub cr4: u64,
    /// The guest has turned its local APIC off.
    pub is_apic_off: bool,
    /// Bits of a physical address that name memory ([`crate::physical`]).
    pub physical_width: u32,
    /// Bouncer's own memory, which the guest may know of and cannot reach.
    pub own: ByteRange<Gpa>,
    /// Who remaps interrupts.
    pub remapping: Remapping,
}

/// Who remaps interrupts, as far as the guest can see.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Remapping {
    /// The guest, with the machine's own hardware, or nobody.
    Guest,
    /// Bouncer, so that every processor can be reached in x2APIC mode although the guest sees no
    /// remapping hardware. Stock kernels use that mode then only under a hypervisor that they know to
    /// take care of it: KVM's signature without any of its features says so.
    Bouncer,
}

/// A name of at most eight ASCII characters, and a number.
pub type Tally = (&'static str, u64);

/// Answers CPUID for the guest. `real` executes the instruction, `count` sums an exit counter
/// over all processors, `work` is what was done for mediated devices, one number after the other.
pub fn answer(
    leaf: u32,
    subleaf: u32,
    context: &Context,
    real: impl Fn(u32, u32) -> Leaf,
    count: impl Fn(Reason) -> u64,
    work: impl Fn(usize) -> Option<Tally>,
) -> Leaf {
    match leaf {
        // SDM vol. 2A, CPUID: ECX[27] OSXSAVE reflects CR4.OSXSAVE, which is the guest's here; EDX[9]
        // the local APIC's being on (vol. 3A, 12.4.3).
        1 => {
            let mut answer = real(1, subleaf);
            answer.ecx = answer.ecx & !(VMX | SMX | OSXSAVE | DEBUG_STORE_64) | HYPERVISOR;
            answer.edx &= !DEBUG_STORE;
            if context.is_apic_off {
                answer.edx &= !APIC;
            }
            if answer.ecx & XSAVE != 0 && context.cr4 & CR4_OSXSAVE != 0 {
                answer.ecx |= OSXSAVE;
            }
            answer
        }
        6 => {
            let mut answer = real(6, subleaf);
            answer.eax &= !FEEDBACK;
            answer
        }
        7 if subleaf == 0 => {
            let mut answer = real(7, 0);
            answer.ebx &= !not_offered::EBX;
            answer.ecx &= !(OSPKE | not_offered::ECX);
            answer.edx &= !not_offered::EDX;
            if context.cr4 & CR4_PKE != 0 {
                answer.ecx |= OSPKE;
            }
            answer
        }
        7 if subleaf == 1 => {
            let mut answer = real(7, 1);
            answer.eax &= !not_offered::EAX_1;
            answer
        }
        0xd => extended_state(subleaf, real(0xd, subleaf)),
        // What describes the features above: caches' monitoring and allocation, trace, keys, last-branch
        // records, history reset, further performance monitoring.
        0xf | 0x10 | 0x14 | 0x1b | 0x1c | 0x20 | 0x23 => Leaf::default(),
        WORK..COMPATIBLE => told(work((leaf - WORK) as usize)),
        0x4000_0000..=0x4fff_ffff => hypervisor(leaf, context, count),
        0x8000_0001 => {
            let mut answer = real(leaf, subleaf);
            answer.ecx &= !(SVM | SKINIT);
            answer
        }
        // EAX[7:0]: bits of a physical address.
        0x8000_0008 => {
            let mut answer = real(leaf, subleaf);
            answer.eax = answer.eax & !0xff | (answer.eax & 0xff).min(context.physical_width);
            answer
        }
        // EAX[17]: HWCR, which is not the guest's, lets CPUID fault outside of the kernel. APM vol. 2, 3.2.10.
        0x8000_0021 => {
            let mut answer = real(leaf, subleaf);
            answer.eax &= !(1 << 17);
            answer
        }
        // APM vol. 3, E.4.9 (SVM features) and E.4.17 (memory encryption): not offered.
        0x8000_000a | 0x8000_001f => Leaf::default(),
        _ => real(leaf, subleaf),
    }
}

/// Leaf 0Dh: subleaf 1 tells in EDX:ECX which states IA32_XSS may name, a subleaf for each state in
/// ECX[0] that it is one of those (SDM vol. 2A, CPUID).
fn extended_state(subleaf: u32, real: Leaf) -> Leaf {
    let is_offered = xss::OFFERED.checked_shr(subleaf).unwrap_or(0) & 1 == 1;
    match subleaf {
        0 => real,
        1 => Leaf {
            ecx: real.ecx & low(xss::OFFERED),
            edx: real.edx & high(xss::OFFERED),
            ..real
        },
        _ if real.ecx & 1 == 1 && !is_offered => Leaf::default(),
        _ => real,
    }
}

fn hypervisor(leaf: u32, context: &Context, count: impl Fn(Reason) -> u64) -> Leaf {
    match leaf {
        0x4000_0000 => Leaf {
            eax: HIGHEST,
            ebx: word(SIGNATURE, 0),
            ecx: word(SIGNATURE, 4),
            edx: word(SIGNATURE, 8),
        },
        0x4000_0001 => Leaf {
            eax: INTERFACE,
            ..Leaf::default()
        },
        COMPATIBLE if context.remapping == Remapping::Bouncer => Leaf {
            eax: COMPATIBLE + 1,
            ebx: word(COMPATIBLE_SIGNATURE, 0),
            ecx: word(COMPATIBLE_SIGNATURE, 4),
            edx: word(COMPATIBLE_SIGNATURE, 8),
        },
        OWN_RANGE => {
            let (base, len) = (context.own.start().raw(), context.own.len());
            Leaf {
                eax: low(base),
                ebx: high(base),
                ecx: low(len),
                edx: high(len),
            }
        }
        _ => {
            let index = usize::try_from(leaf.wrapping_sub(COUNTERS)).unwrap_or(usize::MAX);
            told(
                Reason::ALL
                    .get(index)
                    .map(|reason| (reason.name(), count(*reason))),
            )
        }
    }
}

/// A number and its name; zeros for none.
fn told(tally: Option<Tally>) -> Leaf {
    let Some((name, total)) = tally else {
        return Leaf::default();
    };
    Leaf {
        eax: low(total),
        ebx: high(total),
        ecx: word(name.as_bytes(), 0),
        edx: word(name.as_bytes(), 4),
    }
}

/// Four bytes of `text` from `at` as a register holds them; zeros behind its end.
fn word(text: &[u8], at: usize) -> u32 {
    let mut bytes = [0; 4];
    for (to, from) in bytes.iter_mut().zip(text.iter().skip(at)) {
        *to = *from;
    }
    u32::from_le_bytes(bytes)
}

fn low(value: u64) -> u32 {
    (value & u64::from(u32::MAX)) as u32
}

fn high(value: u64) -> u32 {
    low(value >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(cr4: u64) -> Context {
        Context {
            cr4,
            is_apic_off: false,
            physical_width: 40,
            own: ByteRange::new(Gpa::new(0x1_7fe0_0000), 0x20_0000).unwrap(),
            remapping: Remapping::Guest,
        }
    }

    fn everything(_: u32, _: u32) -> Leaf {
        Leaf {
            eax: !0,
            ebx: !0,
            ecx: !0,
            edx: !0,
        }
    }

    fn ask(leaf: u32, cr4: u64) -> Leaf {
        let count = |reason| reason as u64 + (7 << 32);
        let work = |index| [("requests", 5 << 32 | 6)].get(index).copied();
        answer(leaf, 0, &context(cr4), everything, count, work)
    }

    #[test]
    fn work_for_devices_is_told_number_by_number_and_ends_with_zeros() {
        let requests = Leaf {
            eax: 6,
            ebx: 5,
            ecx: u32::from_le_bytes(*b"requ"),
            edx: u32::from_le_bytes(*b"ests"),
        };
        assert_eq!(ask(WORK, 0), requests);
        assert_eq!(ask(WORK + 1, 0), Leaf::default());
        assert_eq!(ask(COMPATIBLE - 1, 0), Leaf::default());
    }

    #[test]
    fn the_guest_is_told_that_there_is_a_hypervisor_and_no_virtualization() {
        // APM vol. 3, E.3.2: ECX[31] is "reserved for use by hypervisor to indicate guest status".
        assert_ne!(ask(1, 0).ecx & HYPERVISOR, 0);
        assert_eq!(ask(1, 0).ecx & (VMX | SMX), 0);
        assert_eq!(ask(0x8000_0001, 0).ecx & (SVM | SKINIT), 0);
        assert_eq!(ask(0x8000_000a, 0), Leaf::default());
        assert_eq!(ask(0x8000_001f, 0), Leaf::default());
    }

    #[test]
    fn a_trace_of_the_processor_is_not_offered() {
        assert_eq!(ask(7, 0).ebx & 1 << 25, 0);
        assert_eq!(ask(0x14, 0), Leaf::default());
        assert_eq!(state(8), Leaf::default(), "nor its state");
    }

    /// Leaf 0Dh of a processor that has every state.
    fn state(subleaf: u32) -> Leaf {
        answer(0xd, subleaf, &context(0), everything, |_| 0, |_| None)
    }

    #[test]
    fn of_the_supervisors_states_only_shadow_stacks_are_offered() {
        assert_eq!((state(1).ecx, state(1).edx), (0x1800, 0));
        assert_eq!(state(1).eax, !0, "the instructions stay");
        for subleaf in [11, 12] {
            assert_eq!(state(subleaf), everything(0xd, subleaf));
        }
        for subleaf in [8, 10, 13, 14, 15, 16, 62, 64, 75, u32::MAX] {
            assert_eq!(state(subleaf), Leaf::default(), "{subleaf}");
        }
    }

    /// Registers of theirs are not the guest's (`crate::msr`).
    #[test]
    fn features_whose_registers_are_dropped_are_not_shown() {
        use crate::msr::{Rule, rule};
        let one = ask(1, 0);
        assert_eq!((one.edx & 1 << 21, one.ecx & 0x14), (0, 0), "debug store");
        let seven = ask(7, 0);
        let more = answer(7, 1, &context(0), everything, |_| 0, |_| None);
        for (shown, register, what) in [
            (one.edx >> 21, 0x600, "debug store"),
            (ask(6, 0).eax >> 19, 0x17d0, "feedback"),
            (seven.ebx >> 12, 0xc8d, "monitoring of caches"),
            (seven.ebx >> 15, 0xc90, "allocation of caches"),
            (seven.ecx >> 13, 0x982, "memory encryption"),
            (seven.ecx >> 29, 0xd93, "process ids of ENQCMD"),
            (seven.ecx >> 30, 0x8c, "launch control"),
            (seven.ecx >> 31, 0x6e1, "supervisor keys"),
            (seven.edx >> 5, 0x985, "user interrupts"),
            (seven.edx >> 19, 0x14ce, "last-branch records"),
            (more.eax >> 17, 0x1cc, "FRED"),
            (more.eax >> 22, 0x17da, "history reset"),
            (
                ask(0x8000_0021, 0).eax >> 17,
                0xc001_0015,
                "faults of CPUID",
            ),
        ] {
            assert_eq!(shown & 1, 0, "{what}");
            assert_ne!(rule(register), Some(Rule::Direct), "{what}");
        }
        assert_eq!(ask(0x1c, 0), Leaf::default());
        assert_eq!(
            more.eax >> 26 & 1,
            0,
            "masked addresses, which accesses to devices do not know"
        );
    }

    #[test]
    fn a_physical_address_has_the_bits_that_name_memory() {
        let real = |leaf, _| Leaf {
            eax: if leaf == 0x8000_0008 { 0x3034 } else { 0 },
            ..Leaf::default()
        };
        let told = answer(0x8000_0008, 0, &context(0), real, |_| 0, |_| None);
        assert_eq!(told.eax, 0x3028);
    }

    #[test]
    fn an_apic_that_the_guest_turned_off_is_not_there() {
        let context = Context {
            is_apic_off: true,
            ..context(0)
        };
        let told = answer(1, 0, &context, everything, |_| 0, |_| None);
        assert_eq!(told.edx & APIC, 0);
        assert_ne!(ask(1, 0).edx & APIC, 0);
    }

    #[test]
    fn osxsave_and_ospke_reflect_the_guests_cr4_and_not_ours() {
        assert_eq!(ask(1, 0).ecx & OSXSAVE, 0);
        assert_ne!(ask(1, CR4_OSXSAVE).ecx & OSXSAVE, 0);
        assert_eq!(ask(7, 0).ecx & OSPKE, 0);
        assert_ne!(ask(7, CR4_PKE).ecx & OSPKE, 0);
        let none = |_, _| Leaf::default();
        let absent = answer(1, 0, &context(CR4_OSXSAVE), none, |_| 0, |_| None);
        assert_eq!(absent.ecx & OSXSAVE, 0, "no XSAVE, no OSXSAVE");
    }

    #[test]
    fn leaves_that_are_not_ours_come_from_the_processor() {
        let real = |leaf, subleaf| Leaf {
            eax: leaf,
            ebx: subleaf,
            ecx: 2,
            edx: 4,
        };
        for leaf in [0, 2, 4, 0xd, 0x15, 0x8000_0000, 0x8000_001e] {
            assert_eq!(
                answer(leaf, 5, &context(0), real, |_| 0, |_| None),
                real(leaf, 5)
            );
        }
        assert_eq!(answer(7, 2, &context(0), real, |_| 0, |_| None), real(7, 2));
    }

    #[test]
    fn the_signature_reads_in_the_order_ebx_ecx_edx() {
        let leaf = ask(0x4000_0000, 0);
        let text: std::vec::Vec<u8> = [leaf.ebx, leaf.ecx, leaf.edx]
            .iter()
            .flat_map(|word| word.to_le_bytes())
            .collect();
        assert_eq!(text, SIGNATURE);
        assert_eq!(leaf.eax, HIGHEST);
    }

    #[test]
    fn a_kernel_that_cannot_remap_learns_that_somebody_does() {
        let asked = |leaf, remapping| {
            let context = Context {
                remapping,
                ..context(0)
            };
            answer(leaf, 0, &context, everything, |_| 0, |_| None)
        };
        let found = asked(COMPATIBLE, Remapping::Bouncer);
        assert_eq!(found.ebx.to_le_bytes(), *b"KVMK");
        assert_eq!(asked(COMPATIBLE + 1, Remapping::Bouncer), Leaf::default());
        assert_eq!(asked(COMPATIBLE, Remapping::Guest), Leaf::default());
    }

    #[test]
    fn the_own_range_and_the_counters_read_back() {
        let own = ask(OWN_RANGE, 0);
        assert_eq!(
            own,
            Leaf {
                eax: 0x7fe0_0000,
                ebx: 1,
                ecx: 0x20_0000,
                edx: 0
            }
        );
        let nmi = ask(COUNTERS + Reason::Nmi as u32, 0);
        assert_eq!((nmi.eax, nmi.ebx), (Reason::Nmi as u32, 7));
        assert_eq!(nmi.ecx, u32::from_le_bytes(*b"nmi\0"));
        let end = ask(COUNTERS + Reason::ALL.len() as u32, 0);
        assert_eq!(end, Leaf::default(), "the list ends with an empty name");
        assert_eq!(ask(0x4fff_ffff, 0), Leaf::default());
    }

    extern crate std;
}
