//! What the mediator finds of the machine.

use bounce::{Pages, Part};
use memory::{ByteRange, Gpa, GuestMemory, Hole, Iova};

use super::{DeviceQueue, Fake, MEMORY, window};
use crate::{Lie, Notice, Reach, World};

impl GuestMemory for Fake {
    #[inline(never)]
    fn read(&self, at: Gpa, to: &mut [u8]) -> Result<(), Hole> {
        let range = ByteRange::new(at, to.len() as u64).expect("bytes");
        if !self.is_memory(range) {
            return Err(Hole(range));
        }
        to.copy_from_slice(&self.guest.borrow()[at.raw() as usize..][..to.len()]);
        Ok(())
    }

    #[inline(never)]
    fn write(&self, at: Gpa, from: &[u8]) -> Result<(), Hole> {
        let range = ByteRange::new(at, from.len() as u64).expect("bytes");
        if !self.is_memory(range) {
            return Err(Hole(range));
        }
        self.guest.borrow_mut()[at.raw() as usize..][..from.len()].copy_from_slice(from);
        Ok(())
    }
}

impl Fake {
    fn own(&self, at: Iova, bytes: usize) -> core::ops::Range<usize> {
        let offset = self.arena.offset(at, bytes as u64);
        let offset = offset.expect("a page of ours") as usize;
        offset..offset + bytes
    }
}

impl Pages for Fake {
    #[inline(never)]
    fn is_memory(&self, range: ByteRange<Gpa>) -> bool {
        range.last().raw() < MEMORY as u64 && !self.hole.is_some_and(|hole| hole.overlaps(&range))
    }

    #[inline(never)]
    fn copy_in(&mut self, from: ByteRange<Gpa>, to: Iova) -> Result<(), Hole> {
        let own = self.own(to, from.len() as usize);
        assert!(
            self.arena.part(Part::ToDevice).contains(to),
            "bytes of requests go to the device here"
        );
        if !self.is_memory(from) {
            return Err(Hole(from));
        }
        let guest = self.guest.borrow();
        self.pages[own.clone()].copy_from_slice(&guest[from.start().raw() as usize..][..own.len()]);
        Ok(())
    }

    #[inline(never)]
    fn copy_out(&mut self, from: Iova, to: ByteRange<Gpa>) -> Result<(), Hole> {
        let own = self.own(from, to.len() as usize);
        self.write(to.start(), &self.pages[own])
    }

    #[inline(never)]
    fn load(&self, at: Iova, to: &mut [u8]) {
        to.copy_from_slice(&self.pages[self.own(at, to.len())]);
    }

    #[inline(never)]
    fn load_u64(&self, at: Iova) -> u64 {
        let mut bytes = [0; 8];
        self.load(at, &mut bytes);
        u64::from_le_bytes(bytes)
    }

    #[inline(never)]
    fn store(&mut self, at: Iova, from: &[u8]) {
        let own = self.own(at, from.len());
        self.pages[own].copy_from_slice(from);
    }

    #[inline(never)]
    fn scrub(&mut self, at: ByteRange<Iova>) {
        let own = self.own(at.start(), at.len() as usize);
        self.pages[own].fill(0);
    }
}

impl World for Fake {
    #[inline(never)]
    fn load_register(&self, offset: u32) -> u32 {
        match offset {
            0x00 => self.capabilities as u32,
            0x04 => (self.capabilities >> 32) as u32,
            0x08 => self.version,
            0x14 => self.cc,
            0x1c if self.is_gone => u32::MAX,
            0x1c => u32::from(self.is_ready),
            _ => panic!("a load of {offset:#x}"),
        }
    }

    #[inline(never)]
    fn store_register(&mut self, offset: u32, value: u32) {
        let low = |base: u64| base >> 32 << 32 | u64::from(value);
        let high = |base: u64| base & 0xffff_ffff | u64::from(value) << 32;
        match offset {
            0x14 => {
                let was_enabled = core::mem::replace(&mut self.cc, value) & 1;
                if value & 1 == 1 && was_enabled == 0 {
                    let queue = |base, entries| DeviceQueue {
                        base,
                        entries: (entries & 0xfff) + 1,
                        phase: true,
                        is_there: true,
                        ..DeviceQueue::default()
                    };
                    self.submissions.fill(DeviceQueue::default());
                    self.completions.fill(DeviceQueue::default());
                    self.submissions[0] = queue(self.asq, self.aqa);
                    self.completions[0] = queue(self.acq, self.aqa >> 16);
                    self.given.clear();
                    self.events.clear();
                    self.is_ready = true;
                }
            }
            0x24 => self.aqa = value,
            0x28 => self.asq = low(self.asq),
            0x2c => self.asq = high(self.asq),
            0x30 => self.acq = low(self.acq),
            0x34 => self.acq = high(self.acq),
            0x1000.. => {
                self.rung += 1;
                let index = (offset - 0x1000) / 8;
                let queues = if index.is_multiple_of(2) {
                    &mut self.submissions
                } else {
                    &mut self.completions
                };
                queues[index as usize / 2].doorbell = value;
            }
            _ => panic!("a store to {offset:#x}"),
        }
    }

    #[inline(never)]
    fn map(&mut self, at: Iova, page: Reach) -> bool {
        assert!(window().contains(at) && at.page_offset() == 0);
        let (Reach::ReadGuest(page_at) | Reach::WriteGuest(page_at)) = page else {
            return self.mapped.insert(at.raw(), page).is_none();
        };
        let range = ByteRange::new(page_at, 4096).expect("a page");
        range.is_page_aligned() && self.is_memory(range) && {
            self.mapped.insert(at.raw(), page).is_none()
        }
    }

    #[inline(never)]
    fn unmap(&mut self, range: ByteRange<Iova>) {
        assert!(window().covers(&range) && range.is_page_aligned());
        self.mapped.retain(|at, _| !range.contains(Iova::new(*at)));
    }

    #[inline(never)]
    fn is_announced(&self) -> bool {
        !self.is_mute
    }

    #[inline(never)]
    fn linger(&mut self) -> bool {
        let Some(left) = self.patience.checked_sub(1) else {
            return false;
        };
        self.patience = left;
        if left == 0 {
            self.run();
        }
        true
    }

    #[inline(never)]
    fn raise(&mut self, vector: u16) -> bool {
        if !self.is_masked {
            self.raised.push(vector);
        }
        !self.is_masked
    }

    #[inline(never)]
    fn tell(&mut self, notice: Notice) {
        self.notices.push(notice);
    }

    #[inline(never)]
    fn cut_off(&mut self, lie: Lie) {
        self.lie = Some(lie);
    }
}
