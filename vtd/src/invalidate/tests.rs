extern crate std;

use memory::Stale;
use proptest::prelude::*;

use super::*;
use crate::fake::{self, FakeMemory, FakeUnit};
use crate::registers::IQA;
use crate::spec::invalidation::{AnyLow, kind};
use crate::spec::registers::{Cap, Ecap};

struct Bench {
    memory: FakeMemory,
    unit: FakeUnit,
    queue: Queue,
}

impl Bench {
    /// A unit whose queue is on.
    fn new() -> Self {
        let mut memory = FakeMemory::default();
        let mut unit = FakeUnit::new(&memory);
        let abilities = Abilities::of(Cap(fake::CAP), Ecap(fake::ECAP));
        let queue = Queue::new(memory.take().unwrap(), memory.take().unwrap(), abilities);
        IQA.write(&mut unit, queue.address());
        unit.with(|state| state.gsts.set_qies(true));
        Self {
            memory,
            unit,
            queue,
        }
    }

    fn out_of_order(self, fault: fake::Fault) -> Self {
        self.unit.with(|state| state.fault = Some(fault));
        self
    }

    fn mended(self) -> Self {
        self.unit.with(|state| state.fault = None);
        self
    }

    fn invalidator(&mut self) -> Invalidator<'_, FakeUnit, FakeMemory> {
        Invalidator {
            queue: &mut self.queue,
            registers: &mut self.unit,
            frames: &mut self.memory,
        }
    }

    fn forget(&mut self, scope: &Scope) -> Result<(), Trouble> {
        self.invalidator().forget(scope)
    }

    fn kinds_forgotten(&self) -> std::vec::Vec<u8> {
        let kind = |words: [u64; 2]| AnyLow(words[0]).kind();
        self.unit.forgotten().into_iter().map(kind).collect()
    }
}

fn domain(number: u16) -> DomainId {
    DomainId::new(number).unwrap()
}

/// Section 6.5.2: an invalidation is known to be done when a wait behind it has reported.
#[test]
fn a_flush_returns_when_the_unit_has_reported_its_wait() {
    let mut bench = Bench::new();
    let stale = Stale::new(Scope::Domain(domain(3)));
    assert!(stale.settle(&mut bench.invalidator()).is_ok());
    assert_eq!(bench.unit.forgotten(), [[0x0003_00e2, 0]]);
    assert_eq!(bench.queue.tail_writes(), 1);
}

/// An IOTLB entry may be made again from a context entry that is still cached.
#[test]
fn a_device_is_forgotten_before_its_domains_pages() {
    let mut bench = Bench::new();
    let source = Bdf::new(0, 4, 0).unwrap();
    let scope = Scope::Device {
        source,
        domain: domain(9),
    };
    bench.forget(&scope).unwrap();
    assert_eq!(bench.kinds_forgotten(), [kind::CONTEXT_CACHE, kind::IOTLB]);
    assert_eq!(bench.queue.tail_writes(), 1);
}

#[test]
fn everything_is_devices_pages_and_interrupts() {
    let mut bench = Bench::new();
    bench.forget(&Scope::Everything).unwrap();
    assert_eq!(
        bench.kinds_forgotten(),
        [kind::CONTEXT_CACHE, kind::IOTLB, kind::INTERRUPT_ENTRY]
    );
}

/// Invalidation Queue Tail Register: the tail stays below the size; after slot 255 comes slot 0.
#[test]
fn the_ring_wraps_at_its_last_slot() {
    let mut bench = Bench::new();
    for turn in 0..200u16 {
        bench.forget(&Scope::Domain(domain(turn + 1))).unwrap();
    }
    // Two slots each: 400 slots in a ring of 256.
    assert_eq!(bench.unit.state().tail, 400 % 256);
    let last = bench.unit.forgotten()[199];
    assert_eq!(last, [0x00c8_00e2, 0]);
}

#[test]
fn a_batch_may_lie_across_the_last_slot() {
    let mut bench = Bench::new();
    for _ in 0..127 {
        bench.forget(&Scope::Interrupts).unwrap();
    }
    assert_eq!(bench.unit.state().tail, 254);
    // Context, fence, IOTLB, wait in slots 254, 255, 0, 1.
    bench.forget(&Scope::Translations).unwrap();
    assert_eq!(bench.unit.state().tail, 2);
}

#[test]
fn a_unit_that_never_answers_is_given_up() {
    let mut bench = Bench::new().out_of_order(fake::Fault::IgnoresQueue);
    let stale = Stale::new(Scope::Interrupts);
    let (stale, TimedOut) = stale.settle(&mut bench.invalidator()).unwrap_err();
    assert_eq!(*stale.scope(), Scope::Interrupts);
    assert_eq!(bench.queue.take_trouble(), Some(Trouble::TimedOut));
    assert!(bench.unit.state().polls < 200);
}

