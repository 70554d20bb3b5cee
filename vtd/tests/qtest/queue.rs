//! The invalidation queue at its edges.

use vtd::invalidate::Scope;
use vtd::spec::registers::offset;

use crate::stage::Stage;

/// A tail of 256 in a ring of 256 is a queue error; ours never is.
#[test]
fn the_queue_wraps_at_its_last_slot() {
    let Some(mut stage) = Stage::set("wraps") else {
        return;
    };
    let before = stage.units[0].queue_writes();
    for _ in 0..300 {
        stage.forget(&Scope::Domain(stage.domain.id()));
    }
    assert_eq!(stage.units[0].queue_writes(), before + 300);
    assert_eq!(stage.units[0].take_trouble(), None);
}

/// After a queue error the head is frozen until software clears it.
#[test]
fn a_queue_in_error_is_set_going_again() {
    let Some(mut stage) = Stage::set("error") else {
        return;
    };
    stage.machine.poke_unit(offset::IQT, 256 << 4);
    stage.forget(&Scope::Everything);
    stage.forget(&Scope::Everything);
}
