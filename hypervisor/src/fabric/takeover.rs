//! From what the firmware left to a machine whose devices reach nothing that was not given.

// UNSAFETY: names the remapping units' registers, and makes the fabric in memory of its own.
#![expect(unsafe_code)]

use boot::handoff::Handoff;
use boot::memory_map::RegionKind;
use core::fmt;
use heapless::Vec;
use memory::{ByteRange, Gpa, Hpa, PAGE_SIZE};
use pci::topology::Outcasts;
use pci::{Address, FunctionId, Latch, Mediation, Topology};
use policy::{Enforcement, Policy, Treatment, Trust};
use vtd::dmar::{Bridges, Dmar};
use vtd::domain::{Domain, Support};
use vtd::fault::Pause;
use vtd::unit::{Candidate, Failure};

use super::faults::Faults;
use super::messages::Messages;
use super::pins::Pins;
use super::registers::Mapped;
use super::remapping::{MAX_SEGMENTS, MAX_UNITS, Remapping, Segment};
use super::space::Space;
use super::{Fabric, MAX_FUNCTIONS, Shared, Standing, keepouts, reserved};
use crate::console::say;
use crate::cpu::timer::{Clock, Timer};
use crate::devices;
use crate::firmware::Unreached;
use crate::machine::IoApics;
use crate::mappings::{self, NestedMap};
use crate::mediated::{self, Pools};
use crate::nmis;
use crate::own::OwnFrames;
use crate::refusal::{Refusal, refuse};

/// What the loader mapped: units are taken over on its tables.
const MAPPED: u64 = 1 << 32;

/// What is needed to confine devices, all of it looked at and nothing changed yet.
pub(crate) struct Confinement {
    dmar: &'static [u8],
    candidates: Candidates,
}

/// The units, each with its segment and its registers.
type Candidates = Vec<(u16, ByteRange<Hpa>, Candidate<Mapped>), MAX_UNITS>;

/// Why this machine's devices cannot be confined.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Lacking {
    /// No DMAR table, or no unit in it.
    Units,
    /// A unit or the platform does not remap interrupts.
    InterruptRemapping,
}

impl fmt::Display for Lacking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Units => "the firmware names no DMA-remapping hardware (Intel VT-d)",
            Self::InterruptRemapping => "the remapping hardware cannot remap interrupts",
        })
    }
}

/// Why a machine that has remapping hardware is not taken over.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Obstacle {
    /// The table that names the units.
    Dmar(vtd::dmar::Malformed),
    /// One unit.
    Unit(ByteRange<Hpa>, Failure),
    /// A unit's registers are not where they can be used.
    Registers(Hpa),
    /// More units than there is room for.
    Units,
    /// More segments than there is room for.
    Segments,
    /// Units translate too few address bits for this machine's memory, or differently.
    Width,
    /// No unit governs an untrusted device.
    Ungoverned(Address),
    /// Memory that firmware reserved for a device is Bouncer's.
    Reserved(ByteRange<Hpa>),
    /// The trusted devices' memory cannot be mapped.
    Identity(paging::Refused<memory::Iova>),
    /// No unit speaks for an I/O APIC.
    IoApic(u8),
    /// The memory map is too ragged.
    Keepouts(pci::mediation::TooManyKeepouts),
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dmar(malformed) => malformed.fmt(f),
            Self::Unit(at, failure) => write!(f, "at {}: {failure}", at.start()),
            Self::Registers(at) => write!(
                f,
                "the firmware's DMAR table has the registers of a remapping unit at {at}: above 4 GiB, in \
                 memory, or over another's"
            ),
            Self::Units => write!(f, "the machine has more than {MAX_UNITS} remapping units"),
            Self::Segments => write!(f, "the machine has more than {MAX_SEGMENTS} PCI segments"),
            Self::Width => f.write_str(
                "the remapping units have no table format in common that reaches all memory",
            ),
            Self::Ungoverned(at) => write!(
                f,
                "no remapping unit governs the untrusted device {at}: trust it in policy.toml, or \
                 remove it"
            ),
            Self::Reserved(range) => write!(
                f,
                "the firmware reserved {}..={} for a trusted device, where Bouncer's memory is",
                range.start(),
                range.last()
            ),
            Self::Identity(refused) => write!(f, "the trusted devices' memory: {refused}"),
            Self::IoApic(id) => write!(
                f,
                "the firmware's DMAR table does not say as whom I/O APIC {id} raises interrupts"
            ),
            Self::Keepouts(full) => full.fmt(f),
        }
    }
}

