//! The registers of the unit (chapter 11), and what writing them sets going.
//!
//! Owns every register as a state machine: a command that the manual does not allow in this state
//! has no effect. What the machine must do for a command, and for each descriptor of the queue, is
//! given out one by one by [`Unit::next`]; the status that tells the guest of it changes when the
//! next is asked for.

use memory::{Gpa, GuestMemory, PAGE_SIZE};
use pci::Bdf;
use vtd::remap::Route;
use vtd::spec::fault::Reason;
use vtd::spec::registers::{
    Ccmd, Gcmd, Gsts, Ics, Iotlb, Iqa, Iqercd, Irta, QueueIndex, Rtaddr, offset, ttm,
};

use crate::capability::{
    IOTLB_AT, Kind, Limits, RECORDS_AT, Width, capabilities, extended, version,
};
use crate::event::{Event, Message, Part};
use crate::fault::{Faults, News, RECORDS, is_read};
use crate::interrupt::{Blocked, Entries, Remapping, Request, handle_of};
use crate::queue::{self, Asked, Error, Queue, Work};
use crate::translate::{Access, Mode, Refused};

const IVA: u32 = IOTLB_AT as u32 * 16 + offset::IVA;
const IOTLB: u32 = IOTLB_AT as u32 * 16 + offset::IOTLB;
const RECORDS_START: u32 = RECORDS_AT as u32 * 16;
const RECORDS_END: u32 = RECORDS_START + RECORDS as u32 * 16;

/// Bits of the address of a root or interrupt table and of the queue.
const TABLE: u64 = ((1 << 52) - 1) & !(PAGE_SIZE - 1);

/// A virtual unit.
#[derive(Clone, Debug)]
pub struct Unit {
    width: Width,
    kind: Kind,
    status: Gsts,
    root: Rtaddr,
    /// The root table that was set.
    tables: Gpa,
    /// How devices' addresses are translated, as it was given out last.
    mode: Mode,
    contexts: Ccmd,
    invalidate_address: u64,
    iotlb: Iotlb,
    queue: Queue,
    error: Iqercd,
    faults: Faults,
    fault_event: Event,
    completion: Ics,
    completion_event: Event,
    interrupt_table: Irta,
    /// The interrupt table that was set.
    remapping: Remapping,
    /// A command that was taken and not given out.
    taken: Option<Command>,
    /// What was given out last.
    given: Option<Given>,
    /// Messages to send.
    messages: [Option<Message>; 2],
}

/// A command that needs work.
#[derive(Clone, Copy, Debug)]
enum Command {
    SetRoot,
    Translate(bool),
    SetInterruptTable,
    Remap(bool),
    Compatibility(bool),
    Contexts(queue::Scope),
    Pages(queue::Scope),
}

/// What is to be told when the work is done.
#[derive(Clone, Copy, Debug)]
enum Given {
    Command(Command),
    Descriptor,
}

impl Unit {
    /// One that was just reset.
    pub fn new(width: Width) -> Self {
        Self {
            width,
            kind: Kind::Walks,
            status: Gsts(0),
            root: Rtaddr(0),
            tables: Gpa::new(0),
            mode: Mode::Physical,
            contexts: Ccmd(0),
            invalidate_address: 0,
            iotlb: Iotlb(0),
            queue: Queue::NEW,
            error: Iqercd(0),
            faults: Faults::NEW,
            fault_event: Event::new(),
            completion: Ics(0),
            completion_event: Event::new(),
            interrupt_table: Irta(0),
            remapping: Remapping {
                base: Gpa::new(0),
                size: 0,
                is_wide: false,
            },
            taken: None,
            given: None,
            messages: [None; 2],
        }
    }

    /// One that was just reset, whose tables are carried over into others with these limits (caching
    /// mode).
    pub fn carried(width: Width, limits: Limits) -> Self {
        Self {
            kind: Kind::Carries(limits),
            ..Self::new(width)
        }
    }

    /// One that was just reset, which remaps interrupts and nothing else.
    pub fn for_interrupts(width: Width) -> Self {
        Self {
            kind: Kind::Leaves,
            ..Self::new(width)
        }
    }

    /// Where tables are carried over: what those can hold.
    pub fn limits(&self) -> Option<Limits> {
        match self.kind {
            Kind::Carries(limits) => Some(limits),
            Kind::Walks | Kind::Leaves => None,
        }
    }

