//! Memory for direct input and output that begins wherever in a page it is told to.

pub(super) const PAGE: usize = 4096;

/// Bytes of whole pages, on the heap.
#[derive(Debug)]
pub(super) struct Pages {
    memory: Vec<u8>,
    bytes: usize,
}

impl Pages {
    /// At least `bytes` bytes of whole pages.
    pub(super) fn new(bytes: usize) -> Self {
        let bytes = bytes.next_multiple_of(PAGE);
        Self {
            memory: vec![0; bytes + PAGE],
            bytes,
        }
    }

    /// All of them.
    pub(super) fn all(&mut self) -> &mut [u8] {
        let start = self.memory.as_ptr().align_offset(PAGE);
        &mut self.memory[start..start + self.bytes]
    }

    /// `length` bytes from the byte `offset` on.
    pub(super) fn part(&mut self, offset: usize, length: usize) -> &mut [u8] {
        &mut self.all()[offset..offset + length]
    }
}
