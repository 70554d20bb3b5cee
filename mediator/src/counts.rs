//! What a mediator counts: the price of each request, in events and bytes.

use core::fmt;
use core::ops::AddAssign;

/// Events and bytes since the device was bound.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Counts {
    /// Requests that the device was given.
    pub requests: u64,
    /// Requests that were answered without the device, or refused.
    pub answered: u64,
    /// Requests whose completion the guest was shown.
    pub completed: u64,
    /// Bytes of requests copied from the guest's memory.
    pub bytes_in: u64,
    /// Bytes of requests copied to the guest's memory.
    pub bytes_out: u64,
    /// Bytes of queue entries and lists read and written for requests.
    pub entry_bytes: u64,
    /// How often a request had to wait for pages.
    pub held_back: u64,
    /// Interrupts that the guest was sent.
    pub interrupts: u64,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.requests += other.requests;
        self.answered += other.answered;
        self.completed += other.completed;
        self.bytes_in += other.bytes_in;
        self.bytes_out += other.bytes_out;
        self.entry_bytes += other.entry_bytes;
        self.held_back += other.held_back;
        self.interrupts += other.interrupts;
    }
}

impl fmt::Display for Counts {
    /// As `key=value`, for the console's protocol.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "requests={} answered={} completed={} bytes-in={} bytes-out={} entry-bytes={} \
             held-back={} interrupts={}",
            self.requests,
            self.answered,
            self.completed,
            self.bytes_in,
            self.bytes_out,
            self.entry_bytes,
            self.held_back,
            self.interrupts
        )
    }
}