/// One slot stays free, and what the unit never finished is not overwritten.
#[test]
fn a_ring_full_of_unfinished_requests_takes_no_more() {
    let mut bench = Bench::new().out_of_order(fake::Fault::IgnoresQueue);
    for _ in 0..127 {
        assert_eq!(bench.forget(&Scope::Interrupts), Err(Trouble::TimedOut));
    }
    assert_eq!(bench.forget(&Scope::Interrupts), Err(Trouble::Full));
    let mut bench = bench.mended();
    // The unit wakes at the next look at its tail, and is found to have room again.
    IQT.write(&mut bench.unit, QueueIndex(254 << 4));
    assert_eq!(bench.forget(&Scope::Interrupts), Ok(()));
}

/// A wait that reports late is not mistaken for the one waited for.
#[test]
fn a_late_answer_is_not_the_answer_to_a_later_question() {
    let mut bench = Bench::new().out_of_order(fake::Fault::IgnoresQueue);
    assert_eq!(bench.forget(&Scope::Interrupts), Err(Trouble::TimedOut));
    let status = bench.queue.status.base();
    let first = bench.queue.sequence;
    bench.memory.publish(status, 0, first.into());
    assert_eq!(bench.forget(&Scope::Interrupts), Err(Trouble::TimedOut));
}

/// Section 6.5.2: on IQE the head stays at the descriptor; software may replace it and clear IQE.
#[test]
fn a_descriptor_rejected_once_is_submitted_again() {
    let mut bench = Bench::new().out_of_order(fake::Fault::Rejects {
        kind: kind::IOTLB,
        times: 1,
    });
    bench.forget(&Scope::Domain(domain(1))).unwrap();
    assert_eq!(bench.kinds_forgotten(), [kind::IOTLB]);
    assert!(!bench.unit.state().fsts.iqe());
}

#[test]
fn a_descriptor_rejected_always_is_an_error_and_the_queue_lives_on() {
    let mut bench = Bench::new().out_of_order(fake::Fault::Rejects {
        kind: kind::IOTLB,
        times: u32::MAX,
    });
    let trouble = Err(Trouble::Rejected {
        slot: 2,
        information: 2,
    });
    assert_eq!(bench.forget(&Scope::Domain(domain(1))), trouble);
    assert!(bench.unit.forgotten().is_empty());
    assert_eq!(bench.forget(&Scope::Interrupts), Ok(()));
}

/// A time-out aborts the waits that are pending: nothing was proved, so all of it is asked for again.
#[test]
fn an_aborted_wait_is_no_proof() {
    let mut bench = Bench::new().out_of_order(fake::Fault::Aborts { times: 1 });
    bench.forget(&Scope::Domain(domain(1))).unwrap();
    assert_eq!(bench.kinds_forgotten(), [kind::IOTLB, kind::IOTLB]);

    let mut bench = Bench::new().out_of_order(fake::Fault::Aborts { times: u32::MAX });
    assert!(bench.forget(&Scope::Domain(domain(1))).is_err());
}

#[test]
fn a_head_outside_the_ring_is_an_error() {
    let mut bench = Bench::new().out_of_order(fake::Fault::HeadAstray);
    assert_eq!(bench.forget(&Scope::Interrupts), Err(Trouble::Lost));
}

#[test]
fn sequence_numbers_skip_the_one_nobody_waits_for() {
    let mut bench = Bench::new();
    bench.queue.sequence = u32::MAX;
    bench.forget(&Scope::Interrupts).unwrap();
    assert_eq!(bench.queue.sequence, 1);
}

proptest! {
    /// Whatever is asked in whatever order, every request is one tail write, and every wait ends.
    #[test]
    fn every_request_costs_one_tail_write(picks in prop::collection::vec(0u8..5, 0..300)) {
        let mut bench = Bench::new();
        for &pick in &picks {
            let scope = match pick {
                0 => Scope::Everything,
                1 => Scope::Translations,
                2 => Scope::Domain(domain(5)),
                3 => Scope::Interrupts,
                _ => Scope::InterruptEntries { first: 3, count: 2 },
            };
            prop_assert_eq!(bench.forget(&scope), Ok(()));
        }
        prop_assert_eq!(bench.queue.tail_writes(), picks.len() as u64);
        prop_assert_eq!(bench.unit.state().head, bench.unit.state().tail);
    }
}
