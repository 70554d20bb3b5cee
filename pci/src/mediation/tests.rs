//! A guest doing its worst to the simulated machine, through the model.

extern crate std;

use memory::Gpa;
use proptest::prelude::*;
use std::string::ToString;
use std::vec;
use std::vec::Vec;

use super::*;
use crate::bars::ROM;
use crate::simulated::{EDU, EXTERNAL, HOST, Machine, NIC, NVME, OLD, PORT, TO_PCI};
use crate::{Bdf, Ecam, Latch, Ports};

const ECAM: u64 = 0xb000_0000;

/// What must stay free of devices on this machine.
const PROTECTED: [(u64, u64, KeepoutKind); 7] = [
    (0, 0x7f00_0000, KeepoutKind::Memory),
    (0x7f00_0000, 0x0100_0000, KeepoutKind::Hypervisor),
    (ECAM, 0x1000_0000, KeepoutKind::Ecam),
    (0xfec0_0000, 0x1000, KeepoutKind::IoApic),
    (0xfed9_0000, 0x1000, KeepoutKind::Remapping),
    (0xfee0_0000, 0x10_0000, KeepoutKind::LocalApic),
    (0x1_0000_0000, 0x8000_0000, KeepoutKind::Memory),
];

/// Ports that must stay free of devices.
const PROTECTED_PORTS: [(u16, u64, PortKind); 4] = [
    (0, 0x100, PortKind::Board),
    (0x3f8, 8, PortKind::Hypervisor),
    (0x600, 0x80, PortKind::Hypervisor),
    (0xcf8, 8, PortKind::Hypervisor),
];

fn protected_ports() -> impl Iterator<Item = (Ports, PortKind)> {
    PROTECTED_PORTS
        .into_iter()
        .map(|(first, count, kind)| (Ports::new(first, count).unwrap(), kind))
}

fn protected() -> impl Iterator<Item = (ByteRange<Hpa>, KeepoutKind)> {
    PROTECTED
        .into_iter()
        .map(|(start, len, kind)| (ByteRange::new(Hpa::new(start), len).unwrap(), kind))
}

#[derive(Clone)]
struct World {
    machine: Machine,
    mediation: Mediation<32>,
    ids: Vec<FunctionId>,
    bound: [bool; 8],
    effects: Vec<Effect>,
}

impl World {
    fn new() -> Self {
        Self::of(Machine::new())
    }

    fn of(mut machine: Machine) -> Self {
        let mut topology = Topology::new();
        topology.scan(&machine, 0, 0).unwrap();
        let mut keepouts = Keepouts::new(39);
        for (range, kind) in protected() {
            keepouts.protect(range, kind).unwrap();
        }
        for (ports, kind) in protected_ports() {
            keepouts.protect_ports(ports, kind).unwrap();
        }
        let mut mediation = Mediation::new(topology, keepouts);
        let mut ids = Vec::new();
        for index in 0..machine.functions.len() {
            let at = machine.address_of(index).unwrap();
            let id = mediation.topology().find(at).unwrap();
            let trust = match index {
                NVME | EDU => Trust::Untrusted,
                _ => Trust::Trusted,
            };
            mediation.adopt(&mut machine, id, trust).unwrap();
            ids.push(id);
        }
        Self {
            machine,
            mediation,
            ids,
            bound: [false; 8],
            effects: Vec::new(),
        }
    }

    fn at(&self, index: usize) -> Address {
        self.machine.address_of(index).unwrap()
    }

    fn take(&mut self, decision: &Decision) {
        for step in &decision.steps {
            match step {
                Step::Store(store) => {
                    self.machine.write(store.at, store.register, store.value);
                }
                Step::Obey(effect) => {
                    if let Effect::BarMoved {
                        function,
                        to: Some(to),
                        ..
                    } = effect
                    {
                        let index = self.ids.iter().position(|id| id == function).unwrap();
                        let live = self.machine.functions[index].decoded();
                        assert!(!live.contains(to), "it decodes before it is trapped");
                    }
                    self.effects.push(*effect);
                }
            }
            self.check();
        }
    }

    fn write_at(&mut self, at: Address, register: Register, value: u32) -> Verdict {
        self.effects.clear();
        let decision = self.mediation.write(&self.machine, at, register, value);
        self.take(&decision);
        while let Some(settled) = self.mediation.settle() {
            self.take(&settled);
        }
        decision.verdict
    }

    fn write(&mut self, index: usize, register: Register, value: u32) -> Verdict {
        self.write_at(self.at(index), register, value)
    }

    fn write32(&mut self, index: usize, offset: u16, value: u32) -> Verdict {
        self.write(index, Register::dword(offset), value)
    }

    fn read32(&self, index: usize, offset: u16) -> u32 {
        self.mediation
            .read(&self.machine, self.at(index), Register::dword(offset))
    }

    fn bind(&mut self, index: usize, is_bound: bool) {
        let id = self.ids[index];
        let decision = match is_bound {
            true => self.mediation.bind(id),
            false => self.mediation.stop(id),
        };
        // A function out of reach keeps what it has; the caller took its contexts away.
        let Some(decision) = decision else {
            self.bound[index] = true;
            return;
        };
        self.bound[index] |= is_bound;
        self.take(&decision);
        self.bound[index] = is_bound;
        self.check();
    }

    /// The invariants, by the machine's real registers.
    fn check(&self) {
        let all = &self.machine.functions;
        for (index, function) in all.iter().enumerate() {
            for range in function.decoded().into_iter().chain(function.passed()) {
                for (keepout, kind) in protected() {
                    assert!(
                        !keepout.overlaps(&range),
                        "{index}: {range:?} covers {kind}"
                    );
                }
            }
            for (other, neighbour) in all.iter().enumerate().filter(|&(other, _)| other != index) {
                for (a, b) in function
                    .decoded()
                    .iter()
                    .flat_map(|a| neighbour.decoded().into_iter().map(move |b| (*a, b)))
                {
                    assert!(!a.overlaps(&b), "{index} and {other} both decode {a:?}");
                }
            }
            for ports in function
                .decoded_ports()
                .into_iter()
                .chain(function.passed_ports())
            {
                for (keepout, kind) in protected_ports() {
                    assert!(!keepout.overlap(ports), "{index}: {ports} cover {kind}");
                }
            }
            for neighbour in all.iter().skip(index + 1) {
                let theirs = neighbour.decoded_ports();
                for ports in function.decoded_ports() {
                    assert!(
                        !theirs.iter().any(|taken| taken.overlap(ports)),
                        "{index} and another decode {ports}"
                    );
                }
            }
            if matches!(index, NVME | EDU) {
                assert!(
                    function.u16(4) & 4 == 0 || self.bound[index],
                    "{index} is a bus master"
                );
                assert_eq!(function.u32(0x30) & 1, 0, "{index} shows its ROM");
            }
            if index >= NVME {
                assert_eq!(
                    (function.u32(0x44), function.u32(0x48)),
                    (0, 0),
                    "the guest's message"
                );
            }
        }
        assert_eq!(all[NVME].u32(0x104) >> 31, 0, "ATS");
        assert_eq!(all[EDU].u32(0x124) >> 31, 0, "ATS");
        assert_eq!(all[NVME].u32(0x124) >> 16, 0, "PASID");
        assert_eq!(all[NVME].u32(0x164) & 3, 0, "PRI");
        assert_eq!(all[EDU].u32(0x138) & 0xffff, 0, "SR-IOV");
        for port in [PORT, EXTERNAL] {
            assert_eq!(all[port].u32(0x144) >> 16 & 0x7f, 0x1f, "ACS");
        }
    }
}

