//! A remapping unit written from the specification, for the driver to meet.
//!
//! Owns a register file that behaves as chapters 6 and 11 say, watches for commands they forbid,
//! and misbehaves on request. Its memory is shared with the driver, as on a machine.

mod memory;

extern crate std;

use std::cell::{Ref, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::vec::Vec;

pub(crate) use self::memory::FakeMemory;
use crate::registers::{Deadline, Offset, Registers};
use crate::spec::invalidation::{AnyLow, WaitLow, kind};
use crate::spec::registers::{Fsts, Gsts, Iqa, QueueIndex, offset};

/// What the unit was seen to do, in order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Event {
    RootTaken(u64),
    Translation(Power),
    Queue(Power),
    InterruptTableTaken(u64),
    InterruptRemapping(Power),
    Compatibility(Power),
    FaultLog(Power),
    WriteBufferFlushed,
    Protection(Power),
    Forgot([u64; 2]),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Power {
    On,
    Off,
}

/// How the unit is out of order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    /// Status bits of commands never follow.
    IgnoresCommands,
    /// The queue is never read.
    IgnoresQueue,
    /// The next so many descriptors of this kind are found invalid.
    Rejects { kind: u8, times: u32 },
    /// The next so many waits are given up with an invalidation time-out.
    Aborts { times: u32 },
    /// The head register points nowhere.
    HeadAstray,
    /// Protected memory never reports.
    IgnoresProtection,
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) cap: u64,
    pub(crate) ecap: u64,
    pub(crate) version: u32,
    pub(crate) gsts: Gsts,
    pub(crate) fsts: Fsts,
    pub(crate) fectl: u32,
    pub(crate) announcement: BTreeMap<u32, u32>,
    pub(crate) rtaddr: u64,
    pub(crate) irta: u64,
    pub(crate) iqa: Iqa,
    pub(crate) head: u64,
    pub(crate) tail: u64,
    pub(crate) iqercd: u64,
    pub(crate) pmen: u32,
    pub(crate) protected: BTreeMap<u32, u64>,
    pub(crate) records: Vec<[u64; 2]>,
    pub(crate) fault: Option<Fault>,
    pub(crate) events: Vec<Event>,
    pub(crate) polls: u32,
}

/// The unit. Clones are the same unit.
#[derive(Clone, Debug)]
pub(crate) struct FakeUnit {
    state: Rc<RefCell<State>>,
    memory: FakeMemory,
}

/// The capabilities of QEMU 10.0.2's unit, with 32-bit interrupt destinations.
pub(crate) const CAP: u64 = 0x00d2_008c_222f_0606;
pub(crate) const ECAP: u64 = 0x00f0_0f5a;

/// Bytes of registers.
const WINDOW: u32 = 0x1000;

/// Where CAP puts the fault records.
const RECORDS: u32 = 0x220;

/// Protected-memory granule: 2 MiB.
const GRANULE: u64 = 2 << 20;

impl FakeUnit {
    pub(crate) fn new(memory: &FakeMemory) -> Self {
        let state = State {
            cap: CAP,
            ecap: ECAP,
            version: 0x10,
            gsts: Gsts(0),
            fsts: Fsts(0),
            fectl: 0x8000_0000,
            announcement: BTreeMap::new(),
            rtaddr: 0,
            irta: 0,
            iqa: Iqa(0),
            head: 0,
            tail: 0,
            iqercd: 0,
            pmen: 0,
            protected: BTreeMap::new(),
            records: std::vec![[0; 2]],
            fault: None,
            events: Vec::new(),
            polls: 0,
        };
        Self {
            state: Rc::new(RefCell::new(state)),
            memory: memory.clone(),
        }
    }