impl From<Obstacle> for Refusal {
    fn from(obstacle: Obstacle) -> Self {
        Self::Confinement(obstacle)
    }
}

/// Looks whether and how the devices of this machine are to be confined. `None`: not at all, as the
/// policy says, or because the machine cannot and the policy allows that. Says so loudly.
pub(crate) fn plan(
    handoff: &Handoff,
    policy: &Policy,
    dmar: Option<&'static [u8]>,
    topology: &Topology<MAX_FUNCTIONS>,
    timer: Timer,
) -> Result<Option<Confinement>, Refusal> {
    if policy.enforcement() == Enforcement::Off {
        say!(
            "NOT ENFORCED: the policy says enforcement = \"off\". VT-d is left to the guest; every device \
             reaches all memory that the guest lets it reach, and Bouncer's own."
        );
        return Ok(None);
    }
    match survey(handoff, dmar, topology, policy, timer)? {
        Ok(confinement) => Ok(Some(confinement)),
        Err(lacking) if policy.requires_iommu() && may_be_untrusted(policy, topology) => {
            Err(Refusal::NotConfined(lacking))
        }
        Err(lacking) => {
            say!(
                "NOT ENFORCED: {lacking}. Every device reaches all memory, Bouncer's own included; the \
                 policy allows that (require-iommu = false, or nothing untrusted)."
            );
            Ok(None)
        }
    }
}

/// Whether any device is untrusted, or one that may come later.
fn may_be_untrusted(policy: &Policy, topology: &Topology<MAX_FUNCTIONS>) -> bool {
    let by_rule = policy.rules().iter().any(|r| r.trust() == Trust::Untrusted);
    let present = || {
        topology.functions().any(|(id, _)| {
            devices::verdict(policy, topology, id).is_none_or(|v| v.trust == Trust::Untrusted)
        })
    };
    policy.default_trust() == Trust::Untrusted || by_rule || present()
}

fn survey(
    handoff: &Handoff,
    dmar: Option<&'static [u8]>,
    topology: &Topology<MAX_FUNCTIONS>,
    policy: &Policy,
    timer: Timer,
) -> Result<Result<Confinement, Lacking>, Refusal> {
    let Some(bytes) = dmar else {
        return Ok(Err(Lacking::Units));
    };
    let table = Dmar::parse(bytes).map_err(Obstacle::Dmar)?;
    let mut candidates = Candidates::new();
    for unit in table.units() {
        let at = unit.registers;
        let range = ByteRange::new(at, unit.window);
        let range = range.filter(|range| range.last().raw() < MAPPED);
        let range = range.ok_or(Obstacle::Registers(at))?;
        let memory = handoff.regions().filter(|r| r.kind != RegionKind::RESERVED);
        let mut taken = memory
            .map(|region| region.range)
            .chain(candidates.iter().map(|(_, other, _)| *other));
        if taken.any(|taken| taken.overlaps(&range)) {
            return Err(Obstacle::Registers(at).into());
        }
        // SAFETY: the firmware names the registers; the loader's tables map them, as Bouncer's own
        // do; the guest's leave them out.
        let registers = unsafe { Mapped::new(range, timer) };
        let candidate = Candidate::probe(registers);
        let candidate = candidate.map_err(|failure| Obstacle::Unit(range, failure))?;
        if candidate.belies(&table) {
            say!(
                "the firmware's DMAR table promises that devices' DMA is confined (DMA_CTRL_PLATFORM_OPT_IN), \
                 but the unit at {at} was off when Bouncer came: until now its devices could reach all memory"
            );
        }
        if !candidate.capabilities().remaps_interrupts() {
            return Ok(Err(Lacking::InterruptRemapping));
        }
        candidates
            .push((unit.segment, range, candidate))
            .map_err(|_| Obstacle::Units)?;
    }
    if candidates.is_empty() {
        return Ok(Err(Lacking::Units));
    }
    if !table.supports_interrupt_remapping() {
        return Ok(Err(Lacking::InterruptRemapping));
    }
    for (id, _) in topology.functions() {
        let confined = devices::verdict(policy, topology, id)
            .is_none_or(|verdict| verdict.treatment() == Treatment::Confined);
        if let Some(at) = topology.address(id).filter(|_| confined)
            && table.unit_of(at, &bridges(topology)).is_none()
        {
            return Err(Obstacle::Ungoverned(at).into());
        }
    }
    Ok(Ok(Confinement {
        dmar: bytes,
        candidates,
    }))
}