fn moved(effects: &[Effect]) -> Vec<(u8, Option<u64>, Option<u64>)> {
    let start = |range: &Option<ByteRange<Hpa>>| range.map(|r| r.start().raw());
    effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::BarMoved { bar, from, to, .. } => Some((*bar, start(from), start(to))),
            _ => None,
        })
        .collect()
}

#[test]
fn adoption_makes_what_firmware_left_safe() {
    World::new().check();
}

#[test]
fn a_function_nobody_adopted_reads_as_all_ones() {
    let mut world = World::new();
    let at = Address::new(0, Bdf::new(0, 9, 0).unwrap());
    assert_eq!(
        world.mediation.read(&world.machine, at, Register::word(0)),
        0xffff
    );
    assert_eq!(
        world.write_at(at, Register::word(4), 7),
        Verdict::Drop(Reason::Unknown)
    );
}

#[test]
fn all_ones_read_back_as_the_size_while_the_guest_leaves_decoding_on() {
    let mut world = World::new();
    let verdict = world.write32(EDU, 0x10, u32::MAX);
    assert_eq!(verdict, Verdict::Withhold(Reason::Unplaced { bar: 0 }));
    assert_eq!(world.read32(EDU, 0x10), 0xfff0_0000);
    assert_eq!(world.read32(EDU, 4) & 2, 2, "the guest's own bit");
    assert_eq!(world.write32(EDU, 0x10, 0xfe20_0000), Verdict::Pass);
    assert_eq!(moved(&world.effects), [(0, None, Some(0xfe20_0000))]);
    assert_eq!(world.machine.functions[EDU].u16(4) & 2, 2);
}

#[test]
fn sizing_both_halves_of_a_wide_register_restores_it() {
    let mut world = World::new();
    let before = (world.read32(NIC, 0x18), world.read32(NIC, 0x1c));
    world.write32(NIC, 0x18, u32::MAX);
    world.write32(NIC, 0x1c, u32::MAX);
    assert_eq!(
        (world.read32(NIC, 0x18), world.read32(NIC, 0x1c)),
        (0x8000_000c, u32::MAX)
    );
    world.write32(NIC, 0x18, before.0);
    world.write32(NIC, 0x1c, before.1);
    assert_eq!(world.machine.functions[NIC].decoded().len(), 2);
}

#[test]
fn a_register_over_something_protected_decodes_nothing_until_it_is_moved() {
    let mut world = World::new();
    for (address, kind) in [
        (0x1000_0000, KeepoutKind::Memory),
        (0x7f00_0000, KeepoutKind::Hypervisor),
        (0xb000_0000, KeepoutKind::Ecam),
        (0xfed8_0000, KeepoutKind::Remapping),
        (0xfee0_0000, KeepoutKind::LocalApic),
    ] {
        let verdict = world.write32(NIC, 0x10, address);
        let at = Hpa::new(u64::from(address));
        assert_eq!(verdict, Verdict::Withhold(Reason::Protected { at, kind }));
        assert_eq!(world.read32(NIC, 0x10), address);
        assert!(world.machine.functions[NIC].decoded().is_empty());
    }
    assert_eq!(world.write32(NIC, 0x10, 0xfe60_0000), Verdict::Pass);
    assert_eq!(world.machine.functions[NIC].decoded().len(), 2);
}

#[test]
fn a_range_beyond_the_machine_is_withheld() {
    let mut world = World::new();
    let verdict = world.write32(NIC, 0x1c, 0x80);
    let at = Hpa::new(0x80_0000_0000);
    assert_eq!(verdict, Verdict::Withhold(Reason::BeyondMachine { at }));
}

/// Two devices trade places one write at a time, both decoding throughout as far as the guest
/// knows.
#[test]
fn devices_may_trade_places() {
    let mut world = World::new();
    let by = world.ids[OLD];
    let verdict = world.write32(NIC, 0x10, 0xfe40_0000);
    let at = Hpa::new(0xfe40_0000);
    assert_eq!(verdict, Verdict::Withhold(Reason::Taken { at, by }));
    assert_eq!(world.write32(OLD, 0x10, 0xfe60_0000), Verdict::Pass);
    let start = |index: usize| world.machine.functions[index].decoded()[0].start().raw();
    assert_eq!((start(NIC), start(OLD)), (0xfe40_0000, 0xfe60_0000));
}

#[test]
fn a_move_is_announced_while_nothing_decodes() {
    let mut world = World::new();
    world.write32(EDU, 0x10, 0xfe70_0000);
    assert_eq!(
        moved(&world.effects),
        [(0, Some(0xfe20_0000), Some(0xfe70_0000))]
    );
    let range = world.mediation.decoded(world.ids[EDU], 0).unwrap();
    assert_eq!(range.start().raw(), 0xfe70_0000);
}

/// A link that went down resets what is behind it, and nobody writes a word.
#[test]
fn registers_lost_in_a_reset_nobody_saw_are_restored_before_decoding() {
    let mut world = World::new();
    world.machine.reset_behind(EXTERNAL);
    world.write(EDU, Register::word(4), 0x0002);
    let range = world.machine.functions[EDU].decoded()[0];
    assert_eq!(range.start().raw(), 0xfe20_0000);
}