    /// Answers a read of `to.len()` bytes at `offset` of the registers.
    pub fn read(&self, offset: u32, to: &mut [u8]) {
        let mut at = offset & !3;
        let mut skip = (offset & 3) as usize;
        let mut left = to;
        while !left.is_empty() {
            let bytes = self.load(at).to_le_bytes();
            let len = left.len().min(4 - skip);
            let (now, rest) = left.split_at_mut(len);
            now.copy_from_slice(&bytes[skip..skip + len]);
            (left, skip, at) = (rest, 0, at.wrapping_add(4));
        }
    }

    /// Takes a write of `from` at `offset`. Section 11.1: 4 or 8 bytes, aligned; anything else is
    /// undefined and has no effect. [`Unit::next`] says what is to be done for it.
    pub fn write(&mut self, offset: u32, from: &[u8]) {
        if !offset.is_multiple_of(from.len().max(1) as u32) {
            return;
        }
        match *from {
            [a, b, c, d] => self.store(offset, u32::from_le_bytes([a, b, c, d])),
            [a, b, c, d, e, f, g, h] => {
                self.store(offset, u32::from_le_bytes([a, b, c, d]));
                self.store(offset.wrapping_add(4), u32::from_le_bytes([e, f, g, h]));
            }
            _ => {}
        }
    }

    /// The next thing to do, until there is nothing; what was given out before is done by now.
    /// `budget` is the number of descriptors that are still read.
    pub fn next(&mut self, memory: &impl GuestMemory, budget: &mut u32) -> Option<Work> {
        if let Some(given) = self.given.take() {
            self.complete(given);
        }
        if let Some(command) = self.taken.take() {
            let work = self.work_of(command);
            self.given = Some(Given::Command(command));
            return Some(work);
        }
        while self.has_more() && *budget != 0 {
            *budget -= 1;
            match self.queue.fetch(memory) {
                Ok(Asked::Work(work)) => {
                    self.given = Some(Given::Descriptor);
                    return Some(work);
                }
                Ok(Asked::Wait { status, has_event }) => {
                    if let Some((at, value)) = status {
                        // Where that is no memory of the guest's, nobody hears of it.
                        let _ = memory.write(at, &value.to_le_bytes());
                    }
                    if has_event && !self.completion.iwc() {
                        self.completion.set_iwc(true);
                        self.messages[1] = self.completion_event.happen().or(self.messages[1]);
                    }
                    self.queue.advance();
                }
                Err(error) => self.stop(error),
            }
        }
        None
    }

    /// Whether the queue holds something that is not stopped.
    pub fn has_more(&self) -> bool {
        self.status.qies() && !self.faults.is_queue_stopped() && !self.queue.is_empty()
    }

    /// A message to send.
    pub fn take_message(&mut self) -> Option<Message> {
        self.messages.iter_mut().find_map(Option::take)
    }

    /// How devices' addresses are translated from now on. Those that are there already follow by the work that
    /// [`Self::next`] gives out, and the guest is told after it.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Records that `source` was refused an access to `at`.
    pub fn refuse(&mut self, source: Bdf, at: memory::Iova, access: Access, refused: Refused) {
        if !refused.is_quiet {
            let page = at.raw() & !(PAGE_SIZE - 1);
            let news = self
                .faults
                .record(source, page, is_read(access), refused.reason);
            self.announce(news);
        }
    }

    /// Records that `source` was refused an interrupt.
    pub fn refuse_interrupt(&mut self, source: Bdf, blocked: Blocked) {
        if !blocked.is_quiet {
            let info = u64::from(blocked.index) << 48;
            let news = self.faults.record(source, info, false, blocked.reason);
            self.announce(news);
        }
    }

    /// What the guest's table makes of an interrupt of `source`. `None` if it is to be taken as it
    /// stands, in compatibility format.
    ///
    /// # Errors
    /// [`Blocked`] as a unit would block it.
    pub fn route(
        &self,
        memory: &impl GuestMemory,
        source: Bdf,
        request: Request,
        is_level: bool,
    ) -> Result<Option<Route>, Blocked> {
        if !self.status.ires() {
            return Ok(None);
        }
        let Some(index) = handle_of(request) else {
            // Section 5.1.4: extended mode blocks all of them.
            let is_let = self.status.cfis() && !self.remapping.is_wide;
            return if is_let {
                Ok(None)
            } else {
                Err(Blocked {
                    index: 0,
                    reason: Reason::COMPATIBILITY_BLOCKED,
                    is_quiet: false,
                })
            };
        };
        self.remapping
            .route(memory, source, index, is_level)
            .map(Some)
    }

