//! A flush that remembers what it flushed, and can fail to finish.

use memory::{Flush, TimedOut};

/// Flushes at once and keeps a list, unless told to time out.
#[derive(Debug)]
pub struct RecordingFlush<Scope> {
    flushed: Vec<Scope>,
    failures: usize,
}

impl<Scope> Default for RecordingFlush<Scope> {
    fn default() -> Self {
        Self::new()
    }
}

impl<Scope> RecordingFlush<Scope> {
    /// A flush that always finishes.
    pub fn new() -> Self {
        Self::failing(0)
    }

    /// A flush that times out `failures` times before it finishes.
    pub fn failing(failures: usize) -> Self {
        Self {
            flushed: Vec::new(),
            failures,
        }
    }

    /// What was flushed, oldest first. Attempts that timed out are not in it.
    pub fn flushed(&self) -> &[Scope] {
        &self.flushed
    }
}

impl<Scope: Clone> Flush<Scope> for RecordingFlush<Scope> {
    fn flush(&mut self, scope: &Scope) -> Result<(), TimedOut> {
        if let Some(left) = self.failures.checked_sub(1) {
            self.failures = left;
            return Err(TimedOut);
        }
        self.flushed.push(scope.clone());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use memory::Stale;

    #[test]
    fn a_debt_that_timed_out_is_settled_by_the_next_attempt() {
        let mut flush = RecordingFlush::failing(1);
        let (debt, TimedOut) = Stale::new("all").settle(&mut flush).unwrap_err();
        assert!(flush.flushed().is_empty());
        assert!(debt.settle(&mut flush).is_ok());
        assert_eq!(flush.flushed(), ["all"]);
    }
}
