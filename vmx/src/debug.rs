//! A debug exception that left the guest: what the processor would have written into the guest's debug
//! registers before it raised one itself. SDM vol. 3B, 18.2 and 18.4; vol. 3C, 28.1.

/// DR6 (18.2.3): breakpoints that were met; these, access to debug registers and single step, as the exit
/// qualification tells them.
const MET: u64 = 0xf;
const TOLD: u64 = MET | 1 << 13 | 1 << 14;
/// Cleared by the detection of a bus lock, left alone by other exceptions, and told as set.
const BUS_LOCK: u64 = 1 << 11;
/// Cleared by an exception within a transaction, set by any other, and told as set.
const TRANSACTION: u64 = 1 << 16;
/// Bits that read as ones.
const ONES: u64 = 0xfffe_07f0;
/// DR7: accesses to debug registers fault.
const GENERAL_DETECT: u64 = 1 << 13;
/// IA32_DEBUGCTL: last branches are recorded; single steps go from branch to branch.
const RECORDING: u64 = 1 << 0;
const BRANCH_STEP: u64 = 1 << 1;

/// DR6 after the exception that `qualification` tells of, when it was `before`.
pub const fn status(before: u64, qualification: u64) -> u64 {
    let kept = before & !(MET | BUS_LOCK) | ONES | TRANSACTION;
    let bus_lock = before & BUS_LOCK & !qualification;
    (kept | bus_lock | qualification & TOLD) & !(qualification & TRANSACTION)
}

/// DR7 after a debug exception.
pub const fn control(before: u64) -> u64 {
    before & !GENERAL_DETECT
}

/// IA32_DEBUGCTL after a debug exception (18.4.1, 18.4.4).
pub const fn recording(before: u64) -> u64 {
    before & !(RECORDING | BRANCH_STEP)
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT_RESET: u64 = 0xffff_0ff0;

    #[test]
    fn a_step_is_told_and_breakpoints_met_before_are_forgotten() {
        assert_eq!(status(AT_RESET | 3, 1 << 14), AT_RESET | 1 << 14);
        assert_eq!(status(AT_RESET, 2), AT_RESET | 2);
        assert_eq!(
            status(AT_RESET | 1 << 14, 1),
            AT_RESET | 1 << 14 | 1,
            "18.2.3: never cleared"
        );
    }

    #[test]
    fn a_bus_lock_clears_its_bit_and_another_exception_leaves_it() {
        let locked = status(AT_RESET, BUS_LOCK);
        assert_eq!(locked, AT_RESET & !BUS_LOCK);
        assert_eq!(status(locked, 1 << 14), locked | 1 << 14);
    }

    #[test]
    fn a_transaction_clears_its_bit_and_another_exception_sets_it() {
        let aborted = status(AT_RESET, TRANSACTION | 1);
        assert_eq!(aborted, AT_RESET & !TRANSACTION | 1);
        assert_eq!(status(aborted, 1 << 14), AT_RESET | 1 << 14);
    }

    #[test]
    fn steps_by_branches_and_their_recording_end() {
        assert_eq!(recording(0x1003), 0x1000);
        assert_eq!(control(0x2401), 0x401);
    }
}
