//! What is to be done about one write: a verdict for the log, and steps to take in order.
//!
//! Owns the vocabulary between the model and whoever obeys it. A decision is a value: the model
//! has already changed its own mind accordingly, and the caller takes every step, in order.

use core::fmt;

use memory::{ByteRange, Hpa};

use super::{KeepoutKind, PortKind};
use crate::config::Register;
use crate::spec::capability::MsiControl;
use crate::{Address, Bdf, FunctionId};

/// Most steps a decision has: a command write to a bridge or endpoint with every register live.
pub const MAX_STEPS: usize = 24;

/// What became of a guest's write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Reaches the device as the guest wrote it.
    Pass,
    /// Reaches the device as this value, in the lanes the guest wrote.
    Replace(u32),
    /// Is kept here and read back; the device gets what the steps say, if anything.
    Keep,
    /// Is kept here and read back, but has no effect on the device until the reason is gone.
    Withhold(Reason),
    /// Is lost; the guest reads back what was there before.
    Drop(Reason),
}

/// Why a write is withheld or dropped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    /// Nobody we know answers there.
    Unknown,
    /// A register that is hidden from the guest.
    Hidden,
    /// A register the specification makes read-only, or that does not exist.
    ReadOnly,
    /// The expansion ROM of an untrusted device.
    Rom,
    /// The device is untrusted and nothing is bound to it yet.
    Unbound,
    /// The device was stopped for what it did.
    Stopped,
    /// A base address register has no address.
    Unplaced {
        /// Its index.
        bar: u8,
    },
    /// A range would lie beyond the machine's address space.
    BeyondMachine {
        /// The first byte of the range.
        at: Hpa,
    },
    /// A range would cover what no device may cover.
    Protected {
        /// The first byte of the range.
        at: Hpa,
        /// What it would cover.
        kind: KeepoutKind,
    },
    /// A range would cover what another device decodes.
    Taken {
        /// The first byte of the range.
        at: Hpa,
        /// Whose it is.
        by: FunctionId,
    },
    /// A base address register names ports that no processor has.
    BeyondPorts {
        /// Its index.
        bar: u8,
    },
    /// Ports would cover what no device may cover.
    ProtectedPorts {
        /// The first port.
        at: u16,
        /// What they would cover.
        kind: PortKind,
    },
    /// Ports would cover what another device decodes.
    PortsTaken {
        /// The first port.
        at: u16,
        /// Whose they are.
        by: FunctionId,
    },
    /// Its decoding cannot be switched off, so its registers stay where firmware put them.
    FixedDecode,
    /// A register of the chipset that moves memory, not a device.
    Chipset,
    /// Virtual functions exist; their resources may not change now.
    VirtualFunctions,
    /// The virtual functions would have requester ids that are others', or on another bus than
    /// their physical function.
    VirtualNumbers,
    /// The table of functions has no room for the virtual ones.
    NoRoom,
    /// The device's list of extended capabilities cannot be believed.
    MalformedList,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("no function we know of answers there"),
            Self::Hidden => f.write_str("the register is hidden: with it the device could bypass or confuse address translation"),
            Self::ReadOnly => f.write_str("the register is read-only"),
            Self::Rom => f.write_str("the expansion ROM of an untrusted device is never shown"),
            Self::Unbound => f.write_str("bus mastering stays off until something is bound to the untrusted device; see its protection in the device table"),
            Self::Stopped => f.write_str("bus mastering stays off until the device is replaced, after what it did"),
            Self::Unplaced { bar } => write!(f, "base address register {bar} has no address yet; decoding stays off until it has"),
            Self::BeyondMachine { at } => write!(f, "the range at {at} is beyond the machine's address space; it stays off"),
            Self::Protected { at, kind } => write!(f, "the range at {at} would cover {kind}; it stays off until it is moved"),
            Self::Taken { at, by } => write!(f, "the range at {at} would cover that of function {}; it stays off until one of them is moved", by.index()),
            Self::BeyondPorts { bar } => write!(f, "base address register {bar} names ports beyond the last one; decoding of ports stays off"),
            Self::ProtectedPorts { at, kind } => write!(f, "the ports at {at:#x} would cover {kind}; they stay off until they are moved"),
            Self::PortsTaken { at, by } => write!(f, "the ports at {at:#x} would cover those of function {}; they stay off until one of them is moved", by.index()),
            Self::FixedDecode => f.write_str("the function decodes always, so its ranges stay where firmware put them"),
            Self::Chipset => f.write_str("the register belongs to the memory map of the chipset, which is fixed"),
            Self::VirtualFunctions => f.write_str("virtual functions exist; disable them first"),
            Self::VirtualNumbers => f.write_str("the virtual functions would have requester ids that are others', or on another bus than their physical function"),
            Self::NoRoom => f.write_str("there is no room in the table of functions for the virtual ones: enable fewer, or build with a larger table"),
            Self::MalformedList => f.write_str("the untrusted device's list of extended capabilities is malformed, so nothing in it may be written"),
        }
    }
}

