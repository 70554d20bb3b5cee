//! The registers of one remapping unit: which there are, how wide, and what may be done to them.
//!
//! Owns a constant for every register, typed by its value and its access: reading a command,
//! writing a capability, or mixing widths does not compile. Owns the one way to wait. Refuses to
//! know where the registers are mapped; `Registers` is implemented by whoever does.
//!
//! ```
//! fn read_the_status(unit: &impl vtd::registers::Registers) -> bool {
//!     vtd::registers::GSTS.read(unit).tes()
//! }
//! ```
//! ```compile_fail
//! fn read_a_command(unit: &impl vtd::registers::Registers) {
//!     vtd::registers::GCMD.read(unit); // GCMD is write only
//! }
//! ```
//! ```compile_fail
//! fn write_a_capability(unit: &mut impl vtd::registers::Registers, cap: vtd::spec::registers::Cap) {
//!     vtd::registers::CAP.write(unit, cap); // CAP is read only
//! }
//! ```
//! ```compile_fail
//! fn store_a_half(unit: &mut impl vtd::registers::Registers) {
//!     vtd::registers::RTADDR.write(unit, 0u32); // RTADDR is an Rtaddr, 64 bits wide
//! }
//! ```

use core::marker::PhantomData;

use memory::TimedOut;

use crate::spec::Bits;
use crate::spec::fault::{RECORD_SIZE, RecordHigh};
use crate::spec::registers::{
    Cap, Ecap, Fectl, Fsts, Gcmd, Gsts, Iqa, Iqercd, Irta, Pmen, QueueIndex, Rtaddr, Ver, offset,
};

/// The seam to one unit's memory-mapped registers.
///
/// The offsets handed over are aligned to the width of the access; those of registers whose
/// place the unit itself announces were compared with [`Registers::window`] first.
pub trait Registers {
    /// What bounds a wait.
    type Deadline: Deadline;

    /// Bytes mapped from the register base.
    fn window(&self) -> u32;
    /// One 32-bit load.
    fn load32(&self, at: Offset) -> u32;
    /// One 64-bit load.
    fn load64(&self, at: Offset) -> u64;
    /// One 32-bit store.
    fn store32(&mut self, at: Offset, value: u32);
    /// One 64-bit store.
    fn store64(&mut self, at: Offset, value: u64);
    /// Starts the clock of one wait.
    fn deadline(&self) -> Self::Deadline;
}

/// The end of one wait.
pub trait Deadline {
    /// Whether the time is over. Asked once per poll; must become true and stay so.
    fn has_passed(&mut self) -> bool;
}

/// A register's distance from the register base, aligned to the register's width.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Offset(u32);

impl Offset {
    /// The distance in bytes.
    pub const fn bytes(self) -> u32 {
        self.0
    }
}

/// Polls until `done`, no longer than the unit's deadline.
///
/// `done` is asked once more after the deadline, so that a poller who was held up does not
/// mistake its own delay for the unit's.
pub fn wait_until<R: Registers>(
    registers: &R,
    mut done: impl FnMut(&R) -> bool,
) -> Result<(), TimedOut> {
    let mut deadline = registers.deadline();
    loop {
        if done(registers) {
            return Ok(());
        }
        if deadline.has_passed() {
            return if done(registers) {
                Ok(())
            } else {
                Err(TimedOut)
            };
        }
    }
}

/// A register that holds a `V` and allows `A`.
#[derive(Debug)]
pub struct Register<V, A> {
    at: Offset,
    kind: PhantomData<fn() -> (V, A)>,
}

/// May be loaded only.
#[derive(Debug)]
pub struct ReadOnly;
/// May be stored only; a load returns nothing of use.
#[derive(Debug)]
pub struct WriteOnly;
/// May be loaded and stored.
#[derive(Debug)]
pub struct ReadWrite;
/// May be loaded; a store clears the bits that are ones.
#[derive(Debug)]
pub struct WriteOneToClear;

/// Accesses that include a load.
pub trait Readable {}
impl Readable for ReadOnly {}
impl Readable for ReadWrite {}
impl Readable for WriteOneToClear {}

/// Accesses that include a plain store.
pub trait Writable {}
impl Writable for WriteOnly {}
impl Writable for ReadWrite {}

/// The widths there are: `u32` and `u64`.
pub trait Width: Copy {
    /// Loads one value of this width.
    fn load(from: &impl Registers, at: Offset) -> Self;
    /// Stores one value of this width.
    fn store(to: &mut impl Registers, at: Offset, value: Self);
}

impl Width for u32 {
    fn load(from: &impl Registers, at: Offset) -> Self {
        from.load32(at)
    }
    fn store(to: &mut impl Registers, at: Offset, value: Self) {
        to.store32(at, value);
    }
}

impl Width for u64 {
    fn load(from: &impl Registers, at: Offset) -> Self {
        from.load64(at)
    }
    fn store(to: &mut impl Registers, at: Offset, value: Self) {
        to.store64(at, value);
    }
}

