//! What a processor's extension offers, read from its capability registers. SDM vol. 3D, appendix A.

use core::fmt;

/// The capability registers, as read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Capabilities {
    /// IA32_VMX_BASIC.
    pub basic: u64,
    /// IA32_VMX_TRUE_PINBASED_CTLS, or IA32_VMX_PINBASED_CTLS where there are no true ones.
    pub pin: u64,
    /// IA32_VMX_TRUE_PROCBASED_CTLS or IA32_VMX_PROCBASED_CTLS.
    pub primary: u64,
    /// IA32_VMX_PROCBASED_CTLS2, or zero where there are no secondary controls.
    pub secondary: u64,
    /// IA32_VMX_TRUE_EXIT_CTLS or IA32_VMX_EXIT_CTLS.
    pub exit: u64,
    /// IA32_VMX_TRUE_ENTRY_CTLS or IA32_VMX_ENTRY_CTLS.
    pub entry: u64,
    /// IA32_VMX_EPT_VPID_CAP, or zero where there is neither EPT nor VPID.
    pub ept_vpid: u64,
}

/// What the extension of this processor lacks for Bouncer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lacking {
    /// Nested paging, in the form Bouncer uses: four levels, write-back tables, INVEPT.
    Ept,
    /// A guest in real mode and without paging.
    UnrestrictedGuest,
    /// A control that must be set cannot be.
    Control(&'static str),
    /// A control that must be clear cannot be.
    Forced(&'static str),
}

impl fmt::Display for Lacking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ept => f.write_str("no EPT with four levels"),
            Self::UnrestrictedGuest => f.write_str("no unrestricted guest"),
            Self::Control(name) => write!(f, "no control \"{name}\""),
            Self::Forced(name) => write!(f, "control \"{name}\" cannot be turned off"),
        }
    }
}

/// What firmware left in IA32_FEATURE_CONTROL. SDM vol. 3C, 24.7.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FeatureControl {
    /// VMXON works outside SMX operation.
    On,
    /// The register may still be written: with this VMXON works, until the next reset.
    Open(u64),
    /// The register is locked and VMXON faults.
    LockedOff,
}

impl FeatureControl {
    /// Reads `value`.
    pub const fn of(value: u64) -> Self {
        const LOCK: u64 = 1 << 0;
        const VMX_OUTSIDE_SMX: u64 = 1 << 2;
        match (value & LOCK != 0, value & VMX_OUTSIDE_SMX != 0) {
            (true, true) => Self::On,
            (true, false) => Self::LockedOff,
            (false, _) => Self::Open(value | LOCK | VMX_OUTSIDE_SMX),
        }
    }
}

/// IA32_VMX_BASIC (A.1).
const REVISION: u64 = 0x7fff_ffff;
const HAS_TRUE_CONTROLS: u64 = 1 << 55;

impl Capabilities {
    /// Whether IA32_VMX_BASIC says that the true controls' registers exist.
    pub const fn has_true_controls(basic: u64) -> bool {
        basic & HAS_TRUE_CONTROLS != 0
    }

    /// Whether the register of the primary controls says that IA32_VMX_PROCBASED_CTLS2 exists (A.3.3).
    pub const fn has_secondary(primary: u64) -> bool {
        primary >> 63 == 1
    }

    /// Whether the register of the secondary controls says that IA32_VMX_EPT_VPID_CAP exists: EPT or
    /// VPID can be turned on (A.10).
    pub const fn has_ept_vpid(secondary: u64) -> bool {
        secondary >> 33 & 1 == 1 || secondary >> 37 & 1 == 1
    }

    /// The revision that the first word of a VMXON region and of a VMCS names.
    pub const fn revision(&self) -> u32 {
        (self.basic & REVISION) as u32
    }