/// The buses behind bridges, as they are numbered now.
pub(super) fn bridges(topology: &Topology<MAX_FUNCTIONS>) -> impl Bridges {
    |at: Address| {
        let numbers = topology.function(topology.find(at)?)?.bridge?;
        (numbers.secondary() != 0).then(|| numbers.secondary()..=numbers.subordinate())
    }
}

impl Confinement {
    /// The registers that only Bouncer may reach.
    pub(crate) fn registers(&self) -> impl Iterator<Item = ByteRange<Hpa>> {
        self.candidates.iter().map(|(_, range, _)| *range)
    }
}

/// What a fabric is made of.
pub(crate) struct Needs<'a> {
    pub(crate) handoff: &'static Handoff,
    pub(crate) policy: &'static Policy,
    pub(crate) own: ByteRange<Gpa>,
    pub(crate) space: Space,
    pub(crate) topology: Topology<MAX_FUNCTIONS>,
    pub(crate) io_apics: IoApics,
    pub(crate) timer: Timer,
    /// Windows into configuration space that Bouncer does not reach, nor anybody else.
    pub(crate) unreached: &'a Unreached,
    /// Ports at which the guest is stopped.
    pub(crate) watched: &'a [u16],
    /// The processor that faults are announced to.
    pub(crate) apic_id: u32,
    pub(crate) map: NestedMap,
    /// Memory for the pages of untrusted devices.
    pub(crate) pools: Pools,
}

/// Takes the remapping units over. From here on every device reaches what the policy says. An error is one from
/// before any unit was touched.
pub(crate) fn take_over(
    confinement: Confinement,
    needs: Needs<'_>,
    mut frames: OwnFrames,
) -> Result<&'static Shared, Refusal> {
    let Confinement { dmar, candidates } = confinement;
    let table = Dmar::parse(dmar).map_err(Obstacle::Dmar)?;
    let place = frames.take_run((size_of::<Shared>() as u64).next_multiple_of(PAGE_SIZE))?;
    let own = needs.own.identity();
    mediated::make_slots(&mut frames)?;

    let support = candidates
        .iter()
        .map(|(_, _, candidate)| candidate.capabilities().support())
        .reduce(Support::and)
        .ok_or(Obstacle::Width)?;
    let is_wide = candidates
        .iter()
        .all(|(_, _, candidate)| candidate.capabilities().has_wide_destinations());
    if candidates
        .iter()
        .any(|(_, _, candidate)| !candidate.capabilities().is_coherent())
    {
        frames.write_back_from_now_on();
    }
    let mut segments = Vec::<Segment, MAX_SEGMENTS>::new();
    for (number, ..) in &candidates {
        if !segments.iter().any(|segment| segment.number() == *number) {
            let segment = Segment::new(*number, support, is_wide, &mut frames)?;
            segments.push(segment).map_err(|_| Obstacle::Segments)?;
        }
    }

    let top = needs.handoff.regions().map(|r| r.range.last().raw()).max();
    let needed = 64 - top.unwrap_or(u64::MAX).leading_zeros();
    let format = support
        .format(needed, table.host_address_width())
        .ok_or(Obstacle::Width)?;
    let bits = u32::from(table.host_address_width())
        .min(format.reach())
        .min(mappings::physical_width());
    let whole = ByteRange::new(Hpa::new(0), 1 << bits).ok_or(Obstacle::Width)?;
    let mut holes: Vec<ByteRange<Hpa>, 64> = Vec::new();
    holes.extend([own]);
    holes.extend(candidates.iter().map(|(_, range, _)| *range));
    holes.extend(
        needs
            .space
            .windows()
            .iter()
            .map(|window| window.range().identity()),
    );
    holes.extend(needs.unreached.iter().map(|window| window.identity()));
    // What an entry says is decided where the guest writes it, and by no device in its name.
    holes.extend(needs.io_apics.iter().map(|io_apic| io_apic.page.identity()));
    let id = Remapping::trusted_id();
    let trusted = Domain::identity(id, format, &mut frames, whole, &holes);
    let trusted = trusted.map_err(Obstacle::Identity)?;
    reserved::look(&table, &needs, &bridges(&needs.topology), own, whole)?;

    let keepouts = keepouts::of(&needs, own, &holes).map_err(Obstacle::Keepouts)?;
    let clock = Clock::measured_by(needs.timer);
    nmis::note_clock(clock);
    let fabric = Shared::new(Fabric {
        policy: needs.policy,
        dmar,
        space: needs.space,
        latch: Latch::default(),
        mediation: Mediation::new(needs.topology, keepouts),
        standings: [const { None::<Standing> }; MAX_FUNCTIONS],
        messages: [const { Messages::NONE }; MAX_FUNCTIONS],
        pins: Vec::new(),
        remapping: Remapping::new(segments, trusted, format, frames),
        faults: Faults::new(clock, needs.apic_id),
        map: needs.map,
        pools: needs.pools,
        spare: Vec::new(),
        shadows: Vec::new(),
        exposed: Vec::new(),
        pause: Pause::NONE,
        outcasts: Outcasts::new(),
    });
    let place = place.raw() as *mut Shared;
    // SAFETY: the run was just taken, is page aligned and large enough, and stays for ever.
    let shared: &'static Shared = unsafe {
        place.write(fabric);
        &*place
    };
    let first = candidates
        .first()
        .map(|(segment, range, _)| (*segment, *range));
    let mut held = shared.lock();
    if let Err(refusal) = held.begin(candidates, own, &needs.io_apics) {
        refuse(refusal);
    }
    if let Some((segment, registers)) = first {
        held.show_units(segment, registers.identity(), is_wide, needs.handoff);
    }
    drop(held);
    Ok(shared)
}