impl<V, A> Register<V, A> {
    const fn at(bytes: u32) -> Self {
        Self {
            at: Offset(bytes),
            kind: PhantomData,
        }
    }

    /// Where the register is.
    pub const fn offset(&self) -> Offset {
        self.at
    }
}

impl<V: Bits<Word: Width>, A: Readable> Register<V, A> {
    /// Loads the register.
    pub fn read(&self, unit: &impl Registers) -> V {
        V::from_bits(V::Word::load(unit, self.at))
    }
}

impl<V: Bits<Word: Width>, A: Writable> Register<V, A> {
    /// Stores `value`.
    pub fn write(&self, unit: &mut impl Registers, value: V) {
        V::Word::store(unit, self.at, value.bits());
    }
}

impl<V: Bits<Word: Width>> Register<V, WriteOneToClear> {
    /// Clears the bits that are ones in `bits`, and no others.
    pub fn clear(&self, unit: &mut impl Registers, bits: V) {
        V::Word::store(unit, self.at, bits.bits());
    }
}

/// Version.
pub const VER: Register<Ver, ReadOnly> = Register::at(offset::VER);
/// Capabilities.
pub const CAP: Register<Cap, ReadOnly> = Register::at(offset::CAP);
/// Extended capabilities.
pub const ECAP: Register<Ecap, ReadOnly> = Register::at(offset::ECAP);
/// Global command.
pub const GCMD: Register<Gcmd, WriteOnly> = Register::at(offset::GCMD);
/// Global status.
pub const GSTS: Register<Gsts, ReadOnly> = Register::at(offset::GSTS);
/// Root table address.
pub const RTADDR: Register<Rtaddr, ReadWrite> = Register::at(offset::RTADDR);
/// Fault status.
pub const FSTS: Register<Fsts, WriteOneToClear> = Register::at(offset::FSTS);
/// Fault event control.
pub const FECTL: Register<Fectl, ReadWrite> = Register::at(offset::FECTL);
/// Fault event data.
pub const FEDATA: Register<u32, ReadWrite> = Register::at(offset::FEDATA);
/// Fault event address.
pub const FEADDR: Register<u32, ReadWrite> = Register::at(offset::FEADDR);
/// Fault event upper address.
pub const FEUADDR: Register<u32, ReadWrite> = Register::at(offset::FEUADDR);
/// Protected memory enable.
pub const PMEN: Register<Pmen, ReadWrite> = Register::at(offset::PMEN);
/// Protected low memory, first byte.
pub const PLMBASE: Register<u32, ReadWrite> = Register::at(offset::PLMBASE);
/// Protected low memory, limit.
pub const PLMLIMIT: Register<u32, ReadWrite> = Register::at(offset::PLMLIMIT);
/// Protected high memory, first byte.
pub const PHMBASE: Register<u64, ReadWrite> = Register::at(offset::PHMBASE);
/// Protected high memory, limit.
pub const PHMLIMIT: Register<u64, ReadWrite> = Register::at(offset::PHMLIMIT);
/// Invalidation queue head.
pub const IQH: Register<QueueIndex, ReadOnly> = Register::at(offset::IQH);
/// Invalidation queue tail.
pub const IQT: Register<QueueIndex, ReadWrite> = Register::at(offset::IQT);
/// Invalidation queue address.
pub const IQA: Register<Iqa, ReadWrite> = Register::at(offset::IQA);
/// Invalidation event control.
pub const IECTL: Register<Fectl, ReadWrite> = Register::at(offset::IECTL);
/// Invalidation queue error record.
pub const IQERCD: Register<Iqercd, ReadOnly> = Register::at(offset::IQERCD);
/// Interrupt-remapping table address.
pub const IRTA: Register<Irta, ReadWrite> = Register::at(offset::IRTA);

/// The two halves of one fault-recording register.
#[derive(Debug)]
pub(crate) struct FaultRecord {
    /// Bits 63:0: the faulting page, or the interrupt index in bits 63:48.
    pub(crate) low: Register<u64, ReadOnly>,
    /// Bits 127:64.
    pub(crate) high: Register<RecordHigh, ReadOnly>,
    /// Bits 127:96, where the F bit is cleared.
    pub(crate) top: Register<u32, WriteOneToClear>,
}

/// Fault record `index` of the unit with `cap`, or `None` if there is none, or the unit
/// announces it beyond `window`.
pub(crate) fn fault_record(cap: Cap, index: u16, window: u32) -> Option<FaultRecord> {
    if index > u16::from(cap.nfr()) {
        return None;
    }
    let at = u32::from(cap.fro()) * 16 + u32::from(index) * RECORD_SIZE;
    (at + RECORD_SIZE <= window).then(|| FaultRecord {
        low: Register::at(at),
        high: Register::at(at + 8),
        top: Register::at(at + 12),
    })
}
