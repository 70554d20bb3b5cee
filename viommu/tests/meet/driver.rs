//! What our driver programs, the unit does.

use memory::{ByteRange, Frames, Hpa, Iova};
use pci::Bdf;
use viommu::{Blocked, Request, Width, handle_of};
use vtd::context::ContextTables;
use vtd::domain::{self, Domain, DomainId};
use vtd::fault::{Attempt, Fault, Told};
use vtd::remap::{Delivery, Destination, Destinations, InterruptTable, Route, Trigger};
use vtd::spec::fault::Reason;
use vtd::unit::{Candidate, Unit};

use crate::stage::{Board, DEVICE, Memory};
use viommu::Access::{Read, Write};

const LENT: u64 = 0x4000_0000;
const PAGE: u64 = 0x7000_3000;

pub(crate) struct Stage {
    pub(crate) board: Board,
    pub(crate) frames: Memory,
    pub(crate) units: [Unit<Board>; 1],
    pub(crate) domain: Domain,
    pub(crate) tables: ContextTables,
}

fn stage() -> Stage {
    stage_on(Board::new(Width::Wide))
}

pub(crate) fn stage_on(board: Board) -> Stage {
    let mut frames = board.memory.clone();
    let candidate = Candidate::probe(board.clone()).unwrap();
    let support = candidate.capabilities().support();
    let mut tables = ContextTables::new(support, &mut frames).unwrap();
    let (ring, status) = (frames.take().unwrap(), frames.take().unwrap());
    let unit = candidate
        .take_over(&tables, ring, status, &mut frames)
        .unwrap();
    let format = support.format(48, 48).unwrap();
    let domain = Domain::new(DomainId::new(5).unwrap(), format, &mut frames).unwrap();
    let mut units = [unit];
    let due = tables.attach(&mut frames, DEVICE, &domain).unwrap();
    due.settle(&mut units[0].invalidator(&mut frames)).unwrap();
    Stage {
        board,
        frames,
        units,
        domain,
        tables,
    }
}

impl Stage {
    fn lend(&mut self, at: u64, bytes: u64, access: domain::Access) {
        self.lend_page(at, bytes, PAGE & !0x1f_ffff, access);
    }

    pub(crate) fn lend_page(&mut self, at: u64, bytes: u64, page: u64, access: domain::Access) {
        let range = ByteRange::new(Iova::new(at), bytes).unwrap();
        let debt = self
            .domain
            .lend(&mut self.frames, range, Hpa::new(page), access);
        debt.unwrap()
            .settle(&mut self.units, &mut self.frames)
            .unwrap();
    }

    fn faults(&mut self) -> Vec<Fault> {
        let mut faults = Vec::new();
        let _: Told = self.units[0].tell_faults(|fault| faults.push(fault));
        faults
    }
}

#[test]
fn a_device_reaches_what_the_driver_lends_and_nothing_else() {
    let mut stage = stage();
    stage.lend(LENT, 0x20_0000, domain::Access::ReadWrite);
    let inside = LENT + 0x3123;
    let there = (PAGE & !0x1f_ffff) + 0x3123;
    assert_eq!(stage.board.access(inside, Read).unwrap(), there);
    assert_eq!(stage.board.access(inside, Write).unwrap(), there);
    assert!(stage.board.access(LENT + 0x20_0000, Read).is_err());
    assert!(stage.board.access(1 << 50, Write).is_err());
    let told = stage.faults();
    let reasons: Vec<_> = told.iter().map(|fault| fault.reason).collect();
    assert_eq!(reasons, [Reason::READ_DENIED, Reason::BEYOND_WIDTH]);
    assert_eq!(told[0].source, DEVICE);
    assert_eq!(told[0].attempt, Attempt::Read(Iova::new(LENT + 0x20_0000)));
    assert_eq!(told[1].attempt, Attempt::Write(Iova::new(1 << 50)));
}

#[test]
fn loans_have_a_direction() {
    let mut stage = stage();
    stage.lend(LENT, 0x1000, domain::Access::Read);
    assert!(stage.board.access(LENT, Read).is_ok());
    let refused = stage.board.access(LENT, Write).unwrap_err();
    assert_eq!(refused.reason, Reason::WRITE_DENIED);
    assert_eq!(stage.faults()[0].attempt, Attempt::Write(Iova::new(LENT)));
}

#[test]
fn a_revoked_page_is_reached_until_the_debt_is_settled() {
    let mut stage = stage();
    stage.lend(LENT, 0x20_0000, domain::Access::ReadWrite);
    assert!(stage.board.access(LENT + 0x5000, Write).is_ok());
    let range = ByteRange::new(Iova::new(LENT), 0x20_0000).unwrap();
    let debt = stage.domain.revoke(&mut stage.frames, range).unwrap();
    assert!(
        stage.board.access(LENT + 0x5000, Write).is_ok(),
        "remembered"
    );
    debt.settle(&mut stage.units, &mut stage.frames).unwrap();
    assert!(stage.board.access(LENT + 0x5000, Write).is_err());
}

