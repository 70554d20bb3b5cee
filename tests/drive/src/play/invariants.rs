//! What must hold after every call of the mediator.

use bounce::rehearsal::{Behind, Touch, most};
use memory::{ByteRange, Gpa, PAGE_SIZE};

use super::Play;
use crate::driver::Asked;
use crate::memory_map;

impl Play<'_> {
    /// "No guest byte outside the extents of a request that the guest made is ever written", and
    /// none is read that is not a request's, a queue's or a list's.
    pub(super) fn check_touches(&mut self, touches: &[Touch]) {
        for touch in touches {
            match *touch {
                Touch::CopiedIn(range, _) => {
                    self.moved[0] += range.len();
                    assert!(self.may_copy(range, false), "{touch:?}");
                }
                Touch::CopiedOut(_, range) => {
                    self.moved[1] += range.len();
                    assert!(self.may_copy(range, true), "{touch:?}");
                }
                Touch::Wrote(range) => {
                    let is_reply = memory_map::rings().covers(&range) || self.is_in_buffers(range);
                    self.moved[1] += if is_reply { 0 } else { range.len() };
                    assert!(is_reply || self.may_copy(range, true), "{touch:?}");
                }
                Touch::Read(range) => assert!(self.may_read(range), "{touch:?}"),
                Touch::Loaded(_) | Touch::Stored(_) | Touch::Scrubbed(_) => {}
            }
        }
        if !self.parties.guest_harms {
            let fetched = touches.iter().filter_map(Touch::fetched);
            let fetched = fetched.filter(|range| !self.is_in_buffers(*range));
            assert!(most(fetched) <= 1, "fetched twice: {touches:?}");
        }
    }

    /// Whether the bytes are those of a request that is under way.
    fn may_copy(&self, range: ByteRange<Gpa>, is_to_guest: bool) -> bool {
        if self.parties.guest_harms && memory_map::wild().covers(&range) {
            return true;
        }
        let mut asked = self.driver.asked.iter().chain(&self.named);
        asked.any(|asked| asked.is_to_guest == is_to_guest && asked.covers(range))
    }

    fn may_read(&self, range: ByteRange<Gpa>) -> bool {
        if self.parties.guest_harms {
            return !memory_map::untouched().overlaps(&range);
        }
        let is_list = (0..memory_map::SLOTS).any(|slot| {
            let [first, second] = memory_map::lists(slot);
            first <= range.start().raw() && range.last().raw() < second + PAGE_SIZE
        });
        is_list || memory_map::rings().covers(&range) || self.is_in_buffers(range)
    }

    fn is_in_buffers(&self, range: ByteRange<Gpa>) -> bool {
        let [first, second] = memory_map::doorbells();
        first <= range.start().raw() && range.last().raw() < second + PAGE_SIZE
    }

    /// What the device reaches of the guest's are whole pages of requests that are under way, and
    /// it reaches its own pages in no other way than ever.
    pub(super) fn check_reach(&mut self) {
        let arena = self.stage.sides.arena();
        for (at, behind) in self.stage.sides.mapped() {
            let guests = |page| ByteRange::new(page, PAGE_SIZE).expect("a page");
            let own = |page| ByteRange::new(page, PAGE_SIZE).expect("a page");
            let may_reach = |page, is_to_guest| {
                let range = guests(page);
                let fades = |asked: &Asked| asked.is_to_guest == is_to_guest && asked.covers(range);
                self.may_copy(range, is_to_guest) || self.fading.iter().any(fades)
            };
            let is_right = match behind {
                Behind::GuestRead(page) => may_reach(page, false),
                Behind::GuestWritten(page) => may_reach(page, true),
                Behind::OwnRead(page) => arena.readable().covers(&own(page)),
                Behind::OwnWritten(page) => arena.writable().covers(&own(page)),
            };
            assert!(is_right, "at {at} the device reaches {behind:?}");
            self.tally.reached += 1;
        }
    }
}