/// MSI as the guest programmed it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Msi {
    /// The message address the guest wrote.
    pub address: u64,
    /// The message data the guest wrote.
    pub data: u32,
    /// The control register the guest wrote: enable, vectors granted.
    pub control: MsiControl,
}

/// What the world outside configuration space must do about a write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Effect {
    /// Make the context entries of every function number of this bus agree with
    /// [`crate::Topology::speaker`]: those who left lose theirs, those who came get theirs.
    ContextsFollow {
        /// The segment.
        segment: u16,
        /// The bus.
        bus: u8,
    },
    /// A base address register stops decoding `from` and starts decoding `to`. Neither decodes
    /// while this is obeyed if both are given; `to` must be trapped or mapped as its owner's rules
    /// say before the next step.
    BarMoved {
        /// Whose register.
        function: FunctionId,
        /// Its index, or [`crate::bars::ROM`].
        bar: u8,
        /// What it decoded.
        from: Option<ByteRange<Hpa>>,
        /// What it is about to decode.
        to: Option<ByteRange<Hpa>>,
    },
    /// The guest wants an untrusted device to become, or stop being, a bus master. It does not
    /// become one before [`super::Mediation::bind`].
    BusMasterRequested {
        /// Whose.
        function: FunctionId,
        /// What the guest wrote.
        is_on: bool,
    },
    /// MSI was enabled, disabled or changed while enabled. When it is on: translate the message
    /// and store it with [`super::Mediation::program_msi`] before the next step.
    MsiChanged {
        /// Whose.
        function: FunctionId,
        /// What the guest programmed.
        msi: Msi,
    },
    /// MSI-X was enabled, disabled, masked or unmasked as a whole.
    MsixChanged {
        /// Whose.
        function: FunctionId,
        /// Whether messages are sent.
        is_enabled: bool,
        /// Whether all vectors are masked.
        is_masked: bool,
    },
    /// Virtual functions are about to appear; they are in the topology. They have no context
    /// entries unless they are given some before the next step, and no configuration space the
    /// guest can see before they are adopted.
    VirtualFunctionsAppear {
        /// The physical function.
        function: FunctionId,
        /// The requester id of the first one.
        first: Bdf,
        /// From one requester id to the next.
        stride: u16,
        /// How many.
        count: u16,
    },
    /// The virtual functions of a function are gone. They are in the topology until they are
    /// forgotten.
    VirtualFunctionsVanish {
        /// The physical function.
        function: FunctionId,
    },
    /// A function was reset, or may have been: it decodes nothing, masters nothing, has no
    /// interrupts until the guest writes the registers for them again.
    Reset {
        /// Which.
        function: FunctionId,
    },
    /// Everything behind a bridge was reset, bus numbers included: as [`Effect::Reset`] for each,
    /// and the context entries of every bus below are stale.
    ResetBehind {
        /// Which bridge.
        bridge: FunctionId,
    },
}

/// A physical write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Store {
    /// To whom.
    pub at: Address,
    /// Which bytes.
    pub register: Register,
    /// What, in the low bits.
    pub value: u32,
}

/// One thing to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// Bring this about.
    Obey(Effect),
    /// Write this to the device.
    Store(Store),
}

/// What is to be done about one write. Take every step, in order.
#[must_use = "the model already believes that these steps were taken"]
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Decision {
    /// In short, for the log.
    pub verdict: Verdict,
    /// To be taken in order.
    pub steps: heapless::Vec<Step, MAX_STEPS>,
}

impl Decision {
    pub(super) const fn new(verdict: Verdict) -> Self {
        Self {
            verdict,
            steps: heapless::Vec::new(),
        }
    }

    pub(super) fn obey(&mut self, effect: Effect) {
        self.push(Step::Obey(effect));
    }

    pub(super) fn store(&mut self, at: Address, register: Register, value: u32) {
        self.push(Step::Store(Store {
            at,
            register,
            value,
        }));
    }

    pub(super) fn append(&mut self, other: &Self) {
        other.steps.iter().for_each(|&step| self.push(step));
    }

    fn push(&mut self, step: Step) {
        assert!(
            self.steps.push(step).is_ok(),
            "no decision has more than {MAX_STEPS} steps"
        );
    }
}
