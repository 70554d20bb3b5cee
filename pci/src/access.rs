//! The two roads a guest takes to configuration space: ECAM and the ports 0xCF8 and 0xCFC.
//!
//! Owns the decoding of an access of any size and alignment into naturally aligned pieces, and
//! the latch behind port 0xCF8. Both roads yield the same [`Piece`]s, so that whatever is decided
//! about one holds for the other. Refuses to know what the registers mean.

use memory::{ByteRange, Gpa};

use crate::config::{Register, Width};
use crate::{Address, Bdf};

/// Most pieces one access of the processor falls into: 8 bytes at an odd offset.
pub const MAX_PIECES: usize = 4;

/// The first I/O port of the address latch.
pub const ADDRESS_PORT: u16 = 0xcf8;
/// The first I/O port of the data window.
pub const DATA_PORT: u16 = 0xcfc;

/// One naturally aligned part of a guest's access.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Piece {
    /// Whose configuration space.
    pub at: Address,
    /// Which bytes of it.
    pub register: Register,
    /// The first byte of the guest's operand that this piece carries, 0 to 7.
    pub lane: u8,
}

impl Piece {
    /// The piece's own value out of the guest's operand.
    pub const fn value_of(&self, operand: u64) -> u32 {
        (operand >> self.shift()) as u32 & self.register.width().mask()
    }

    /// The guest's operand with this piece's bytes replaced by `value`.
    pub const fn place(&self, operand: u64, value: u32) -> u64 {
        let mask = self.register.width().mask() as u64;
        (operand & !(mask << self.shift())) | ((value as u64 & mask) << self.shift())
    }

    const fn shift(&self) -> u32 {
        8 * (self.lane as u32 & 7)
    }
}

/// The pieces of one access, in rising order of their addresses.
pub type Pieces = heapless::Vec<Piece, MAX_PIECES>;

/// An ECAM window as MCFG describes it.
///
/// Source: PCI Firmware 3.3, section 4.1.2: the base address belongs to bus 0 even if the window
/// starts at a higher bus.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ecam {
    segment: u16,
    first_bus: u8,
    base: Gpa,
    range: ByteRange<Gpa>,
}

impl Ecam {
    /// The window of buses `first_bus ..= last_bus` of `segment`, where bus 0 is or would be at
    /// `base`. `None` if `base` is not aligned to 1 MiB, no bus is left, or the window wraps.
    pub fn new(segment: u16, base: Gpa, first_bus: u8, last_bus: u8) -> Option<Self> {
        let buses = u64::from(last_bus.checked_sub(first_bus)?) + 1;
        if !base.raw().is_multiple_of(1 << 20) {
            return None;
        }
        let start = base.checked_add(u64::from(first_bus) << 20)?;
        Some(Self {
            segment,
            first_bus,
            base,
            range: ByteRange::new(start, buses << 20)?,
        })
    }

    /// The addresses that are to be trapped.
    pub fn range(&self) -> ByteRange<Gpa> {
        self.range
    }

    /// The segment whose functions are reached.
    pub fn segment(&self) -> u16 {
        self.segment
    }

    /// The first bus reached.
    pub fn first_bus(&self) -> u8 {
        self.first_bus
    }

    /// Where `register` of `bdf` is, or `None` if its bus is not in the window.
    pub fn address_of(&self, bdf: Bdf, register: Register) -> Option<Gpa> {
        let offset = (u64::from(bdf.requester_id()) << 12) | u64::from(register.offset());
        let at = self.base.checked_add(offset)?;
        self.range.contains(at).then_some(at)
    }

    /// Splits an access of `bytes` (1..=8) bytes at `at`. Bytes outside the window belong to no
    /// piece.
    pub fn decode(&self, at: Gpa, bytes: u8) -> Pieces {
        split(bytes, |lane| {
            let byte = at.checked_add(u64::from(lane))?;
            if !self.range.contains(byte) {
                return None;
            }
            let offset = byte.raw() - self.base.raw();
            let bdf = Bdf::from_requester_id((offset >> 12) as u16);
            Some((Address::new(self.segment, bdf), (offset & 0xfff) as u16))
        })
    }
}

/// The latch behind port 0xCF8, one a machine: virtual, since the real one is ours.
///
/// Source: PCI Local Bus 3.0, section 3.2.2.3.2: bit 31 enables, bits 23:16 are the bus, 15:11 the
/// device, 10:8 the function and 7:2 the double word; the others are reserved and read zero.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Latch(u32);

