//! The two kinds of queue entries: section 3.3.3.

use memory::Gpa;

/// A submission queue entry, fetched once; section 3.3.3.1.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Command([u8; 64]);

impl Command {
    /// Bytes of an entry.
    pub(crate) const BYTES: u32 = 64;

    /// An entry of zeros.
    pub(crate) const NEW: Self = Self([0; 64]);

    /// The entry as it is in a queue.
    pub(crate) fn bytes(&self) -> &[u8; 64] {
        &self.0
    }

    /// The same, to be fetched.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8; 64] {
        &mut self.0
    }

    /// A command of ours, all else zero.
    pub(crate) fn of(opcode: u8, namespace: u32) -> Self {
        let mut command = Self::NEW;
        command.set_dword(0, opcode.into());
        command.set_dword(1, namespace);
        command
    }

    /// The same of the first of its blocks alone: "Starting LBA" is in dwords 10 and 11, and the number
    /// of blocks is counted from 0.
    pub(crate) fn of_one_block(&self, opcode: u8) -> Self {
        let mut one = Self::of(opcode, self.namespace());
        one.set_dword(10, self.dword(10));
        one.set_dword(11, self.dword(11));
        one
    }

    /// Command Dword 0, bits 7:0.
    pub(crate) fn opcode(&self) -> u8 {
        self.0[0]
    }

    /// Whether it is half of a fused operation: Command Dword 0, bits 9:8.
    pub(crate) fn is_fused(&self) -> bool {
        self.dword(0) >> 8 & 0b11 != 0
    }

    /// Whether SGLs describe its bytes: Command Dword 0, bits 15:14.
    pub(crate) fn has_sgl(&self) -> bool {
        self.dword(0) >> 14 & 0b11 != 0
    }

    /// Command Dword 0, bits 31:16.
    pub(crate) fn id(&self) -> u16 {
        (self.dword(0) >> 16) as u16
    }

    pub(crate) fn namespace(&self) -> u32 {
        self.dword(1)
    }

    pub(crate) fn prp1(&self) -> Gpa {
        Gpa::new(self.quad(3))
    }

    pub(crate) fn prp2(&self) -> Gpa {
        Gpa::new(self.quad(4))
    }

    /// Command Dword `index`.
    pub(crate) fn dword(&self, index: usize) -> u32 {
        u32::from_le_bytes(self.0.as_chunks().0[index])
    }

    /// Replaces Command Dword `index`.
    pub(crate) fn set_dword(&mut self, index: usize, value: u32) {
        self.0.as_chunks_mut().0[index] = value.to_le_bytes();
    }

    /// Makes of it what the device is given: the same question under another identifier, about
    /// bytes elsewhere, with no pointer of the guest in it.
    pub(crate) fn readdress(&mut self, id: u16, [prp1, prp2]: [u64; 2]) {
        self.set_dword(0, u32::from(id) << 16 | u32::from(self.opcode()));
        // Reserved, the metadata pointer, and the data pointer.
        let pointers = [0, 0, prp1, prp2].map(u64::to_le_bytes);
        self.0.as_chunks_mut().0[1..5].copy_from_slice(&pointers);
    }

    /// Command Dwords `2 * index` and the one after it.
    fn quad(&self, index: usize) -> u64 {
        u64::from_le_bytes(self.0.as_chunks().0[index])
    }
}

/// Bytes of a completion queue entry.
pub(crate) const ENTRY_BYTES: u32 = 16;

/// A completion queue entry, fetched once; section 3.3.3.2.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    /// Dwords 0 and 1.
    result: u64,
    /// Dwords 2 and 3.
    last: u64,
}

impl Entry {
    /// An entry of its last half, fetched first, and its first.
    pub(crate) fn new(last: u64, result: u64) -> Self {
        Self { result, last }
    }

    /// The phase tag within the last half.
    pub(crate) fn phase_of(last: u64) -> bool {
        last & 1 << 48 != 0
    }

    /// The command's own result: dwords 0 and 1.
    pub(crate) fn result(&self) -> [u32; 2] {
        [self.result as u32, (self.result >> 32) as u32]
    }

    pub(crate) fn head(&self) -> u16 {
        self.last as u16
    }

    pub(crate) fn queue(&self) -> u16 {
        (self.last >> 16) as u16
    }

    pub(crate) fn id(&self) -> u16 {
        (self.last >> 32) as u16
    }

    /// The status field: dword 3, bits 31:17.
    pub(crate) fn status(&self) -> u16 {
        (self.last >> 49) as u16
    }
}
