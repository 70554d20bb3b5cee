//! Controllers that cannot be mediated, and what is made of those that can.

extern crate std;

use std::string::ToString;

use proptest::prelude::*;

use super::super::fake::{Driver, Fake, blocks, storage};
use super::super::{Nvme, Unfit};
use crate::Mediator;

const NVM: u64 = 1 << 37;

fn unfit(capabilities: u64) -> Option<Unfit> {
    let mut world = Fake::new(1 << 20);
    world.capabilities = capabilities;
    let (storage, arena) = (storage(&world, 64), world.arena());
    Nvme::new(storage, arena, &mut world).err()
}

#[test]
fn a_controller_that_cannot_be_mediated_is_refused_in_a_sentence() {
    assert_eq!(unfit(u64::MAX), Some(Unfit::Absent));
    assert_eq!(unfit(63), Some(Unfit::CommandSet));
    assert_eq!(unfit(NVM), Some(Unfit::QueueEntries));
    let large = unfit(63 | NVM | 1 << 48);
    assert_eq!(large, Some(Unfit::PageSize { smallest: 13 }));
    let far = unfit(63 | NVM | 15 << 32);
    assert_eq!(far, Some(Unfit::Doorbells { stride: 1 << 17 }));
    for why in [Unfit::Pages, Unfit::Queues, Unfit::Requests] {
        assert!(why.to_string().len() > 20);
    }
    assert!(far.unwrap().to_string().contains("0x20000"));
}

#[test]
fn a_pool_that_holds_no_queue_is_refused() {
    let mut world = Fake::new(64 << 10);
    let (storage, arena) = (storage(&world, 64), world.arena());
    let error = Nvme::new(storage, arena, &mut world).err();
    assert_eq!(error, Some(Unfit::Pages));
}

#[test]
fn requests_are_as_long_as_both_pools_surely_hold_and_a_list_page_lists() {
    let longest = |bytes| Driver::new(bytes).nvme.longest_transfer();
    // 24 pages for each direction's requests: a run of 16, of which one is for the offset.
    assert_eq!(longest(256 << 10), 8 * 4096);
    assert_eq!(longest(1 << 20), 32 * 4096);
    assert_eq!(longest(16 << 20), 512 << 10);
    assert_eq!(longest(64 << 20), 512 << 10);
}

#[test]
fn the_longest_request_is_served_at_the_worst_offset() {
    for bytes in [256 << 10, 1 << 20, 16 << 20] {
        let mut driver = Driver::ready(bytes);
        let longest = driver.nvme.longest_transfer();
        for page in 0..longest / 4096 {
            let entry = 0x8_0000 + u64::from(page) * 4096;
            driver.set(0x1_0000 + u64::from(page) * 8, &entry.to_le_bytes());
        }
        let words = blocks(2, [0x7_fffc, 0x1_0000], 3, longest / 512);
        assert_eq!(driver.ask(1, words).status, 0);
        let disk = &driver.world.disk[3 * 512..][..longest as usize];
        assert_eq!(driver.memory(0x7_fffc, longest as usize), disk);
    }
}

proptest! {
    #[test]
    fn any_capabilities_are_refused_or_served(capabilities: u64, nvm: bool, pages in 16_u64..600) {
        let mut world = Fake::new(pages * 4096);
        world.capabilities = if nvm { capabilities | NVM } else { capabilities };
        let (storage, arena) = (storage(&world, 32), world.arena());
        let longest = match Nvme::new(storage, arena, &mut world) {
            Ok(nvme) => {
                nvme.check_conservation();
                prop_assert!(nvme.most_queues() > 0);
                nvme.longest_transfer()
            }
            Err(_) => return Ok(()),
        };
        prop_assert!(longest.is_power_of_two() && longest >= 4096);
    }

    #[test]
    fn any_access_of_any_register_is_survived(
        accesses in prop::collection::vec((0_u32..0x1200, any::<u64>(), 1_usize..9, any::<bool>()), 0..64),
    ) {
        let mut driver = Driver::ready(1 << 20);
        for (offset, value, len, is_write) in accesses {
            let bytes = value.to_le_bytes();
            if is_write {
                let _ = driver.nvme.write(&mut driver.world, offset, &bytes[..len]);
            } else {
                driver.nvme.read(&mut driver.world, offset, &mut [0; 8][..len]);
            }
            driver.world.run();
            driver.look();
        }
    }
}
