//! Why the guest was left. SDM vol. 3D, appendix C, and vol. 3C, 28.2.

use bitfield::bitfield;

/// A basic exit reason. Processors may add more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reason(pub u16);

macro_rules! reasons {
    ($($name:ident = $number:literal, $text:literal;)*) => {
        impl Reason {
            $(#[doc = $text] pub const $name: Self = Self($number);)*

            /// What happened, in words for a report.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                    _ => "a reason unknown here",
                }
            }
        }
    };
}

reasons! {
    EXCEPTION_OR_NMI = 0, "exception or NMI";
    EXTERNAL_INTERRUPT = 1, "external interrupt";
    TRIPLE_FAULT = 2, "triple fault";
    INIT = 3, "INIT signal";
    STARTUP = 4, "start-up message";
    NMI_WINDOW = 8, "NMI window";
    TASK_SWITCH = 9, "hardware task switch";
    CPUID = 10, "CPUID";
    GETSEC = 11, "GETSEC";
    INVD = 13, "INVD";
    VMCALL = 18, "VMCALL";
    VMCLEAR = 19, "VMCLEAR";
    VMLAUNCH = 20, "VMLAUNCH";
    VMPTRLD = 21, "VMPTRLD";
    VMPTRST = 22, "VMPTRST";
    VMREAD = 23, "VMREAD";
    VMRESUME = 24, "VMRESUME";
    VMWRITE = 25, "VMWRITE";
    VMXOFF = 26, "VMXOFF";
    VMXON = 27, "VMXON";
    CONTROL_REGISTER = 28, "access to a control register";
    PORT = 30, "access to an I/O port";
    RDMSR = 31, "RDMSR";
    WRMSR = 32, "WRMSR";
    INVALID_GUEST = 33, "VM entry refused: invalid guest state";
    MSR_LOADING = 34, "VM entry refused: loading of MSRs";
    MACHINE_CHECK = 41, "VM entry refused: machine check";
    EPT_VIOLATION = 48, "EPT violation";
    EPT_MISCONFIGURATION = 49, "EPT misconfiguration";
    INVEPT = 50, "INVEPT";
    INVVPID = 53, "INVVPID";
    XSETBV = 55, "XSETBV";
    XSAVES = 63, "XSAVES";
    XRSTORS = 64, "XRSTORS";
    SEAMCALL = 76, "SEAMCALL";
    TDCALL = 77, "TDCALL";
}

impl Reason {
    /// Whether it is an instruction of the extension itself, or of one beside it: GETSEC, which starts
    /// it otherwise, SEAMCALL and TDCALL.
    pub const fn is_extension(self) -> bool {
        matches!(self.0, 11 | 19..=27 | 50 | 53 | 76 | 77)
    }

    /// The basic reason in the field, and whether VM entry failed.
    pub const fn of_field(field: u64) -> (Self, bool) {
        (Self(field as u16), field >> 31 & 1 == 1)
    }
}

bitfield! {
    /// Exit qualification of a port access, table 28-5.
    #[derive(Clone, Copy)]
    pub struct Port(u64);
    impl Debug;
    u8;
    size_less_one, _: 2, 0;
    /// IN rather than OUT.
    pub is_in, _: 3;
    /// INS or OUTS.
    pub is_string, _: 4;
    /// The port.
    pub u16, port, _: 31, 16;
}

impl Port {
    /// From the field.
    pub const fn new(raw: u64) -> Self {
        Self(raw)
    }

    /// 1, 2 or 4.
    pub fn bytes(self) -> u8 {
        self.size_less_one() + 1
    }
}

bitfield! {
    /// Exit qualification of an EPT violation, table 28-7.
    #[derive(Clone, Copy)]
    pub struct Violation(u64);
    impl Debug;
    /// A store.
    pub write, _: 1;
    /// An instruction fetch.
    pub fetch, _: 2;
    /// The linear address below is the access's own, rather than of a page-table entry.
    pub is_translated, _: 8;
    /// There is a linear address.
    pub has_linear, _: 7;
    /// An IRET had already let NMIs in.
    pub unblocked_nmi, _: 12;
}

impl Violation {
    /// From the field.
    pub const fn new(raw: u64) -> Self {
        Self(raw)
    }
}

bitfield! {
    /// Exit qualification of an access to a control register, table 28-3.
    #[derive(Clone, Copy)]
    pub struct ControlRegister(u64);
    impl Debug;
    u8;
    /// Which one.
    pub number, _: 3, 0;
    /// 0: MOV to it, 1: MOV from it, 2: CLTS, 3: LMSW.
    pub access, _: 5, 4;
    /// The general register of a MOV.
    pub register, _: 11, 8;
}

impl ControlRegister {
    /// From the field.
    pub const fn new(raw: u64) -> Self {
        Self(raw)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bit_31_tells_a_refused_entry() {
        assert_eq!(Reason::of_field(0x8000_0021), (Reason::INVALID_GUEST, true));
        assert_eq!(Reason::of_field(10), (Reason::CPUID, false));
        assert_eq!(Reason(78).name(), "a reason unknown here");
    }

    /// Appendix C: each leaves the guest wherever it is executed, and must fault there.
    #[test]
    fn calls_of_trust_domains_are_instructions_of_an_extension() {
        assert!(Reason::SEAMCALL.is_extension() && Reason::TDCALL.is_extension());
        assert!(!Reason::VMCALL.is_extension() && !Reason::XRSTORS.is_extension());
    }

    /// "Size of access: 0 = 1-byte, 1 = 2-byte, 3 = 4-byte", table 28-5.
    #[test]
    fn a_port_access_tells_size_direction_and_port() {
        let read = Port::new(0x0cf8_0000 | 1 << 3 | 3);
        assert_eq!((read.port(), read.bytes(), read.is_in()), (0xcf8, 4, true));
        assert!(!read.is_string());
        assert_eq!(Port::new(0x3f8_0001).bytes(), 2);
    }

    #[test]
    fn a_move_to_a_control_register_tells_both_registers() {
        let access = ControlRegister::new(0x0304);
        assert_eq!(
            (access.number(), access.access(), access.register()),
            (4, 0, 3)
        );
    }
}
