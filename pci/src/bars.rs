//! Base address registers as values: what they hold, how large they are, what they decode.
//!
//! Owns the shadow of a register (so that sizing by all ones needs no device) and the one
//! exchange with the device that learns the sizes, done while nothing decodes. Refuses to know
//! where a register may point.

use memory::{ByteRange, Hpa};

use crate::config::{ConfigSpace, Register};
use crate::spec::header::{self, BaseAddress, Command};
use crate::{Address, Ports};

/// Base address registers and expansion ROM of one function.
pub type Bars = heapless::Vec<Bar, 7>;

/// The index that stands for the expansion ROM.
pub const ROM: u8 = 6;

/// What a base address register decodes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// I/O ports.
    Io,
    /// Memory below 4 GiB.
    Memory,
    /// Memory anywhere; takes two registers.
    WideMemory,
    /// The expansion ROM, which has an enable bit of its own.
    Rom,
}

/// One base address register, or a pair, as software wrote it last.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bar {
    index: u8,
    offset: u16,
    kind: Kind,
    flags: u32,
    writable: u64,
    value: u64,
    decode: Decode,
}

impl Bar {
    /// A register from its reading `value` and its reading `sized` after a write of all ones,
    /// or `None` if it is not implemented. Both are 64 bits for [`Kind::WideMemory`].
    ///
    /// PCI Local Bus 3.0, section 6.2.5.1: the lowest address bit that can be set is the size. A
    /// device that answers with holes gets that size all the same, and its own bits back.
    pub const fn new(index: u8, offset: u16, kind: Kind, value: u64, sized: u64) -> Option<Self> {
        let address = match kind {
            Kind::Io => !(BaseAddress::IO_FLAGS as u64) & 0xffff_ffff,
            Kind::Memory => !(BaseAddress::MEMORY_FLAGS as u64) & 0xffff_ffff,
            Kind::WideMemory => !(BaseAddress::MEMORY_FLAGS as u64),
            Kind::Rom => BaseAddress::ROM_ADDRESS as u64,
        };
        let writable = sized & address;
        if writable == 0 {
            return None;
        }
        let enable = match kind {
            Kind::Rom => BaseAddress::ROM_ENABLE as u64,
            _ => 0,
        };
        Some(Self {
            index,
            offset,
            kind,
            flags: (value & !address & 0xf) as u32 & !(enable as u32),
            writable: writable | enable,
            value: value & (writable | enable),
            decode: Decode::Switchable,
        })
    }

    /// What the `number`th virtual function decodes of this register of its physical function, in
    /// which each has `each` bytes: it is fixed, and behind the register of the same index.
    pub(crate) fn slice(&self, number: u16, each: u64) -> Option<Self> {
        let start = self.memory()?.start();
        let into = each.checked_mul(u64::from(number))?;
        Some(Self {
            offset: header::BARS + 4 * u16::from(self.index),
            writable: !(each.checked_next_power_of_two()? - 1),
            value: start.checked_add(into)?.raw(),
            decode: Decode::Fixed,
            ..*self
        })
    }

    /// The index of the (first) register, or [`ROM`].
    pub const fn index(&self) -> u8 {
        self.index
    }

    /// What it decodes.
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// Bytes (or ports) decoded.
    pub const fn size(&self) -> u64 {
        1 << self.address_bits().trailing_zeros()
    }

    /// The memory decoded while memory space is enabled.
    ///
    /// `None` for ports, for a ROM that is not enabled, and for a register software has not
    /// placed: zero after reset, all ones in some register during sizing.
    pub fn memory(&self) -> Option<ByteRange<Hpa>> {
        let is_off = self.kind == Kind::Rom && self.value & 1 == 0;
        if self.kind == Kind::Io || is_off || !self.is_placed() {
            return None;
        }
        ByteRange::new(Hpa::new(self.address()), self.size())
    }

    /// The ports decoded while I/O space is enabled.
    ///
    /// `None` for memory, for a register software has not placed, and for one that is placed beyond
    /// the last port a processor has.
    pub fn ports(&self) -> Option<Ports> {
        if self.kind != Kind::Io || !self.is_placed() {
            return None;
        }
        Ports::new(u16::try_from(self.address()).ok()?, self.size())
    }

    /// Whether software gave it an address. A ROM that is off needs none.
    pub fn is_placed(&self) -> bool {
        if self.kind == Kind::Rom && self.value & 1 == 0 {
            return true;
        }
        match self.decode {
            Decode::Fixed => self.address() != 0,
            // Below 4 GiB all ones is a block that ends at 4 GiB, where the reset vector is.
            Decode::Switchable => {
                let low_bits = self.address_bits() & 0xffff_ffff;
                ![0, low_bits, self.address_bits()].contains(&self.address())
            }
        }
    }

    /// The double word at `offset` as software reads it, or `None` if it is not this register.
    pub const fn read(&self, offset: u16) -> Option<u32> {
        if offset == self.offset {
            Some(self.value as u32 | self.flags)
        } else if self.is_upper(offset) {
            Some((self.value >> 32) as u32)
        } else {
            None
        }
    }

