//! Emulates an access of the guest that its nested tables refuse.
//!
//! Each operand goes where its guest-physical address says: memory, the local APIC, Bouncer's own
//! (all ones, and writes go nowhere), or a device, which is then accessed as the guest would have.

// UNSAFETY: repeats the guest's accesses to devices.
#![expect(unsafe_code)]

use instruction::linear::{self, Access, Paging, Privilege, Span};
use instruction::{
    Bits, Fault, Found, Memo, Register, Segment, SegmentRegister, Undecodable, Vcpu, decode,
    execute, fetch,
};
use memory::{ByteRange, Gpa, GuestMemory};
use processor::icr::{self, Format};
use processor::lvt;

use crate::backend::{Backend, State};
use crate::console::say;
use crate::cpu::apic;
use crate::cpu::area::Area;
use crate::limit::Once;
use crate::machine::Machine;
use crate::physical::{self, Physical};
use crate::run::Runner;
use crate::virtual_unit::{self, Shared};
use crate::{command, hidden, io_apic, mediated, nmis};

/// Offsets of the local APIC whose dropped writes have been reported.
static DROPPED: Once<u32, 8> = Once::new();

/// Why an instruction was not emulated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Failure {
    /// The guest's own fault, to be raised in it; or an operand nowhere.
    Fault(Fault),
    /// An instruction outside the emulator's set.
    Undecodable(Undecodable),
}

/// Emulates the instruction at RIP, which was not let on in what was `found`.
pub(crate) fn emulate<B: Backend>(runner: &mut Runner<B>, found: Found) -> Result<(), Failure> {
    let (machine, area) = (runner.machine, runner.area);
    let vcpu = Emulated::new(machine, area, runner.cpu.state());
    carry_out(vcpu, &mut runner.decoded, found)
}

/// Once for all backends.
#[inline(never)]
fn carry_out(mut vcpu: Emulated<'_>, decoded: &mut Memo, found: Found) -> Result<(), Failure> {
    let (bytes, bits) = vcpu.fetch().map_err(Failure::Fault)?;
    let instruction = decoded.decode(&bytes, bits);
    let instruction = instruction.map_err(Failure::Undecodable)?;
    vcpu.found = Some(found).filter(|_| instruction.has_one_in_memory());
    execute(&instruction, &mut vcpu).map_err(Failure::Fault)
}

/// The length of the instruction at RIP, which caused an exit, if it can still be told.
pub(crate) fn current_len<B: Backend>(runner: &mut Runner<B>) -> Option<u8> {
    let (machine, area) = (runner.machine, runner.area);
    measure(&Emulated::new(machine, area, runner.cpu.state()))
}

/// Once for all backends.
#[inline(never)]
fn measure(vcpu: &Emulated<'_>) -> Option<u8> {
    /// CPUID, RDMSR, WRMSR and INVD without needless prefixes.
    const USUAL: u8 = 2;
    match vcpu.fetch() {
        Ok((bytes, bits)) => decode(&bytes, bits).ok().map(|found| found.length()),
        // The processor runs code where Bouncer reads none: in memory that firmware keeps for itself, as it
        // does for the last loop of its processors. Entered again, it would exit again, for ever.
        Err(Fault::Hole(_)) => Some(USUAL),
        Err(_) => None,
    }
}

struct Emulated<'a> {
    machine: &'static Machine,
    area: &'static Area,
    paging: Paging,
    state: State<'a>,
    /// Where the processor found the only operand in memory.
    found: Option<Found>,
}

fn paging_of(state: &State<'_>, physical_width: u32) -> Paging {
    Paging {
        cr0: state.cr0,
        cr3: state.cr3,
        cr4: state.cr4,
        efer: state.efer,
        rflags: *state.rflags,
        privilege: if state.privilege == 3 {
            Privilege::User
        } else {
            Privilege::Supervisor
        },
        physical_bits: physical_width as u8,
    }
}

/// How often an access looks for whom it is meant while another processor switches decoding on and off;
/// after that it is lost, as an access to what decodes nothing.
const ROADS: u32 = 3;

