//! The local APIC of the running processor, which belongs to the guest.
//!
//! Bouncer borrows it: to start processors before there is a guest, to send NMIs to its own
//! other processors, to repeat a write of the guest that it had to look at, and to bring it into
//! the state that an INIT signal would have left. SDM vol. 3A, chapter 12.

// UNSAFETY: reads and writes the APIC's registers.
#![expect(unsafe_code)]

use memory::{ByteRange, Gpa, PAGE_SIZE};
use processor::msr::apic_base;
use vtd::remap::Route;
use x86::msr::{IA32_APIC_BASE, rdmsr, wrmsr};

/// Register offsets in the xAPIC page. SDM table 12-1.
mod offset {
    pub(super) const ID: u32 = 0x20;
    pub(super) const TASK_PRIORITY: u32 = 0x80;
    pub(super) const END_OF_INTERRUPT: u32 = 0xb0;
    pub(super) const LOGICAL_DESTINATION: u32 = 0xd0;
    pub(super) const DESTINATION_FORMAT: u32 = 0xe0;
    pub(super) const SPURIOUS: u32 = 0xf0;
    pub(super) const IN_SERVICE: u32 = 0x100;
    pub(crate) const COMMAND_LOW: u32 = 0x300;
    pub(crate) const COMMAND_HIGH: u32 = 0x310;
    pub(super) const VECTORS: [u32; 6] = [0x320, 0x330, 0x340, 0x350, 0x360, 0x370];
    pub(super) const TIMER_INITIAL: u32 = 0x380;
    pub(super) const TIMER_DIVIDE: u32 = 0x3e0;
}

pub(crate) use offset::{COMMAND_HIGH, COMMAND_LOW};

const MASKED: u32 = 1 << 16;
const SPURIOUS_AT_RESET: u32 = 0xff;
const DELIVERY_PENDING: u32 = 1 << 12;
const X2APIC_BASE: u32 = 0x800;
const X2APIC_COMMAND: u32 = 0x830;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
/// Reads of a pending command before it is given up; it leaves the chip in microseconds.
const PATIENCE: u32 = 100_000;

/// What Bouncer itself sends.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Signal {
    /// A non-maskable interrupt.
    Nmi,
    /// INIT.
    Init,
    /// Start-up at `page << 12`.
    Startup {
        /// Page number of the first instruction.
        page: u8,
    },
}

impl Signal {
    /// Delivery mode, level assert and vector. SDM figure 12-12.
    fn bits(self) -> u32 {
        const ASSERT: u32 = 1 << 14;
        match self {
            Self::Nmi => ASSERT | 0b100 << 8,
            Self::Init => ASSERT | 0b101 << 8,
            Self::Startup { page } => ASSERT | 0b110 << 8 | u32::from(page),
        }
    }
}

/// The page of the xAPIC's registers.
pub(crate) fn page() -> Option<ByteRange<Gpa>> {
    ByteRange::new(Gpa::new(base() & ADDRESS), PAGE_SIZE)
}

/// Whether the APIC is in x2APIC mode, so that its page is without effect.
pub(crate) fn is_x2apic() -> bool {
    base() & apic_base::X2APIC != 0
}

/// Whether the APIC is on.
pub(crate) fn is_on() -> bool {
    base() & apic_base::ENABLE != 0
}

/// This processor's APIC id.
pub(crate) fn id() -> u32 {
    if is_x2apic() {
        read(offset::ID)
    } else {
        read(offset::ID) >> 24
    }
}

/// Sends a signal of Bouncer's to the processor with this APIC id. The guest's own half-written
/// command, if any, stays as it was.
pub(crate) fn send(signal: Signal, to: u32) {
    if is_x2apic() {
        // SAFETY: the command names one of the processors that Bouncer owns, and sends what
        // Bouncer is ready to take.
        unsafe {
            wrmsr(
                X2APIC_COMMAND,
                u64::from(to) << 32 | u64::from(signal.bits()),
            )
        };
        return;
    }
    send_xapic(signal.bits(), to);
}

fn send_xapic(command: u32, to: u32) {
    let guests = read(offset::COMMAND_HIGH);
    wait_for_delivery();
    write(offset::COMMAND_HIGH, to << 24);
    write(offset::COMMAND_LOW, command);
    wait_for_delivery();
    write(offset::COMMAND_HIGH, guests);
}

