//! The list of extended capabilities as the guest may see it.
//!
//! Owns which capabilities are hidden and how the list is linked around them. Hidden from
//! everybody is what lets requests pass by the tables of the remapping unit, or ranges change
//! their size unseen.

use super::Trust;
use crate::capabilities::Extended;
use crate::spec::extended::{Header, Id, sriov};

/// Whether the guest may not see capability `id` of a function of that trust.
pub(super) fn is_hidden(id: Id, trust: Trust) -> bool {
    match id {
        Id::ATS | Id::PRI | Id::PASID => true,
        Id::RESIZABLE_BAR | Id::VF_RESIZABLE_BAR | Id::MULTICAST | Id::MRIOV => true,
        Id::SRIOV => trust == Trust::Untrusted,
        _ => false,
    }
}

/// Bytes of a hidden capability, at most.
pub(super) const fn length(id: Id) -> u16 {
    match id {
        Id::ATS | Id::PASID => 8,
        Id::PRI => 0x10,
        Id::RESIZABLE_BAR | Id::VF_RESIZABLE_BAR => 4 + 6 * 8,
        Id::MULTICAST => 0x30,
        _ => sriov::LENGTH,
    }
}

/// The header at `offset` as the guest reads it, in the list `all`.
///
/// A hidden capability in the first place, which the list cannot pass by, becomes the null
/// capability; others read zero and nothing points to them. The list ends where our copy ends.
pub(super) fn header(all: &[Extended], trust: Trust, offset: u16) -> u32 {
    let Some(index) = all.iter().position(|c| c.offset == offset) else {
        return 0;
    };
    let (before, rest) = all.split_at(index);
    let Some((this, after)) = rest.split_first() else {
        return 0;
    };
    let next = after.iter().find(|c| !is_hidden(c.id(), trust));
    let next = next.map_or(0, |c| c.offset);
    let mut shown = match (is_hidden(this.id(), trust), before.is_empty()) {
        (false, _) => this.header,
        (true, true) => Header::new(0),
        (true, false) => return 0,
    };
    shown.set_next(next);
    shown.raw()
}
