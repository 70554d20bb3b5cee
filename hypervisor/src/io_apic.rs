//! The I/O APICs, whose entries are the guest's but for those that would stop a processor.

// UNSAFETY: writes the I/O APIC's registers for the guest.
#![expect(unsafe_code)]

use memory::Gpa;
use processor::ioapic::{self, SELECT, WINDOW};
use spin::mutex::TicketMutex;

use crate::console::say;
use crate::limit::Once;

/// Held from the look at the selected index to the write that depends on it.
static SELECTED: TicketMutex<()> = TicketMutex::new(());

static REFUSED: Once<u32, 8> = Once::new();

/// The register that ends an interrupt, on those that have it.
const END_OF_INTERRUPT: u32 = 0x40;

/// Repeats the guest's write to an I/O APIC at `page`. The datasheet allows aligned double words;
/// anything else has no effect here.
pub(crate) fn write_for_guest(page: Gpa, offset: u32, from: &[u8]) {
    let Ok(bytes) = <[u8; 4]>::try_from(from) else {
        return;
    };
    if ![SELECT, WINDOW, END_OF_INTERRUPT].contains(&offset) {
        return;
    }
    let _held = SELECTED.lock();
    let mut value = u32::from_le_bytes(bytes);
    if offset == WINDOW {
        // SAFETY: as below; reading the selected index has no effect.
        let index = unsafe { (page.raw() as *const u32).read_volatile() } & 0xff;
        let admitted = ioapic::admitted(index, value);
        if admitted != value && REFUSED.is_new(index) {
            say!(
                "guest I/O APIC entry {value:#x} at index {index:#x} stays masked: its delivery mode \
                 would take a processor from the guest"
            );
        }
        value = admitted;
    }
    // SAFETY: the page is an I/O APIC's, as the firmware says, mapped one to one; the value raises
    // nothing but interrupts of the guest's.
    unsafe { ((page.raw() + u64::from(offset)) as *mut u32).write_volatile(value) };
}