impl Fabric {
    /// Gives everybody what it is to have, then makes the units enforce it.
    fn begin(
        &mut self,
        mut candidates: Candidates,
        own: ByteRange<Hpa>,
        io_apics: &IoApics,
    ) -> Result<(), Refusal> {
        for (_, range, candidate) in &mut candidates {
            // Until the unit translates, where it can.
            match candidate.protect_memory(own) {
                Ok(()) | Err(Failure::NoProtectedMemory) => {}
                Err(failure) => return Err(Obstacle::Unit(*range, failure).into()),
            }
        }
        let present: Vec<FunctionId, MAX_FUNCTIONS> = self
            .mediation
            .topology()
            .functions()
            .map(|(id, _)| id)
            .collect();
        let adopted: Vec<(FunctionId, Address), MAX_FUNCTIONS> = present
            .into_iter()
            .filter_map(|id| Some((id, self.adopt(id)?)))
            .collect();
        for (segment, range, candidate) in candidates {
            self.remapping
                .take_over(segment, candidate)
                .map_err(|failure| Obstacle::Unit(range, failure))?;
        }
        let table = Dmar::parse(self.dmar).map_err(Obstacle::Dmar)?;
        for io_apic in io_apics {
            let topology = self.mediation.topology();
            let speaker = table.io_apic(io_apic.id, &bridges(topology));
            let (unit, source) = speaker.ok_or(Obstacle::IoApic(io_apic.id))?;
            // SAFETY: the page is an I/O APIC's, as the firmware says; the guest is stopped at it.
            let pins =
                unsafe { Pins::take_over(io_apic, unit.segment, source, &mut self.remapping) };
            let pins = pins.map_err(|_| Obstacle::IoApic(io_apic.id))?;
            // There is room for as many as the firmware's reader keeps.
            let _ = self.pins.push(pins);
        }
        for (id, at) in adopted {
            self.adopt_messages(id, at);
        }
        self.cut_exposed();
        let route = self.faults.route();
        self.remapping.announce_faults(route);
        say!(
            "remapping    {} unit{}, {}",
            self.remapping.units(),
            if self.remapping.units() == 1 { "" } else { "s" },
            match self.policy.enforcement() {
                Enforcement::Audit =>
                    "AUDIT: untrusted devices are let through as trusted ones, and named",
                _ => "devices reach what the policy says and nothing else",
            }
        );
        say!(
            "@iommu units={} enforcement={}",
            self.remapping.units(),
            self.policy.enforcement()
        );
        Ok(())
    }

    /// Whether a unit governs whoever is at `at`.
    pub(super) fn is_governed(&self, at: Address) -> bool {
        let topology = self.mediation.topology();
        Dmar::parse(self.dmar).is_ok_and(|table| table.unit_of(at, &bridges(topology)).is_some())
    }
}