    pub(crate) fn with(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.borrow_mut());
    }

    pub(crate) fn state(&self) -> Ref<'_, State> {
        self.state.borrow()
    }

    pub(crate) fn events(&self) -> Vec<Event> {
        self.state().events.clone()
    }

    /// What was forgotten, without the waits.
    pub(crate) fn forgotten(&self) -> Vec<[u64; 2]> {
        let forgot = |event| match event {
            Event::Forgot(words) => Some(words),
            _ => None,
        };
        self.events().into_iter().filter_map(forgot).collect()
    }

    /// Records a fault, as chapter 7 says: into the next record if it is free, else overflow.
    pub(crate) fn record(&self, low: u64, high: u64) {
        let mut state = self.state.borrow_mut();
        if state.fsts.pfo() {
            return;
        }
        match state.records.iter().position(|record| record[1] >> 63 == 0) {
            Some(free) => state.records[free] = [low, high | 1 << 63],
            None => state.fsts.set_pfo(true),
        }
    }

    fn command(&self, word: u32) {
        let mut state = self.state.borrow_mut();
        const ONE_SHOTS: u32 = 0x6900_0000;
        let level = word & !ONE_SHOTS;
        let before = state.gsts.0 & !ONE_SHOTS;
        let changed = (level ^ before) | (word & ONE_SHOTS);
        assert!(
            changed.count_ones() == 1,
            "more than one command at once, or a one-shot written back: {word:#x} over {before:#x}"
        );
        if state.fault == Some(Fault::IgnoresCommands) {
            return;
        }
        let power = if level & changed != 0 {
            Power::On
        } else {
            Power::Off
        };
        let event = match changed.trailing_zeros() {
            31 => {
                assert!(state.gsts.rtps(), "translation without a root table");
                Event::Translation(power)
            }
            30 => Event::RootTaken(state.rtaddr),
            28 => Event::FaultLog(power),
            27 => Event::WriteBufferFlushed,
            26 => {
                if power == Power::On {
                    assert_eq!(
                        state.tail, 0,
                        "the tail must be 0 when the queue is switched on"
                    );
                } else {
                    assert_eq!(
                        state.head, state.tail,
                        "the queue is switched off while it works"
                    );
                }
                state.head = 0;
                Event::Queue(power)
            }
            25 => {
                assert!(state.gsts.irtps(), "interrupt remapping without a table");
                Event::InterruptRemapping(power)
            }
            24 => Event::InterruptTableTaken(state.irta),
            23 => Event::Compatibility(power),
            bit => panic!("command bit {bit} does not exist"),
        };
        state.events.push(event);
        state.gsts.0 = before | state.gsts.0 & ONE_SHOTS;
        if changed & ONE_SHOTS == 0 {
            state.gsts.0 ^= changed;
        } else if changed != 1 << 27 {
            // WBFS clears when done; the pointers' bits stay.
            state.gsts.0 |= changed;
        }
    }

    /// Reads the queue from head to tail.
    fn work(&self) {
        loop {
            let mut state = self.state.borrow_mut();
            let stopped = state.fsts.iqe() || state.fsts.ite();
            let idle = !state.gsts.qies() || state.fault == Some(Fault::IgnoresQueue);
            if stopped || idle || state.head == state.tail {
                return;
            }
            let at = (state.iqa.iqa() << 12) + state.head * 16;
            let words = [self.memory.word(at), self.memory.word(at + 8)];
            let kind = AnyLow(words[0]).kind();
            match &mut state.fault {
                Some(Fault::Rejects { kind: bad, times }) if *bad == kind && *times > 0 => {
                    *times -= 1;
                    state.fsts.set_iqe(true);
                    state.iqercd = 2;
                    return;
                }
                Some(Fault::Aborts { times }) if kind == kind::WAIT && *times > 0 => {
                    *times -= 1;
                    state.fsts.set_ite(true);
                    state.iqercd = 0x0123 << 32;
                    return;
                }
                _ => {}
            }
            match kind {
                kind::WAIT => {
                    let wait = WaitLow(words[0]);
                    assert!(wait.sw(), "a wait nobody hears of");
                    self.memory.write_half(words[1], wait.status());
                }
                kind::CONTEXT_CACHE | kind::IOTLB | kind::INTERRUPT_ENTRY => {
                    state.events.push(Event::Forgot(words));
                }
                other => panic!("descriptor of type {other}"),
            }
            state.head = (state.head + 1) % 256;
        }
    }
}

/// So many polls, then the end.
#[derive(Debug)]
pub(crate) struct Polls(u32);

impl Deadline for Polls {
    fn has_passed(&mut self) -> bool {
        self.0 = self.0.saturating_sub(1);
        self.0 == 0
    }
}