/// Where an operand lies.
enum Place {
    Memory,
    Apic {
        offset: u32,
    },
    IoApic {
        page: Gpa,
        offset: u32,
    },
    /// A register of the unit that the guest sees.
    Unit {
        unit: &'static Shared,
        offset: u32,
    },
    Hidden,
    /// Where nothing is for the guest: all ones, and writes go nowhere.
    Nothing,
    Device,
}

impl<'a> Emulated<'a> {
    fn new(machine: &'static Machine, area: &'static Area, state: State<'a>) -> Self {
        let paging = paging_of(&state, machine.physical_width);
        Self {
            machine,
            area,
            paging,
            state,
            found: None,
        }
    }
}

impl Emulated<'_> {
    fn fetch(&self) -> Result<(instruction::Bytes, Bits), Fault> {
        let code = self.state.segments[1];
        let bits = Bits::of_code(code.rights, self.state.efer);
        let memory = Physical(self.machine);
        let bytes = fetch(&memory, &self.paging, code.base, *self.state.rip, bits)?;
        Ok((bytes, bits))
    }

    /// Where an operand is.
    fn span(&self, linear: u64, length: u64, access: Access) -> Result<Span, Fault> {
        let found = self.found;
        match found.and_then(|found| found.span(linear, length, access)) {
            Some(span) => Ok(span),
            None => linear::span(
                &Physical(self.machine),
                &self.paging,
                linear,
                length,
                access,
            ),
        }
    }

    fn place(&self, range: ByteRange<Gpa>) -> Place {
        if let Some((unit, offset)) = virtual_unit::at(range) {
            return Place::Unit { unit, offset };
        }
        if self.machine.hidden.iter().any(|own| range.overlaps(own)) {
            return Place::Hidden;
        }
        if let Some(page) = apic::page()
            && page.overlaps(&range)
        {
            let offset = range.start().raw().wrapping_sub(page.start().raw());
            return Place::Apic {
                offset: offset as u32,
            };
        }
        let mut pages = self.machine.io_apics.iter().map(|io_apic| io_apic.page);
        if let Some(page) = pages.find(|page| page.overlaps(&range))
            && self.machine.fabric.is_none()
        {
            let offset = range.start().page_offset() as u32;
            return Place::IoApic {
                page: page.start(),
                offset,
            };
        }
        match range.identity() {
            host if self.machine.is_memory(host) => Place::Memory,
            host if self.machine.is_mapped(host) => Place::Device,
            _ => Place::Nothing,
        }
    }

    fn read_piece(&self, range: ByteRange<Gpa>, to: &mut [u8]) -> Result<(), Fault> {
        match self.place(range) {
            Place::Memory => Physical(self.machine).read(range.start(), to)?,
            Place::Apic { offset } => {
                to.copy_from_slice(&read_apic(offset).to_le_bytes()[..to.len()])
            }
            Place::Unit { unit, offset } => unit.read(offset, to),
            Place::Hidden => {
                hidden::report(self.area, range, Access::Read, *self.state.rip);
                to.fill(0xff);
            }
            Place::Nothing => to.fill(0xff),
            // SAFETY: the nested tables let the guest read the page itself.
            Place::IoApic { .. } => unsafe { physical::read_device(range.start().identity(), to) },
            Place::Device => self.read_device(range, to),
        }
        Ok(())
    }

    fn write_piece(&self, range: ByteRange<Gpa>, from: &[u8]) -> Result<(), Fault> {
        match self.place(range) {
            Place::Memory => Physical(self.machine).write(range.start(), from)?,
            Place::Apic { offset } => self.write_apic(offset, from),
            Place::Unit { unit, offset } => unit.write(self.machine, self.area, offset, from),
            Place::Hidden => hidden::report(self.area, range, Access::Write, *self.state.rip),
            Place::Nothing => {}
            Place::IoApic { page, offset } => io_apic::write_for_guest(page, offset, from),
            Place::Device => self.write_device(range, from),
        }
        Ok(())
    }

    fn read_device(&self, range: ByteRange<Gpa>, to: &mut [u8]) {
        for _ in 0..ROADS {
            if mediated::at(range).is_some_and(|slot| slot.read(self.machine, range, to)) {
                return;
            }
            let mut fabric = self.machine.fabric.map(|fabric| fabric.lock());
            if fabric.as_mut().is_some_and(|f| f.read(range, to)) {
                return;
            }
            if !mediated::is_answered_at(range) {
                // SAFETY: mapped, neither Bouncer's nor watched, and nothing becomes so while the fabric
                // is held: the guest could make this access itself.
                unsafe { physical::read_device(range.start().identity(), to) };
                return;
            }
        }
        to.fill(0xff);
    }

    fn write_device(&self, range: ByteRange<Gpa>, from: &[u8]) {
        for _ in 0..ROADS {
            let slot = mediated::at(range);
            if slot.is_some_and(|slot| slot.write(self.machine, self.area, range, from)) {
                return;
            }
            let mut fabric = self.machine.fabric.map(|fabric| fabric.lock());
            if fabric.as_mut().is_some_and(|f| f.write(range, from)) {
                return;
            }
            if !mediated::is_answered_at(range) {
                // SAFETY: as for reads.
                unsafe { physical::write_device(range.start().identity(), from) };
                return;
            }
        }
    }

    /// SDM vol. 3A, 12.4.1.3: registers are accessed with aligned 32-bit accesses; others are
    /// undefined and have no effect here.
    fn write_apic(&self, offset: u32, from: &[u8]) {
        let Ok(bytes) = <[u8; 4]>::try_from(from) else {
            return;
        };
        if !offset.is_multiple_of(16) || apic::is_x2apic() {
            return;
        }
        let value = u32::from_le_bytes(bytes);
        if offset == apic::COMMAND_LOW {
            let high = u64::from(apic::read_for_guest(apic::COMMAND_HIGH));
            let whole = high << 32 | u64::from(value);
            nmis::note_command(self.machine, self.area, whole, Format::Xapic);
            let asked = icr::read(whole, Format::Xapic);
            if asked != icr::Command::Pass {
                command::obey(self.machine, self.area, asked);
                return;
            }
        } else if !lvt::may_write(offset, value) {
            if DROPPED.is_new(offset) {
                say!(
                    "guest processor {}: write of {value:#x} to offset {offset:#x} of its local APIC \
                     dropped",
                    self.area.index()
                );
            }
            return;
        }
        apic::write_for_guest(offset, value);
    }
}