    fn load(&self, at: u32) -> u32 {
        let half = |value: u64| (value >> (8 * (at & 4))) as u32;
        match at & !7 {
            offset::CAP => return half(capabilities(self.kind).0),
            offset::ECAP => return half(extended(self.width, self.kind).0),
            offset::RTADDR => return half(self.root.0),
            offset::CCMD => return half(self.contexts.0),
            offset::IQH => return half(u64::from(self.queue.head) << 4),
            offset::IQT => return half(self.queue.tail.0),
            offset::IQA => return half(self.queue.address.0),
            offset::IQERCD => return half(self.error.0),
            offset::IRTA => return half(self.interrupt_table.0),
            IVA => return 0,
            IOTLB => return half(self.iotlb.0),
            _ => {}
        }
        match at {
            offset::VER => version().0,
            offset::GSTS => self.status.0,
            offset::FSTS => self.faults.status(),
            offset::ICS => self.completion.0,
            RECORDS_START..RECORDS_END => {
                let into = (at - RECORDS_START) as usize;
                self.faults.read(into / 16, into % 16 / 4)
            }
            _ => match event_part(at) {
                Some((true, part)) => self.fault_event.read(part),
                Some((false, part)) => self.completion_event.read(part),
                None => 0,
            },
        }
    }

    fn store(&mut self, at: u32, value: u32) {
        let merge = |old: u64| {
            let shift = 8 * (at & 4);
            old & !(0xffff_ffff << shift) | u64::from(value) << shift
        };
        let is_high = at & 4 != 0;
        match at & !7 {
            offset::RTADDR => self.root = Rtaddr(merge(self.root.0)),
            offset::CCMD => {
                self.contexts = Ccmd(merge(self.contexts.0));
                if is_high && self.contexts.icc() {
                    self.invalidate_contexts();
                }
            }
            offset::IQT if !is_high => self.queue.tail = QueueIndex(value.into()),
            offset::IQA if !self.status.qies() => {
                self.queue.address = Iqa(merge(self.queue.address.0));
            }
            offset::IRTA => self.interrupt_table = Irta(merge(self.interrupt_table.0)),
            IVA => self.invalidate_address = merge(self.invalidate_address),
            IOTLB => {
                self.iotlb = Iotlb(merge(self.iotlb.0));
                if is_high && self.iotlb.ivt() {
                    self.invalidate_pages();
                }
            }
            _ => self.store_half(at, value),
        }
    }

    fn store_half(&mut self, at: u32, value: u32) {
        match at {
            offset::GCMD => self.command(Gcmd(value)),
            offset::FSTS => {
                self.faults.clear(value);
                self.attend();
            }
            offset::ICS => {
                self.completion
                    .set_iwc(self.completion.iwc() && !Ics(value).iwc());
                if !self.completion.iwc() {
                    self.completion_event.withdraw();
                }
            }
            RECORDS_START..RECORDS_END => {
                let into = (at - RECORDS_START) as usize;
                self.faults.write(into / 16, into % 16 / 4, value);
                self.attend();
            }
            _ => match event_part(at) {
                Some((true, part)) => {
                    self.messages[0] = self.fault_event.write(part, value).or(self.messages[0]);
                }
                Some((false, part)) => {
                    let message = self.completion_event.write(part, value);
                    self.messages[1] = message.or(self.messages[1]);
                }
                None => {}
            },
        }
    }

    /// Section 11.4.4: "software must only modify one field at a time".
    fn command(&mut self, wanted: Gcmd) {
        /// What stays as it is written, and what happens once.
        const LEVELS: u32 = 1 << 31 | 1 << 26 | 1 << 25 | 1 << 23;
        const ONCE: u32 = 1 << 30 | 1 << 24;
        let changed = (wanted.0 ^ self.status.0) & LEVELS | wanted.0 & ONCE;
        if changed.count_ones() != 1 || self.taken.is_some() {
            return;
        }
        let changed = Gcmd(changed);
        let table = self.interrupt_table;
        if changed.srtp() {
            if self.root.ttm() == ttm::LEGACY {
                self.status.set_rtps(false);
                self.taken = Some(Command::SetRoot);
            }
        } else if changed.te() {
            if !wanted.te() || self.status.rtps() && self.kind != Kind::Leaves {
                self.taken = Some(Command::Translate(wanted.te()));
            }
        } else if changed.sirtp() {
            if !table.eime() || self.width == Width::Wide {
                self.status.set_irtps(false);
                self.taken = Some(Command::SetInterruptTable);
            }
        } else if changed.ire() {
            if !wanted.ire() || self.status.irtps() {
                self.taken = Some(Command::Remap(wanted.ire()));
            }
        } else if changed.cfi() {
            self.taken = Some(Command::Compatibility(wanted.cfi()));
        } else {
            self.switch_queue(wanted.qie());
        }
    }

