//! The table that tells the guest of its units: DMAR (chapter 8), with their devices.
//!
//! Owns its layout. Who is governed comes from the caller; more than there is room for is a
//! refusal.

use vtd::spec::dmar::{
    FLAGS, HEADER, HOST_ADDRESS_WIDTH, INCLUDE_PCI_ALL, SCOPE_HEADER, SIGNATURE, flags, scope,
    structure,
};

/// Bytes of a unit's structure before its scopes (section 8.3).
const UNIT: usize = 16;
/// Where a unit's structure has its length and its flags.
const UNIT_LENGTH: usize = 2;
const UNIT_FLAGS: usize = 4;
/// Where a table has its length and its checksum (ACPI 6.5, 5.2.6).
const LENGTH: usize = 4;
const CHECKSUM: usize = 9;

/// Whom the unit governs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Governed {
    /// One function.
    Function,
    /// A bridge and all that is behind it.
    Bridge,
    /// The interrupts of the I/O APIC with this id.
    IoApic(u8),
}

/// There is no room for another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Full;

/// A table in the making.
#[derive(Debug)]
pub struct Table<'a> {
    bytes: &'a mut [u8],
    len: usize,
    /// Where the last unit's structure begins.
    unit: usize,
}

impl<'a> Table<'a> {
    /// One with no unit yet, for a bus of `address_width` bits. `opts_in` keeps the firmware's wish that DMA
    /// be remapped from the start.
    pub fn new(bytes: &'a mut [u8], address_width: u8, opts_in: bool) -> Result<Self, Full> {
        let mut this = Self {
            bytes,
            len: 0,
            unit: HEADER,
        };
        let mut header = [0; HEADER];
        header[..4].copy_from_slice(&SIGNATURE);
        // Revision, whose table, and who made it.
        header[8] = 1;
        header[10..24].copy_from_slice(b"BOUNCRVIOMMU  ");
        header[28..32].copy_from_slice(b"BNCR");
        header[HOST_ADDRESS_WIDTH] = address_width.wrapping_sub(1);
        header[FLAGS] = flags::INTR_REMAP;
        if opts_in {
            header[FLAGS] |= flags::DMA_CTRL_PLATFORM_OPT_IN;
        }
        this.push(&header)?;
        Ok(this)
    }

    /// Another unit of `segment`, with registers at `registers`, that governs nobody yet.
    pub fn unit(&mut self, segment: u16, registers: u64) -> Result<(), Full> {
        self.push_unit(0, segment, registers)
    }

    /// The last unit: it governs whoever no other one does.
    pub fn unit_for_others(&mut self, segment: u16, registers: u64) -> Result<(), Full> {
        self.push_unit(INCLUDE_PCI_ALL, segment, registers)
    }

    fn push_unit(&mut self, flags: u8, segment: u16, registers: u64) -> Result<(), Full> {
        self.end_unit();
        self.unit = self.len;
        let mut unit = [0; UNIT];
        unit[UNIT_FLAGS] = flags;
        unit[..2].copy_from_slice(&structure::DRHD.to_le_bytes());
        unit[6..8].copy_from_slice(&segment.to_le_bytes());
        unit[8..].copy_from_slice(&registers.to_le_bytes());
        self.push(&unit)
    }

    /// The last unit governs whoever is at the end of the path `hops`, each a device and a function, from
    /// the root bus `bus` on.
    pub fn add(
        &mut self,
        governed: Governed,
        bus: u8,
        hops: impl Iterator<Item = (u8, u8)> + Clone,
    ) -> Result<(), Full> {
        let bytes = SCOPE_HEADER + 2 * hops.clone().count();
        let (kind, id) = match governed {
            Governed::Function => (scope::ENDPOINT, 0),
            Governed::Bridge => (scope::BRIDGE, 0),
            Governed::IoApic(id) => (scope::IOAPIC, id),
        };
        let before = self.len;
        let len = u8::try_from(bytes).map_err(|_| Full)?;
        let header: [u8; SCOPE_HEADER] = [kind, len, 0, 0, id, bus];
        let whole = self.push(&header).and_then(|()| {
            hops.into_iter()
                .try_for_each(|(device, function)| self.push(&[device, function]))
        });
        if whole.is_err() {
            self.len = before;
        }
        whole
    }

    /// Ends the table. Returns its bytes.
    pub fn finish(mut self) -> &'a [u8] {
        self.end_unit();
        let Self { bytes, len, .. } = self;
        let (bytes, _) = bytes.split_at_mut(len);
        bytes[LENGTH..LENGTH + 4].copy_from_slice(&(len as u32).to_le_bytes());
        let sum = bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
        bytes[CHECKSUM] = sum.wrapping_neg();
        bytes
    }

    fn end_unit(&mut self) {
        let len = (self.len - self.unit) as u16;
        let place = self.unit + UNIT_LENGTH;
        if let Some(place) = self.bytes.get_mut(place..place + 2).filter(|_| len != 0) {
            place.copy_from_slice(&len.to_le_bytes());
        }
    }

    fn push(&mut self, piece: &[u8]) -> Result<(), Full> {
        let end = self.len + piece.len();
        // A unit's length has 16 bits.
        let end = Some(end)
            .filter(|end| *end <= usize::from(u16::MAX))
            .ok_or(Full)?;
        let place = self.bytes.get_mut(self.len..end).ok_or(Full)?;
        place.copy_from_slice(piece);
        self.len = end;
        Ok(())
    }
}
