//! Message-signalled interrupts: what the guest programmed, and what the device was given for it.
//!
//! A device sends only handles of entries issued to it; the guest reads back what it wrote. What has a table
//! of them is in [`super::vectors`].

use heapless::Vec;
use pci::mediation::Msi;
use pci::topology::Speaker;
use pci::{Address, ConfigSpace, FunctionId};
use viommu::{Entries, Request, handle_of};
use vtd::remap::{Block, Objection, Refusal, Route};

use super::vectors::{Storage, Vectors};
use super::{Fabric, MAX_FUNCTIONS};
use crate::console::say;
use crate::limit::Once;
use crate::virtual_unit::Shared;

/// Devices whose interrupts were refused, by function and reason.
static REFUSED: Once<(Address, u8), 32> = Once::new();

/// What one function has of interrupts.
#[derive(Debug)]
pub(super) struct Messages {
    /// Where the function was when they were issued to it.
    pub(super) at: Option<Address>,
    /// The requester id that its messages carry: its own, or that of the bridge which speaks for it.
    source: Option<Address>,
    msi: Option<Block>,
    pub(super) msix: Option<Vectors>,
    /// Memory for a table, kept for whoever has this place next.
    pub(super) storage: Option<Storage>,
}

impl Messages {
    /// Of nobody.
    pub(super) const NONE: Self = Self {
        at: None,
        source: None,
        msi: None,
        msix: None,
        storage: None,
    };
}

impl Fabric {
    /// Starts afresh with the interrupts of a function that was just adopted at `at`.
    pub(super) fn adopt_messages(&mut self, id: FunctionId, at: Address) {
        self.drop_messages(id);
        // Where two could speak with one name, neither has an interrupt until it is clear whose it is.
        let source = self.source_of(id, at);
        if self.mediation.topology().speaker(source) != Speaker::Ambiguous {
            self.messages_are_of(id, at);
        }
        if let Some(layout) = self.mediation.msix(id) {
            self.make_table(id, at, usize::from(layout.entries));
            let decoded = self.mediation.decoded(id, layout.table.bar);
            self.place_table(id, decoded);
        }
        if let Some(msi) = self.mediation.msi(id).filter(|msi| msi.control.enable()) {
            self.program_msi(id, msi);
        }
    }

    /// Takes every interrupt of `id` back; its table, if it has one, is nowhere.
    pub(super) fn drop_messages(&mut self, id: FunctionId) {
        self.drop_signals(id);
        self.place_table(id, None);
        self.silence_messages(id);
        let messages = &mut self.messages[id.index()];
        messages.msix = None;
        messages.at = None;
    }

    /// Takes every interrupt of `id` back, as after a reset. Its table stays where it is.
    pub(super) fn reset_messages(&mut self, id: FunctionId) {
        self.drop_signals(id);
        self.silence_messages(id);
        if let Some(vectors) = &mut self.messages[id.index()].msix {
            vectors.table.reset();
            vectors.is_enabled = false;
        }
    }

    pub(super) fn silence_messages(&mut self, id: FunctionId) {
        let messages = &mut self.messages[id.index()];
        let Some(at) = messages.at else {
            return;
        };
        if let Some(block) = messages.msi.take() {
            self.remapping.retire(at.segment, block);
        }
        let blocks = messages.msix.iter_mut().flat_map(|v| v.blocks.iter_mut());
        for block in blocks.filter_map(Option::take) {
            self.remapping.retire(at.segment, block);
        }
    }

    /// Takes every interrupt of `id` back, and issues none until it is adopted anew.
    pub(super) fn end_messages(&mut self, id: FunctionId) {
        self.drop_signals(id);
        self.silence_messages(id);
        self.messages[id.index()].at = None;
    }

    fn source_of(&self, id: FunctionId, at: Address) -> Address {
        let alias = self.mediation.topology().alias(id);
        Address::new(at.segment, alias.unwrap_or(at.bdf))
    }

    fn messages_are_of(&mut self, id: FunctionId, at: Address) {
        let source = self.source_of(id, at);
        let messages = &mut self.messages[id.index()];
        (messages.at, messages.source) = (Some(at), Some(source));
    }

    /// Issues interrupts to the device anew if its requester id is another than they were issued to.
    pub(super) fn messages_follow(&mut self, id: FunctionId, at: Address) {
        let messages = &self.messages[id.index()];
        let is_same = messages.at == Some(at) && messages.source == Some(self.source_of(id, at));
        if is_same || self.is_quarantined(id) {
            return;
        }
        self.silence_messages(id);
        self.messages_are_of(id, at);
        self.renew_messages(id);
    }

    /// Issues what was taken back from the device, as the guest has programmed it by now.
    pub(super) fn renew_messages(&mut self, id: FunctionId) {
        if let Some(msi) = self.mediation.msi(id).filter(|msi| msi.control.enable()) {
            self.program_msi(id, msi);
        }
        self.sync_table(id);
    }

    /// Takes back what was issued to the function that was at `at`, for anybody but `speaker`, who has
    /// this name now: a device without a bus number keeps no interrupt that another could raise for it.
    pub(super) fn messages_leave(&mut self, at: Address, speaker: Option<FunctionId>) {
        let is_past =
            |id: &FunctionId| Some(*id) != speaker && self.messages[id.index()].at == Some(at);
        let past = self.mediation.topology().functions().map(|(id, _)| id);
        let past: Vec<FunctionId, 8> = past.filter(is_past).take(8).collect();
        for id in past {
            self.silence_messages(id);
            self.messages[id.index()].at = None;
        }
    }