/// Eight bytes, so that an operand of any size can take its part.
fn read_apic(offset: u32) -> u64 {
    if !offset.is_multiple_of(16) || apic::is_x2apic() {
        return 0;
    }
    u64::from(apic::read_for_guest(offset))
}

impl Vcpu for Emulated<'_> {
    fn register(&self, register: Register) -> u64 {
        self.state.general[register.number()]
    }

    fn load_register(&mut self, register: Register, value: u64) {
        self.state.general[register.number()] = value;
    }

    fn rip(&self) -> u64 {
        *self.state.rip
    }

    fn load_rip(&mut self, rip: u64) {
        *self.state.rip = rip;
    }

    fn rflags(&self) -> u64 {
        *self.state.rflags
    }

    fn load_rflags(&mut self, rflags: u64) {
        *self.state.rflags = rflags;
    }

    fn segment(&self, segment: Segment) -> SegmentRegister {
        self.state.segments[segment as usize]
    }

    fn read(&mut self, linear: u64, access: Access, to: &mut [u8]) -> Result<(), Fault> {
        let span = self.span(linear, to.len() as u64, access)?;
        let (first, rest) = to.split_at_mut(span.first.len() as usize);
        self.read_piece(span.first, first)?;
        span.rest
            .map_or(Ok(()), |range| self.read_piece(range, rest))
    }

    fn write(&mut self, linear: u64, from: &[u8]) -> Result<(), Fault> {
        let span = self.span(linear, from.len() as u64, Access::Write)?;
        let (first, rest) = from.split_at(span.first.len() as usize);
        self.write_piece(span.first, first)?;
        span.rest
            .map_or(Ok(()), |range| self.write_piece(range, rest))
    }
}