#[test]
fn an_untrusted_device_masters_nothing_before_it_is_bound() {
    let mut world = World::new();
    world.write(EDU, Register::word(4), 0x0002);
    let verdict = world.write(EDU, Register::word(4), 0x0006);
    assert_eq!(verdict, Verdict::Withhold(Reason::Unbound));
    let requested = Effect::BusMasterRequested {
        function: world.ids[EDU],
        is_on: true,
    };
    assert!(world.effects.contains(&requested));
    assert_eq!(
        world.read32(EDU, 4) & 0xffff,
        0x0006,
        "the guest reads what it wrote"
    );
    assert_eq!(world.machine.functions[EDU].u16(4), 0x0002);
    world.bind(EDU, true);
    assert_eq!(world.machine.functions[EDU].u16(4), 0x0006);
    world.bind(EDU, false);
    assert_eq!(world.machine.functions[EDU].u16(4), 0x0002);
}

/// A device's word for where it decodes: its command register does not clear, and its base address is
/// wherever it likes.
fn liar(index: usize, base: u32) -> Machine {
    let mut machine = Machine::new();
    let function = &mut machine.functions[index];
    function.set16(4, 2);
    function.writable[4] &= !2;
    function.set32(0x10, base | function.u32(0x10) & 0xf);
    function.writable[0x10..0x14].fill(0);
    machine
}

fn adopt(mut machine: Machine, index: usize, trust: Trust) -> (World, Result<Adoption, Refused>) {
    let mut world = World::new();
    let at = machine.address_of(index).unwrap();
    let adoption = world.mediation.adopt(&mut machine, world.ids[index], trust);
    assert_eq!(adoption.is_err(), !world.mediation.knows(at));
    world.machine = machine;
    (world, adoption)
}

/// "1 = Allows the device to respond to Memory Space accesses": PCI 3.0, section 6.2.2. One that responds
/// all the same says itself where, and Bouncer writes to MSI-X tables where it says.
#[test]
fn an_untrusted_device_that_cannot_be_stopped_from_decoding_stays_hidden() {
    for base in [0x7f00_0000, 0x0010_0000, 0xfed9_0000, 0xfe70_0000] {
        let (world, adoption) = adopt(liar(EDU, base), EDU, Trust::Untrusted);
        let at = world.machine.address_of(EDU).unwrap();
        assert_eq!(adoption, Err(Refused::Unstoppable { at }));
        assert_eq!(world.mediation.decoded(world.ids[EDU], 0), None);
        assert_eq!(world.read32(EDU, 0), u32::MAX);
    }
}

#[test]
fn a_trusted_device_that_decodes_always_does_so_where_nobody_else_is_or_stays_hidden() {
    let kind = KeepoutKind::Hypervisor;
    let (world, adoption) = adopt(liar(NIC, 0x7f00_0000), NIC, Trust::Trusted);
    let at = world.machine.address_of(NIC).unwrap();
    let reason = Reason::Protected {
        at: Hpa::new(0x7f00_0000),
        kind,
    };
    assert_eq!(adoption, Err(Refused::Misplaced { at, reason }));
    let (world, adoption) = adopt(liar(NIC, 0xfd00_0000), NIC, Trust::Trusted);
    assert!(adoption.is_ok(), "{adoption:?}");
    let decoded = world.mediation.decoded(world.ids[NIC], 0).unwrap();
    assert_eq!(decoded.start().raw(), 0xfd00_0000);
}

/// Firmware had it decode there, and that was never legal.
#[test]
fn what_firmware_left_over_the_hypervisor_is_switched_off_in_a_trusted_device_too() {
    let mut machine = Machine::new();
    machine.functions[NIC].set32(0x10, 0x7f00_0000);
    machine.functions[NIC].set16(4, 2);
    let (world, adoption) = adopt(machine, NIC, Trust::Trusted);
    assert!(adoption.unwrap().withheld.is_some());
    assert_eq!(world.machine.functions[NIC].u16(4) & 2, 0);
}

#[test]
fn a_device_that_was_stopped_masters_nothing_until_it_is_adopted_anew() {
    let mut world = World::new();
    world.write(NIC, Register::word(4), 0x0006);
    world.bind(NIC, false);
    assert_eq!(world.machine.functions[NIC].u16(4), 0x0002);
    let verdict = world.write(NIC, Register::word(4), 0x0006);
    assert_eq!(verdict, Verdict::Withhold(Reason::Stopped));
    world.write32(NIC, 0x10, 0xfd00_0000);
    assert_eq!(world.machine.functions[NIC].u16(4), 0x0002);
    let (mut world, _) = adopt(world.machine, NIC, Trust::Trusted);
    assert_eq!(world.write(NIC, Register::word(4), 0x0006), Verdict::Pass);
}

#[test]
fn a_trusted_device_is_a_bus_master_at_once() {
    let mut world = World::new();
    world.write(NIC, Register::word(4), 0x0002);
    assert_eq!(world.write(NIC, Register::word(4), 0x0006), Verdict::Pass);
    assert_eq!(world.machine.functions[NIC].u16(4), 0x0006);
}

/// Status bits are "reset by writing a 1": a write of command alone must not write them.
#[test]
fn status_is_cleared_by_the_guest_only() {
    let mut world = World::new();
    world.machine.functions[NIC].set16(6, 0x2010);
    world.write32(NIC, 0x10, 0xfe70_0000);
    world.write(NIC, Register::word(4), 0x0002);
    assert_eq!(world.machine.functions[NIC].u16(6), 0x2010);
    world.write32(NIC, 4, 0x2000_0006);
    assert_eq!(world.machine.functions[NIC].u16(6), 0x0010);
}

#[test]
fn the_rom_of_an_untrusted_device_reads_zero() {
    let mut world = World::new();
    assert_eq!(
        world.write32(EDU, 0x30, 0xfe80_0001),
        Verdict::Drop(Reason::Rom)
    );
    assert_eq!(world.read32(EDU, 0x30), 0);
    assert_eq!(world.mediation.decoded(world.ids[EDU], ROM), None);
}

fn guest_list(world: &World, index: usize) -> Vec<u16> {
    let mut ids = Vec::new();
    let mut offset = 0x100;
    while offset != 0 && ids.len() < 16 {
        let header = world.read32(index, offset);
        ids.push(header as u16);
        offset = (header >> 20) as u16;
    }
    ids
}

#[test]
fn what_passes_by_translation_is_not_in_the_list() {
    let world = World::new();
    assert_eq!(guest_list(&world, EDU), [0x01, 0x0e]);
}

