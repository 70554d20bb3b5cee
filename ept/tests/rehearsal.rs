//! All three formats, with hardware walking at every moment of every change.

use ept::{
    Access, Depth, Ept, EptAttributes, HostAttributes, HostPaging, MemoryType, Npt, NptAttributes,
    PatIndex,
};
use paging::rehearsal::{Deed, rehearse};
use paging::{Format, PageSize};
use proptest::prelude::*;

fn play<F: Format>(format: F, dice: &[[u64; 4]], attributes: &[F::Attributes]) {
    let deeds: Vec<_> = dice
        .iter()
        .map(|dice| Deed::drawn(format.geometry(), *dice, attributes))
        .collect();
    rehearse(format, &deeds);
}

fn dice() -> impl Strategy<Value = Vec<[u64; 4]>> {
    prop::collection::vec(any::<[u64; 4]>(), 1..8)
}

fn depth() -> impl Strategy<Value = Depth> {
    prop_oneof![Just(Depth::Four), Just(Depth::Five)]
}

fn largest() -> impl Strategy<Value = PageSize> {
    prop_oneof![
        Just(PageSize::KiB4),
        Just(PageSize::MiB2),
        Just(PageSize::GiB1)
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn ept_answers_the_old_or_the_new_between_any_two_stores(
        depth in depth(), width in 39..=52_u32, largest in largest(), dice in dice(),
    ) {
        let granted = |access, memory| EptAttributes { access, memory, ignore_pat: false };
        play(Ept::new(depth, width, largest), &dice, &[
            granted(Access::ALL, MemoryType::WRITE_BACK),
            granted(Access::READ_EXECUTE, MemoryType::WRITE_BACK),
            granted(Access::READ_WRITE, MemoryType::UNCACHEABLE),
        ]);
    }

    #[test]
    fn npt_answers_the_old_or_the_new_between_any_two_stores(
        depth in depth(), width in 39..=52_u32, largest in largest(), dice in dice(),
    ) {
        let granted = |access, cache| NptAttributes { access, cache };
        play(Npt::new(depth, width, largest), &dice, &[
            granted(Access::ALL, PatIndex::WRITE_BACK),
            granted(Access::READ_EXECUTE, PatIndex::WRITE_BACK),
            granted(Access::READ_WRITE, PatIndex::UNCACHED),
        ]);
    }

    #[test]
    fn host_paging_answers_the_old_or_the_new_between_any_two_stores(
        depth in depth(), width in 39..=52_u32, largest in largest(), dice in dice(),
    ) {
        let granted = |access, global| HostAttributes {
            access,
            cache: PatIndex::WRITE_BACK,
            global,
        };
        play(HostPaging::new(depth, width, largest), &dice, &[
            granted(Access::READ_WRITE, true),
            granted(Access::READ_EXECUTE, true),
            granted(Access::READ, false),
        ]);
    }
}
