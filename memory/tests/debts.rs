//! What is owed to caches, and frames that never owed anything.

use kit::{RecordingFlush, RecordingFrames, StingyFrames};
use memory::{Frames, OutOfFrames, Reserve, Stale, TimedOut};

#[test]
fn a_debt_is_settled_by_flushing_its_scope() {
    let mut flush = RecordingFlush::new();
    assert!(Stale::new(7).settle(&mut flush).is_ok());
    assert_eq!(flush.flushed(), [7]);
}

#[test]
fn a_flush_that_times_out_hands_the_debt_back_whole() {
    let mut flush = RecordingFlush::failing(1);
    let (debt, error) = Stale::new(7).settle(&mut flush).unwrap_err();
    assert_eq!((debt.scope(), error), (&7, TimedOut));
}

#[test]
fn a_widened_debt_is_settled_by_the_wider_flush() {
    let mut flush = RecordingFlush::new();
    let debt = Stale::new(7).map(|page| (page, "everything"));
    assert!(debt.settle(&mut flush).is_ok());
    assert_eq!(flush.flushed(), [(7, "everything")]);
}

#[test]
fn a_reserve_is_all_or_nothing() {
    for left in 0..5 {
        let mut frames = StingyFrames::new(RecordingFrames::new(), left);
        assert_eq!(Reserve::take(&mut frames, 5), Err(OutOfFrames));
        assert_eq!(frames.left(), left);
    }
}

#[test]
fn a_reserve_gives_each_frame_once_and_filled_with_zeros() {
    let mut frames = RecordingFrames::new();
    let mut reserve = Reserve::take(&mut frames, 3).unwrap();
    let mut bases = Vec::new();
    while let Some(frame) = reserve.draw(&mut frames) {
        assert!((0..512).all(|index| frames.read(frame.base(), index) == 0));
        bases.push(frame.base());
    }
    bases.sort();
    bases.dedup();
    assert_eq!(bases.len(), 3);
    assert_eq!(reserve.left(), 0);
}

#[test]
fn what_was_not_drawn_goes_back_without_a_flush() {
    let mut frames = RecordingFrames::new();
    let mut reserve = Reserve::take(&mut frames, 3).unwrap();
    assert!(reserve.draw(&mut frames).is_some());
    reserve.release(&mut frames);
    assert_eq!(frames.taken(), 1);
}

#[test]
fn a_reserve_of_nothing_needs_nothing() {
    let mut frames = StingyFrames::new(RecordingFrames::new(), 0);
    let mut reserve = Reserve::take(&mut frames, 0).unwrap();
    assert_eq!(reserve.draw(&mut frames), None);
    reserve.release(&mut frames);
}
