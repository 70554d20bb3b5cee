//! What the hypervisor said before its guest started, as its loader finds it.
//!
//! A loader that has a screen shows it there. Owns the layout: the number of bytes in the first eight, then
//! text, which ends early where there is no more room.

/// Bytes before the text.
pub const HEAD: usize = 8;

/// Memory that what is said is appended to.
#[derive(Debug)]
pub struct Echo<'a> {
    memory: &'a mut [u8],
    len: usize,
}

impl<'a> Echo<'a> {
    /// Begins with nothing; `None` if there is no room even to say so.
    pub fn over(memory: &'a mut [u8]) -> Option<Self> {
        memory.first_chunk_mut::<HEAD>()?.fill(0);
        Some(Self { memory, len: 0 })
    }

    /// Appends what there is room for, whole characters.
    pub fn say(&mut self, text: &str) {
        let Some(room) = self.memory.get_mut(HEAD + self.len..) else {
            return;
        };
        let mut len = text.len().min(room.len());
        while !text.is_char_boundary(len) {
            len -= 1;
        }
        room[..len].copy_from_slice(&text.as_bytes()[..len]);
        self.len += len;
        if let Some(head) = self.memory.first_chunk_mut::<HEAD>() {
            *head = (self.len as u64).to_le_bytes();
        }
    }
}

/// The lines for a person of what was said in `memory`: those for programs begin with `@`. Text that is none
/// is nothing.
pub fn lines(memory: &[u8]) -> impl Iterator<Item = &str> {
    let text = memory.split_first_chunk::<HEAD>().and_then(|(head, text)| {
        let len = usize::try_from(u64::from_le_bytes(*head)).ok()?;
        str::from_utf8(text.get(..len)?).ok()
    });
    let lines = text.unwrap_or_default().lines();
    lines.filter(|line| !line.starts_with('@'))
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lines_for_programs_are_left_out() {
        let mut memory = [0xff; 64];
        let mut echo = Echo::over(&mut memory).unwrap();
        echo.say("Bouncer\n@own base=0\nnothing");
        echo.say(" else\n");
        assert_eq!(
            lines(&memory).collect::<Vec<_>>(),
            ["Bouncer", "nothing else"]
        );
    }

    #[test]
    fn what_there_is_no_room_for_is_lost_and_nothing_else() {
        let mut memory = [0; HEAD + 5];
        let mut echo = Echo::over(&mut memory).unwrap();
        // Two bytes each, so that half of the third one would fit.
        echo.say("äää");
        echo.say("xy");
        assert_eq!(lines(&memory).collect::<Vec<_>>(), ["ääx"]);
        assert!(Echo::over(&mut [0; HEAD - 1]).is_none());
    }

    proptest! {
        #[test]
        fn any_memory_is_lines_or_nothing(memory in proptest::collection::vec(any::<u8>(), 0..64)) {
            prop_assert!(lines(&memory).map(str::len).sum::<usize>() <= memory.len());
        }
    }
}
