use std::collections::BTreeMap;
use std::string::ToString;

use super::*;
use crate::spec::control::interruptibility;
use crate::spec::field::Segment;

const TF: u64 = 1 << 8;

/// What an emulated Skylake-X says, CET aside.
const FIXED: Fixed = Fixed {
    cr0_set: 0x8000_0021,
    cr0_may: 0xffff_ffff,
    cr4_set: 0x2000,
    cr4_may: 0x00f7_67ff,
};

type Fields = BTreeMap<Field, u64>;

/// A guest in 64-bit mode, as a boot loader leaves it.
fn long_mode() -> Fields {
    let mut fields = real_mode();
    fields.extend([
        (Field::ENTRY_CONTROLS, 0xd3ff),
        (Field::CR0, 0x8001_0033),
        (Field::CR3, 0x10_0000),
        (Field::CR4, 0x2020),
        (Field::EFER, 0x500),
        (Field::CS_SELECTOR, 0x10),
        (Field::CS_BASE, 0),
        (Field::CS_LIMIT, 0xffff_ffff),
        (Field::CS_RIGHTS, 0xa09b),
        (Field::RIP, 0x100_0200),
    ]);
    for segment in Segment::ALL.iter().filter(|it| **it != Segment::CS) {
        fields.insert(segment.limit, 0xffff_ffff);
        fields.insert(segment.rights, 0xc093);
    }
    fields
}

/// A guest as INIT leaves it.
fn real_mode() -> Fields {
    let mut fields = Fields::from([
        (Field::PIN_CONTROLS, 0x3e),
        (Field::SECONDARY_CONTROLS, 0xaa),
        (Field::ENTRY_CONTROLS, 0xd1ff),
        (Field::CR0, 0x30),
        (Field::CR4, 0x2000),
        (Field::DR7, 0x400),
        (Field::PAT, 0x0007_0406_0007_0406),
        (Field::RFLAGS, 2),
        (Field::RIP, 0xfff0),
        (Field::LINK_POINTER, u64::MAX),
        (Field::GDTR_LIMIT, 0xffff),
        (Field::IDTR_LIMIT, 0xffff),
        (Segment::TR.limit, 0xffff),
        (Segment::TR.rights, 0x8b),
        (Segment::LDTR.limit, 0xffff),
        (Segment::LDTR.rights, 0x82),
    ]);
    for segment in Segment::ALL {
        fields.insert(segment.limit, 0xffff);
        fields.insert(segment.rights, 0x93);
    }
    fields.insert(Field::CS_SELECTOR, 0xf000);
    fields.insert(Field::CS_BASE, 0xffff_0000);
    fields.insert(Field::CS_RIGHTS, 0x9b);
    fields
}

fn judge(fields: &Fields) -> Option<Violation> {
    first_violation(&|field| fields.get(&field).copied().unwrap_or(0), &FIXED)
}

#[test]
fn the_states_guests_start_in_are_accepted() {
    assert_eq!(judge(&long_mode()), None);
    assert_eq!(judge(&real_mode()), None);
}