/// The list starts at offset 100h: what is hidden there becomes the null capability.
#[test]
fn a_hidden_first_capability_is_passed_by() {
    let world = World::new();
    assert_eq!(guest_list(&world, NVME), [0x00, 0x0d]);
    assert_eq!(world.read32(NVME, 0x104), 0);
    assert_eq!(world.read32(NVME, 0x120), 0);
}

#[test]
fn enabling_translation_services_is_dropped() {
    let mut world = World::new();
    assert_eq!(
        world.write(EDU, Register::word(0x126), 0x8000),
        Verdict::Drop(Reason::Hidden)
    );
    assert_eq!(
        world.write(EDU, Register::byte(0x127), 0x80),
        Verdict::Drop(Reason::Hidden)
    );
}

#[test]
fn isolation_of_a_port_stays_on() {
    let mut world = World::new();
    assert_eq!(
        world.write(PORT, Register::word(0x146), 0),
        Verdict::Replace(0x1f)
    );
    assert_eq!(
        world.write(PORT, Register::word(0x146), 0x7f),
        Verdict::Replace(0x1f)
    );
    assert_eq!(world.read32(PORT, 0x144) >> 16, 0x1f);
}

#[test]
fn isolation_comes_back_after_a_reset() {
    let mut world = World::new();
    world.write32(PORT, 0x3c, 0x0040_0000);
    assert!(world.effects.contains(&Effect::ResetBehind {
        bridge: world.ids[PORT]
    }));
    world.write32(PORT, 0x3c, 0);
    assert_eq!(world.machine.functions[NVME].u32(0x144) >> 16, 0);
    world.write(NVME, Register::word(4), 0);
    assert_eq!(world.machine.functions[NVME].u32(0x144) >> 16, 0x1f);
}

#[test]
fn isolation_comes_back_after_a_function_level_reset() {
    let mut world = World::new();
    world.write(NVME, Register::word(0x88), 0x8000);
    assert_eq!(world.machine.functions[NVME].u32(0x144) >> 16, 0);
    world.write(NVME, Register::word(4), 0);
    assert_eq!(world.machine.functions[NVME].u32(0x144) >> 16, 0x1f);
}

#[test]
fn a_message_is_kept_and_reported_before_it_is_enabled() {
    let mut world = World::new();
    assert_eq!(world.write32(EDU, 0x44, 0xfee0_1003), Verdict::Keep);
    assert_eq!(world.write32(EDU, 0x4c, 0x0041), Verdict::Keep);
    assert_eq!(
        (world.read32(EDU, 0x44), world.read32(EDU, 0x4c)),
        (0xfee0_1000, 0x41)
    );
    let at = world.at(EDU);
    let enable = world
        .mediation
        .write(&world.machine, at, Register::word(0x42), 1);
    let Step::Obey(Effect::MsiChanged { msi, .. }) = enable.steps[0] else {
        panic!("the message is to be translated first");
    };
    assert_eq!(
        (msi.address, msi.data, msi.control.enable()),
        (0xfee0_1000, 0x41, true)
    );
    assert!(matches!(enable.steps[1], Step::Store(_)));
    let stores = world.mediation.program_msi(world.ids[EDU], 0xfee0_0110, 7);
    let offsets: Vec<_> = stores
        .iter()
        .map(|s| (s.register.offset(), s.value))
        .collect();
    assert_eq!(offsets, [(0x44, 0xfee0_0110), (0x48, 0), (0x4c, 7)]);
}

#[test]
fn a_message_changed_while_enabled_is_reported() {
    let mut world = World::new();
    world.write(EDU, Register::word(0x42), 1);
    world.write(EDU, Register::byte(0x4c), 0x55);
    let changed = |e: &Effect| matches!(e, Effect::MsiChanged { msi, .. } if msi.data == 0x55);
    assert!(world.effects.iter().any(changed));
}

#[test]
fn contexts_follow_a_bus_that_is_renumbered() {
    let mut world = World::new();
    let at = world.at(EXTERNAL);
    let decision = world
        .mediation
        .write(&world.machine, at, Register::dword(0x18), 0x0005_0500);
    let follow = |bus| Step::Obey(Effect::ContextsFollow { segment: 0, bus });
    assert_eq!(decision.steps[0], follow(2));
    assert!(matches!(decision.steps[1], Step::Store(_)));
    assert_eq!(decision.steps[2], follow(5));
    world.take(&decision);
    let edu = world.mediation.topology().address(world.ids[EDU]).unwrap();
    assert_eq!(edu, world.at(EDU));
    // The device learns its number from the first write, and gives up the old one.
    world.write(EDU, Register::byte(0x0c), 8);
    assert!(
        world
            .effects
            .contains(&Effect::ContextsFollow { segment: 0, bus: 2 })
    );
}

#[test]
fn a_window_over_memory_is_closed_and_reads_back() {
    let mut world = World::new();
    let verdict = world.write32(EXTERNAL, 0x20, 0x2000_1000);
    let at = Hpa::new(0x1000_0000);
    let kind = KeepoutKind::Memory;
    assert_eq!(verdict, Verdict::Withhold(Reason::Protected { at, kind }));
    assert_eq!(world.read32(EXTERNAL, 0x20), 0x2000_1000);
    assert_eq!(world.machine.functions[EXTERNAL].u32(0x20), 0x0000_fff0);
    assert_eq!(world.write32(EXTERNAL, 0x20, 0xfe30_fe20), Verdict::Pass);
    assert_eq!(world.machine.functions[EXTERNAL].u32(0x20), 0xfe30_fe20);
}

#[test]
fn a_wide_window_moves_without_ever_passing_memory() {
    let mut world = World::new();
    world.write32(PORT, 0x28, 0x38);
    world.write32(PORT, 0x2c, 0x38);
    assert_eq!(
        world.read32(PORT, 0x24),
        0xc00f_c000 & 0xfff0_fff0 | 0x0001_0001
    );
    let passed = world.machine.functions[PORT].passed();
    assert!(
        passed
            .iter()
            .any(|range| range.start().raw() == 0x38_c000_0000)
    );
}

#[test]
fn ports_over_the_hypervisors_console_are_not_decoded_and_read_back() {
    let mut world = World::new();
    let (at, kind) = (0x3e0, PortKind::Hypervisor);
    let verdict = world.write32(NIC, 0x20, 0x3e1);
    assert_eq!(
        verdict,
        Verdict::Withhold(Reason::ProtectedPorts { at, kind })
    );
    assert!(world.machine.functions[NIC].decoded_ports().is_empty());
    assert_eq!(world.read32(NIC, 0x20), 0x3e1);
    assert_eq!(
        world.read32(NIC, 4) & 7,
        7,
        "what the guest wanted is read back"
    );
    // Its memory goes on.
    assert_eq!(world.machine.functions[NIC].decoded().len(), 2);
    assert_eq!(world.write32(NIC, 0x20, 0x400), Verdict::Pass);
    let ports = Ports::new(0x400, 0x20).unwrap();
    assert_eq!(world.machine.functions[NIC].decoded_ports(), [ports]);
}

