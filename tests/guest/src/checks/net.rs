//! A network card sends what it was given and delivers what arrived, and what each exchange costs.
//!
//! Owns the load: frames of many lengths, a few on the way at once; then single exchanges, counted.
//! On the other end of the wire somebody returns each frame to its sender with every byte of its
//! payload inverted, so that no byte that stayed at home passes for one that came back. Knows no
//! protocol above frames.

mod frames;

use crate::noise::Noise;
use crate::toll::Toll;
use crate::verdict::{Figures, Shortfall, Verdict, ensure};
use frames::{Frames, PAYLOAD_MAX, PAYLOAD_MIN};
use std::time::Instant;

const SEED: u64 = 0x6574_6865;
/// Frames of [`run`], and how many are on the way at once.
const FRAMES: u64 = 2_000;
const BURST: u64 = 8;
/// Exchanges before counting begins, and while it lasts.
const WARMING: u64 = 200;
const COUNTED: u64 = 2_000;
/// Payload of a counted exchange.
const COUNTED_BYTES: usize = 1024;

/// Sends frames of every length and verifies every byte of what comes back.
pub(super) fn run(figures: &mut Figures) -> Verdict {
    let frames = Frames::open()?;
    let mut verified = 0;
    for burst in 0..FRAMES / BURST {
        let numbers = burst * BURST..(burst + 1) * BURST;
        for number in numbers.clone() {
            frames.send(&payload(number))?;
        }
        for number in numbers {
            verified += exchange(&frames, &payload(number))?;
        }
    }
    figures.tell("net.verified-bytes", verified);
    Ok(())
}

/// Exchanges single frames and tells the cost of each.
pub(super) fn exchanges(figures: &mut Figures) -> Verdict {
    let frames = Frames::open()?;
    let mut verified = one_by_one(&frames, WARMING)?;
    let (toll, began) = (Toll::begin(), Instant::now());
    verified += one_by_one(&frames, COUNTED)?;
    let took = began.elapsed();
    toll.tell(figures, "exchanges", COUNTED);
    figures.tell("exchanges.requests", COUNTED);
    figures.tell("exchanges.verified-bytes", verified);
    figures.tell("exchanges.ns", took.as_nanos() / u128::from(COUNTED));
    Ok(())
}

fn one_by_one(frames: &Frames, count: u64) -> Result<usize, Shortfall> {
    let mut payload = Noise::new(SEED).bytes(COUNTED_BYTES);
    let mut verified = 0;
    for number in 0..count {
        payload[..8].copy_from_slice(&number.to_le_bytes());
        frames.send(&payload)?;
        verified += exchange(frames, &payload)?;
    }
    Ok(verified)
}

/// Receives the next frame and demands that it is the answer to `sent`. Gives its length.
fn exchange(frames: &Frames, sent: &[u8]) -> Result<usize, Shortfall> {
    let came = frames.receive()?;
    let expected = sent.iter().map(|byte| !byte);
    // The wire pads what is shorter than its shortest frame.
    let is_it = came.len() >= sent.len() && came.iter().copied().zip(expected).all(|(a, b)| a == b);
    ensure!(
        is_it,
        "{} bytes were sent and {} others came back",
        sent.len(),
        came.len()
    );
    Ok(sent.len())
}

fn payload(number: u64) -> Vec<u8> {
    let length = PAYLOAD_MIN + (number * 37) as usize % (PAYLOAD_MAX - PAYLOAD_MIN + 1);
    Noise::new(SEED ^ number << 20).bytes(length)
}
