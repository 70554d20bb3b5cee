//! The tree of the simulated machine, and trees a hostile bridge would like us to see.

extern crate std;

use proptest::prelude::*;
use std::string::ToString;
use std::vec::Vec;

use super::*;
use crate::Register;
use crate::config::ConfigSpace;
use crate::simulated::{EDU, EXTERNAL, Machine, NIC, NVME, OLD, PORT, TO_PCI};

fn scanned(machine: &Machine) -> Topology<32> {
    let mut topology = Topology::new();
    topology.scan(machine, 0, 0).unwrap();
    topology
}

fn id(machine: &Machine, topology: &Topology<32>, index: usize) -> FunctionId {
    topology.find(machine.address_of(index).unwrap()).unwrap()
}

fn bdf(bus: u8, device: u8) -> Bdf {
    Bdf::new(bus, device, 0).unwrap()
}

#[test]
fn every_function_of_the_machine_is_found_once() {
    let machine = Machine::new();
    let topology = scanned(&machine);
    assert_eq!(topology.functions().count(), machine.functions.len());
    for index in 0..machine.functions.len() {
        let at = machine.address_of(index).unwrap();
        let found = topology.find(at).unwrap();
        assert_eq!(topology.address(found), Some(at));
    }
}

#[test]
fn a_path_is_told_in_hops_from_the_root_bus() {
    let machine = Machine::new();
    let topology = scanned(&machine);
    let nvme = id(&machine, &topology, NVME);
    let path = topology.path(nvme).unwrap();
    assert_eq!(path.to_string(), "0000:00:1c.0/00.0");
    assert_eq!(topology.follow(&path), Some(nvme));
}

#[test]
fn a_path_survives_renumbering() {
    let mut machine = Machine::new();
    let mut topology = scanned(&machine);
    let nvme = id(&machine, &topology, NVME);
    let before = topology.path(nvme);
    machine.functions[PORT].set16(0x19, 0x0707);
    topology.renumber(id(&machine, &topology, PORT), BusNumbers::new(0x07_07_00));
    assert_eq!(topology.address(nvme), machine.address_of(NVME));
    assert_eq!(topology.path(nvme), before);
}

#[test]
fn a_port_covers_all_that_is_behind_it() {
    let machine = Machine::new();
    let topology = scanned(&machine);
    let port = id(&machine, &topology, TO_PCI);
    let below: Vec<_> = topology.behind(port).collect();
    assert_eq!(below, [id(&machine, &topology, OLD)]);
    let paths = (
        topology.path(port).unwrap(),
        topology.path(below[0]).unwrap(),
    );
    assert!(paths.0.covers(&paths.1) && !paths.1.covers(&paths.0));
}

#[test]
fn a_hot_plug_slot_marks_what_is_below_it() {
    let machine = Machine::new();
    let mut topology = scanned(&machine);
    assert!(topology.is_below_open_slot(id(&machine, &topology, EDU)));
    assert!(!topology.is_below_open_slot(id(&machine, &topology, NVME)));
    topology.declare_external(id(&machine, &topology, PORT));
    assert!(topology.is_below_open_slot(id(&machine, &topology, NVME)));
}

#[test]
fn whoever_was_cut_off_is_found_again_under_another_number() {
    let mut machine = Machine::new();
    let mut topology = scanned(&machine);
    let mut outcasts = Outcasts::new();
    let nvme = id(&machine, &topology, NVME);
    outcasts.note(&topology, nvme);
    topology.forget(nvme);
    machine.functions[PORT].set16(0x19, 0x0707);
    topology.renumber(id(&machine, &topology, PORT), BusNumbers::new(0x07_07_00));
    let at = machine.address_of(NVME).unwrap();
    let again = topology.discover(&machine, at).unwrap().unwrap();
    assert!(outcasts.may_hold(&topology, again));
    assert!(!outcasts.may_hold(&topology, id(&machine, &topology, NIC)));
}

#[test]
fn a_virtual_function_that_was_cut_off_is_found_again() {
    let machine = Machine::new();
    let mut topology = scanned(&machine);
    let mut outcasts = Outcasts::new();
    let owner = id(&machine, &topology, NIC);
    let mut appear = |devfn| {
        let added = topology.add_virtual(owner, 0, devfn, 0x10ca);
        let id = added.unwrap().unwrap();
        let was_there = outcasts.may_hold(&topology, id);
        outcasts.note(&topology, id);
        topology.forget(id);
        was_there
    };
    assert!(!appear(0xa8));
    assert!(appear(0xa8));
    assert!(!appear(0xa9));
}

#[test]
fn who_may_have_been_replaced_is_nobody_that_was_cut_off() {
    let machine = Machine::new();
    let topology = scanned(&machine);
    let mut outcasts = Outcasts::new();
    let edu = id(&machine, &topology, EDU);
    assert!(topology.is_below_open_slot(edu));
    outcasts.note(&topology, edu);
    assert!(!outcasts.may_hold(&topology, edu));
}

