//! The two kinds of queue entries: section 3.3.3.

use memory::Gpa;

/// A submission queue entry, fetched once; section 3.3.3.1.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Command([u32; 16]);

impl Command {
    /// Bytes of an entry.
    pub(crate) const BYTES: u32 = 64;

    pub(crate) fn new(bytes: &[u8; 64]) -> Self {
        let mut words = [0; 16];
        for (word, bytes) in words.iter_mut().zip(bytes.as_chunks().0) {
            *word = u32::from_le_bytes(*bytes);
        }
        Self(words)
    }

    /// A command of ours, all else zero.
    pub(crate) fn of(opcode: u8, namespace: u32) -> Self {
        let mut words = [0; 16];
        words[0] = opcode.into();
        words[1] = namespace;
        Self(words)
    }

    /// The same of the first of its blocks alone: "Starting LBA" is in dwords 10 and 11, and the number
    /// of blocks is counted from 0.
    pub(crate) fn of_one_block(&self, opcode: u8) -> Self {
        let mut one = Self::of(opcode, self.namespace());
        one.0[10..12].copy_from_slice(&self.0[10..12]);
        one
    }

    /// Command Dword 0, bits 7:0.
    pub(crate) fn opcode(&self) -> u8 {
        self.0[0] as u8
    }

    /// Whether it is half of a fused operation: Command Dword 0, bits 9:8.
    pub(crate) fn is_fused(&self) -> bool {
        self.0[0] >> 8 & 0b11 != 0
    }

    /// Whether SGLs describe its bytes: Command Dword 0, bits 15:14.
    pub(crate) fn has_sgl(&self) -> bool {
        self.0[0] >> 14 & 0b11 != 0
    }

    /// Command Dword 0, bits 31:16.
    pub(crate) fn id(&self) -> u16 {
        (self.0[0] >> 16) as u16
    }

    pub(crate) fn namespace(&self) -> u32 {
        self.0[1]
    }

    pub(crate) fn prp1(&self) -> Gpa {
        Gpa::new(self.quad(6))
    }

    pub(crate) fn prp2(&self) -> Gpa {
        Gpa::new(self.quad(8))
    }

    /// Command Dword `index`.
    pub(crate) fn dword(&self, index: usize) -> u32 {
        self.0[index]
    }

    /// Replaces Command Dword `index`.
    pub(crate) fn set_dword(&mut self, index: usize, value: u32) {
        self.0[index] = value;
    }

    /// What the device is given: the same question under another identifier, about bytes
    /// elsewhere, with no pointer of the guest in it.
    pub(crate) fn for_device(&self, id: u16, prp1: u64, prp2: u64) -> [u8; 64] {
        let mut words = self.0;
        words[0] = u32::from(id) << 16 | u32::from(self.opcode());
        // Reserved, the metadata pointer, and the data pointer.
        words[2..10].copy_from_slice(&[
            0,
            0,
            0,
            0,
            prp1 as u32,
            (prp1 >> 32) as u32,
            prp2 as u32,
            (prp2 >> 32) as u32,
        ]);
        let mut bytes = [0; 64];
        for (bytes, word) in bytes.as_chunks_mut().0.iter_mut().zip(words) {
            *bytes = word.to_le_bytes();
        }
        bytes
    }

    fn quad(&self, index: usize) -> u64 {
        u64::from(self.0[index]) | u64::from(self.0[index + 1]) << 32
    }
}

/// Bytes of a completion queue entry.
pub(crate) const ENTRY_BYTES: u32 = 16;

/// A completion queue entry, fetched once; section 3.3.3.2.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    /// Dwords 0 to 2.
    words: [u32; 3],
    /// Dword 3.
    last: u32,
}

impl Entry {
    /// An entry of its last double word, fetched first, and the others.
    pub(crate) fn new(last: u32, others: &[u8; 12]) -> Self {
        let mut words = [0; 3];
        for (word, bytes) in words.iter_mut().zip(others.as_chunks().0) {
            *word = u32::from_le_bytes(*bytes);
        }
        Self { words, last }
    }

    /// The phase tag within the last double word.
    pub(crate) fn phase_of(last: u32) -> bool {
        last & 1 << 16 != 0
    }

    /// The command's own result: dwords 0 and 1.
    pub(crate) fn result(&self) -> [u32; 2] {
        [self.words[0], self.words[1]]
    }

    pub(crate) fn head(&self) -> u16 {
        self.words[2] as u16
    }

    pub(crate) fn queue(&self) -> u16 {
        (self.words[2] >> 16) as u16
    }

    pub(crate) fn id(&self) -> u16 {
        self.last as u16
    }

    /// The status field: dword 3, bits 31:17.
    pub(crate) fn status(&self) -> u16 {
        (self.last >> 17) as u16
    }
}