    /// MSI was enabled, disabled or changed.
    pub(super) fn program_msi(&mut self, id: FunctionId, msi: Msi) {
        let Some(at) = self.messages[id.index()].at else {
            return;
        };
        let count = 1_u16 << msi.control.vectors_granted().min(5);
        let messages = &mut self.messages[id.index()];
        let is_kept = msi.control.enable()
            && messages
                .msi
                .as_ref()
                .is_some_and(|block| block.count() == count);
        if !is_kept && let Some(block) = messages.msi.take() {
            self.remapping.retire(at.segment, block);
        }
        if !msi.control.enable() {
            return self.drop_signals(id);
        }
        if self.messages[id.index()].msi.is_none() {
            match self.issue(id, count) {
                Ok(block) => self.messages[id.index()].msi = Some(block),
                Err(refusal) => {
                    if REFUSED.is_new((at, 0)) {
                        say!("device {at}: MSI stays silent: {refusal}");
                    }
                }
            }
        }
        let Some(block) = self.messages[id.index()].msi.take() else {
            // What is in the registers leads nowhere: nothing was issued.
            return self.store_message(id, 0, 0);
        };
        for number in 0..count {
            // The device replaces the low bits of the data by the number. PCI 3.0, 6.8.1.3.
            let data = numbered(msi.data, count, number);
            let mut refused = None;
            let route = match self.route_of(id, at, msi.address, data) {
                Ok(route) => Some(route),
                Err(Blocked::Objection(objection)) => {
                    if REFUSED.is_new((at, 1)) {
                        say!("device {at}: MSI {number}: {objection}");
                        say!("@refused bdf={at} register=msi reason=\"{objection}\"");
                    }
                    None
                }
                Err(Blocked::ByGuest(blocked)) => {
                    refused = Some(blocked);
                    None
                }
            };
            let route = self.program_signal(id, number, route);
            self.refuse_signal(id, number, refused);
            if let Err(refusal) = self.remapping.route(at.segment, &block, number, route)
                && REFUSED.is_new((at, 2))
            {
                say!("device {at}: MSI {number}: {refusal}");
            }
        }
        let message = if count == 1 {
            block.message(0).unwrap_or(block.messages())
        } else {
            block.messages()
        };
        self.messages[id.index()].msi = Some(block);
        self.store_message(id, message.address, message.data);
    }

    fn store_message(&mut self, id: FunctionId, address: u64, data: u32) {
        for store in self.mediation.program_msi(id, address, data) {
            self.space.write(store.at, store.register, store.value);
        }
    }

    pub(super) fn issue(&mut self, id: FunctionId, count: u16) -> Result<Block, Refusal> {
        let source = self.messages[id.index()].source;
        source.map_or(Err(Refusal::Full), |at| self.remapping.issue(at, count))
    }

    /// What a message that the guest programmed into `id`, which is at `at`, asks for.
    pub(super) fn route_of(
        &self,
        id: FunctionId,
        at: Address,
        address: u64,
        data: u32,
    ) -> Result<Route, Blocked> {
        if let Some(unit) = self.virtual_unit_of(at) {
            let request = Request::Message { address, data };
            let source = self.messages[id.index()].source.unwrap_or(at);
            match unit.route(source, request, false) {
                Ok(Some(route)) => return Ok(route),
                Ok(None) => {}
                Err(blocked) => return Err(Blocked::ByGuest(blocked)),
            }
        }
        Route::of_message(address, data).map_err(Blocked::Objection)
    }

    /// What the guest programmed for the message of `id` that the device sends with this handle.
    pub(super) fn asked_with(&self, id: FunctionId, handle: u16) -> Option<Request> {
        let block = self.messages[id.index()].msi.as_ref()?;
        let msi = self.mediation.msi(id)?;
        let number = (0..block.count()).find(|number| {
            let message = block.message(*number).map(|m| (m.address, m.data));
            let request = message.map(|(address, data)| Request::Message { address, data });
            request.and_then(handle_of) == Some(handle)
        })?;
        Some(Request::Message {
            address: msi.address,
            data: numbered(msi.data, block.count(), number),
        })
    }

    /// The guest changed some of the interrupt entries of `unit`: what leads to them is translated again.
    pub(super) fn translate_again(&mut self, unit: &Shared, entries: Entries) {
        let ids = self.mediation.topology().functions().map(|(id, _)| id);
        let ids: Vec<FunctionId, MAX_FUNCTIONS> = ids.collect();
        for id in ids {
            let at = self.messages[id.index()].at;
            let in_front = at.and_then(|at| self.virtual_unit_of(at));
            if in_front.is_none_or(|in_front| !core::ptr::eq(in_front, unit)) {
                continue;
            }
            if let Some(msi) = self.mediation.msi(id).filter(|msi| msi.control.enable()) {
                self.program_msi(id, msi);
            }
            let table = &self.messages[id.index()].msix;
            let count = table.as_ref().map_or(0, |v| v.table.len() as u16);
            for index in 0..count {
                self.translate_vector_again(id, index, entries);
            }
        }
    }
}

/// Why a message leads nowhere.
pub(super) enum Blocked {
    /// It is none that a device may send.
    Objection(Objection),
    /// The guest's own table does not let it.
    ByGuest(viommu::Blocked),
}

/// The data of message `number` out of `count`.
fn numbered(data: u32, count: u16, number: u16) -> u32 {
    data & !(u32::from(count) - 1) | u32::from(number)
}