/// As many virtual functions of `owner` as are told apart, and `more`, are cut off and leave.
fn cut_off_many(topology: &mut Topology<32>, owner: FunctionId, more: u8) -> Outcasts {
    let mut outcasts = Outcasts::new();
    for devfn in 0x60..0x80 + more {
        let added = topology.add_virtual(owner, 0, devfn, 0x10ca);
        let id = added.unwrap().unwrap();
        outcasts.note(topology, id);
        topology.forget(id);
    }
    outcasts
}

#[test]
fn who_has_many_functions_takes_only_those_behind_its_bridge_along() {
    let machine = Machine::new();
    let mut topology = scanned(&machine);
    let [nvme, nic, old] = [NVME, NIC, OLD].map(|index| id(&machine, &topology, index));
    let outcasts = cut_off_many(&mut topology, nvme, 0);
    assert!(!outcasts.may_hold(&topology, nvme));
    let mut outcasts = cut_off_many(&mut topology, nvme, 8);
    assert!(outcasts.may_hold(&topology, nvme));
    assert!(!outcasts.may_hold(&topology, nic));
    assert!(!outcasts.may_hold(&topology, old));
    outcasts.note(&topology, old);
    assert!(
        outcasts.may_hold(&topology, old),
        "there is room for others"
    );
    assert!(!outcasts.may_hold(&topology, nic));
}

#[test]
fn places_beyond_those_told_apart_are_all_taken_for_one() {
    let machine = Machine::new();
    let mut topology = scanned(&machine);
    let [nvme, nic, edu] = [NVME, NIC, EDU].map(|index| id(&machine, &topology, index));
    // No bridge is above it.
    let outcasts = cut_off_many(&mut topology, nic, 0);
    assert!(!outcasts.may_hold(&topology, nic));
    let outcasts = cut_off_many(&mut topology, nic, 1);
    assert!(outcasts.may_hold(&topology, nic));
    assert!(outcasts.may_hold(&topology, nvme));
    assert!(!outcasts.may_hold(&topology, edu));
}

/// "The bridge's secondary bus number, with device and function number zero".
#[test]
fn a_device_behind_a_bridge_to_pci_speaks_with_the_bridges_alias() {
    let machine = Machine::new();
    let topology = scanned(&machine);
    let old = id(&machine, &topology, OLD);
    assert_eq!(
        topology.requester_ids(old).as_slice(),
        [bdf(3, 3), bdf(3, 0)]
    );
    let alias = Address::new(0, topology.alias(old).unwrap());
    assert_eq!(
        topology.speaker(alias),
        Speaker::Behind(id(&machine, &topology, TO_PCI))
    );
}

#[test]
fn a_device_behind_a_root_port_speaks_for_itself() {
    let machine = Machine::new();
    let topology = scanned(&machine);
    let nvme = id(&machine, &topology, NVME);
    assert_eq!(topology.alias(nvme), Some(bdf(1, 0)));
    assert_eq!(
        topology.speaker(Address::new(0, bdf(1, 0))),
        Speaker::Function(nvme)
    );
}

#[test]
fn a_function_number_nobody_has_is_nobody() {
    let topology = scanned(&Machine::new());
    let phantom = Bdf::new(1, 0, 5).unwrap();
    assert_eq!(topology.speaker(Address::new(0, phantom)), Speaker::Nobody);
}

/// A function speaks with the bus number of the last configuration write it saw, so the number
/// it had is not free before it has seen another.
#[test]
fn a_bus_number_is_nobodys_while_its_last_owner_has_not_noticed() {
    let machine = Machine::new();
    let mut topology = scanned(&machine);
    let (port, external) = (
        id(&machine, &topology, PORT),
        id(&machine, &topology, EXTERNAL),
    );
    let (nvme, edu) = (id(&machine, &topology, NVME), id(&machine, &topology, EDU));
    topology.renumber(external, BusNumbers::new(0x09_09_00));
    topology.renumber(port, BusNumbers::new(0x02_02_00));
    let contested = Address::new(0, bdf(2, 0));
    assert_eq!(topology.address(nvme), Some(contested));
    assert_eq!(topology.speaker(contested), Speaker::Ambiguous);
    assert_eq!(topology.capture(edu), Some(2));
    assert_eq!(topology.speaker(contested), Speaker::Function(nvme));
}

#[test]
fn two_bridges_with_one_number_make_its_ids_nobodys() {
    let machine = Machine::new();
    let mut topology = scanned(&machine);
    let external = id(&machine, &topology, EXTERNAL);
    topology.renumber(external, BusNumbers::new(0x01_01_00));
    let contested = Address::new(0, bdf(1, 0));
    assert_eq!(topology.speaker(contested), Speaker::Ambiguous);
    assert_eq!(topology.find(contested), None);
}