impl Latch {
    const ENABLE: u32 = 1 << 31;
    const DEFINED: u32 = 0x80ff_fffc;

    /// Whether an access of `bytes` bytes to `port` is to the latch. "Anything other than a full
    /// double word" passes by it as ordinary I/O (port 0xCF9 resets machines).
    pub const fn answers(port: u16, bytes: u8) -> bool {
        port == ADDRESS_PORT && bytes == 4
    }

    /// Takes the double word the guest writes to port 0xCF8.
    pub const fn write(&mut self, value: u32) {
        self.0 = value & Self::DEFINED;
    }

    /// The double word the guest reads from port 0xCF8.
    pub const fn read(&self) -> u32 {
        self.0
    }

    /// Splits an access of `bytes` (1..=4) bytes to `port`. Bytes that are not in the data window
    /// belong to no piece, and none does while the latch is not enabled.
    pub fn decode(&self, port: u16, bytes: u8) -> Pieces {
        let bdf = Bdf::from_requester_id((self.0 >> 8) as u16);
        split(bytes.min(4), |lane| {
            if self.0 & Self::ENABLE == 0 {
                return None;
            }
            let byte = port.checked_add(u16::from(lane))?.checked_sub(DATA_PORT)?;
            if byte > 3 {
                return None;
            }
            Some((Address::new(0, bdf), (self.0 & 0xfc) as u16 | byte))
        })
    }
}

/// Cuts `bytes` bytes, each placed by `place`, into the largest naturally aligned pieces.
fn split(bytes: u8, place: impl Fn(u8) -> Option<(Address, u16)>) -> Pieces {
    let bytes = bytes.min(8);
    let mut pieces = Pieces::new();
    let mut lane = 0;
    while lane < bytes {
        let Some((at, offset)) = place(lane) else {
            lane += 1;
            continue;
        };
        let fits = |width: &Width| {
            let last = lane + width.bytes() as u8 - 1;
            Register::new(offset, *width).is_some() && last < bytes && place(last).is_some()
        };
        let width = [Width::Dword, Width::Word]
            .into_iter()
            .find(fits)
            .unwrap_or(Width::Byte);
        let register = Register::new(offset, width).unwrap_or(Register::byte(offset));
        let piece = Piece { at, register, lane };
        assert!(
            pieces.push(piece).is_ok(),
            "8 bytes fall into at most {MAX_PIECES} aligned pieces"
        );
        lane += width.bytes() as u8;
    }
    pieces
}

#[cfg(test)]
mod tests {
    extern crate std;

    use proptest::prelude::*;
    use std::vec::Vec;

    use super::*;

    fn ecam() -> Ecam {
        Ecam::new(0, Gpa::new(0xb000_0000), 0, 255).unwrap()
    }

    fn parts(pieces: &Pieces) -> Vec<(u16, Width, u8)> {
        pieces
            .iter()
            .map(|p| (p.register.offset(), p.register.width(), p.lane))
            .collect()
    }

    /// "CONFIG_ADDRESS: enable 31, bus 23:16, device 15:11, function 10:8, register 7:2".
    #[test]
    fn the_latch_names_function_and_double_word() {
        let mut latch = Latch::default();
        latch.write(0x8002_eb40);
        let pieces = latch.decode(0xcfe, 2);
        assert_eq!(pieces.len(), 1);
        assert_eq!(pieces[0].at.bdf, Bdf::new(2, 0x1d, 3).unwrap());
        assert_eq!(parts(&pieces), [(0x42, Width::Word, 0)]);
    }

    #[test]
    fn reserved_bits_of_the_latch_read_zero() {
        let mut latch = Latch::default();
        latch.write(0xffff_ffff);
        assert_eq!(latch.read(), 0x80ff_fffc);
    }

    /// "Bit 31 is an enable flag": without it port 0xCFC is ordinary I/O.
    #[test]
    fn a_latch_that_is_not_enabled_leads_nowhere() {
        let mut latch = Latch::default();
        latch.write(0x0000_f800);
        assert!(latch.decode(0xcfc, 4).is_empty());
    }

    /// "Any other types of accesses to this address (non-DWORD) have no effect on CONFIG_ADDRESS".
    #[test]
    fn only_double_words_reach_the_latch() {
        assert!(Latch::answers(0xcf8, 4));
        assert!(!Latch::answers(0xcf9, 1));
        assert!(!Latch::answers(0xcf8, 2));
    }

