//! Command register and base address registers: what decodes, and where.
//!
//! Owns the one rule of placement. Base address registers hold what the guest wrote, in the
//! device too; memory decoding is on in the device only while the guest wants it and every
//! register of the function lies where it may. So all ones during sizing, and any order of
//! moving devices about, work as on bare hardware, and nothing ever decodes where it must not.

use memory::{ByteRange, Hpa};

use super::decision::{Decision, Effect, Reason, Verdict};
use super::guarded::Guarded;
use super::port_space::without_ports;
use super::{COMMAND, Mediation, Write, pass, without_memory};
use crate::bars::{Bar, Bars, Decode, Kind};
use crate::config::{ConfigSpace, Register};
use crate::spec::header::{self, Command};
use crate::topology::Layout;
use crate::{Address, FunctionId};

impl<const N: usize> Mediation<N> {
    /// Switches decoding on in one function that was kept off and may now be on, as its
    /// neighbour has moved away. `None` when there is none left.
    pub fn settle(&mut self) -> Option<Decision> {
        self.settle_memory().or_else(|| self.settle_ports())
    }

    fn settle_memory(&mut self) -> Option<Decision> {
        let (id, at) = self.all_guarded().find_map(|(id, g)| {
            let waits = g.wanted.memory_space() && !g.is_decoding();
            let at = self.reachable(id).filter(|_| waits)?;
            self.refusal(id, g).is_none().then_some((id, at))
        })?;
        let mut decision = Decision::new(Verdict::Pass);
        self.switch_on(id, at, &Bars::new(), &mut decision);
        Some(decision)
    }

    pub(super) fn write_command(&mut self, space: &impl ConfigSpace, write: Write) -> Decision {
        let Write { id, register, .. } = write;
        if write.low_lanes() == 0 {
            return pass(write);
        }
        let Some(guarded) = self.guarded_mut(id) else {
            return Decision::new(Verdict::Drop(Reason::Unknown));
        };
        let before = guarded.wanted;
        let wanted = register.merge(u32::from(before.raw()), write.value) as u16;
        guarded.wanted = Command::new(wanted);
        if write.low_lanes() & 0xff == 0 {
            let real = guarded.real.raw() & 0x00ff | wanted & 0xff00;
            guarded.real = Command::new(real);
            return pass(write);
        }
        let guarded = &*guarded;
        let mut decision = Decision::new(Verdict::Pass);
        let is_on = guarded.wanted.bus_master();
        if guarded.trust == super::Trust::Untrusted
            && guarded.layout == Layout::Endpoint
            && before.bus_master() != is_on
        {
            let function = id;
            decision.obey(Effect::BusMasterRequested { function, is_on });
        }
        let real = self.admissible(id, &mut decision);
        self.apply_command(space, write, real, &mut decision);
        decision
    }

    /// The command the device may have now; what is withheld becomes the verdict.
    fn admissible(&self, id: FunctionId, decision: &mut Decision) -> Command {
        let Some(guarded) = self.guarded(id) else {
            return Command::default();
        };
        let mut real = guarded.wanted;
        if real.bus_master() && guarded.is_withheld() {
            real.set_bus_master(false);
            let reason = match guarded.is_stopped {
                true => Reason::Stopped,
                false => Reason::Unbound,
            };
            decision.verdict = Verdict::Withhold(reason);
        }
        if real.memory_space()
            && guarded.decode == Decode::Switchable
            && let Some(reason) = self.refusal(id, guarded)
        {
            real = without_memory(real);
            decision.verdict = Verdict::Withhold(reason);
        }
        if real.io_space()
            && guarded.decode == Decode::Switchable
            && let Some(reason) = self.refusal_of_ports(id, guarded)
        {
            real = without_ports(real);
            decision.verdict = Verdict::Withhold(reason);
        }
        real
    }

    fn apply_command(
        &mut self,
        space: &impl ConfigSpace,
        write: Write,
        real: Command,
        decision: &mut Decision,
    ) {
        let Write {
            id, at, register, ..
        } = write;
        let keepouts = &self.keepouts;
        let Some(guarded) = self.guarded.get_mut(id.index()).and_then(Option::as_mut) else {
            return;
        };
        let was_on = guarded.is_decoding();
        let is_switchable = guarded.decode == Decode::Switchable;
        // A reset we did not see (a link that went down) leaves registers without addresses.
        let present = space.read_u16(at, header::COMMAND);
        let decoding = Command::MEMORY_SPACE | Command::IO_SPACE;
        let is_lost = real.raw() & !present & decoding != 0;
        let starts_ports = real.io_space() && !guarded.is_decoding_ports();
        let starts = real.memory_space() && !was_on || starts_ports;
        if is_switchable && (starts || is_lost) {
            guarded.store_bars(at, decision);
            if let Some(windows) = &guarded.windows
                && let Err(reason) = windows.apply(keepouts, at, decision)
            {
                decision.verdict = Verdict::Withhold(reason);
            }
            if let Some(window) = &guarded.port_window
                && let Err(reason) = window.apply(keepouts, at, decision)
            {
                decision.verdict = Verdict::Withhold(reason);
            }
        }
        if real.memory_space() && is_switchable && !was_on {
            moved(id, &Bars::new(), &guarded.bars, decision);
        }
        let dword = write.spread() & 0xffff_0000 | u32::from(real.raw());
        decision.store(at, register, register.extract(dword));
        guarded.real = real;
        if !real.memory_space() && is_switchable && was_on {
            moved(id, &guarded.bars, &Bars::new(), decision);
        }
    }

