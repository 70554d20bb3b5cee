//! The states a guest's processor starts in.

// UNSAFETY: writes the guest's state into the VMCS.
#![expect(unsafe_code)]

use boot::handoff::{GuestStart, SegmentState};
use vmx::spec::control::entry;
use vmx::spec::field::{Field, Segment};

use super::enable::set;
use super::instructions::read;

/// The PAT after reset. SDM vol. 3A, table 13-11.
const PAT_AT_RESET: u64 = 0x0007_0406_0007_0406;
/// Bits of CR0: NE and ET. VM entry leaves the processor's CD and NW alone (27.3.2.1).
const CR0_NE: u64 = 1 << 5;
const CR0_ET: u64 = 1 << 4;
const LONG_MODE: u64 = entry::LONG_MODE as u64;

/// One segment's fields.
struct Content {
    selector: u16,
    base: u64,
    limit: u32,
    rights: u32,
}

/// SDM vol. 3A, table 10-1, column INIT. `cr4` holds what VMX operation demands.
pub(super) fn reset(cr4: u64) {
    let data = |rights| Content {
        selector: 0,
        base: 0,
        limit: 0xffff,
        rights,
    };
    for segment in Segment::ALL {
        load(segment, data(0x93));
    }
    load(
        Segment::CS,
        Content {
            selector: 0xf000,
            base: 0xffff_0000,
            ..data(0x9b)
        },
    );
    load(Segment::LDTR, data(0x82));
    load(Segment::TR, data(0x8b));
    let long = read(Field::ENTRY_CONTROLS) & !LONG_MODE;
    write(&[
        (Field::CR0, CR0_NE | CR0_ET),
        (Field::CR0_SHADOW, 0),
        (Field::CR3, 0),
        (Field::CR4, cr4),
        (Field::CR4_SHADOW, 0),
        (Field::EFER, 0),
        (Field::ENTRY_CONTROLS, long),
        (Field::DR7, 0x400),
        (Field::DEBUGCTL, 0),
        (Field::GDTR_BASE, 0),
        (Field::GDTR_LIMIT, 0xffff),
        (Field::IDTR_BASE, 0),
        (Field::IDTR_LIMIT, 0xffff),
        (Field::INTERRUPTIBILITY, 0),
        (Field::ACTIVITY, 0),
        (Field::PENDING_DEBUG, 0),
    ]);
}

/// What INIT leaves alone and power-on sets.
pub(super) fn power_on() {
    write(&[
        (Field::PAT, PAT_AT_RESET),
        (Field::SYSENTER_CS, 0),
        (Field::SYSENTER_ESP, 0),
        (Field::SYSENTER_EIP, 0),
        (Field::LINK_POINTER, u64::MAX),
    ]);
}

/// Real mode at `vector << 12`.
pub(super) fn start_at(vector: u8) {
    write(&[
        (Field::CS_SELECTOR, u64::from(vector) << 8),
        (Field::CS_BASE, u64::from(vector) << 12),
    ]);
}

/// 64-bit mode as the loader says. `cr0` and `cr4` hold what VMX operation demands beyond that.
pub(super) fn start_as(start: &GuestStart, cr0: u64, cr4: u64) {
    let content = |state: &SegmentState| Content {
        selector: state.selector,
        base: state.base,
        limit: state.limit,
        rights: state.rights,
    };
    for (segment, state) in Segment::ALL.into_iter().zip(&start.segments) {
        load(segment, content(state));
    }
    load(Segment::LDTR, content(&start.ldtr));
    load(Segment::TR, content(&start.tr));
    write(&[
        (Field::GDTR_BASE, start.gdt.base),
        (Field::GDTR_LIMIT, start.gdt.limit.into()),
        (Field::IDTR_BASE, start.idt.base),
        (Field::IDTR_LIMIT, start.idt.limit.into()),
        (Field::CR0, start.cr0 | cr0),
        (Field::CR0_SHADOW, start.cr0),
        (Field::CR3, start.cr3),
        (Field::CR4, start.cr4 | cr4),
        (Field::CR4_SHADOW, start.cr4),
        (Field::EFER, start.efer),
        (Field::PAT, start.pat),
        (
            Field::ENTRY_CONTROLS,
            read(Field::ENTRY_CONTROLS) | LONG_MODE,
        ),
    ]);
}

fn load(segment: Segment, content: Content) {
    write(&[
        (segment.selector, content.selector.into()),
        (segment.base, content.base),
        (segment.limit, content.limit.into()),
        (segment.rights, content.rights.into()),
    ]);
}

fn write(fields: &[(Field, u64)]) {
    for (field, value) in fields {
        // SAFETY: the guest's own state; whatever it is, the guest stays behind its nested tables.
        unsafe { set(*field, *value) };
    }
}
