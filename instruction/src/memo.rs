//! The instructions that were decoded last.
//!
//! Owns nothing but a saving: a guest rings the same few doorbells from the same few places. What
//! an instruction means follows from its bytes and the size of code alone, so that what is
//! remembered is never stale.

use crate::{
    bytes::Bytes,
    decode::{Undecodable, decode},
    instruction::{Bits, Instruction},
};

/// Instructions that are remembered.
const PLACES: usize = 4;

/// One that is.
#[derive(Clone, Copy, Debug)]
struct Known {
    bytes: Bytes,
    bits: Bits,
    instruction: Instruction,
}

/// The instructions that were decoded last, of one processor.
#[derive(Debug)]
pub struct Memo {
    known: [Option<Known>; PLACES],
    next: usize,
}

impl Memo {
    /// Nothing was decoded yet.
    pub const NEW: Self = Self {
        known: [None; PLACES],
        next: 0,
    };

    /// The same as [`decode`] of `bytes`.
    ///
    /// # Errors
    ///
    /// As [`decode`].
    pub fn decode(&mut self, bytes: &Bytes, bits: Bits) -> Result<Instruction, Undecodable> {
        let mut known = self.known.iter().flatten();
        match known.find(|known| known.bits == bits && known.bytes == *bytes) {
            Some(known) => Ok(known.instruction),
            None => self.learn(bytes, bits),
        }
    }

    #[cold]
    fn learn(&mut self, bytes: &Bytes, bits: Bits) -> Result<Instruction, Undecodable> {
        let instruction = decode(bytes, bits)?;
        self.known[self.next] = Some(Known {
            bytes: *bytes,
            bits,
            instruction,
        });
        self.next = (self.next + 1) % PLACES;
        Ok(instruction)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_remembered_is_what_would_be_decoded(
            codes in prop::collection::vec((any::<[u8; 3]>(), 0..4_u8, any::<bool>()), 1..60),
        ) {
            let mut memo = Memo::NEW;
            for (noise, which, is_long) in codes {
                // MOV to memory, and whatever else the bytes are.
                let code = match which {
                    0 => [0x89, 0x02, noise[0] % 2],
                    1 => [0x8b, 0x02, 0],
                    2 => [0x66, 0x89, 0x02],
                    _ => noise,
                };
                let bits = if is_long { Bits::Bits64 } else { Bits::Bits16 };
                let bytes = Bytes::first_of(&code);
                prop_assert_eq!(memo.decode(&bytes, bits), decode(&bytes, bits));
            }
        }
    }

    #[test]
    fn bytes_that_end_earlier_are_not_those_that_were_remembered() {
        let mut memo = Memo::NEW;
        let whole = Bytes::first_of(&[0x89, 0x43, 0x00]);
        let part = Bytes::first_of(&[0x89, 0x43]);
        assert!(memo.decode(&whole, Bits::Bits64).is_ok());
        assert_eq!(
            memo.decode(&part, Bits::Bits64),
            Err(Undecodable::Truncated)
        );
    }
}