#[test]
fn a_bridge_that_leads_back_up_is_not_looked_behind() {
    let mut machine = Machine::new();
    machine.functions[PORT].set16(0x19, 0xff00);
    machine.functions[EXTERNAL].set16(0x19, 0x0202);
    let topology = scanned(&machine);
    assert_eq!(topology.functions().count(), machine.functions.len() - 1);
}

#[test]
fn a_table_without_room_says_which_function_it_lost() {
    let mut topology = Topology::<5>::new();
    let full = topology.scan(&Machine::new(), 0, 0).unwrap_err();
    assert_eq!(topology.functions().count(), 5);
    assert!(full.to_string().contains("hidden"));
}

#[test]
fn what_is_removed_is_forgotten_with_all_below_it() {
    let mut machine = Machine::new();
    let mut topology = scanned(&machine);
    let edu = machine.address_of(EDU).unwrap();
    topology.forget(id(&machine, &topology, EXTERNAL));
    assert_eq!(topology.functions().count(), machine.functions.len() - 2);
    assert_eq!(topology.find(edu), None);
    // The bridge is found again, then what is behind it.
    let port = machine.address_of(EXTERNAL).unwrap();
    assert!(topology.discover(&machine, port).unwrap().is_some());
    assert!(topology.discover(&machine, edu).unwrap().is_some());
    machine.functions[EDU].is_there = false;
    topology.forget(id(&machine, &topology, EDU));
    assert_eq!(topology.discover(&machine, edu), Ok(None));
}

/// A link has one device, number 0; the same device may answer to all numbers.
#[test]
fn only_device_zero_is_looked_for_behind_a_port() {
    let mut machine = Machine::new();
    machine.functions[NIC].parent = Some(PORT);
    let topology = scanned(&machine);
    assert_eq!(topology.functions().count(), machine.functions.len() - 1);
}

#[test]
fn all_functions_of_a_multi_function_device_are_found() {
    let mut machine = Machine::new();
    machine.functions[NVME].bytes[0xe] = 0x80;
    let mut second = machine.functions[NVME].clone();
    second.devfn = 3;
    machine.functions.push(second);
    assert_eq!(
        scanned(&machine).functions().count(),
        machine.functions.len()
    );
}

#[test]
fn alternative_function_numbers_are_followed_where_the_port_forwards_them() {
    let mut machine = Machine::new();
    machine.functions[EXTERNAL].set16(0x80 + 0x28, 1 << 5);
    machine.functions[EDU].set16(0x204, 0x2900);
    let mut second = machine.functions[EDU].clone();
    second.devfn = 0x29;
    second.set16(0x204, 0x0500);
    machine.functions.push(second);
    let topology = scanned(&machine);
    let far = Address::new(0, Bdf::from_parts(2, 0x29));
    assert!(topology.find(far).is_some());
    assert_eq!(far.bdf.ari_function(), 0x29);
}

/// The whole space answers at random.
struct Noise(u64);

impl ConfigSpace for Noise {
    fn read(&self, at: Address, register: Register) -> u32 {
        let key = u64::from(at.bdf.requester_id()) << 12 | u64::from(register.offset());
        let mixed = (key ^ self.0).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed >> 29) as u32 & register.width().mask()
    }

    fn write(&mut self, _: Address, _: Register, _: u32) {}
}

proptest! {
    #[test]
    fn a_machine_that_answers_noise_is_searched_in_bounded_time(seed: u64) {
        let mut topology = Topology::<64>::new();
        let _ = topology.scan(&Noise(seed), 0, 0);
        for (id, _) in topology.functions() {
            prop_assert!(topology.path(id).is_some());
            topology.requester_ids(id);
        }
    }

    /// Whatever numbers a guest writes into bridges, each address leads to one function at most,
    /// and every function it leads to has that address.
    #[test]
    fn any_bus_numbers_leave_addresses_unambiguous(
        numbers in prop::collection::vec((1usize..4, 0u32..0x10_1010), 0..12),
        bus in 0u8..0x11, devfn: u8,
    ) {
        let machine = Machine::new();
        let mut topology = scanned(&machine);
        let bridges = [PORT, EXTERNAL, TO_PCI].map(|index| id(&machine, &topology, index));
        for (bridge, raw) in numbers {
            topology.renumber(bridges[bridge - 1], BusNumbers::new(raw));
        }
        let at = Address::new(0, Bdf::from_parts(bus, devfn));
        if let Some(found) = topology.find(at) {
            prop_assert_eq!(topology.address(found), Some(at));
        }
        if let Speaker::Function(speaker) = topology.speaker(at) {
            prop_assert_eq!(topology.address(speaker), Some(at));
        }
    }
}
