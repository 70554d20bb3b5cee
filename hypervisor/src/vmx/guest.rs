//! The states a guest's processor starts in.

// UNSAFETY: writes the guest's state into the VMCS.
#![expect(unsafe_code)]

use boot::handoff::GuestStart;
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

/// 64-bit mode as the loader says.
pub(super) fn start_as(start: &GuestStart, cr4: u64) {
    /// Selectors of the loader's descriptor table (`boot::linux`).
    const BOOT_CS: u16 = 0x10;
    const BOOT_DS: u16 = 0x18;
    /// PG, WP, NE, ET, MP, PE.
    const CR0: u64 = 0x8001_0033;
    const CR4_PAE: u64 = 1 << 5;
    const EFER_LMA_LME: u64 = 0x500;
    let flat = |selector, rights| Content {
        selector,
        base: 0,
        limit: u32::MAX,
        rights,
    };
    for segment in Segment::ALL {
        load(segment, flat(BOOT_DS, 0xc093));
    }
    load(Segment::CS, flat(BOOT_CS, 0xa09b));
    write(&[
        (Field::GDTR_BASE, start.gdt_base),
        (Field::GDTR_LIMIT, start.gdt_limit.into()),
        (Field::CR0, CR0),
        (Field::CR0_SHADOW, CR0),
        (Field::CR3, start.cr3),
        (Field::CR4, cr4 | CR4_PAE),
        (Field::EFER, EFER_LMA_LME),
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