    /// What EPT and VPID offer.
    ///
    /// # Errors
    /// [`Lacking::Ept`] if Bouncer cannot use this EPT.
    pub fn nested(&self) -> Result<Nested, Lacking> {
        let has = |bit: u32| self.ept_vpid >> bit & 1 == 1;
        let scope = |single, all| match (has(single), has(all)) {
            (true, _) => Some(Scope::One),
            (false, true) => Some(Scope::All),
            _ => None,
        };
        // Appendix A.10: 6 walks of four levels, 14 write-back tables, 20 INVEPT with 25 and 26, 32
        // INVVPID with 41 and 42, 16 and 17 larger pages.
        let invept = scope(25, 26).filter(|_| has(6) && has(14) && has(20));
        Ok(Nested {
            has_2mib: has(16),
            has_1gib: has(17),
            invept: invept.ok_or(Lacking::Ept)?,
            invvpid: scope(41, 42).filter(|_| has(32)),
        })
    }
}

/// What EPT and VPID offer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Nested {
    /// Pages of 2 MiB.
    pub has_2mib: bool,
    /// Pages of 1 GiB.
    pub has_1gib: bool,
    /// The narrowest scope of INVEPT.
    pub invept: Scope,
    /// The narrowest scope of INVVPID that forgets a whole guest; `None` where VPID cannot be used.
    pub invvpid: Option<Scope>,
}

/// What INVEPT and INVVPID forget; the number is their operand (SDM vol. 3C, chapter 31).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scope {
    /// One EPT table, one VPID.
    One = 1,
    /// All.
    All = 2,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What an emulated Skylake-X says.
    const EPT_VPID: u64 = 0x0f01_0673_4141;

    fn with(ept_vpid: u64) -> Result<Nested, Lacking> {
        let capabilities = Capabilities {
            ept_vpid,
            ..Capabilities::default()
        };
        capabilities.nested()
    }

    /// "If this bit is clear, VMXON causes a general-protection exception. If the lock bit is set, [...] the
    /// MSR cannot be modified until a power-up reset condition" (SDM vol. 3C, 24.7).
    #[test]
    fn what_firmware_locked_off_stays_off_and_what_it_left_open_is_turned_on() {
        assert_eq!(FeatureControl::of(0b001), FeatureControl::LockedOff);
        assert_eq!(FeatureControl::of(0b011), FeatureControl::LockedOff);
        assert_eq!(FeatureControl::of(0b101), FeatureControl::On);
        assert_eq!(FeatureControl::of(0), FeatureControl::Open(0b101));
        assert_eq!(
            FeatureControl::of(0x20_0004),
            FeatureControl::Open(0x20_0005)
        );
    }

    #[test]
    fn the_narrowest_scope_is_taken() {
        let nested = with(EPT_VPID).unwrap();
        assert_eq!(nested.invept, Scope::One);
        assert_eq!(nested.invvpid, Some(Scope::One));
        assert!(nested.has_2mib && nested.has_1gib);
        assert_eq!(with(EPT_VPID & !(1 << 25)).unwrap().invept, Scope::All);
        assert_eq!(
            with(EPT_VPID & !(1 << 41)).unwrap().invvpid,
            Some(Scope::All)
        );
    }

    #[test]
    fn ept_without_what_is_used_of_it_is_no_ept() {
        for bit in [6, 14, 20] {
            assert_eq!(with(EPT_VPID & !(1 << bit)), Err(Lacking::Ept), "bit {bit}");
        }
        assert_eq!(with(EPT_VPID & !(3 << 25)), Err(Lacking::Ept));
        assert_eq!(with(0), Err(Lacking::Ept));
    }

    #[test]
    fn a_register_is_read_only_where_another_says_that_it_exists() {
        assert!(Capabilities::has_secondary(0x8000_0000 << 32));
        assert!(!Capabilities::has_secondary(0x7fff_ffff_ffff_ffff));
        for control in [1, 5] {
            assert!(Capabilities::has_ept_vpid(1 << (32 + control)));
        }
        assert!(!Capabilities::has_ept_vpid(!(0x22 << 32)));
    }

    #[test]
    fn without_invvpid_there_is_no_vpid() {
        assert_eq!(with(EPT_VPID & !(1 << 32)).unwrap().invvpid, None);
    }
}
