//! Pages taken ahead of a change, so that the change cannot run out half-way.
//!
//! Owns the chain of pages that nobody but us has seen. Knows nothing of tables: what a drawn
//! page becomes is its holder's business.

use crate::{Flushed, Frame, Frames, Hpa, OutOfFrames};

/// Pages that were taken from a pool and that no walker was ever shown.
///
/// Because nothing was shown, what is left over goes back without a flush. All calls on one
/// reserve must name the pool it was taken from.
#[must_use = "pages in a dropped reserve are lost to their pool"]
#[derive(PartialEq, Eq, Debug)]
pub struct Reserve {
    first: Hpa,
    left: usize,
}

impl Reserve {
    /// Takes `count` pages, or none at all.
    // The pages are chained through their own first words: no walker reads them yet, and a
    // reserve of any size then needs no storage of its own.
    pub fn take(frames: &mut impl Frames, count: usize) -> Result<Self, OutOfFrames> {
        let mut reserve = Self {
            first: Hpa::new(0),
            left: 0,
        };
        while reserve.left < count {
            let Ok(frame) = frames.take() else {
                reserve.release(frames);
                return Err(OutOfFrames);
            };
            frames.publish(frame.base(), 0, reserve.first.raw());
            reserve.first = frame.base();
            reserve.left += 1;
        }
        Ok(reserve)
    }

    /// How many pages are left.
    pub fn left(&self) -> usize {
        self.left
    }

    /// Hands out one page, filled with zeros, or `None` when all were handed out.
    pub fn draw(&mut self, frames: &mut impl Frames) -> Option<Frame> {
        self.left = self.left.checked_sub(1)?;
        let frame = Frame::new(self.first).expect("a reserve chains whole frames");
        self.first = Hpa::new(frames.read(frame.base(), 0));
        frames.publish(frame.base(), 0, 0);
        Some(frame)
    }

    /// Gives back what was not drawn.
    pub fn release(mut self, frames: &mut impl Frames) {
        while let Some(frame) = self.draw(frames) {
            frames.give_back(frame, &Flushed::NEVER_SHOWN);
        }
    }
}
