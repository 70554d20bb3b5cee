//! Untrusted devices without a mediator that reach what the guest maps for them, page by page.
//!
//! What the guest's tables give such a device is carried over into its own domain; the tables are [`viommu`]'s to
//! read. Only the guest's memory is lent, and what is taken back every unit has forgotten before the guest reads
//! that it is done. Whatever runs out, the device reaches less.

use memory::{ByteRange, Gpa, Hpa, Iova};
use pci::topology::Layout;
use pci::{Address, FunctionId};
use policy::{Fallback, Treatment, Verdict};
use viommu::{Blocked, Loans, Shadow};
use vtd::domain::Access;
use vtd::fault::{Attempt, Fault};

use super::remapping::{Reach, Remapping};
use super::{Fabric, RESERVE};
use crate::console::say;
use crate::limit::Once;
use crate::machine::Machine;
use crate::mediated::Kind;
use crate::physical::Physical;
use crate::virtual_unit::Shared;

/// Such devices at most.
pub(super) const MAX_SHADOWS: usize = 16;

/// Devices that reach less than the guest has mapped, and why.
static LESS: Once<(Address, Why), 64> = Once::new();

#[derive(Clone, Copy, PartialEq, Eq)]
enum Why {
    NoMemory,
    NoRoom,
    Shared,
    Many,
}

/// One such device.
#[derive(Debug)]
pub(super) struct Shadowed {
    id: FunctionId,
    at: Address,
    /// Its domain.
    domain: u8,
    /// The unit that the guest sees in front of it.
    unit: &'static Shared,
    shadow: Shadow,
}

/// Whether a device like this is to reach what the guest maps for it; of a bridge, whether those behind it are.
pub(super) fn is_wanted(function: &pci::topology::Function, verdict: &Verdict<'_>) -> bool {
    let has_mediator = Kind::of(&function.identity, verdict.mediator).is_some();
    verdict.treatment() == Treatment::Confined
        && verdict.fallback == Fallback::Page
        && (function.layout == Layout::Bridge || !has_mediator)
}

impl Fabric {
    /// Whether what the guest maps for the device is to be carried over.
    pub(super) fn is_paged(&self, id: FunctionId) -> bool {
        let standing = self.standings.get(id.index()).and_then(Option::as_ref);
        standing.is_some_and(|standing| standing.is_paged)
    }

    /// Whether it is.
    pub(super) fn is_shadowed(&self, id: FunctionId) -> bool {
        self.shadows.iter().any(|shadowed| shadowed.id == id)
    }

    /// Carries over what the guest maps for `id`, which is at `at` and behind `unit`, from here on.
    pub(super) fn cast_shadow(&mut self, id: FunctionId, at: Address, unit: &'static Shared) {
        if self
            .shadows
            .iter()
            .any(|s| s.id == id && s.at == at && core::ptr::eq(s.unit, unit))
        {
            return;
        }
        self.drop_shadow(id);
        let reach = self.standings[id.index()].map(|standing| standing.reach);
        let (Some(Reach::Own(domain)), Some(limits)) = (reach, unit.limits()) else {
            return;
        };
        if self.is_shared(Reach::Own(domain)) {
            return tell(at, Why::Shared);
        }
        let shadowed = Shadowed {
            id,
            at,
            domain,
            unit,
            shadow: Shadow::new(at.bdf, limits, unit.mode()),
        };
        if self.shadows.push(shadowed).is_err() {
            return tell(at, Why::Many);
        }
        if let Some(decision) = self.mediation.bind(id) {
            self.carry_out(&decision);
        }
    }

    /// Whether several devices have the domain `reach`.
    fn is_shared(&self, reach: Reach) -> bool {
        let standings = self.standings.iter().flatten();
        standings.filter(|s| s.reach == reach).count() > 1
    }

    /// Whether a device whose addresses are the guest's to choose has this domain.
    pub(super) fn is_anybody_paged_in(&self, domain: u8) -> bool {
        let mut standings = self.standings.iter().flatten();
        standings.any(|s| s.reach == Reach::Own(domain) && s.is_paged)
    }

    /// Another device has come into the domain `reach`: what the guest mapped for one is not for two.
    pub(super) fn share(&mut self, reach: Reach) {
        if !self.is_shared(reach) {
            return;
        }
        let shadowed = self.shadows.iter();
        let mut past = shadowed.filter(|s| Reach::Own(s.domain) == reach);
        // Nobody casts a second one in the same domain.
        if let Some((id, at)) = past.next().map(|s| (s.id, s.at)) {
            self.drop_shadow(id);
            tell(at, Why::Shared);
        }
    }

