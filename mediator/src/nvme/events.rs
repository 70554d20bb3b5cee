//! Asynchronous events: section 5.2.
//!
//! The guest's requests are kept here, and the device has as many of ours, so that an event of
//! ours finds a request to answer whatever the device does.

use super::Nvme;
use super::completion::Then;
use super::plan::{Extent, Plan};
use super::spec::{Command, Status};
use crate::World;

/// Requests for events that the guest may have outstanding.
pub(super) const LIMIT: usize = 4;

/// What the guest did to a doorbell: Asynchronous Event Information of an error event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum DoorbellError {
    /// "Write to Invalid Doorbell Register."
    Register = 0,
    /// "Invalid Doorbell Write Value."
    Value = 1,
}

/// Who waits for events, and which events wait for somebody.
#[derive(Debug)]
pub(super) struct Events {
    waiting: [u16; LIMIT],
    waiting_count: usize,
    kept: [u32; LIMIT],
    kept_count: usize,
    /// Requests that the device has.
    asked: usize,
}

impl Events {
    pub(super) const NEW: Self = Self {
        waiting: [0; LIMIT],
        waiting_count: 0,
        kept: [0; LIMIT],
        kept_count: 0,
        asked: 0,
    };

    pub(super) fn clear(&mut self) {
        *self = Self::NEW;
    }

    /// Who waits longest.
    fn next_waiting(&mut self) -> Option<u16> {
        let first = *self.waiting[..self.waiting_count].first()?;
        self.waiting.copy_within(1.., 0);
        self.waiting_count -= 1;
        Some(first)
    }

    /// What was kept longest.
    fn next_kept(&mut self) -> Option<u32> {
        let first = *self.kept[..self.kept_count].first()?;
        self.kept.copy_within(1.., 0);
        self.kept_count -= 1;
        Some(first)
    }

    /// Requests for events that the device has.
    pub(super) fn asked(&self) -> u32 {
        self.asked as u32
    }

    /// Keeps an event until somebody asks; of one kind, one.
    fn keep(&mut self, event: u32) {
        if self.kept_count < LIMIT && !self.kept[..self.kept_count].contains(&event) {
            self.kept[self.kept_count] = event;
            self.kept_count += 1;
        }
    }
}

impl Nvme<'_> {
    /// The guest asks for an event.
    pub(super) fn plan_event_request(&mut self, command: &Command) -> Result<Plan, Status> {
        let events = &mut self.events;
        if let Some(event) = events.next_kept() {
            return Ok(Plan::Answer(Status::SUCCESS, event));
        }
        let count = events.waiting_count;
        let place = events.waiting.get_mut(count);
        *place.ok_or(Status::EVENT_REQUEST_LIMIT_EXCEEDED)? = command.id();
        events.waiting_count += 1;
        if events.asked >= events.waiting_count {
            return Ok(Plan::Keep);
        }
        events.asked += 1;
        Ok(Plan::pass_then(Extent::Nothing, Then::Event))
    }

    /// The device answered one of the requests that it has.
    pub(super) fn event_from_device(&mut self, world: &mut impl World, status: Status, event: u32) {
        self.events.asked = self.events.asked.saturating_sub(1);
        if let Some(id) = self.events.next_waiting() {
            self.show(world, 0, id, status, [event, 0]);
        } else if status.is_success() {
            self.events.keep(event);
        }
    }

    /// The guest wrote what no doorbell takes: an error event, section 5.2.1.
    pub(super) fn report(&mut self, world: &mut impl World, error: DoorbellError) {
        const ERROR_LOG: u32 = 0x01 << 16;
        let event = ERROR_LOG | (error as u32) << 8;
        if !self.queues[0].completion.has_room() {
            return self.events.keep(event);
        }
        match self.events.next_waiting() {
            Some(id) => {
                self.show(world, 0, id, Status::SUCCESS, [event, 0]);
                self.raise(world);
            }
            None => self.events.keep(event),
        }
    }
}