    #[test]
    fn bytes_beyond_the_data_window_belong_to_nobody() {
        let mut latch = Latch::default();
        latch.write(0x8000_0010);
        let pieces = latch.decode(0xcfe, 4);
        assert_eq!(parts(&pieces), [(0x12, Width::Word, 0)]);
        let pieces = latch.decode(0xcfa, 4);
        assert_eq!(parts(&pieces), [(0x10, Width::Word, 2)]);
    }

    #[test]
    fn three_lanes_are_a_byte_and_a_word() {
        let mut latch = Latch::default();
        latch.write(0x8000_0004);
        assert_eq!(
            parts(&latch.decode(0xcfd, 4)),
            [(5, Width::Byte, 0), (6, Width::Word, 1)]
        );
    }

    #[test]
    fn eight_bytes_at_an_odd_offset_are_four_pieces() {
        let pieces = ecam().decode(Gpa::new(0xb000_0001), 8);
        assert_eq!(
            parts(&pieces),
            [
                (1, Width::Byte, 0),
                (2, Width::Word, 1),
                (4, Width::Dword, 3),
                (8, Width::Byte, 7)
            ]
        );
    }

    #[test]
    fn an_access_across_two_functions_reaches_both() {
        let pieces = ecam().decode(Gpa::new(0xb000_0ffe), 4);
        assert_eq!(pieces[0].at.bdf, Bdf::new(0, 0, 0).unwrap());
        assert_eq!(pieces[1].at.bdf, Bdf::new(0, 0, 1).unwrap());
        assert_eq!(
            parts(&pieces),
            [(0xffe, Width::Word, 0), (0, Width::Word, 2)]
        );
    }

    /// "Base address of the enhanced configuration mechanism", of bus 0 whatever the first bus.
    #[test]
    fn a_window_that_starts_at_a_later_bus_counts_from_bus_zero() {
        let ecam = Ecam::new(3, Gpa::new(0x1000_0000), 0x40, 0x7f).unwrap();
        assert_eq!(ecam.range().start(), Gpa::new(0x1400_0000));
        let pieces = ecam.decode(Gpa::new(0x1400_0000), 4);
        assert_eq!(pieces[0].at, Address::new(3, Bdf::new(0x40, 0, 0).unwrap()));
        assert!(ecam.decode(Gpa::new(0x1000_0000), 4).is_empty());
    }

    proptest! {
        #[test]
        fn the_pieces_of_an_access_are_its_bytes_once_each(
            offset in 0u64..(256 << 20), bytes in 1u8..=8, operand: u64,
        ) {
            let at = Gpa::new(0xb000_0000 + offset);
            let mut rebuilt = 0;
            let mut seen = 0u32;
            for piece in &ecam().decode(at, bytes) {
                let piece_bytes = u32::from(piece.register.width().bytes());
                for byte in 0..piece_bytes {
                    let bit = 1 << (u32::from(piece.lane) + byte);
                    prop_assert_eq!(seen & bit, 0);
                    seen |= bit;
                }
                rebuilt = piece.place(rebuilt, piece.value_of(operand));
                let address = ecam().address_of(piece.at.bdf, piece.register).unwrap();
                prop_assert_eq!(address.raw(), at.raw() + u64::from(piece.lane));
            }
            let inside = u32::from(bytes).min(((256 << 20) - offset) as u32);
            prop_assert_eq!(seen, (1u32 << inside) - 1);
            let mask = if inside == 8 { u64::MAX } else { (1u64 << (8 * inside)) - 1 };
            prop_assert_eq!(rebuilt, operand & mask);
        }

        #[test]
        fn ports_and_ecam_split_alike(id: u16, dword in 0u16..64, lane in 0u16..4, bytes in 1u8..=4) {
            let bdf = Bdf::from_requester_id(id);
            let mut latch = Latch::default();
            latch.write(0x8000_0000 | u32::from(id) << 8 | u32::from(dword) << 2);
            let bytes = bytes.min(4 - lane as u8);
            let by_port = latch.decode(DATA_PORT + lane, bytes);
            let start = ecam().address_of(bdf, Register::byte((dword << 2) + lane)).unwrap();
            prop_assert_eq!(by_port, ecam().decode(start, bytes));
        }
    }
}