#[test]
fn ports_that_another_decodes_wait_until_they_are_free() {
    let mut world = World::new();
    let verdict = world.write32(NIC, 0x20, 0xc021);
    let by = world.ids[OLD];
    assert_eq!(
        verdict,
        Verdict::Withhold(Reason::PortsTaken { at: 0xc020, by })
    );
    world.write32(OLD, 0x14, 0xc101);
    let ports = Ports::new(0xc020, 0x20).unwrap();
    assert_eq!(world.machine.functions[NIC].decoded_ports(), [ports]);
}

/// "Software writes a value of all 1's to the register": while it does, nothing is decoded.
#[test]
fn ports_are_sized_while_they_are_on() {
    let mut world = World::new();
    world.write32(NIC, 0x20, u32::MAX);
    assert_eq!(world.read32(NIC, 0x20), 0xffff_ffe1);
    assert!(world.machine.functions[NIC].decoded_ports().is_empty());
    world.write32(NIC, 0x20, 0x701);
    let ports = Ports::new(0x700, 0x20).unwrap();
    assert_eq!(world.machine.functions[NIC].decoded_ports(), [ports]);
}

#[test]
fn a_window_over_protected_ports_is_closed_and_reads_back() {
    let mut world = World::new();
    let (at, kind) = (0, PortKind::Board);
    let verdict = world.write(TO_PCI, Register::word(0x1c), 0);
    assert_eq!(
        verdict,
        Verdict::Withhold(Reason::ProtectedPorts { at, kind })
    );
    assert_eq!(world.read32(TO_PCI, 0x1c) & 0xffff, 0x0101);
    assert_eq!(world.machine.functions[TO_PCI].passed_ports(), None);
    let verdict = world.write(TO_PCI, Register::word(0x1c), 0xd0c0);
    assert_eq!(verdict, Verdict::Pass);
    let ports = Ports::inclusive(0xc000, 0xdfff).unwrap();
    assert_eq!(world.machine.functions[TO_PCI].passed_ports(), Some(ports));
}

#[test]
fn a_window_beyond_the_last_port_is_closed() {
    let mut world = World::new();
    world.write32(TO_PCI, 0x30, 0x0001_0000);
    assert_eq!(world.read32(TO_PCI, 0x30), 0x0001_0000);
    assert_eq!(world.machine.functions[TO_PCI].passed_ports(), None);
    assert_eq!(world.machine.functions[TO_PCI].u32(0x30), 0);
}

#[test]
fn the_chipsets_own_map_is_fixed() {
    let mut world = World::new();
    assert_eq!(
        world.write32(HOST, 0x60, 0xe000_0001),
        Verdict::Drop(Reason::Chipset)
    );
}

/// PMBASE says where the port is by which the machine sleeps and powers off.
#[test]
fn the_isa_bridge_keeps_its_power_ports_where_they_are() {
    let mut machine = Machine::new();
    machine.functions[HOST].set32(0x08, 0x0601_0002);
    let mut world = World::of(machine);
    for offset in [0x40, 0x44, 0xf0] {
        let verdict = world.write32(HOST, offset, 0x0000_0801);
        assert_eq!(verdict, Verdict::Drop(Reason::Chipset));
    }
    assert_eq!(world.write32(HOST, 0x60, 0x8b), Verdict::Pass);
}

#[test]
fn phantom_functions_stay_off() {
    let mut world = World::new();
    let verdict = world.write(EDU, Register::word(0x88), 0x0210);
    assert_eq!(verdict, Verdict::Replace(0x0010));
}

/// "FLR causes the Function to be reset": its registers hold nothing afterwards.
#[test]
fn a_function_reset_is_reported_and_forgets() {
    let mut world = World::new();
    world.write(EDU, Register::word(0x88), 0x8000);
    assert!(world.effects.contains(&Effect::Reset {
        function: world.ids[EDU]
    }));
    assert_eq!(
        (world.read32(EDU, 4) & 0xffff, world.read32(EDU, 0x10)),
        (0, 0)
    );
}

/// The network card of this machine promises a function-level reset and does nothing.
#[test]
fn a_function_that_breaks_its_promise_to_reset_is_off_all_the_same() {
    let mut world = World::new();
    world.write(NIC, Register::word(0x88), 0x8000);
    assert_eq!(world.machine.functions[NIC].u16(4), 0);
    assert!(world.machine.functions[NIC].decoded().is_empty());
}

#[test]
fn a_device_that_ignores_a_bus_reset_is_off_before_it_is_moved() {
    let mut machine = Machine::new();
    machine.functions[NVME].is_stubborn = true;
    let mut world = World::of(machine);
    world.write32(PORT, 0x3c, 0x0040_0000);
    world.write32(PORT, 0x3c, 0);
    // Each store of this is checked: the address is main memory's.
    world.write32(NVME, 0x10, 0x1000_0000);
    assert!(world.machine.functions[NVME].decoded().is_empty());
}

#[test]
fn waking_from_d3_is_a_reset() {
    let mut world = World::new();
    world.write(EDU, Register::word(0x64), 3);
    world.write(EDU, Register::word(0x64), 0);
    assert!(world.effects.contains(&Effect::Reset {
        function: world.ids[EDU]
    }));
}

/// A device that answers a second time with another identity is not the one that was adopted.
#[test]
fn a_device_that_changes_its_identity_is_hidden() {
    let mut world = World::new();
    assert_eq!(world.read32(EDU, 0), 0x11e8_1234);
    world.machine.functions[EDU].set32(0, 0x1000_8086);
    assert_eq!(world.read32(EDU, 0), u32::MAX);
    assert!(!world.mediation.is_present(&world.machine, world.ids[EDU]));
}

#[test]
fn a_class_is_read_once() {
    let mut world = World::new();
    let class = world.read32(EDU, 8);
    world.machine.functions[EDU].set32(8, 0x0200_0000);
    assert_eq!(world.read32(EDU, 8), class);
}

