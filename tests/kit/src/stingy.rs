//! Frames that run out.

use memory::{Flushed, Frame, Frames, Hpa, OutOfFrames};

/// A pool that has no more than it was given, whatever the one behind it has.
#[derive(Debug)]
pub struct StingyFrames<Pool> {
    pool: Pool,
    left: usize,
}

impl<Pool: Frames> StingyFrames<Pool> {
    /// Lends `left` frames of `pool` and no more.
    pub fn new(pool: Pool, left: usize) -> Self {
        Self { pool, left }
    }

    /// How many frames are left.
    pub fn left(&self) -> usize {
        self.left
    }

    /// Changes how many frames are left.
    pub fn allow(&mut self, left: usize) {
        self.left = left;
    }

    /// The pool behind.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }
}

impl<Pool: Frames> Frames for StingyFrames<Pool> {
    fn take(&mut self) -> Result<Frame, OutOfFrames> {
        self.left = self.left.checked_sub(1).ok_or(OutOfFrames)?;
        self.pool.take()
    }

    fn read(&self, table: Hpa, index: usize) -> u64 {
        self.pool.read(table, index)
    }

    fn publish(&mut self, table: Hpa, index: usize, word: u64) {
        self.pool.publish(table, index, word);
    }

    fn give_back(&mut self, frame: Frame, proof: &Flushed) {
        self.pool.give_back(frame, proof);
        self.left += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RecordingFrames;

    #[test]
    fn the_pool_has_exactly_what_it_was_given() {
        let mut frames = StingyFrames::new(RecordingFrames::new(), 2);
        assert!(frames.take().is_ok());
        assert!(frames.take().is_ok());
        assert_eq!(frames.take(), Err(OutOfFrames));
        assert_eq!(frames.pool().taken(), 2);
    }
}
