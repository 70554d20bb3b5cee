//! What an instruction does, without its operands.
//!
//! Owns the list of everything that is understood. Knows neither encodings nor effects.

use crate::{instruction::Width, spec::Rflags};

/// What an instruction does to its operands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operation {
    /// MOV, MOVNTI.
    Move,
    /// MOVBE: the bytes change their order on the way.
    MoveSwapped,
    /// MOVZX, MOVSX, MOVSXD: from `from` to the width of the instruction.
    Extend {
        /// The width of the source.
        from: Width,
        /// What fills the rest.
        with: Fill,
    },
    /// An operation of two operands that sets the flags.
    Binary(Binary),
    /// An operation of one operand.
    Unary(Unary),
    /// XCHG.
    Exchange,
    /// CMPXCHG.
    CompareExchange,
    /// XADD.
    ExchangeAdd,
    /// BT, BTS, BTR, BTC.
    Bit(Bit),
    /// SETcc.
    Set(Condition),
    /// MOVS, STOS, LODS.
    String(StringOperation),
    /// An instruction that a hypervisor intercepts as such: only its length and its operands
    /// are told, emulation is the hypervisor's.
    Intercepted(Intercepted),
}

/// What fills the upper bits of an extended value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fill {
    /// Zeros.
    Zero,
    /// Copies of the top bit.
    Sign,
}

/// An operation of two operands that sets the flags.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "mnemonics of the manual")]
pub enum Binary {
    Add,
    Or,
    Adc,
    Sbb,
    And,
    Sub,
    Xor,
    Cmp,
    Test,
}

impl Binary {
    /// Whether the result goes back to the first operand.
    pub fn keeps_result(self) -> bool {
        !matches!(self, Self::Cmp | Self::Test)
    }
}

/// An operation of one operand.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "mnemonics of the manual")]
pub enum Unary {
    Not,
    Neg,
    Inc,
    Dec,
}

/// What happens to a bit after it was copied to the carry flag.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bit {
    /// BT: nothing.
    Test,
    /// BTS: it becomes one.
    Set,
    /// BTR: it becomes zero.
    Reset,
    /// BTC: it changes.
    Complement,
}

/// A condition by its number in SETcc, 0 to 15 (SDM vol. 1, appendix B).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Condition(u8);

impl Condition {
    /// The condition in the low four bits of an opcode.
    pub(crate) const fn of_opcode(opcode: u8) -> Self {
        Self(opcode & 15)
    }

    /// 0 to 15.
    pub const fn number(self) -> u8 {
        self.0
    }

    /// Whether the flags fulfil it.
    pub fn holds(self, flags: Rflags) -> bool {
        let plain = match self.0 >> 1 {
            0 => flags.of(),
            1 => flags.cf(),
            2 => flags.zf(),
            3 => flags.cf() || flags.zf(),
            4 => flags.sf(),
            5 => flags.pf(),
            6 => flags.sf() != flags.of(),
            _ => flags.zf() || flags.sf() != flags.of(),
        };
        plain != (self.0 & 1 != 0)
    }
}

/// A string instruction that moves data between memory and memory, or memory and RAX.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StringOperation {
    /// MOVS.
    Move,
    /// STOS.
    Store,
    /// LODS.
    Load,
}

/// An instruction that a hypervisor intercepts as such.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "mnemonics of the manuals")]
pub enum Intercepted {
    Clgi,
    Clts,
    Cpuid,
    Hlt,
    In,
    Ins,
    Invd,
    Invlpg,
    Invlpga,
    Iret,
    Lmsw,
    Monitor,
    MoveControl,
    MoveDebug,
    Mwait,
    Out,
    Outs,
    Pause,
    Rdmsr,
    Rdtsc,
    Rdtscp,
    Skinit,
    Stgi,
    Vmcall,
    Vmload,
    Vmmcall,
    Vmrun,
    Vmsave,
    Wbinvd,
    Wbnoinvd,
    Wrmsr,
    Xgetbv,
    Xsetbv,
}