    pub(super) fn write_bar(&mut self, write: Write) -> Decision {
        let Write {
            id, at, register, ..
        } = write;
        let Some(guarded) = self.guarded_mut(id) else {
            return Decision::new(Verdict::Drop(Reason::Unknown));
        };
        if guarded.decode == Decode::Fixed {
            return Decision::new(Verdict::Drop(Reason::FixedDecode));
        }
        match guarded.bar_at(register.dword_offset()) {
            None => return Decision::new(Verdict::Drop(Reason::ReadOnly)),
            Some(bar) if !guarded.shows(bar) => {
                return Decision::new(Verdict::Drop(Reason::Rom));
            }
            Some(bar) if bar.kind() == Kind::Io => return self.write_port_bar(write),
            Some(_) => {}
        }
        let before = guarded.bars.clone();
        for bar in &mut guarded.bars {
            if bar.write(register, write.value) {
                break;
            }
        }
        let was_on = guarded.is_decoding();
        let is_moved = before
            .iter()
            .map(Bar::memory)
            .ne(guarded.bars.iter().map(Bar::memory));
        if !guarded.wanted.memory_space() || (was_on && !is_moved) {
            return pass(write);
        }
        guarded.real = without_memory(guarded.real);
        let quiet = without_ports(guarded.real);
        let refusal = self.guarded(id).and_then(|g| self.refusal(id, g));
        let mut decision = Decision::new(Verdict::Pass);
        if was_on {
            decision.store(at, COMMAND, u32::from(quiet.raw()));
        }
        decision.store(at, register, write.value);
        let before = if was_on { before } else { Bars::new() };
        match refusal {
            None => self.switch_on(id, at, &before, &mut decision),
            Some(reason) => {
                moved(id, &before, &Bars::new(), &mut decision);
                decision.verdict = Verdict::Withhold(reason);
                self.go_on(id, at, &mut decision);
            }
        }
        decision
    }

    /// Switches decoding on after it was off; `before` is what decoded until a moment ago.
    fn switch_on(&mut self, id: FunctionId, at: Address, before: &Bars, decision: &mut Decision) {
        let Some(guarded) = self.guarded_mut(id) else {
            return;
        };
        moved(id, before, &guarded.bars, decision);
        guarded.real.set_memory_space(true);
        guarded.store_command(at, decision);
    }

    /// Has the function do what it may after everything was off for a moment.
    pub(super) fn go_on(&self, id: FunctionId, at: Address, decision: &mut Decision) {
        if let Some(guarded) = self.guarded(id) {
            guarded.store_command(at, decision);
        }
    }

    /// Why `id` may not decode memory now, if so.
    pub(super) fn refusal(&self, id: FunctionId, guarded: &Guarded) -> Option<Reason> {
        let mut bars = guarded
            .bars
            .iter()
            .filter(|bar| bar.kind() != Kind::Io && guarded.shows(bar));
        bars.find_map(|bar| {
            if !bar.is_placed() {
                return Some(Reason::Unplaced { bar: bar.index() });
            }
            let range = bar.memory()?;
            self.admit(id, guarded, range).err()
        })
    }

    /// Whether `id` may decode `range`.
    pub(super) fn admit(
        &self,
        id: FunctionId,
        guarded: &Guarded,
        range: ByteRange<Hpa>,
    ) -> Result<(), Reason> {
        if !guarded.inherited.contains(&range) {
            self.keepouts.admit(range)?;
        }
        for (by, other) in self.all_guarded() {
            if by != id && other.decoded().any(|taken| taken.overlaps(&range)) {
                let at = range.start();
                return Err(Reason::Taken { at, by });
            }
        }
        Ok(())
    }
}

impl Guarded {
    /// Gives the device the command it may have, and before it the addresses the guest wrote: a
    /// reset nobody saw may have taken them.
    pub(super) fn store_command(&self, at: Address, decision: &mut Decision) {
        let decodes = self.real.memory_space() || self.real.io_space();
        if decodes && self.decode == Decode::Switchable {
            self.store_bars(at, decision);
        }
        decision.store(at, COMMAND, u32::from(self.real.raw()));
    }

    fn store_bars(&self, at: Address, decision: &mut Decision) {
        for bar in self.bars.iter().filter(|bar| self.shows(bar)) {
            for (offset, dword) in bar.dwords() {
                decision.store(at, Register::dword(offset), dword);
            }
        }
    }
}

/// Says of each register what it decoded and what it will.
fn moved(function: FunctionId, before: &Bars, after: &Bars, decision: &mut Decision) {
    let find = |bars: &Bars, index| bars.iter().find(|bar| bar.index() == index)?.memory();
    let most = if after.is_empty() { before } else { after };
    for bar in most.iter().map(Bar::index) {
        let (from, to) = (find(before, bar), find(after, bar));
        if from != to {
            decision.obey(Effect::BarMoved {
                function,
                bar,
                from,
                to,
            });
        }
    }
}
