//! Whose turn it is: queues with requests to fetch, first come, first served.

/// Queues at most.
pub(crate) const MOST: usize = 64;

/// The queues that have something to fetch, each once.
#[derive(Debug)]
pub(crate) struct Turns {
    order: [u8; MOST],
    first: usize,
    count: usize,
    members: u64,
}

impl Turns {
    pub(crate) const NEW: Self = Self {
        order: [0; MOST],
        first: 0,
        count: 0,
        members: 0,
    };

    /// Whose turn it is.
    pub(crate) fn first(&self) -> Option<usize> {
        (self.count != 0).then(|| usize::from(self.order[self.first]))
    }

    /// Whether somebody else waits.
    pub(crate) fn are_several(&self) -> bool {
        self.count > 1
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(crate) fn contains(&self, queue: usize) -> bool {
        self.members >> queue & 1 != 0
    }

    /// `queue` has something: behind those who came before, but the admin queue before all.
    pub(crate) fn join(&mut self, queue: usize) {
        if self.contains(queue) {
            return;
        }
        self.members |= 1 << queue;
        let at = if queue == 0 {
            self.first = (self.first + MOST - 1) % MOST;
            self.first
        } else {
            (self.first + self.count) % MOST
        };
        self.order[at] = queue as u8;
        self.count += 1;
    }

    /// Who is first has nothing more, or cannot go on.
    fn leave(&mut self) {
        if let Some(queue) = self.first() {
            self.members &= !(1 << queue);
            self.first = (self.first + 1) % MOST;
            self.count -= 1;
        }
    }

    /// `queue` is gone.
    pub(crate) fn remove(&mut self, queue: usize) {
        if self.first() == Some(queue) {
            return self.leave();
        }
        for _ in 0..self.count {
            let Some(first) = self.first() else { return };
            self.leave();
            if first != queue {
                let at = (self.first + self.count) % MOST;
                self.order[at] = first as u8;
                self.members |= 1 << first;
                self.count += 1;
            }
        }
    }
}
