//! A machine whose unit our driver has taken over, ready to be attacked.

use memory::{ByteRange, Frames, Hpa, Iova};
use pci::Bdf;
use vtd::context::ContextTables;
use vtd::domain::{Access, Domain, DomainId};
use vtd::fault::Fault;
use vtd::invalidate::Scope;
use vtd::remap::{Delivery, Destination, Destinations, InterruptTable, Message, Route, Trigger};
use vtd::unit::{Candidate, Unit};

use crate::machine::{Bus, DEVICE, Machine, SCRATCH};

/// A page of memory nobody lends unless a test says so.
pub(crate) const VICTIM: u64 = 0x20_0000;

/// Where tests lend it.
pub(crate) const LENT: u64 = 0x4000_0000;

/// What lies there.
pub(crate) const SECRET: u64 = 0x1122_3344_5566_7788;

/// A machine whose unit our driver has taken over, and a domain that lends [`SCRATCH`].
pub(crate) struct Stage {
    pub(crate) machine: Machine,
    pub(crate) frames: Bus,
    pub(crate) units: [Unit<Bus>; 1],
    pub(crate) tables: ContextTables,
    pub(crate) domain: Domain,
}

impl Stage {
    pub(crate) fn set(test: &str) -> Option<Self> {
        Self::set_with(test, "intremap=on")
    }

    pub(crate) fn set_with(test: &str, options: &str) -> Option<Self> {
        let machine = Machine::start(test, options)?;
        machine.store(VICTIM, SECRET);
        let mut frames = machine.bus();
        let (unit, tables) = take_over(&machine);
        let support = unit.capabilities().support();
        let format = support.format(39, 39).expect("QEMU walks three levels");
        let mut domain = Domain::new(DomainId::new(5).unwrap(), format, &mut frames).unwrap();
        let scratch = Hpa::new(SCRATCH);
        let nothing = domain.lend(&mut frames, page(SCRATCH), scratch, Access::ReadWrite);
        assert!(nothing.unwrap().is_nothing());
        Some(Self {
            machine,
            frames,
            units: [unit],
            tables,
            domain,
        })
    }

    pub(crate) fn attach(&mut self, device: Bdf) {
        let due = self
            .tables
            .attach(&mut self.frames, device, &self.domain)
            .unwrap();
        due.settle(&mut self.units[0].invalidator(&mut self.frames))
            .unwrap();
    }

    pub(crate) fn lend(&mut self, access: Access) {
        let debt = self
            .domain
            .lend(&mut self.frames, page(LENT), Hpa::new(VICTIM), access);
        debt.unwrap()
            .settle(&mut self.units, &mut self.frames)
            .unwrap();
    }

    pub(crate) fn forget(&mut self, scope: &Scope) {
        self.units[0]
            .invalidator(&mut self.frames)
            .forget(scope)
            .unwrap();
    }

    pub(crate) fn reads(&self, from: u64) -> u64 {
        self.machine.device_reads(DEVICE, from)
    }

    pub(crate) fn writes(&self, to: u64) -> bool {
        self.machine.device_writes(DEVICE, to, VICTIM)
    }

    pub(crate) fn faults(&mut self) -> Vec<Fault> {
        let mut faults = Vec::new();
        let _all_or_some = self.units[0].tell_faults(|fault| faults.push(fault));
        faults
    }

    pub(crate) fn only_fault(&mut self) -> Fault {
        let faults = self.faults();
        assert_eq!(faults.len(), 1, "{faults:?}");
        faults[0]
    }

    pub(crate) fn issue_and_route(&mut self, table: &mut InterruptTable, vector: u8) -> Message {
        let block = table.issue(&mut self.frames, DEVICE, 1, 8).unwrap();
        let due = table
            .route(&mut self.frames, &block, 0, to_the_processor(vector))
            .unwrap();
        due.settle(&mut self.units[0].invalidator(&mut self.frames))
            .unwrap();
        block.message(0).unwrap()
    }

    pub(crate) fn remap_interrupts(&mut self) -> InterruptTable {
        let page = self.frames.take().unwrap();
        let table = InterruptTable::new([page], Destinations::Narrow).unwrap();
        self.units[0]
            .remap_interrupts(&table, &mut self.frames)
            .unwrap();
        table
    }
}

pub(crate) fn take_over(machine: &Machine) -> (Unit<Bus>, ContextTables) {
    let mut frames = machine.bus();
    let candidate = Candidate::probe(machine.bus()).unwrap();
    let tables = ContextTables::new(candidate.capabilities().support(), &mut frames).unwrap();
    let (ring, status) = (frames.take().unwrap(), frames.take().unwrap());
    let unit = candidate
        .take_over(&tables, ring, status, &mut frames)
        .unwrap();
    (unit, tables)
}

pub(crate) fn page(at: u64) -> ByteRange<Iova> {
    ByteRange::new(Iova::new(at), 0x1000).unwrap()
}

pub(crate) fn to_the_processor(vector: u8) -> Route {
    let destination = Destination::physical(0);
    Route::new(vector, Delivery::Fixed, Trigger::Edge, destination).unwrap()
}
