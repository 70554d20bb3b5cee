//! Base address registers of ports: where a device may decode them, and when.
//!
//! Owns the rule of placement for ports, which is that of memory: registers hold what the guest
//! wrote, in the device too, and the device decodes ports only while the guest wants it and every
//! register of ports lies where it may.

use super::decision::{Decision, Reason, Verdict};
use super::guarded::Guarded;
use super::{COMMAND, Mediation, Write, pass, without_memory};
use crate::bars::{Bar, Decode, Kind};
use crate::spec::header::Command;
use crate::{Address, FunctionId, Ports};

impl<const N: usize> Mediation<N> {
    /// Switches decoding of ports on in one function that was kept off and may now be on.
    pub(super) fn settle_ports(&mut self) -> Option<Decision> {
        let (id, at) = self.all_guarded().find_map(|(id, g)| {
            let waits = g.wanted.io_space() && !g.is_decoding_ports();
            let at = self.reachable(id).filter(|_| waits)?;
            self.refusal_of_ports(id, g).is_none().then_some((id, at))
        })?;
        let mut decision = Decision::new(Verdict::Pass);
        self.switch_ports_on(id, at, &mut decision);
        Some(decision)
    }

    /// Takes a write to a register of ports.
    pub(super) fn write_port_bar(&mut self, write: Write) -> Decision {
        let Write {
            id, at, register, ..
        } = write;
        let Some(guarded) = self.guarded_mut(id) else {
            return Decision::new(Verdict::Drop(Reason::Unknown));
        };
        let was_on = guarded.is_decoding_ports();
        let mut is_moved = false;
        for bar in &mut guarded.bars {
            let before = bar.ports();
            if bar.write(register, write.value) {
                is_moved = before != bar.ports();
                break;
            }
        }
        if !guarded.wanted.io_space() || (was_on && !is_moved) {
            return pass(write);
        }
        guarded.real = without_ports(guarded.real);
        let quiet = without_memory(guarded.real);
        let refusal = self.guarded(id).and_then(|g| self.refusal_of_ports(id, g));
        let mut decision = Decision::new(Verdict::Pass);
        if was_on {
            decision.store(at, COMMAND, u32::from(quiet.raw()));
        }
        decision.store(at, register, write.value);
        match refusal {
            None => self.switch_ports_on(id, at, &mut decision),
            Some(reason) => {
                decision.verdict = Verdict::Withhold(reason);
                self.go_on(id, at, &mut decision);
            }
        }
        decision
    }

    fn switch_ports_on(&mut self, id: FunctionId, at: Address, decision: &mut Decision) {
        if let Some(guarded) = self.guarded_mut(id) {
            guarded.real.set_io_space(true);
            guarded.store_command(at, decision);
        }
    }

    /// Why `id` may not decode ports now, if so.
    pub(super) fn refusal_of_ports(&self, id: FunctionId, guarded: &Guarded) -> Option<Reason> {
        let mut bars = guarded.bars.iter().filter(|bar| bar.kind() == Kind::Io);
        bars.find_map(|bar| {
            if !bar.is_placed() {
                return Some(Reason::Unplaced { bar: bar.index() });
            }
            match bar.ports() {
                Some(ports) => self.admit_ports(id, guarded, ports).err(),
                None => Some(Reason::BeyondPorts { bar: bar.index() }),
            }
        })
    }

    fn admit_ports(&self, id: FunctionId, guarded: &Guarded, ports: Ports) -> Result<(), Reason> {
        if !guarded.inherited_ports.contains(&ports) {
            self.keepouts.admit_ports(ports)?;
        }
        for (by, other) in self.all_guarded() {
            if by != id && other.decoded_ports().any(|taken| taken.overlap(ports)) {
                let at = ports.first();
                return Err(Reason::PortsTaken { at, by });
            }
        }
        Ok(())
    }
}

impl Guarded {
    /// Whether the function decodes ports as far as we know.
    pub(super) fn is_decoding_ports(&self) -> bool {
        self.real.io_space() || self.decode == Decode::Fixed
    }

    /// All ports it decodes as far as we know.
    pub(super) fn decoded_ports(&self) -> impl Iterator<Item = Ports> {
        let own = self.bars.iter().filter(|_| self.is_decoding_ports());
        own.filter_map(Bar::ports)
    }
}

/// A command register that leaves ports alone.
pub(super) fn without_ports(command: Command) -> Command {
    Command::new(command.raw() & !Command::IO_SPACE)
}