#[test]
fn a_removed_device_is_hidden_until_it_is_adopted_again() {
    let mut world = World::new();
    let at = world.at(EDU);
    world.mediation.forget(world.ids[EDU]);
    assert!(!world.mediation.knows(at));
    assert_eq!(
        world.mediation.read(&world.machine, at, Register::word(0)),
        0xffff
    );
    let again = world
        .mediation
        .discover(&world.machine, at)
        .unwrap()
        .unwrap();
    assert!(!world.mediation.knows(at));
    world
        .mediation
        .adopt(&mut world.machine, again, Trust::Untrusted)
        .unwrap();
    assert!(world.mediation.knows(at));
}

#[test]
fn whoever_comes_in_the_place_of_a_hidden_function_is_read_anew() {
    let mut world = World::new();
    let at = world.at(EDU);
    world.mediation.forget(world.ids[EDU]);
    let identity = |world: &mut World| {
        let (mediation, machine) = (&mut world.mediation, &world.machine);
        let past = mediation.topology().find(at);
        if let Some(past) = past.filter(|past| !mediation.is_present(machine, *past)) {
            mediation.forget(past);
        }
        let found = mediation.discover(machine, at).unwrap();
        let topology = world.mediation.topology();
        found.map(|id| topology.function(id).unwrap().identity.dword())
    };
    assert_eq!(identity(&mut world), Some(0x11e8_1234));
    world.machine.functions[EDU].set32(0, 0x1000_8086);
    assert_eq!(identity(&mut world), Some(0x1000_8086));
    world.machine.functions[EDU].set32(0, u32::MAX);
    assert_eq!(identity(&mut world), None, "nobody came");
}

/// Who obeys takes back what those behind it had, before anybody forgets them.
#[test]
fn nobody_is_forgotten_behind_the_callers_back_when_a_hidden_bridge_is_another() {
    let mut world = World::new();
    let at = world.at(TO_PCI);
    // As when it cannot be adopted: it is known, and hidden; its child is adopted.
    world.mediation.guarded[world.ids[TO_PCI].index()] = None;
    assert!(!world.mediation.knows(at));
    assert!(world.mediation.knows(world.at(OLD)));
    let is_present = |world: &World| {
        let (mediation, bridge) = (&world.mediation, world.ids[TO_PCI]);
        mediation.is_present(&world.machine, bridge)
    };
    assert!(is_present(&world));
    let before = world.mediation.topology().functions().count();
    world.machine.functions[TO_PCI].set32(0, 0x1000_8086);
    assert!(!is_present(&world));
    let _ = world.mediation.discover(&world.machine, at);
    assert_eq!(world.mediation.topology().functions().count(), before);
    world.mediation.forget(world.ids[TO_PCI]);
    assert_eq!(world.mediation.topology().functions().count(), before - 2);
}

/// PCI Express Base 6.0, section 7.8.11: a port may pass on ids and addresses by vectors of its own.
#[test]
fn a_port_passes_on_nothing_besides_its_bus_numbers_and_windows() {
    let mut machine = Machine::new();
    let port = &mut machine.functions[PORT];
    port.bytes[0x81] = 0xc0;
    port.set32(0xc0, 0x0000_0015);
    port.writable[0xc4..0xe4].fill(0xff);
    let mut world = World::of(machine);
    for offset in (0xc4..0xe4).step_by(4) {
        let verdict = world.write32(PORT, offset, u32::MAX);
        assert_eq!(verdict, Verdict::Drop(Reason::Chipset), "{offset:#x}");
        assert_eq!(world.machine.functions[PORT].u32(offset), 0, "{offset:#x}");
    }
}

#[test]
fn a_port_that_lost_its_isolation_isolates_again_with_whatever_is_written() {
    let mut world = World::new();
    // A reset that comes after the stores that were to follow it, as of one that takes its time to wake.
    world.machine.functions[PORT].set16(0x146, 0);
    world.write(PORT, Register::byte(0x3c), 0x0b);
    world.check();
    let at = world.at(PORT);
    let next = world
        .mediation
        .write(&world.machine, at, Register::byte(0x3c), 0x0c);
    assert_eq!(next.steps.len(), 1, "{next:?}");
}

#[test]
fn virtual_functions_end_when_their_physical_one_wakes() {
    let mut world = with_virtual_functions();
    let appear = |world: &mut World| {
        world.effects.clear();
        world.write(NIC, Register::word(0x108), 9);
        let mut effects = world.effects.iter();
        effects.any(|effect| matches!(effect, Effect::VirtualFunctionsAppear { count: 4, .. }))
    };
    assert!(appear(&mut world));
    world.write(NIC, Register::word(0x64), 3);
    // It need not take another store for 10 ms. PCI Express Base 6.0, section 5.9.
    let at = world.at(NIC);
    let wake = Register::word(0x64);
    let woken = world.mediation.write(&world.machine, at, wake, 0);
    let stores = |decision: &Decision| {
        decision
            .steps
            .iter()
            .filter(|s| matches!(s, Step::Store(_)))
            .count()
    };
    assert_eq!(stores(&woken), 1, "{woken:?}");
    world.take(&woken);
    // Nor does the guest wait: this one is lost with what comes with it.
    let line = Register::byte(0x3c);
    let lost = world.mediation.write(&world.machine, at, line, 0x0b);
    assert_eq!(stores(&lost), 2, "{lost:?}");
    world.write(NIC, line, 0x0b);
    assert_eq!(world.machine.functions[NIC].u32(0x108) & 0xffff, 0);
    // Whoever obeys the reset forgets them.
    let owner = world.ids[NIC];
    let past: Vec<_> = world.mediation.topology().virtuals(owner).collect();
    for id in past {
        world.mediation.forget(id);
    }
    world.write32(NIC, 0x124, 0xfe90_0000);
    assert!(appear(&mut world), "they are announced again");
}

fn with_virtual_functions() -> World {
    let mut machine = Machine::new();
    let nic = &mut machine.functions[NIC];
    // PCI Express endpoint with 4 virtual functions of 16 KiB, from function 2 on.
    nic.set32(0x100, 0x0001_0010);
    nic.set32(0x10c, 0x0004_0004);
    nic.set32(0x110, 0x0000_0004);
    nic.set32(0x114, 0x0001_0001);
    nic.set32(0x120, 1);
    nic.writable[0x108] = 0xff;
    nic.writable[0x124..0x128].copy_from_slice(&0xffff_c000u32.to_le_bytes());
    nic.set32(0x124, 0xfe90_0000);
    World::of(machine)
}