/// Raises an interrupt that the guest programmed into a device, in the device's place: to the
/// destination and with the vector that it asked for, as one edge.
pub(crate) fn send_for_device(route: Route) {
    const LOGICAL: u32 = 1 << 11;
    let to = route.destination();
    let mut command = u32::from(route.vector());
    if to.is_logical() {
        command |= LOGICAL;
    }
    if is_x2apic() {
        // SAFETY: a vector above the exceptions to the guest's own processors (`Route`), with fixed
        // delivery, as any of its devices may raise.
        unsafe {
            wrmsr(
                X2APIC_COMMAND,
                u64::from(to.id()) << 32 | u64::from(command),
            )
        };
        return;
    }
    if route.is_lowest_priority() {
        command |= 1 << 8;
    }
    send_xapic(command, to.id());
}

/// Repeats a write of the guest to the APIC's page.
pub(crate) fn write_for_guest(offset: u32, value: u32) {
    write(offset, value);
}

/// Reads a register of the APIC's page for the guest, or the half-written command.
pub(crate) fn read_for_guest(offset: u32) -> u32 {
    read(offset)
}

/// Brings the APIC into the state INIT leaves: everything at its reset value but the id and, in
/// x2APIC mode, the mode. SDM 12.4.7.3 and 12.12.5.1.
pub(crate) fn reset_as_by_init() {
    if !is_on() {
        return;
    }
    // Software-disabling the APIC masks the local vectors; what is in service is ended.
    for _ in 0..256 {
        if (0..8).all(|word| read(offset::IN_SERVICE + 0x10 * word) == 0) {
            break;
        }
        write(offset::END_OF_INTERRUPT, 0);
    }
    for vector in offset::VECTORS {
        // The thermal and performance vectors are not on every processor; a masked write to a
        // register that is not there is ignored in xAPIC mode, so x2APIC leaves them out.
        if !is_x2apic() || read_checked(vector).is_some() {
            write(vector, MASKED);
        }
    }
    write(offset::TIMER_INITIAL, 0);
    write(offset::TIMER_DIVIDE, 0);
    write(offset::TASK_PRIORITY, 0);
    if !is_x2apic() {
        write(offset::DESTINATION_FORMAT, u32::MAX);
        write(offset::LOGICAL_DESTINATION, 0);
    }
    write(offset::SPURIOUS, SPURIOUS_AT_RESET);
}

fn wait_for_delivery() {
    for _ in 0..PATIENCE {
        if read(offset::COMMAND_LOW) & DELIVERY_PENDING == 0 {
            return;
        }
        core::hint::spin_loop();
    }
}

fn base() -> u64 {
    // SAFETY: the register exists on every processor with an APIC; reading has no effect.
    unsafe { rdmsr(IA32_APIC_BASE) }
}

/// SDM 12.12.1.2: the x2APIC register of an xAPIC offset is MSR 800h + offset / 16.
fn x2apic_index(offset: u32) -> u32 {
    X2APIC_BASE + (offset >> 4)
}

fn read_checked(offset: u32) -> Option<u64> {
    super::instructions::read_msr(x2apic_index(offset)).ok()
}

fn read(offset: u32) -> u32 {
    if is_x2apic() {
        return read_checked(offset).unwrap_or(0) as u32;
    }
    let register = (base() & ADDRESS) + u64::from(offset);
    // SAFETY: the APIC page is mapped one to one and device memory on every machine; the guest
    // cannot move it (`processor::msr::apic_base`). Reads of it have no side effect.
    unsafe { (register as *const u32).read_volatile() }
}

fn write(offset: u32, value: u32) {
    if is_x2apic() {
        // SAFETY: the APIC delivers interrupts to the guest; it writes no memory. A register
        // that does not exist faults and is skipped.
        let _ = unsafe { super::instructions::write_msr(x2apic_index(offset), u64::from(value)) };
        return;
    }
    let register = (base() & ADDRESS) + u64::from(offset);
    // SAFETY: as for `read`; commands that would take a processor from Bouncer do not get here
    // from the guest (`processor::icr`).
    unsafe { (register as *mut u32).write_volatile(value) };
}