#[test]
fn each_demand_is_named_with_its_field() {
    let cases: &[(Field, u64, &str)] = &[
        (Field::CR0, 0x8001_0013, "fixes to 1"),
        (
            Field::CR0,
            0x8000_0030 | 1 << 16,
            "paging without protection",
        ),
        (Field::CR0, 0x31, "long mode without paging"),
        (Field::CR4, 0x20, "fixes to 1"),
        (Field::CR4, 0x2020 | 1 << 30, "does not have"),
        (Field::CR4, 0x2000, "without PAE"),
        (Field::CR3, 1 << 52, "physical addresses"),
        (Field::DR7, 1 << 32, "63:32"),
        (Field::SYSENTER_EIP, 1 << 62, "not canonical"),
        (Field::PAT, 2, "no memory type"),
        (Field::EFER, 0x502, "reserved"),
        (Field::EFER, 0x100, "IA-32e mode guest"),
        (Field::EFER, 0x400, "LMA differs from LME"),
        (Field::CS_RIGHTS, 0xa092, "not one of code"),
        (Field::CS_RIGHTS, 0xe09b, "L and D"),
        (Field::CS_BASE, 1 << 32, "63:32"),
        (Field::SS_RIGHTS, 0xc09b, "writable data"),
        (Field::DS_RIGHTS, 0xc092, "accessed"),
        (Field::DS_RIGHTS, 0xc013, "present"),
        (Field::DS_RIGHTS, 0x4093, ""),
        (Field::DS_RIGHTS, 0xc393, "reserved"),
        (Field::ES_RIGHTS, 0xc083, "system segment"),
        (Field::TR_SELECTOR, 4, "global table"),
        (Field::TR_RIGHTS, 0x83, "busy task"),
        (Field::TR_RIGHTS, 0x1_008b, "unusable"),
        (Field::LDTR_RIGHTS, 0x83, "local table"),
        (Field::GDTR_LIMIT, 0x1_0000, "31:16"),
        (Field::IDTR_BASE, 1 << 60, "not canonical"),
        (Field::RIP, 1 << 60, "not canonical"),
        (Field::RFLAGS, 0, "reserved"),
        (Field::RFLAGS, 2 | 1 << 17, ""),
        (Field::ACTIVITY, 4, "no such state"),
        (Field::INTERRUPTIBILITY, 1, "IF is clear"),
        (Field::INTERRUPTIBILITY, 3, "both"),
        (Field::INTERRUPTIBILITY, 1 << 5, "reserved"),
        (Field::PENDING_DEBUG, 1 << 5, "reserved"),
        (Field::LINK_POINTER, 0, "all ones"),
    ];
    for (field, value, demand) in cases {
        let mut fields = long_mode();
        fields.insert(*field, *value);
        let violation = judge(&fields);
        let told = violation.map(|it| it.to_string());
        assert!(
            told.as_ref().is_some_and(|told| told.contains(demand)),
            "{} = {value:#x}: {told:?}",
            field.name()
        );
        if !demand.is_empty() {
            assert_eq!(violation.map(|it| it.field), Some(*field));
        }
    }
}

#[test]
fn an_nmi_waits_for_the_end_of_the_handler_before() {
    let mut fields = long_mode();
    fields.insert(Field::ENTRY_EVENT, 0x8000_0202);
    assert_eq!(judge(&fields), None);
    fields.insert(Field::INTERRUPTIBILITY, interruptibility::NMI);
    assert!(judge(&fields).is_some_and(|it| it.demand.contains("within the handler")));
    fields.insert(Field::INTERRUPTIBILITY, interruptibility::MOV_SS);
    assert!(judge(&fields).is_some_and(|it| it.demand.contains("behind MOV SS")));
}

#[test]
fn a_step_behind_sti_must_be_pending() {
    let mut fields = long_mode();
    fields.insert(Field::RFLAGS, 2 | TF | IF);
    fields.insert(Field::INTERRUPTIBILITY, interruptibility::STI);
    assert!(judge(&fields).is_some_and(|it| it.field == Field::PENDING_DEBUG));
    fields.insert(Field::PENDING_DEBUG, crate::spec::control::PENDING_STEP);
    assert_eq!(judge(&fields), None);
}

#[test]
fn a_step_over_hlt_must_be_pending_while_the_processor_halts() {
    let mut fields = long_mode();
    fields.insert(Field::RFLAGS, 2 | TF);
    fields.insert(Field::ACTIVITY, 1);
    assert!(judge(&fields).is_some_and(|it| it.field == Field::PENDING_DEBUG));
    fields.insert(Field::PENDING_DEBUG, crate::spec::control::PENDING_STEP);
    assert_eq!(judge(&fields), None);
}

#[test]
fn the_entries_of_pae_paging_are_looked_at() {
    let mut fields = real_mode();
    fields.insert(Field::CR0, 0x8000_0031);
    fields.insert(Field::CR4, 0x2020);
    fields.insert(Field::PDPTE2, 0x1001);
    assert_eq!(judge(&fields), None);
    fields.insert(Field::PDPTE2, 0x1003);
    assert!(judge(&fields).is_some_and(|it| it.field == Field::PDPTE2));
}

#[test]
fn virtual_8086_mode_has_rules_of_its_own() {
    let mut fields = real_mode();
    fields.insert(Field::CR0, 0x31);
    fields.insert(Field::RFLAGS, 2 | 1 << 17);
    for segment in Segment::ALL {
        fields.insert(segment.selector, 0x1000);
        fields.insert(segment.base, 0x1_0000);
        fields.insert(segment.rights, 0xf3);
    }
    assert_eq!(judge(&fields), None);
    fields.insert(Field::FS_BASE, 0);
    assert!(judge(&fields).is_some_and(|it| it.field == Field::FS_BASE));
}