#[test]
fn virtual_functions_are_announced_before_they_exist() {
    let mut world = with_virtual_functions();
    let at = world.at(NIC);
    let decision = world
        .mediation
        .write(&world.machine, at, Register::word(0x108), 9);
    assert_eq!(
        decision.steps[0],
        Step::Obey(Effect::VirtualFunctionsAppear {
            function: world.ids[NIC],
            first: Bdf::new(0, 0x1f, 1).unwrap(),
            stride: 1,
            count: 4,
        })
    );
    assert!(matches!(decision.steps[1], Step::Store(_)));
    let topology = world.mediation.topology();
    let places: Vec<u8> = topology
        .virtuals(world.ids[NIC])
        .filter_map(|id| Some(topology.address(id)?.bdf.devfn()))
        .collect();
    assert_eq!(
        places,
        [0xf9, 0xfa, 0xfb, 0xfc],
        "each has its place by then"
    );
}

/// The machine of these tests has no virtual functions that answer: one is put in the place of another
/// function to see it adopted.
#[test]
fn a_virtual_function_decodes_its_part_and_nothing_of_its_own() {
    let mut world = with_virtual_functions();
    assert_eq!(world.write(NIC, Register::word(0x108), 9), Verdict::Pass);
    let virtuals: Vec<FunctionId> = world
        .mediation
        .topology()
        .virtuals(world.ids[NIC])
        .collect();
    let third = virtuals[2];
    let at = world.mediation.topology().address(third).unwrap();
    assert_eq!(world.mediation.unadopted_virtual(&world.machine, at), None);
    let mut answers = world.machine.functions[NVME].clone();
    answers.parent = None;
    answers.devfn = at.bdf.devfn();
    answers.set32(0, u32::MAX);
    answers.bars.clear();
    world.machine.functions.push(answers);
    assert_eq!(
        world.mediation.unadopted_virtual(&world.machine, at),
        Some(third)
    );
    world
        .mediation
        .adopt(&mut world.machine, third, Trust::Untrusted)
        .unwrap();
    assert_eq!(world.mediation.unadopted_virtual(&world.machine, at), None);
    let part = ByteRange::new(Hpa::new(0xfe90_8000), 0x4000);
    assert_eq!(world.mediation.decoded(third, 0), part);
    assert!(world.mediation.is_present(&world.machine, third));
    let verdict = world
        .mediation
        .write(&world.machine, at, Register::dword(0x10), 0xfea0_0000)
        .verdict;
    assert_eq!(verdict, Verdict::Drop(Reason::FixedDecode));
    // Nobody binds it: it masters nothing.
    let verdict = world
        .mediation
        .write(&world.machine, at, Register::word(4), 4)
        .verdict;
    assert_eq!(verdict, Verdict::Withhold(Reason::Unbound));
}

#[test]
fn virtual_functions_go_with_their_physical_one() {
    let mut world = with_virtual_functions();
    world.write(NIC, Register::word(0x108), 9);
    let owner = world.ids[NIC];
    assert_eq!(world.mediation.topology().virtuals(owner).count(), 4);
    world.write(NIC, Register::word(0x108), 0);
    let vanish = Effect::VirtualFunctionsVanish { function: owner };
    assert!(world.effects.contains(&vanish));
    world.mediation.forget(owner);
    assert_eq!(world.mediation.topology().virtuals(owner).count(), 0);
}

#[test]
fn virtual_functions_with_others_ids_do_not_appear() {
    let mut world = with_virtual_functions();
    // The third would be on bus 1.
    world.machine.functions[NIC].set32(0x114, 0x0004_0001);
    let verdict = world.write(NIC, Register::word(0x108), 9);
    assert_eq!(verdict, Verdict::Drop(Reason::VirtualNumbers));
    assert_eq!(world.machine.functions[NIC].u16(0x108), 0);
    assert_eq!(
        world.mediation.topology().virtuals(world.ids[NIC]).count(),
        0
    );
}

#[test]
fn more_virtual_functions_than_there_is_room_for_do_not_appear() {
    let mut world = with_virtual_functions();
    // There is room for 32 functions, of which 8 are there; the device is at 00:02.0.
    world.machine.functions[NIC].set32(0x10c, 0x0040_0040);
    world.machine.functions[NIC].set32(0x110, 0x0000_0040);
    world.machine.functions[NIC].set32(0x124, 0);
    world.machine.functions[NIC].set32(0x114, 0x0001_0001);
    let at = world.at(NIC);
    world.mediation.forget(world.ids[NIC]);
    world.machine.functions[NIC].devfn = 0x10;
    let at = Address::new(at.segment, Bdf::from_parts(0, 0x10));
    let id = world
        .mediation
        .discover(&world.machine, at)
        .unwrap()
        .unwrap();
    world
        .mediation
        .adopt(&mut world.machine, id, Trust::Trusted)
        .unwrap();
    let verdict = world.write(NIC, Register::word(0x108), 1);
    assert_eq!(verdict, Verdict::Drop(Reason::NoRoom));
    assert_eq!(world.mediation.topology().virtuals(id).count(), 0);
}

#[test]
fn virtual_functions_decode_nothing_protected() {
    let mut world = with_virtual_functions();
    // The last of four blocks would lie over the I/O APIC.
    world.write32(NIC, 0x124, 0xfebf_4000);
    let verdict = world.write(NIC, Register::word(0x108), 9);
    let (at, kind) = (Hpa::new(0xfebf_4000), KeepoutKind::IoApic);
    assert_eq!(verdict, Verdict::Drop(Reason::Protected { at, kind }));
    assert_eq!(world.machine.functions[NIC].u16(0x108), 0);
}

#[test]
fn every_reason_is_a_sentence_for_the_console() {
    let at = Hpa::new(0x1000);
    let kind = KeepoutKind::Memory;
    let text = Reason::Protected { at, kind }.to_string();
    assert_eq!(
        text,
        "the range at 0x1000 would cover main memory; it stays off until it is moved"
    );
}

