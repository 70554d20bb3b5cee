//! The run loop of one processor.

use instruction::Memo;
use processor::mtrr::Shadow;
use processor::{Order, Reason};

use crate::backend::{Backend, Event, Exit};
use crate::cpu::area::Area;
use crate::cpu::{apic, instructions};
use crate::exits::{cpuid, end, msr, nested, port, xsetbv};
use crate::machine::{Machine, NESTED_TABLES};
use crate::{epitaph, fabric, mediated};

/// One processor and what it needs to answer its guest.
pub(crate) struct Runner<B> {
    pub(crate) cpu: B,
    pub(crate) area: &'static Area,
    pub(crate) machine: &'static Machine,
    /// Waits for a start-up message.
    is_waiting: bool,
    /// The guest has turned its local APIC off; the real one is on.
    pub(crate) is_apic_off: bool,
    /// The memory type range registers as the guest knows them.
    pub(crate) memory_types: Shadow,
    pub(crate) decoded: Memo,
}

impl<B: Backend> Runner<B> {
    /// A processor that waits for a start-up message.
    pub(crate) fn waiting(cpu: B, area: &'static Area, machine: &'static Machine) -> Self {
        Self::new(cpu, area, machine, true)
    }

    /// The processor that the guest starts on.
    pub(crate) fn first(mut cpu: B, area: &'static Area, machine: &'static Machine) -> Self {
        cpu.start_as(&machine.handoff.guest);
        Self::new(cpu, area, machine, false)
    }

    fn new(cpu: B, area: &'static Area, machine: &'static Machine, is_waiting: bool) -> Self {
        msr::forget_supervisor_states();
        Self {
            cpu,
            area,
            machine,
            is_waiting,
            is_apic_off: false,
            memory_types: Shadow::of(|index| instructions::read_msr(index).unwrap_or(0)),
            decoded: Memo::NEW,
        }
    }

    /// Runs the guest for ever.
    pub(crate) fn run(mut self) -> ! {
        loop {
            self.obey();
            while self.is_waiting {
                self.cpu.sleep();
                self.sort_nmis();
                self.obey();
            }
            if self.area.enter_guest(&NESTED_TABLES) {
                self.cpu.forget_translations();
            }
            let exit = self.cpu.run();
            self.area.leave_guest();
            self.area.counters.count(reason(&exit));
            self.answer(exit);
            self.look_again_at_faults();
            self.look_at_mute_devices();
        }
    }

    /// Does what other processors have ordered.
    fn obey(&mut self) {
        if epitaph::is_written() {
            instructions::stop();
        }
        if self.area.mailbox.is_empty() {
            return;
        }
        match self.area.mailbox.take(self.is_waiting) {
            Order::None => {}
            Order::Wait => self.init(),
            Order::Start { vector } => {
                self.init();
                self.cpu.start_at(vector);
                self.is_waiting = false;
            }
        }
    }

    /// What an INIT signal does. The first processor does not wait but starts at the reset vector,
    /// as the processor that booted the machine does (SDM vol. 3A, 9.4.4).
    fn init(&mut self) {
        apic::reset_as_by_init();
        self.cpu.reset();
        self.is_waiting = self.area.index() != 0;
    }

    fn answer(&mut self, exit: Exit) {
        match exit {
            Exit::Cpuid => cpuid::answer(self),
            Exit::ReadMsr => msr::read(self),
            Exit::WriteMsr => msr::write(self),
            Exit::Port(access) => port::answer(self, access),
            Exit::Nested(fault) => nested::answer(self, fault),
            Exit::Nmi => {
                if self.sort_nmis() {
                    self.cpu.inject(Event::Nmi);
                }
            }
            Exit::Settled(_) => {}
            Exit::Init => self.init(),
            Exit::Hypercall | Exit::Virtualization => self.cpu.inject(Event::InvalidOpcode),
            Exit::InvalidateCaches => {
                instructions::write_back_caches();
                self.advance();
            }
            Exit::ExtendedControl => xsetbv::answer(self),
            Exit::Shutdown => end::triple_fault(self),
            Exit::Refused { code, detail } => end::entry_refused(self, code, detail),
            Exit::Failed { code, detail } => end::unknown_exit(self, code, detail),
        }
    }

    /// Units that were not to announce faults for a while are looked at when the time has come.
    fn look_again_at_faults(&mut self) {
        if self.area.index() != 0 || !fabric::are_faults_hushed() {
            return;
        }
        let looked = self.machine.fabric.map(|fabric| fabric.lock().look_again());
        match looked.unwrap_or(fabric::Looked::Nothing) {
            fabric::Looked::Nothing => {}
            fabric::Looked::Done | fabric::Looked::Again => self.allow_late_nmi(),
            fabric::Looked::More => {
                self.allow_late_nmi();
                call(self.area);
            }
        }
    }

    /// Devices whose interrupts do not come for a while are looked at all the same.
    fn look_at_mute_devices(&mut self) {
        if self.area.index() != 0 || !fabric::are_mute() {
            return;
        }
        mediated::look(self.machine, self.area);
        if let Some(fabric) = self.machine.fabric {
            fabric.lock().unmute_in_time();
        }
    }

    /// Goes behind the instruction that caused the exit.
    pub(crate) fn advance(&mut self) {
        let len = self
            .cpu
            .instruction_len()
            .or_else(|| crate::emulation::current_len(self));
        // Without a length the guest has changed the instruction meanwhile: it runs what it put there.
        if let Some(len) = len {
            self.cpu.skip(len);
        }
    }
}

/// Calls another processor out of the guest, so that it looks at its orders.
pub(crate) fn call(other: &Area) {
    if other.call() {
        apic::send(apic::Signal::Nmi, other.apic_id());
    }
}

/// Under which reason an exit is counted.
fn reason(exit: &Exit) -> Reason {
    match exit {
        Exit::Nested(fault) if apic::page().is_some_and(|page| page.contains(fault.address)) => {
            Reason::Apic
        }
        other => other.reason(),
    }
}