    /// Takes a write of `value` to `register`. Returns whether it belongs to this register.
    pub const fn write(&mut self, register: Register, value: u32) -> bool {
        let offset = register.dword_offset();
        let Some(old) = self.read(offset) else {
            return false;
        };
        let new = register.merge(old, value) as u64;
        let whole = if self.is_upper(offset) {
            (self.value & 0xffff_ffff) | (new << 32)
        } else {
            (self.value & !0xffff_ffff) | new
        };
        self.value = whole & self.writable;
        true
    }

    /// What reset leaves: no address, no ROM.
    pub const fn reset(&mut self) {
        self.value = 0;
    }

    /// The double words that make the device agree with the shadow.
    pub fn dwords(&self) -> impl Iterator<Item = (u16, u32)> + use<> {
        let bar = *self;
        let halves = [bar.offset, bar.offset + 4];
        let count = if bar.kind == Kind::WideMemory { 2 } else { 1 };
        halves
            .into_iter()
            .take(count)
            .filter_map(move |offset| Some((offset, bar.read(offset)?)))
    }

    const fn is_upper(&self, offset: u16) -> bool {
        matches!(self.kind, Kind::WideMemory) && offset == self.offset + 4
    }

    const fn address_bits(&self) -> u64 {
        match self.kind {
            Kind::Rom => self.writable & BaseAddress::ROM_ADDRESS as u64,
            _ => self.writable,
        }
    }

    const fn address(&self) -> u64 {
        self.value & self.address_bits()
    }
}

/// Whether software can stop a function from decoding memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Decode {
    /// The command register switches it.
    Switchable,
    /// It decodes always, or must: its registers were not sized and may not move.
    Fixed,
}

/// What a function's base address registers turned out to be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Probe {
    /// The registers that exist.
    pub(crate) bars: Bars,
    /// Whether they could be sized.
    pub(crate) decode: Decode,
}

/// Learns the registers of `at`: `count` of them from [`header::BARS`] on, and a ROM at `rom`.
///
/// Switches memory and I/O decoding off meanwhile and puts everything back. If decoding cannot
/// be switched off, sizing would move live decoders: each register then counts as the largest
/// block its present address is aligned for.
pub(crate) fn probe(space: &mut impl ConfigSpace, at: Address, count: u16, rom: u16) -> Probe {
    let command = space.read_u16(at, header::COMMAND);
    let quiet = command & !(Command::MEMORY_SPACE | Command::IO_SPACE);
    space.write(at, Register::word(header::COMMAND), u32::from(quiet));
    let left = Command::new(space.read_u16(at, header::COMMAND));
    let decode = if left.memory_space() || left.io_space() {
        Decode::Fixed
    } else {
        Decode::Switchable
    };
    let bars = read_all(space, at, count, rom, decode);
    space.write(at, Register::word(header::COMMAND), u32::from(command));
    Probe { bars, decode }
}

/// Reads the registers of `at` without touching any, for functions whose decoding must stay on.
pub(crate) fn observe(space: &mut impl ConfigSpace, at: Address, count: u16, rom: u16) -> Probe {
    Probe {
        bars: read_all(space, at, count, rom, Decode::Fixed),
        decode: Decode::Fixed,
    }
}

/// Learns the base address registers a physical function keeps for its virtual functions, the
/// first of them at `first`; they decode only while `decode` says so.
pub(crate) fn probe_virtual(
    space: &mut impl ConfigSpace,
    at: Address,
    first: u16,
    decode: Decode,
) -> Bars {
    read_run(space, at, first, header::ENDPOINT_BARS, decode)
}

fn read_all(
    space: &mut impl ConfigSpace,
    at: Address,
    count: u16,
    rom: u16,
    decode: Decode,
) -> Bars {
    let mut bars = read_run(space, at, header::BARS, count, decode);
    keep(&mut bars, size(space, at, ROM, rom, Kind::Rom, decode));
    bars
}

fn read_run(
    space: &mut impl ConfigSpace,
    at: Address,
    first: u16,
    count: u16,
    decode: Decode,
) -> Bars {
    let mut bars = Bars::new();
    let end = first + 4 * count.min(header::ENDPOINT_BARS);
    let mut offset = first;
    let mut index = 0;
    while offset < end {
        let low = BaseAddress::new(space.read_u32(at, offset));
        let kind = match (low.is_io(), low.memory_type()) {
            (true, _) => Kind::Io,
            (false, BaseAddress::WIDE) if offset + 4 < end => Kind::WideMemory,
            (false, _) => Kind::Memory,
        };
        let registers: u16 = if kind == Kind::WideMemory { 2 } else { 1 };
        keep(&mut bars, size(space, at, index, offset, kind, decode));
        offset += 4 * registers;
        index += registers as u8;
    }
    bars
}