#[derive(Clone, Copy, Debug)]
enum Act {
    Write(usize, u16, u8, u32),
    Bind(usize, bool),
    LinkDown(usize),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let offset = prop_oneof![
        4 => prop::sample::select(vec![
            0x04u16, 0x05, 0x10, 0x11, 0x13, 0x14, 0x18, 0x19, 0x1a, 0x1c, 0x20, 0x22, 0x24, 0x28,
            0x2c, 0x30, 0x38, 0x3c, 0x3e, 0x40, 0x42, 0x44, 0x48, 0x4c, 0x64, 0x88, 0x89, 0x90,
            0x98, 0x99, 0xa8, 0x104, 0x107, 0x126, 0x127, 0x138, 0x144, 0x146, 0x164, 0x1d, 0x21,
            0x32,
        ]),
        1 => 0u16..0x300,
    ];
    let value = prop_oneof![
        prop::sample::select(vec![
            0u32,
            1,
            2,
            4,
            6,
            7,
            3,
            u32::MAX,
            0xffff,
            0x8000,
            0x8000_0000,
            0xfe00_0000,
            0xfe20_0000,
            0xfe40_0000,
            0xfe60_0000,
            0xfe70_0001,
            0xfed9_0000,
            0xfee0_0000,
            0xfec0_0000,
            0x7f00_0000,
            0xb010_0000,
            0x38,
            0x80,
            0x601,
            0x701,
            0xc001,
            0xcc1,
            0xc0c0,
            0x10f0,
            0x2000_1000,
            0x0101,
            0x0202,
            0x0505,
            0xff01,
            0x0001_0100,
            0x0002_0200,
            0x0040_0000,
            0x40,
        ]),
        any::<u32>(),
    ];
    let write = (0usize..8, offset, 0u8..3, value)
        .prop_map(|(function, offset, log, value)| Act::Write(function, offset, log, value));
    let bind = (prop::sample::select(vec![NVME, EDU]), any::<bool>())
        .prop_map(|(function, is_bound)| Act::Bind(function, is_bound));
    let down = prop::sample::select(vec![PORT, EXTERNAL, TO_PCI]).prop_map(Act::LinkDown);
    let act = prop_oneof![20 => write, 1 => bind, 1 => down];
    prop::collection::vec(act, 1..80)
}

fn register(offset: u16, log: u8) -> Register {
    match log {
        0 => Register::byte(offset),
        1 => Register::word(offset),
        _ => Register::dword(offset),
    }
}

fn run(world: &mut World, act: Act) {
    match act {
        Act::Write(function, offset, log, value) => {
            if let Some(at) = world.machine.address_of(function) {
                world.write_at(at, register(offset, log), value);
            }
        }
        Act::Bind(function, is_bound) => world.bind(function, is_bound),
        Act::LinkDown(port) => world.machine.reset_behind(port),
    }
}

proptest! {
    /// No base address register decodes over a protected range or a neighbour's, no window
    /// passes one, no unbound untrusted device masters, translation services stay off, no
    /// message of the guest's arrives: checked after every single step.
    #[test]
    fn whatever_the_guest_writes_the_machine_stays_safe(acts in acts()) {
        let mut world = World::new();
        for act in acts {
            run(&mut world, act);
            world.check();
        }
    }
}

proptest! {
    /// "The guest reads back what it wrote": base address registers, messages, and the command
    /// bits that are withheld.
    #[test]
    fn the_guest_reads_back_what_it_wrote(acts in acts(), value: u32, command in 0u32..8) {
        let mut world = World::new();
        acts.into_iter().for_each(|act| run(&mut world, act));
        for index in [NVME, EDU, OLD, NIC] {
            let reachable = world.mediation.topology().address(world.ids[index]);
            let found = |&at: &Address| world.mediation.topology().find(at) == Some(world.ids[index]);
            let Some(at) = reachable.filter(found) else {
                continue;
            };
            world.write_at(at, Register::dword(0x10), value);
            let (_, size, is_wide) = world.machine.functions[index].bars[0];
            let flags = if is_wide { 0xc } else { 0 };
            let read = |offset| world.mediation.read(&world.machine, at, Register::dword(offset));
            prop_assert_eq!(read(0x10), value & !(size as u32 - 1) | flags);
            world.write_at(at, Register::dword(0x44), value);
            world.write_at(at, Register::word(4), command);
            let read = |offset| world.mediation.read(&world.machine, at, Register::dword(offset));
            prop_assert_eq!(read(0x44), value & !3);
            prop_assert_eq!(read(4) & 0xffff, command);
        }
    }

    /// The same accesses by port and by window: the same effects, answers and registers.
    #[test]
    fn ports_and_ecam_are_one_model(acts in acts()) {
        let ecam = Ecam::new(0, Gpa::new(ECAM), 0, 255).unwrap();
        let (mut by_ecam, mut by_port) = (World::new(), World::new());
        for act in acts {
            let Act::Write(function, offset, log, value) = act else {
                run(&mut by_ecam, act);
                run(&mut by_port, act);
                continue;
            };
            let register = register(offset & 0xff, log);
            let Some(at) = by_ecam.machine.address_of(function) else {
                continue;
            };
            let bytes = register.width().bytes() as u8;
            let mut latch = Latch::default();
            let selected = 0x8000_0000 | u32::from(at.bdf.requester_id()) << 8;
            latch.write(selected | u32::from(register.dword_offset()));
            let window = ecam.address_of(at.bdf, register).unwrap();
            let lane = register.offset() & 3;
            let roads = [ecam.decode(window, bytes), latch.decode(0xcfc + lane, bytes)];
            for (world, pieces) in [&mut by_ecam, &mut by_port].into_iter().zip(roads) {
                for piece in &pieces {
                    let value = piece.value_of(u64::from(value));
                    world.write_at(piece.at, piece.register, value);
                }
            }
            prop_assert_eq!(&by_ecam.effects, &by_port.effects);
            let read = |world: &World| world.mediation.read(&world.machine, at, register);
            prop_assert_eq!(read(&by_ecam), read(&by_port));
        }
        for (a, b) in by_ecam.machine.functions.iter().zip(&by_port.machine.functions) {
            prop_assert_eq!(&a.bytes, &b.bytes);
        }
    }

    /// Bytes of one register read alone are the bytes of its double word.
    #[test]
    fn a_read_in_bytes_is_the_read(acts in acts(), index in 0usize..8, offset in 0u16..0x300) {
        let mut world = World::new();
        acts.into_iter().for_each(|act| run(&mut world, act));
        if let Some(at) = world.machine.address_of(index) {
            let whole = world.mediation.read(&world.machine, at, Register::dword(offset));
            let byte = world.mediation.read(&world.machine, at, Register::byte(offset));
            prop_assert_eq!(byte, whole >> (8 * (offset & 3)) & 0xff);
        }
    }
}

#[test]
fn the_model_of_256_functions_fits_its_budget() {
    assert!(size_of::<Decision>() <= 2048);
    assert!(size_of::<Mediation<256>>() <= 320 * 1024);
}