#[test]
fn a_detached_device_reaches_its_domain_until_the_debt_is_settled() {
    let mut stage = stage();
    stage.lend(LENT, 0x1000, domain::Access::ReadWrite);
    assert!(stage.board.access(LENT, Read).is_ok());
    let debt = stage.tables.detach(&mut stage.frames, DEVICE).unwrap();
    assert!(stage.board.access(LENT, Read).is_ok(), "remembered");
    let mut all = stage.units[0].invalidator(&mut stage.frames);
    debt.settle(&mut all).unwrap();
    let refused = stage.board.access(LENT, Read).unwrap_err();
    assert_eq!(refused.reason, Reason::CONTEXT_NOT_PRESENT);
}

#[test]
fn a_quarantined_device_is_cut_off_and_silent() {
    let mut stage = stage();
    let debt = stage.tables.quarantine(&mut stage.frames, DEVICE).unwrap();
    let mut all = stage.units[0].invalidator(&mut stage.frames);
    debt.settle(&mut all).unwrap();
    assert!(stage.board.access(LENT, Read).is_err());
    assert_eq!(stage.faults(), []);
}

#[test]
fn a_fault_is_announced_once_until_it_was_attended_to() {
    let mut stage = stage();
    let to = Destination::physical(0x1234);
    let route = Route::new(0x51, Delivery::Fixed, Trigger::Edge, to).unwrap();
    stage.units[0].announce_faults(route);
    for _ in 0..3 {
        assert!(stage.board.access(LENT, Write).is_err());
    }
    let messages = stage.board.messages.borrow().clone();
    assert_eq!(messages.len(), 1);
    assert_eq!(messages[0].data & 0xff, 0x51);
    assert_eq!(
        (messages[0].address, messages[0].upper),
        (0xfee3_4000, 0x1200)
    );
    assert_eq!(stage.faults().len(), 3);
    assert!(stage.board.access(LENT, Write).is_err());
    assert_eq!(stage.board.messages.borrow().len(), 2);
}

#[test]
fn faults_beyond_the_records_are_told_as_lost() {
    let mut stage = stage();
    for page in 0..9 {
        assert!(stage.board.access(LENT + page * 0x1000, Write).is_err());
    }
    let mut count = 0;
    assert_eq!(stage.units[0].tell_faults(|_| count += 1), Told::Some);
    assert_eq!(count, 8);
    assert!(stage.board.access(LENT, Write).is_err());
    assert_eq!(stage.faults().len(), 1);
}

#[test]
fn an_interrupt_goes_where_the_driver_routed_it_and_is_its_devices_alone() {
    let mut stage = stage();
    let page = stage.frames.take().unwrap();
    let mut table = InterruptTable::new([page], Destinations::Wide).unwrap();
    stage.units[0]
        .remap_interrupts(&table, &mut stage.frames)
        .unwrap();
    let block = table.issue(&mut stage.frames, DEVICE, 2, 8).unwrap();
    let to = Destination::logical(0x10_0001);
    let route = Route::new(0x41, Delivery::Fixed, Trigger::Edge, to).unwrap();
    let debt = table.route(&mut stage.frames, &block, 1, route).unwrap();
    debt.settle(&mut stage.units[0].invalidator(&mut stage.frames))
        .unwrap();
    let ask = |source, number| {
        let message = block.message(number).unwrap();
        let (address, data) = (message.address, message.data);
        let unit = stage.board.unit.borrow();
        let request = Request::Message { address, data };
        let routed = unit.route(&stage.board.memory, source, request, false);
        routed.map_err(|blocked| (blocked.index, blocked.reason))
    };
    let index = handle_of(Request::Message {
        address: block.messages().address,
        data: 0,
    });
    let index = index.unwrap();
    assert_eq!(ask(DEVICE, 1), Ok(Some(route)));
    let absent = Reason::INTERRUPT_NOT_PRESENT;
    assert_eq!(ask(DEVICE, 0), Err((index, absent)));
    let other = Bdf::from_parts(3, 0x21);
    let another = Reason::INTERRUPT_WRONG_SOURCE;
    assert_eq!(ask(other, 1), Err((index + 1, another)));
    let unit = stage.board.unit.borrow();
    let plain = Request::Message {
        address: 0xfee0_0000,
        data: 0x41,
    };
    let blocked = unit.route(&stage.board.memory, DEVICE, plain, false);
    assert_eq!(blocked.unwrap_err().reason, Reason::COMPATIBILITY_BLOCKED);
}

#[test]
fn an_interrupt_that_is_refused_is_told_like_any_fault_unless_the_guest_wants_none() {
    let mut stage = stage();
    let blocked = Blocked {
        index: 7,
        reason: Reason::INTERRUPT_NOT_PRESENT,
        is_quiet: false,
    };
    let quiet = Blocked {
        is_quiet: true,
        ..blocked
    };
    for blocked in [quiet, blocked] {
        let mut unit = stage.board.unit.borrow_mut();
        unit.refuse_interrupt(DEVICE, blocked);
    }
    let told = Fault {
        source: DEVICE,
        attempt: Attempt::Interrupt(7),
        reason: Reason::INTERRUPT_NOT_PRESENT,
    };
    assert_eq!(stage.faults(), [told]);
}
