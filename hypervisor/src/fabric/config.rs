//! Configuration space as the guest reaches it: each access is put to the model, and what the model
//! decides is done, in order.

use heapless::Vec;
use memory::{ByteRange, Gpa};
use pci::access::DATA_PORT;
use pci::mediation::{Effect, Reason, Step, Verdict};
use pci::spec::header;
use pci::{Address, ConfigSpace, Decision, FunctionId, Latch, Register};

use super::binding::REGISTERS;
use super::{Fabric, MAX_FUNCTIONS};
use crate::console::say;
use crate::limit::Once;

/// Registers of devices for which a refusal was reported.
static REFUSED: Once<(Address, u16), 64> = Once::new();

/// Functions whose MSI-X table is to agree with the guest's once the decision is carried out.
type Refreshed = Vec<FunctionId, 8>;

impl Fabric {
    /// Reads `to` at `range` for the guest, if it is configuration space.
    pub(super) fn read_window(&mut self, range: ByteRange<Gpa>, to: &mut [u8]) -> bool {
        let Some(window) = self.window_at(range) else {
            return false;
        };
        let mut value = u64::MAX;
        for piece in &window.decode(range.start(), to.len() as u8) {
            value = piece.place(value, self.read_register(piece.at, piece.register));
        }
        to.copy_from_slice(&value.to_le_bytes()[..to.len()]);
        true
    }

    /// Writes `from` at `range` for the guest, if it is configuration space.
    pub(super) fn write_window(&mut self, range: ByteRange<Gpa>, from: &[u8]) -> bool {
        let Some(window) = self.window_at(range) else {
            return false;
        };
        let mut value = [0; 8];
        value[..from.len()].copy_from_slice(from);
        let value = u64::from_le_bytes(value);
        for piece in &window.decode(range.start(), from.len() as u8) {
            self.write_register(piece.at, piece.register, piece.value_of(value));
        }
        true
    }

    fn window_at(&self, range: ByteRange<Gpa>) -> Option<pci::Ecam> {
        let windows = self.space.windows().iter();
        windows
            .copied()
            .find(|window| window.range().contains(range.start()))
    }

    /// Reads `bytes` bytes of ports from `port` on for the guest. `None` where configuration space
    /// does not answer.
    pub(crate) fn read_port(&mut self, port: u16, bytes: u8) -> Option<u32> {
        if Latch::answers(port, bytes) {
            return Some(self.latch.read());
        }
        if !(DATA_PORT..DATA_PORT + 4).contains(&port) {
            return None;
        }
        let mut value = u64::from(u32::MAX);
        for piece in &self.latch.decode(port, bytes) {
            value = piece.place(value, self.read_register(piece.at, piece.register));
        }
        Some(value as u32)
    }

    /// Writes `bytes` bytes of `value` to ports from `port` on for the guest. Returns whether
    /// configuration space took them.
    pub(crate) fn write_port(&mut self, port: u16, bytes: u8, value: u32) -> bool {
        if Latch::answers(port, bytes) {
            self.latch.write(value);
            return true;
        }
        if !(DATA_PORT..DATA_PORT + 4).contains(&port) {
            return false;
        }
        for piece in &self.latch.decode(port, bytes) {
            let value = piece.value_of(u64::from(value));
            self.write_register(piece.at, piece.register, value);
        }
        true
    }

    fn read_register(&mut self, at: Address, register: Register) -> u32 {
        if register.dword_offset() == header::IDENTITY {
            self.look_who_is_there(at);
        }
        self.look_for_virtual(at);
        self.mediation.read(&self.space, at, register)
    }

    fn write_register(&mut self, at: Address, register: Register, value: u32) {
        self.look_for_virtual(at);
        let decision = self.mediation.write(&self.space, at, register, value);
        let verdict = decision.verdict;
        self.carry_out(&decision);
        // A refusal may have gone with this write for as many functions as there are.
        for _ in 0..MAX_FUNCTIONS {
            let Some(decision) = self.mediation.settle() else {
                break;
            };
            self.carry_out(&decision);
        }
        self.tell(at, register, value, verdict);
        self.look_behind(at);
    }

