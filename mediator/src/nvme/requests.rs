//! What the device was given: the identifier it was told, whose request it is, which pages it
//! was lent.

use bounce::{FromDevice, Lent, ToDevice, Window};

use super::completion::Then;

/// One request that the device has, or room for one.
#[derive(Debug)]
pub struct Request {
    given: Option<Given>,
    next: u16,
}

impl Request {
    /// Room for a request.
    pub const NEW: Self = Self {
        given: None,
        next: NONE,
    };
}

/// A request that the device has.
#[derive(Debug)]
pub(super) struct Given {
    pub(super) submission: usize,
    pub(super) completion: usize,
    /// The queue of the device's in which it is.
    pub(super) through: usize,
    /// The guest's identifier.
    pub(super) id: u16,
    pub(super) loan: Loan,
    /// Where the device reaches the guest's whole pages, if it does.
    pub(super) run: Option<Lent<Window>>,
    pub(super) then: Then,
    /// Whether it counts among what is soon over.
    pub(super) is_prompt: bool,
    /// Whether its submission queue is gone: nobody waits for it any more.
    pub(super) is_orphan: bool,
}

impl Given {
    /// A request without bytes: the guest's `id` of `queue`, which completes where that of the same number does.
    pub(super) fn of(queue: usize, id: u16, then: Then) -> Self {
        Self {
            submission: queue,
            completion: queue,
            through: queue,
            id,
            loan: Loan::Nothing,
            run: None,
            then,
            is_prompt: false,
            is_orphan: false,
        }
    }
}

/// The pages of a request.
#[derive(Debug)]
pub(super) enum Loan {
    Nothing,
    ToDevice(Lent<ToDevice>),
    FromDevice(Lent<FromDevice>),
}

/// No request. No identifier either: FFFFh means something else in an error log.
const NONE: u16 = u16::MAX;

/// Every request that the device has; its identifier is its place.
#[derive(Debug)]
pub(super) struct Requests<'a> {
    entries: &'a mut [Request],
    free: u16,
    given: u32,
}

impl<'a> Requests<'a> {
    pub(super) fn new(entries: &'a mut [Request]) -> Self {
        let count = entries.len().min(usize::from(NONE));
        let entries = &mut entries[..count];
        let mut free = NONE;
        for (index, entry) in entries.iter_mut().enumerate().rev() {
            *entry = Request {
                given: None,
                next: free,
            };
            free = index as u16;
        }
        Self {
            entries,
            free,
            given: 0,
        }
    }

    pub(super) fn has_room(&self) -> bool {
        self.free != NONE
    }

    /// Whether half of all may be given yet.
    pub(super) fn is_half_free(&self) -> bool {
        self.given as usize <= self.entries.len() / 2
    }

    /// How many the device has.
    pub(super) fn given_count(&self) -> u32 {
        self.given
    }

    /// Gives it an identifier.
    ///
    /// # Panics
    /// If there is no room.
    pub(super) fn give(&mut self, given: Given) -> u16 {
        let id = self.free;
        let entry = &mut self.entries[usize::from(id)];
        self.free = entry.next;
        entry.given = Some(given);
        self.given += 1;
        id
    }

    /// Every request that it has.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Given> {
        self.entries.iter().filter_map(|entry| entry.given.as_ref())
    }

    /// The request that the device knows as `id`.
    pub(super) fn find(&self, id: u16) -> Option<&Given> {
        self.entries.get(usize::from(id))?.given.as_ref()
    }

    /// The identifier of the guest's request `id` of `submission`.
    pub(super) fn known_as(&self, submission: usize, id: u16) -> Option<u16> {
        let of_it = |entry: &Request| {
            entry.given.as_ref().is_some_and(|given| {
                given.submission == submission && given.id == id && !given.is_orphan
            })
        };
        Some(self.entries.iter().position(of_it)? as u16)
    }

    /// The request is over.
    #[inline(always)]
    pub(super) fn end(&mut self, id: u16) -> Option<Given> {
        let entry = self.entries.get_mut(usize::from(id))?;
        let given = entry.given.take()?;
        entry.next = self.free;
        self.free = id;
        self.given -= 1;
        Some(given)
    }

    /// Ends the next request from place `from` on for which `is_over` holds.
    pub(super) fn end_next(
        &mut self,
        from: &mut u16,
        is_over: impl Fn(&Given) -> bool,
    ) -> Option<Given> {
        while let Some(entry) = self.entries.get(usize::from(*from)) {
            let id = *from;
            *from += 1;
            if entry.given.as_ref().is_some_and(&is_over) {
                return self.end(id);
            }
        }
        None
    }

    /// The next request of `submission`, from place `from` on, is nobody's any more; returns what
    /// it was lent. Its identifier stays taken.
    pub(super) fn orphan_next(
        &mut self,
        from: &mut u16,
        submission: usize,
    ) -> Option<(Loan, Option<Lent<Window>>)> {
        while let Some(entry) = self.entries.get_mut(usize::from(*from)) {
            *from += 1;
            let is_its = |given: &&mut Given| given.submission == submission && !given.is_orphan;
            if let Some(given) = entry.given.as_mut().filter(is_its) {
                given.is_orphan = true;
                let loan = core::mem::replace(&mut given.loan, Loan::Nothing);
                return Some((loan, given.run.take()));
            }
        }
        None
    }
}