impl Registers for FakeUnit {
    type Deadline = Polls;

    fn window(&self) -> u32 {
        WINDOW
    }

    fn load32(&self, at: Offset) -> u32 {
        let mut state = self.state.borrow_mut();
        state.polls += 1;
        match at.bytes() {
            offset::VER => state.version,
            offset::GSTS => state.gsts.0,
            offset::FSTS => {
                let mut fsts = state.fsts;
                fsts.set_ppf(state.records.iter().any(|record| record[1] >> 63 != 0));
                fsts.0
            }
            offset::FECTL | offset::IECTL => state.fectl,
            offset::PMEN => state.pmen,
            offset::PLMBASE => state
                .protected
                .get(&offset::PLMBASE)
                .map_or(0, |&low| low as u32),
            other => panic!("32-bit load at {other:#x}"),
        }
    }

    fn load64(&self, at: Offset) -> u64 {
        let mut state = self.state.borrow_mut();
        state.polls += 1;
        let index = |index: u64| {
            let mut register = QueueIndex(0);
            register.set_index(index as u16);
            register.0
        };
        match at.bytes() {
            offset::CAP => state.cap,
            offset::ECAP => state.ecap,
            offset::RTADDR => state.rtaddr,
            offset::IQH if state.fault == Some(Fault::HeadAstray) => index(300),
            offset::IQH => index(state.head),
            offset::IQT => index(state.tail),
            offset::IQERCD => state.iqercd,
            offset::PHMBASE => state.protected.get(&offset::PHMBASE).copied().unwrap_or(0),
            record if record >= RECORDS => {
                let (record, half) = ((record - RECORDS) / 16, (record - RECORDS) / 8 % 2);
                state.records[record as usize][half as usize]
            }
            other => panic!("64-bit load at {other:#x}"),
        }
    }

    fn store32(&mut self, at: Offset, value: u32) {
        match at.bytes() {
            offset::GCMD => self.command(value),
            offset::FSTS => self.with(|state| state.fsts.0 &= !value),
            offset::FECTL | offset::IECTL => self.with(|state| state.fectl = value),
            offset::FEDATA | offset::FEADDR | offset::FEUADDR => self.with(|state| {
                assert!(
                    state.fectl >> 31 != 0,
                    "the event changes while it may be raised"
                );
                state.announcement.insert(at.bytes(), value);
            }),
            offset::PMEN => self.with(|state| {
                let power = if value >> 31 != 0 {
                    Power::On
                } else {
                    Power::Off
                };
                state.pmen = value & 1 << 31;
                if state.fault != Some(Fault::IgnoresProtection) {
                    state.pmen |= value >> 31;
                }
                state.events.push(Event::Protection(power));
            }),
            offset::PLMBASE | offset::PLMLIMIT => self.with(|state| {
                assert_eq!(state.pmen, 0, "regions change only while protection is off");
                state
                    .protected
                    .insert(at.bytes(), u64::from(value) & !(GRANULE - 1));
            }),
            top if top >= RECORDS && top % 16 == 12 => self.with(|state| {
                let record = &mut state.records[((top - RECORDS) / 16) as usize];
                record[1] &= !(u64::from(value & 1 << 31) << 32);
            }),
            other => panic!("32-bit store at {other:#x}"),
        }
        self.work();
    }

    fn store64(&mut self, at: Offset, value: u64) {
        self.with(|state| match at.bytes() {
            offset::RTADDR => state.rtaddr = value,
            offset::IQA => {
                assert!(!state.gsts.qies(), "the queue moves while it works");
                state.iqa = Iqa(value);
            }
            offset::IQT => {
                let tail = u64::from(QueueIndex(value).index());
                assert!(tail < 256, "a tail beyond the last slot is a queue error");
                state.tail = tail;
            }
            offset::IRTA => state.irta = value,
            offset::PHMBASE | offset::PHMLIMIT => {
                assert_eq!(state.pmen, 0, "regions change only while protection is off");
                state.protected.insert(at.bytes(), value & !(GRANULE - 1));
            }
            other => panic!("64-bit store at {other:#x}"),
        });
        self.work();
    }

    fn deadline(&self) -> Polls {
        Polls(50)
    }
}