fn keep(bars: &mut Bars, bar: Option<Bar>) {
    if let Some(bar) = bar {
        assert!(bars.push(bar).is_ok(), "a header has 6 registers and a ROM");
    }
}

fn size(
    space: &mut impl ConfigSpace,
    at: Address,
    index: u8,
    offset: u16,
    kind: Kind,
    decode: Decode,
) -> Option<Bar> {
    let registers: &[u16] = match kind {
        Kind::WideMemory => &[offset, offset + 4],
        _ => &[offset],
    };
    let mut value = 0;
    let mut sized = 0;
    for (half, &offset) in registers.iter().enumerate() {
        let old = space.read_u32(at, offset);
        let ones = match decode {
            Decode::Switchable => {
                let ones = if kind == Kind::Rom {
                    BaseAddress::ROM_ADDRESS
                } else {
                    u32::MAX
                };
                space.write(at, Register::dword(offset), ones);
                let read = space.read_u32(at, offset);
                space.write(at, Register::dword(offset), old);
                read
            }
            Decode::Fixed => old,
        };
        value |= u64::from(old) << (32 * half);
        sized |= u64::from(ones) << (32 * half);
    }
    if decode == Decode::Fixed {
        // A block is aligned to its size: the lowest address bit in use bounds it.
        let flags = match kind {
            Kind::Io => u64::from(BaseAddress::IO_FLAGS),
            Kind::Memory | Kind::WideMemory => u64::from(BaseAddress::MEMORY_FLAGS),
            Kind::Rom => !u64::from(BaseAddress::ROM_ADDRESS),
        };
        let address = value & !flags;
        sized = match address {
            0 => 0,
            _ => !0 << address.trailing_zeros(),
        };
    }
    let bar = Bar::new(index, offset, kind, value, sized)?;
    Some(Bar { decode, ..bar })
}

#[cfg(test)]
mod tests {
    extern crate std;

    use proptest::prelude::*;

    use super::*;

    fn memory(size: u64) -> Bar {
        Bar::new(
            0,
            0x10,
            Kind::Memory,
            0xfe00_0000,
            !(size - 1) & 0xffff_ffff,
        )
        .unwrap()
    }

    /// "Software writes a value of all 1's to the register and then reads the value back ...
    /// unimplemented address bits return 0".
    #[test]
    fn all_ones_read_back_as_the_size() {
        let mut bar = memory(0x4000);
        assert!(bar.write(Register::dword(0x10), u32::MAX));
        assert_eq!(bar.read(0x10), Some(0xffff_c000));
        assert!(!bar.is_placed());
        assert_eq!(bar.memory(), None);
    }

    #[test]
    fn a_64_bit_register_half_sized_is_not_placed() {
        let mut bar = Bar::new(0, 0x10, Kind::WideMemory, 0x4, !0x3fff).unwrap();
        bar.write(Register::dword(0x10), u32::MAX);
        assert!(!bar.is_placed());
        assert_eq!(bar.read(0x10), Some(0xffff_c004));
        bar.write(Register::dword(0x14), u32::MAX);
        assert!(!bar.is_placed());
        bar.write(Register::dword(0x10), 0xc000_0000);
        bar.write(Register::dword(0x14), 0x38);
        let range = bar.memory().unwrap();
        assert_eq!((range.start().raw(), range.len()), (0x38_c000_0000, 0x4000));
    }

    /// "Bit 0 in the register is used to control whether or not the device accepts accesses to
    /// its expansion ROM".
    #[test]
    fn a_rom_that_is_off_decodes_nothing() {
        let mut rom = Bar::new(ROM, 0x30, Kind::Rom, 0, 0xffff_0000).unwrap();
        rom.write(Register::dword(0x30), 0xfe00_0000);
        assert_eq!(rom.memory(), None);
        rom.write(Register::byte(0x30), 1);
        assert_eq!(rom.memory().unwrap().len(), 0x1_0000);
    }

    #[test]
    fn a_register_that_keeps_no_bit_is_not_implemented() {
        assert_eq!(Bar::new(0, 0x10, Kind::Memory, 0, 0), None);
    }

    proptest! {
        #[test]
        fn a_write_in_parts_is_the_write(value: u32, log in 4u32..31) {
            let mut whole = memory(1 << log);
            let mut parts = whole;
            whole.write(Register::dword(0x10), value);
            for byte in 0..4u16 {
                parts.write(Register::byte(0x10 + byte), value >> (8 * byte));
            }
            prop_assert_eq!(whole, parts);
            prop_assert_eq!(whole.size(), 1 << log);
        }

        #[test]
        fn any_answer_of_a_device_is_a_register_or_none(value: u64, sized: u64, write: u32) {
            for kind in [Kind::Io, Kind::Memory, Kind::WideMemory, Kind::Rom] {
                if let Some(mut bar) = Bar::new(0, 0x10, kind, value, sized) {
                    bar.write(Register::dword(0x10), write);
                    if let Some(range) = bar.memory() {
                        prop_assert_eq!(range.start().raw() % bar.size(), 0);
                    }
                }
            }
        }
    }
}