    pub(super) fn carry_out(&mut self, decision: &Decision) {
        let mut refreshed = Refreshed::new();
        for step in &decision.steps {
            match *step {
                Step::Store(store) => self.space.write(store.at, store.register, store.value),
                Step::Obey(effect) => self.obey(effect, &mut refreshed),
            }
        }
        for function in refreshed {
            self.sync_table(function);
        }
        self.cut_exposed();
    }

    fn obey(&mut self, effect: Effect, refreshed: &mut Refreshed) {
        match effect {
            Effect::ContextsFollow { segment, bus } => self.follow(segment, bus),
            Effect::BarMoved {
                function, bar, to, ..
            } => {
                self.registers_moved(function, bar, to);
                let layout = self.mediation.msix(function);
                if layout.is_some_and(|layout| layout.table.bar == bar) {
                    self.place_table(function, to);
                    // At most one function's registers change by one decision.
                    let _ = refreshed.push(function);
                }
            }
            Effect::MsiChanged { function, msi } => self.program_msi(function, msi),
            Effect::MsixChanged {
                function,
                is_enabled,
                ..
            } => {
                self.switch_msix(function, is_enabled);
                let _ = refreshed.push(function);
            }
            Effect::Reset { function } => self.after_reset(function),
            Effect::ResetBehind { bridge } => {
                let behind: Vec<FunctionId, MAX_FUNCTIONS> =
                    self.mediation.topology().behind(bridge).collect();
                for function in behind {
                    self.after_reset(function);
                }
                if let Some(segment) = self.mediation.topology().segment(bridge) {
                    for bus in self.remapping.buses(segment) {
                        self.follow(segment, bus);
                    }
                }
            }
            Effect::VirtualFunctionsAppear { function, .. } => self.virtuals_appear(function),
            Effect::VirtualFunctionsVanish { function } => self.virtuals_vanish(function),
            // The model keeps untrusted devices to which nothing is bound from mastering.
            Effect::BusMasterRequested { .. } => {}
        }
    }

    fn after_reset(&mut self, function: FunctionId) {
        self.reset_binding(function);
        // After a true reset nothing is decoded; a function that woke may decode what it did.
        let decoded = self.mediation.decoded(function, REGISTERS);
        self.registers_moved(function, REGISTERS, decoded);
        self.virtuals_vanish(function);
        self.reset_messages(function);
        let table = self.mediation.msix(function);
        let table = table.and_then(|layout| self.mediation.decoded(function, layout.table.bar));
        self.place_table(function, table);
    }

    /// Makes what each requester of a bus reaches agree with who speaks with its number today.
    fn follow(&mut self, segment: u16, bus: u8) {
        for devfn in 0..=255 {
            let at = Address::new(segment, pci::Bdf::from_parts(bus, devfn));
            let (reach, function) = self.reach_of(at);
            self.give(at, reach);
            self.messages_leave(at, function);
            if let Some(function) = function {
                self.messages_follow(function, at);
                self.translate_for(function, at);
            }
        }
        // A bridge may speak for others with a number of this bus.
        let topology = self.mediation.topology();
        let behind = topology.functions().filter_map(|(id, _)| {
            let own = topology.address(id).filter(|own| own.segment == segment)?;
            let alias = topology.alias(id)?;
            (alias.bus() == bus && alias != own.bdf).then_some((id, own))
        });
        let behind: Vec<(FunctionId, Address), MAX_FUNCTIONS> = behind.collect();
        for (function, at) in behind {
            self.messages_follow(function, at);
        }
    }

    fn tell(&mut self, at: Address, register: Register, value: u32, verdict: Verdict) {
        self.record(at, register, value);
        let (Verdict::Drop(reason) | Verdict::Withhold(reason)) = verdict else {
            return;
        };
        let is_ordinary = matches!(
            reason,
            Reason::Unknown | Reason::ReadOnly | Reason::FixedDecode | Reason::Unplaced { .. }
        );
        if is_ordinary || !REFUSED.is_new((at, register.dword_offset())) {
            return;
        }
        let offset = register.offset();
        say!("device {at}: write of {value:#x} to {offset:#x} has no effect: {reason}");
        say!("@refused bdf={at} register={offset:#x} reason=\"{reason}\"");
    }
}