    /// Stops that; nothing is lent any more.
    pub(super) fn drop_shadow(&mut self, id: FunctionId) {
        if let Some(place) = self.shadows.iter().position(|s| s.id == id) {
            let shadowed = self.shadows.swap_remove(place);
            let all = shadowed
                .unit
                .limits()
                .and_then(|limits| ByteRange::inclusive(Iova::new(0), Iova::new(limits.last())));
            if let Some(all) = all {
                self.remapping.revoke(shadowed.domain, all);
            }
        }
    }

    /// Does something with each device's tables behind `unit`.
    pub(crate) fn each_shadow(&mut self, unit: &Shared, mut act: impl FnMut(&mut Shadow)) {
        let behind = self.shadows.iter_mut();
        for shadowed in behind.filter(|shadowed| core::ptr::eq(shadowed.unit, unit)) {
            act(&mut shadowed.shadow);
        }
    }

    /// Brings what devices behind `unit` reach in line with the guest's tables, as far as `entries` goes. Returns
    /// whether that is done.
    pub(crate) fn carry_on(
        &mut self,
        unit: &Shared,
        machine: &'static Machine,
        entries: &mut u32,
    ) -> bool {
        let Self {
            shadows, remapping, ..
        } = self;
        let mut behind = shadows.iter_mut();
        behind.all(|shadowed| {
            let mut lender = Lender {
                remapping,
                machine,
                domain: shadowed.domain,
                at: shadowed.at,
            };
            !core::ptr::eq(shadowed.unit, unit)
                || shadowed
                    .shadow
                    .carry_on(&Physical(machine), &mut lender, entries)
        })
    }

    /// Hands a fault of such a device to the guest, as its unit would record it.
    pub(super) fn hand_over(&self, at: Address, fault: &Fault) {
        let Some(shadowed) = self.shadows.iter().find(|shadowed| shadowed.at == at) else {
            return;
        };
        let (Shadowed { unit, shadow, .. }, source) = (shadowed, at.bdf);
        let (page, access) = match fault.attempt {
            Attempt::Interrupt(index) => {
                let asked = self.asked_with(shadowed.id, index);
                let blocked = asked.and_then(|asked| unit.route(at, asked, false).err());
                let blocked = blocked.unwrap_or(Blocked {
                    index,
                    reason: fault.reason,
                    is_quiet: false,
                });
                return unit.refuse_interrupt(source, blocked);
            }
            Attempt::Read(page) => (page, viommu::Access::Read),
            Attempt::Write(page) => (page, viommu::Access::Write),
        };
        if !shadow.is_translating() {
            return;
        }
        let explained = Machine::published()
            .and_then(|machine| shadow.explain(&Physical(machine), page, access));
        // The tables may be others by now, or what they say could not be lent.
        let refused = explained.unwrap_or(viommu::Refused {
            reason: fault.reason,
            is_quiet: false,
        });
        unit.refuse(source, page, access, refused);
    }
}

/// The domain of one device.
struct Lender<'a> {
    remapping: &'a mut Remapping,
    machine: &'static Machine,
    domain: u8,
    at: Address,
}

impl Lender<'_> {
    /// Whether this can be lent, and leaves others their memory.
    fn has_room(&self, at: ByteRange<Iova>, pages: Hpa, access: Access) -> bool {
        self.remapping.frames.left() >= RESERVE
            || self.remapping.is_lent(self.domain, at, pages, access)
    }
}

impl Loans for Lender<'_> {
    fn lend(&mut self, at: ByteRange<Iova>, page: Gpa, access: Access) {
        let memory = ByteRange::new(page.identity(), at.len());
        let why = match memory.filter(|memory| self.machine.is_memory(*memory)) {
            None => Why::NoMemory,
            Some(memory) if !self.has_room(at, memory.start(), access) => Why::NoRoom,
            Some(memory) => {
                let lent = self.remapping.lend(self.domain, at, memory.start(), access);
                match lent {
                    Ok(()) => return,
                    Err(_) => Why::NoRoom,
                }
            }
        };
        self.revoke(at);
        tell(self.at, why);
    }

    fn revoke(&mut self, at: ByteRange<Iova>) {
        self.remapping.revoke(self.domain, at);
    }

    fn lent(&self, at: Iova) -> Option<ByteRange<Iova>> {
        self.remapping.lent(self.domain, at)
    }
}

fn tell(at: Address, why: Why) {
    if LESS.is_new((at, why)) {
        say!(
            "device {at}: reaches less than the guest has mapped for it: {}",
            match why {
                Why::NoMemory => "some of that is no memory of the guest's",
                Why::NoRoom => "there is no memory left for its tables",
                Why::Shared => "it shares its domain with another device, and so gets nothing",
                Why::Many => "there are too many such devices, and it gets nothing",
            }
        );
    }
}
