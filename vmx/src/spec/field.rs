//! Fields of the VMCS. SDM vol. 3D, appendix B.

/// The encoding of one field, for VMREAD and VMWRITE.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Field(pub u32);

macro_rules! fields {
    ($($(#[$doc:meta])* $name:ident = $encoding:literal, $text:literal;)*) => {
        impl Field {
            $($(#[$doc])* pub const $name: Self = Self($encoding);)*

            /// The manual's name for it, in so far as this crate knows the field.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                    _ => "a field unknown here",
                }
            }

            /// Every field that has a name here.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];
        }
    };
}

fields! {
    /// B.1.1: identifies the guest's translations.
    VPID = 0x0000, "VPID";
    /// B.1.2
    ES_SELECTOR = 0x0800, "ES selector";
    /// B.1.2
    CS_SELECTOR = 0x0802, "CS selector";
    /// B.1.2
    SS_SELECTOR = 0x0804, "SS selector";
    /// B.1.2
    DS_SELECTOR = 0x0806, "DS selector";
    /// B.1.2
    FS_SELECTOR = 0x0808, "FS selector";
    /// B.1.2
    GS_SELECTOR = 0x080a, "GS selector";
    /// B.1.2
    LDTR_SELECTOR = 0x080c, "LDTR selector";
    /// B.1.2
    TR_SELECTOR = 0x080e, "TR selector";
    /// B.1.3
    HOST_ES_SELECTOR = 0x0c00, "host ES selector";
    /// B.1.3
    HOST_CS_SELECTOR = 0x0c02, "host CS selector";
    /// B.1.3
    HOST_SS_SELECTOR = 0x0c04, "host SS selector";
    /// B.1.3
    HOST_DS_SELECTOR = 0x0c06, "host DS selector";
    /// B.1.3
    HOST_FS_SELECTOR = 0x0c08, "host FS selector";
    /// B.1.3
    HOST_GS_SELECTOR = 0x0c0a, "host GS selector";
    /// B.1.3
    HOST_TR_SELECTOR = 0x0c0c, "host TR selector";
    /// B.2.1
    IO_BITMAP_A = 0x2000, "I/O bitmap A";
    /// B.2.1
    IO_BITMAP_B = 0x2002, "I/O bitmap B";
    /// B.2.1
    MSR_BITMAP = 0x2004, "MSR bitmap";
    /// B.2.1
    TSC_OFFSET = 0x2010, "TSC offset";
    /// B.2.1
    EPT_POINTER = 0x201a, "EPT pointer";
    /// B.2.1
    XSS_EXITING = 0x202c, "XSS-exiting bitmap";
    /// B.2.2
    GUEST_PHYSICAL_ADDRESS = 0x2400, "guest-physical address";
    /// B.2.3
    LINK_POINTER = 0x2800, "VMCS link pointer";
    /// B.2.3
    DEBUGCTL = 0x2802, "IA32_DEBUGCTL";
    /// B.2.3
    PAT = 0x2804, "IA32_PAT";
    /// B.2.3
    EFER = 0x2806, "IA32_EFER";
    /// B.2.3
    PDPTE0 = 0x280a, "PDPTE0";
    /// B.2.3
    PDPTE1 = 0x280c, "PDPTE1";
    /// B.2.3
    PDPTE2 = 0x280e, "PDPTE2";
    /// B.2.3
    PDPTE3 = 0x2810, "PDPTE3";
    /// B.2.4
    HOST_PAT = 0x2c00, "host IA32_PAT";
    /// B.2.4
    HOST_EFER = 0x2c02, "host IA32_EFER";
    /// B.3.1
    PIN_CONTROLS = 0x4000, "pin-based controls";
    /// B.3.1
    PRIMARY_CONTROLS = 0x4002, "primary processor-based controls";
    /// B.3.1
    EXCEPTION_BITMAP = 0x4004, "exception bitmap";
    /// B.3.1
    CR3_TARGET_COUNT = 0x400a, "CR3-target count";
    /// B.3.1
    EXIT_CONTROLS = 0x400c, "VM-exit controls";
    /// B.3.1
    EXIT_MSR_STORE_COUNT = 0x400e, "VM-exit MSR-store count";
    /// B.3.1
    EXIT_MSR_LOAD_COUNT = 0x4010, "VM-exit MSR-load count";
    /// B.3.1
    ENTRY_CONTROLS = 0x4012, "VM-entry controls";
    /// B.3.1
    ENTRY_MSR_LOAD_COUNT = 0x4014, "VM-entry MSR-load count";
    /// B.3.1
    ENTRY_EVENT = 0x4016, "VM-entry interruption information";
    /// B.3.1
    ENTRY_ERROR_CODE = 0x4018, "VM-entry exception error code";
    /// B.3.1
    ENTRY_INSTRUCTION_LEN = 0x401a, "VM-entry instruction length";
    /// B.3.1
    SECONDARY_CONTROLS = 0x401e, "secondary processor-based controls";
    /// B.3.2
    INSTRUCTION_ERROR = 0x4400, "VM-instruction error";
    /// B.3.2
    EXIT_REASON = 0x4402, "exit reason";
    /// B.3.2
    EXIT_EVENT = 0x4404, "VM-exit interruption information";
    /// B.3.2
    EXIT_ERROR_CODE = 0x4406, "VM-exit interruption error code";
    /// B.3.2
    VECTORING_EVENT = 0x4408, "IDT-vectoring information";
    /// B.3.2
    VECTORING_ERROR_CODE = 0x440a, "IDT-vectoring error code";
    /// B.3.2
    EXIT_INSTRUCTION_LEN = 0x440c, "VM-exit instruction length";
    /// B.3.3
    ES_LIMIT = 0x4800, "ES limit";
    /// B.3.3
    CS_LIMIT = 0x4802, "CS limit";
    /// B.3.3
    SS_LIMIT = 0x4804, "SS limit";
    /// B.3.3
    DS_LIMIT = 0x4806, "DS limit";
    /// B.3.3
    FS_LIMIT = 0x4808, "FS limit";
    /// B.3.3
    GS_LIMIT = 0x480a, "GS limit";
    /// B.3.3
    LDTR_LIMIT = 0x480c, "LDTR limit";
    /// B.3.3
    TR_LIMIT = 0x480e, "TR limit";
    /// B.3.3
    GDTR_LIMIT = 0x4810, "GDTR limit";
    /// B.3.3
    IDTR_LIMIT = 0x4812, "IDTR limit";
    /// B.3.3
    ES_RIGHTS = 0x4814, "ES access rights";
    /// B.3.3
    CS_RIGHTS = 0x4816, "CS access rights";
    /// B.3.3
    SS_RIGHTS = 0x4818, "SS access rights";
    /// B.3.3
    DS_RIGHTS = 0x481a, "DS access rights";
    /// B.3.3
    FS_RIGHTS = 0x481c, "FS access rights";
    /// B.3.3
    GS_RIGHTS = 0x481e, "GS access rights";
    /// B.3.3
    LDTR_RIGHTS = 0x4820, "LDTR access rights";
    /// B.3.3
    TR_RIGHTS = 0x4822, "TR access rights";
    /// B.3.3
    INTERRUPTIBILITY = 0x4824, "interruptibility state";
    /// B.3.3
    ACTIVITY = 0x4826, "activity state";
    /// B.3.3
    SYSENTER_CS = 0x482a, "IA32_SYSENTER_CS";
    /// B.3.4
    HOST_SYSENTER_CS = 0x4c00, "host IA32_SYSENTER_CS";
    /// B.4.1
    CR0_MASK = 0x6000, "CR0 guest/host mask";
    /// B.4.1
    CR4_MASK = 0x6002, "CR4 guest/host mask";
    /// B.4.1
    CR0_SHADOW = 0x6004, "CR0 read shadow";
    /// B.4.1
    CR4_SHADOW = 0x6006, "CR4 read shadow";
    /// B.4.2
    QUALIFICATION = 0x6400, "exit qualification";
    /// B.4.3
    CR0 = 0x6800, "CR0";
    /// B.4.3
    CR3 = 0x6802, "CR3";
    /// B.4.3
    CR4 = 0x6804, "CR4";
    /// B.4.3
    ES_BASE = 0x6806, "ES base";
    /// B.4.3
    CS_BASE = 0x6808, "CS base";
    /// B.4.3
    SS_BASE = 0x680a, "SS base";
    /// B.4.3
    DS_BASE = 0x680c, "DS base";
    /// B.4.3
    FS_BASE = 0x680e, "FS base";
    /// B.4.3
    GS_BASE = 0x6810, "GS base";
    /// B.4.3
    LDTR_BASE = 0x6812, "LDTR base";
    /// B.4.3
    TR_BASE = 0x6814, "TR base";
    /// B.4.3
    GDTR_BASE = 0x6816, "GDTR base";
    /// B.4.3
    IDTR_BASE = 0x6818, "IDTR base";
    /// B.4.3
    DR7 = 0x681a, "DR7";
    /// B.4.3
    RSP = 0x681c, "RSP";
    /// B.4.3
    RIP = 0x681e, "RIP";
    /// B.4.3
    RFLAGS = 0x6820, "RFLAGS";
    /// B.4.3
    PENDING_DEBUG = 0x6822, "pending debug exceptions";
    /// B.4.3
    SYSENTER_ESP = 0x6824, "IA32_SYSENTER_ESP";
    /// B.4.3
    SYSENTER_EIP = 0x6826, "IA32_SYSENTER_EIP";
    /// B.4.4
    HOST_CR0 = 0x6c00, "host CR0";
    /// B.4.4
    HOST_CR3 = 0x6c02, "host CR3";
    /// B.4.4
    HOST_CR4 = 0x6c04, "host CR4";
    /// B.4.4
    HOST_FS_BASE = 0x6c06, "host FS base";
    /// B.4.4
    HOST_GS_BASE = 0x6c08, "host GS base";
    /// B.4.4
    HOST_TR_BASE = 0x6c0a, "host TR base";
    /// B.4.4
    HOST_GDTR_BASE = 0x6c0c, "host GDTR base";
    /// B.4.4
    HOST_IDTR_BASE = 0x6c0e, "host IDTR base";
    /// B.4.4
    HOST_SYSENTER_ESP = 0x6c10, "host IA32_SYSENTER_ESP";
    /// B.4.4
    HOST_SYSENTER_EIP = 0x6c12, "host IA32_SYSENTER_EIP";
    /// B.4.4
    HOST_RSP = 0x6c14, "host RSP";
    /// B.4.4
    HOST_RIP = 0x6c16, "host RIP";
}

/// The four fields of a segment register.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Segment {
    /// For reports.
    pub name: &'static str,
    /// Its selector.
    pub selector: Field,
    /// Its base.
    pub base: Field,
    /// Its limit.
    pub limit: Field,
    /// Its access rights.
    pub rights: Field,
}

impl Segment {
    /// The encodings of one segment's fields follow those of the one before.
    const fn at(index: u32, name: &'static str) -> Self {
        Self {
            name,
            selector: Field(Field::ES_SELECTOR.0 + 2 * index),
            base: Field(Field::ES_BASE.0 + 2 * index),
            limit: Field(Field::ES_LIMIT.0 + 2 * index),
            rights: Field(Field::ES_RIGHTS.0 + 2 * index),
        }
    }

    /// ES, CS, SS, DS, FS, GS.
    pub const ALL: [Self; 6] = [
        Self::at(0, "ES"),
        Self::CS,
        Self::SS,
        Self::at(3, "DS"),
        Self::at(4, "FS"),
        Self::at(5, "GS"),
    ];
    /// The code segment.
    pub const CS: Self = Self::at(1, "CS");
    /// The stack segment, whose privilege level is the processor's.
    pub const SS: Self = Self::at(2, "SS");
    /// The local descriptor table.
    pub const LDTR: Self = Self::at(6, "LDTR");
    /// The task register.
    pub const TR: Self = Self::at(7, "TR");
}

const _: () = {
    assert!(Segment::TR.selector.0 == Field::TR_SELECTOR.0);
    assert!(Segment::TR.base.0 == Field::TR_BASE.0);
    assert!(Segment::TR.limit.0 == Field::TR_LIMIT.0);
    assert!(Segment::TR.rights.0 == Field::TR_RIGHTS.0);
    assert!(Segment::CS.rights.0 == Field::CS_RIGHTS.0);
};

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn no_two_names_share_an_encoding() {
        let encodings: BTreeSet<_> = Field::ALL.iter().collect();
        let names: BTreeSet<_> = Field::ALL.iter().map(|field| field.name()).collect();
        assert_eq!(encodings.len(), Field::ALL.len());
        assert_eq!(names.len(), Field::ALL.len());
    }

    /// SDM vol. 3C, 25.11.2: bit 0 selects the high half of a 64-bit field, which 64-bit code never
    /// needs; bit 12 and above bit 14 are reserved.
    #[test]
    fn every_encoding_names_a_whole_field() {
        for field in Field::ALL {
            assert_eq!(field.0 & !0x6ffe, 0, "{}", field.name());
        }
    }
}
