//! A pattern that no memory holds by chance, and the search for any piece of it.

/// Sixteen bytes that the guest repeats all over the memory around its buffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Canary([u8; 16]);

impl Canary {
    /// Reads 32 hexadecimal digits, as the guest tells them; `None` for anything else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() != 32 || !text.is_ascii() {
            return None;
        }
        let mut bytes = [0; 16];
        for (index, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * index..2 * index + 2], 16).ok()?;
        }
        Some(Self(bytes))
    }

    /// Where in `bytes` a piece of the repeated pattern is, if any is: any fifteen bytes in a row are found, wherever
    /// they begin, because eight of them begin at a multiple of eight.
    #[must_use]
    pub fn find_in(&self, bytes: &[u8]) -> Option<usize> {
        let pieces: [[u8; 8]; 16] = std::array::from_fn(|start| {
            std::array::from_fn(|index| self.0[(start + index) % self.0.len()])
        });
        let mut begins_one = [false; 256];
        for piece in pieces {
            begins_one[usize::from(piece[0])] = true;
        }
        let words = bytes.chunks_exact(8);
        let found = words.enumerate().find(|(_, word)| {
            begins_one[usize::from(word[0])] && pieces.iter().any(|piece| piece == *word)
        });
        found.map(|(index, _)| index * 8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "000102030405060708090a0b0c0d0e0f";

    #[test]
    fn the_guests_digits_are_read_and_nothing_else_is() {
        assert!(Canary::parse(TEXT).is_some());
        for wrong in ["", "00", &TEXT[1..], "zz0102030405060708090a0b0c0d0e0f"] {
            assert_eq!(Canary::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn fifteen_bytes_of_it_are_found_wherever_they_begin() {
        let canary = Canary::parse(TEXT).unwrap();
        for start in 0..16 {
            for place in 0..24 {
                let mut memory = vec![0xee; 64];
                for index in 0..15 {
                    memory[place + index] = ((start + index) % 16) as u8;
                }
                assert!(canary.find_in(&memory).is_some(), "{start} at {place}");
            }
        }
    }

    #[test]
    fn what_is_not_it_is_not_found() {
        let canary = Canary::parse(TEXT).unwrap();
        assert_eq!(canary.find_in(&[0; 4096]), None);
        // Seven bytes in a row are not enough to tell.
        let mut memory = [0xee; 64];
        memory[8..15].copy_from_slice(&[0, 1, 2, 3, 4, 5, 6]);
        assert_eq!(canary.find_in(&memory), None);
    }
}
