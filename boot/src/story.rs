//! The whole way of the Multiboot2 loader, in one process: what GRUB tells becomes a hand-over
//! that the hypervisor believes.

extern crate std;

use std::boxed::Box;
use std::vec::Vec;

use memory::{ByteRange, Hpa, PAGE_SIZE};

use crate::elf::{self, Image};
use crate::handoff::{Handoff, Loader};
use crate::linux::{self, Inputs, LAUNCH_LEN, Plan, Screen};
use crate::memory_map::{MemoryMap, Region, RegionKind, Wanted};
use crate::modules::Modules;
use crate::multiboot2::{self, Information};
use crate::options::Options;
use crate::reservation::{LARGE_PAGE, Needs, reserve};

fn range(start: u64, len: u64) -> ByteRange<Hpa> {
    ByteRange::new(Hpa::new(start), len).unwrap()
}

/// What a loader does between its entry and the jump, without the copying.
fn hand_over(information: &[u8], kernel: &[u8], hypervisor: &[u8]) -> (Handoff, Vec<u8>) {
    let information = Information::parse(information).unwrap();
    let options = Options::parse(information.command_line).unwrap();
    let modules = Modules::assign(&information.modules).unwrap();
    let map = MemoryMap::normalise(information.memory()).unwrap();
    let image = Image::parse(hypervisor).unwrap();

    let policy = modules.policy.unwrap();
    let reservation = reserve(Needs {
        image_span: image.span(),
        cpus: 2,
        physical_width: 40,
        has_1gib_pages: true,
        policy_len: policy.len(),
        pool_bytes: LARGE_PAGE,
    })
    .unwrap();
    let loader = range(0x10_0000, 0x8_0000);
    let mut taken: Vec<_> = modules.ranges().chain([loader]).collect();
    let wanted = Wanted {
        len: reservation.total,
        align: LARGE_PAGE,
        within: range(0, 1 << 32),
    };
    let own = map.highest(wanted, taken.iter().copied()).unwrap();
    let map = map
        .overlaid(Region {
            range: own,
            kind: RegionKind::BOUNCER,
        })
        .unwrap();

    let wanted = Wanted {
        len: PAGE_SIZE,
        align: PAGE_SIZE,
        within: range(0x1000, 0x9_f000),
    };
    let trampoline = map.highest(wanted, taken.iter().copied()).unwrap();
    taken.push(trampoline);
    let plan = Plan::new(Inputs {
        kernel,
        command_line: modules.command_line,
        initrd: modules.initrd,
        root_pointer: information.root_pointer.unwrap().bytes,
        screen: Screen::of(&information),
        map: &map,
        avoid: &taken,
    })
    .unwrap();
    let mut pages = Box::new([0; LAUNCH_LEN]);
    plan.fill(&mut pages);
    let mut memory = std::vec![0; own.len() as usize];
    image.load(&mut memory, own.start().raw()).unwrap();

    let mut handoff = Handoff::new(Loader::MULTIBOOT2);
    handoff.serial_port = options.serial_port;
    handoff.describe_own(own, &reservation, policy.len());
    handoff.rsdp = plan.root_pointer().raw();
    handoff.tables = plan.tables().unwrap().into();
    handoff.trampoline = trampoline.start().raw();
    handoff.guest = plan.start();
    handoff.describe_image(&image.segments());
    handoff.describe_memory(plan.map());
    handoff.seal();
    (handoff, pages.to_vec())
}

fn sample() -> (Handoff, Vec<u8>) {
    hand_over(
        &multiboot2::sample::information(&multiboot2::sample::grub()),
        &linux::sample::kernel(),
        &elf::sample::file(),
    )
}

#[test]
fn what_a_loader_hands_over_is_believed() {
    assert_eq!(sample().0.validate(), Ok(()));
}

#[test]
fn the_hand_over_tells_what_the_boot_loader_told() {
    let (handoff, _) = sample();
    assert_eq!(handoff.serial_port, 0x3e8);
    assert_eq!(handoff.own.base, 0x7f80_0000);
    assert_eq!(handoff.policy.len, 0x100);
    assert_eq!(handoff.trampoline, 0x9_e000);
    assert_eq!(handoff.told_segments().len(), 3);
}

#[test]
fn no_usable_byte_of_the_guests_map_is_bouncers() {
    let (handoff, pages) = sample();
    let own = handoff.own.range().unwrap();
    let count = usize::from(pages[0x1e8]);
    assert!(count >= 6);
    for entry in pages[0x2d0..].chunks(20).take(count) {
        let word = |at: usize| u64::from_le_bytes(entry[at..at + 8].try_into().unwrap());
        let is_usable = entry[16..20] == [1, 0, 0, 0];
        assert!(!is_usable || !range(word(0), word(8)).overlaps(&own));
    }
}