    /// Section 6.5.2: the tail is 0 when the queue is switched on, the queue is empty when it is
    /// switched off; 256-bit descriptors belong to scalable mode.
    fn switch_queue(&mut self, is_on: bool) {
        if is_on && (self.queue.address.dw() || self.queue.tail.index() != 0) {
            return;
        }
        if !is_on && !self.queue.is_empty() && !self.faults.is_queue_stopped() {
            return;
        }
        self.queue.head = 0;
        self.status.set_qies(is_on);
    }

    /// Section 11.4.5.1: not beside the queue, and nothing is done then.
    fn invalidate_contexts(&mut self) {
        let asked = self.contexts;
        let scope = queue::contexts(asked.cirg(), asked.did(), asked.sid(), asked.fm());
        match scope.filter(|_| !self.status.qies() && self.taken.is_none()) {
            Some(scope) => self.taken = Some(Command::Contexts(scope)),
            None => {
                self.contexts.set_caig(0);
                self.contexts.set_icc(false);
            }
        }
    }

    /// Section 11.4.6.1, the same.
    fn invalidate_pages(&mut self) {
        let asked = self.iotlb;
        let scope = queue::pages(asked.iirg(), asked.did(), self.invalidate_address);
        match scope.filter(|_| !self.status.qies() && self.taken.is_none()) {
            Some(scope) => self.taken = Some(Command::Pages(scope)),
            None => {
                self.iotlb.set_iaig(0);
                self.iotlb.set_ivt(false);
            }
        }
    }

    fn work_of(&mut self, command: Command) -> Work {
        match command {
            Command::SetRoot => {
                self.tables = Gpa::new(self.root.0 & TABLE);
                self.switch(self.status.tes())
            }
            Command::Translate(is_on) => self.switch(is_on),
            Command::SetInterruptTable => {
                self.remapping = Remapping {
                    base: Gpa::new(self.interrupt_table.0 & TABLE),
                    size: self.interrupt_table.s(),
                    is_wide: self.interrupt_table.eime(),
                };
                Work::Interrupts(Entries::ALL)
            }
            // What is asked for an interrupt while this is carried out is asked under the new rule.
            Command::Remap(is_on) => {
                self.status.set_ires(is_on);
                Work::Interrupts(Entries::ALL)
            }
            Command::Compatibility(is_let) => {
                self.status.set_cfis(is_let);
                Work::Interrupts(Entries::ALL)
            }
            Command::Contexts(scope) | Command::Pages(scope) => Work::Forget(scope),
        }
    }

    fn switch(&mut self, is_on: bool) -> Work {
        self.mode = if is_on {
            Mode::Tables(self.tables)
        } else {
            Mode::Physical
        };
        Work::Switch(self.mode)
    }

    /// What was given out is done: tells the guest.
    fn complete(&mut self, given: Given) {
        match given {
            Given::Descriptor => self.queue.advance(),
            Given::Command(Command::SetRoot) => self.status.set_rtps(true),
            Given::Command(Command::Translate(is_on)) => self.status.set_tes(is_on),
            Given::Command(Command::SetInterruptTable) => self.status.set_irtps(true),
            Given::Command(Command::Remap(_) | Command::Compatibility(_)) => {}
            Given::Command(Command::Contexts(_)) => {
                self.contexts.set_caig(self.contexts.cirg());
                self.contexts.set_icc(false);
            }
            Given::Command(Command::Pages(_)) => {
                self.iotlb.set_iaig(self.iotlb.iirg());
                self.iotlb.set_ivt(false);
            }
        }
    }

    fn stop(&mut self, error: Error) {
        self.error.set_iqei(error.0);
        let news = self.faults.stop_queue();
        self.announce(news);
    }

    fn announce(&mut self, news: News) {
        if news == News::Some {
            self.messages[0] = self.fault_event.happen().or(self.messages[0]);
        }
    }

    fn attend(&mut self) {
        if !self.faults.is_pending() {
            self.fault_event.withdraw();
        }
        if !self.faults.is_queue_stopped() {
            self.error = Iqercd(0);
        }
    }
}

/// Which event's register is at `at`: the fault event's, or the completion event's.
fn event_part(at: u32) -> Option<(bool, Part)> {
    Some(match at {
        offset::FECTL => (true, Part::Control),
        offset::FEDATA => (true, Part::Data),
        offset::FEADDR => (true, Part::Address),
        offset::FEUADDR => (true, Part::Upper),
        offset::IECTL => (false, Part::Control),
        offset::IEDATA => (false, Part::Data),
        offset::IEADDR => (false, Part::Address),
        offset::IEUADDR => (false, Part::Upper),
        _ => return None,
    })
}
