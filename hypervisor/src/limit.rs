//! Limits on what a guest can make the console say.

use spin::mutex::TicketMutex;

use crate::console::say;

/// Remembers what was reported: each value once, the first `N` values.
#[derive(Debug)]
pub(crate) struct Once<T, const N: usize>(TicketMutex<heapless::Vec<T, N>>);

impl<T: PartialEq, const N: usize> Once<T, N> {
    /// Nothing was reported yet.
    pub(crate) const fn new() -> Self {
        Self(TicketMutex::new(heapless::Vec::new()))
    }

    /// Whether `value` is to be reported now.
    pub(crate) fn is_new(&self, value: T) -> bool {
        let mut seen = self.0.lock();
        if seen.contains(&value) || seen.push(value).is_err() {
            return false;
        }
        if seen.is_full() {
            say!("the next line is the last of its kind: {N} were told");
        }
        true
    }
}

/// Counts what was reported: each of the first `N` values, a few times.
#[derive(Debug)]
pub(crate) struct Few<T, const N: usize>(TicketMutex<heapless::Vec<(T, u32), N>>);

impl<T: PartialEq, const N: usize> Few<T, N> {
    /// Nothing was reported yet.
    pub(crate) const fn new() -> Self {
        Self(TicketMutex::new(heapless::Vec::new()))
    }

    /// Whether `value` is to be reported now: the first `most` times.
    pub(crate) fn is_one(&self, value: T, most: u32) -> bool {
        let mut seen = self.0.lock();
        if let Some((_, count)) = seen.iter_mut().find(|(known, _)| *known == value) {
            *count = count.saturating_add(1);
            return *count <= most;
        }
        seen.push((value, 1)).is_ok()
    }
}
