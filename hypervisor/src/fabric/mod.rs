//! The devices: who they are, what they reach, and how their interrupts travel.
//!
//! Owns everything that stands between the guest and its devices, behind one lock: the model of
//! configuration space, the remapping units, the interrupts issued, the I/O APICs, and the pages at
//! which the guest is stopped for them. In steady state nobody comes here.

mod audit;
mod binding;
mod config;
mod faults;
mod keepouts;
mod messages;
mod mute;
mod pins;
mod registers;
mod remapping;
mod reserved;
mod shadows;
mod space;
mod stops;
mod takeover;
mod vectors;
mod virtual_unit;
mod virtuals;

use heapless::Vec;
use memory::{ByteRange, Gpa};
use pci::mediation::Trust;
use pci::topology::{Layout, Outcasts, Speaker};
use pci::{Address, FunctionId, Latch, Mediation};
use policy::Treatment;
use policy::{Policy, Storm, Verdict};
use spin::mutex::TicketMutex;
use vtd::fault::Pause;

use crate::console::say;
use crate::devices;
use crate::limit::{Few, Once};
use crate::mappings::NestedMap;
use crate::mediated::{self, Kind, MAX_DEVICES, Pools, Store};
use binding::Binding;
use faults::Faults;
pub(crate) use faults::{Looked, are_hushed as are_faults_hushed};
use messages::Messages;
pub(crate) use mute::are_mute;
use pins::Pins;
pub(crate) use remapping::Remapping;
use remapping::{Denied, Reach};
use shadows::{MAX_SHADOWS, Shadowed};
pub(crate) use space::{Space, Windows};
pub(crate) use takeover::{Confinement, Lacking, Needs, Obstacle, plan, take_over};

/// Functions of a machine at most.
pub(crate) const MAX_FUNCTIONS: usize = 256;

/// Comings and goings told of one place.
const MOST_NEWS: u32 = 32;
static NEWS: Few<Address, 64> = Few::new();
/// Requesters that could not be given what the policy says.
static DENIED: Once<Address, 32> = Once::new();
/// Functions that the guest is never shown.
static HIDDEN: Once<Address, 32> = Once::new();

/// Bytes of Bouncer's own memory that nothing takes of which a device or a guest decides how much there is.
const RESERVE: u64 = 256 << 10;

/// The fabric, which processors use one at a time.
pub(crate) type Shared = TicketMutex<Fabric>;

/// Everything between the guest and its devices.
#[derive(Debug)]
pub(crate) struct Fabric {
    policy: &'static Policy,
    dmar: &'static [u8],
    space: Space,
    latch: Latch,
    mediation: Mediation<MAX_FUNCTIONS>,
    standings: [Option<Standing>; MAX_FUNCTIONS],
    messages: [Messages; MAX_FUNCTIONS],
    pins: Vec<Pins, 16>,
    remapping: Remapping,
    faults: Faults,
    map: NestedMap,
    pools: Pools,
    /// Memory of mediated devices that left.
    spare: Vec<Store, MAX_DEVICES>,
    /// Devices that reach what the guest maps for them.
    shadows: Vec<Shadowed, MAX_SHADOWS>,
    /// Functions at whose registers the guest could not be stopped, to be cut off.
    exposed: Vec<FunctionId, MAX_FUNCTIONS>,
    /// When interrupts of mediated devices were taken back for a while, and for how long.
    pause: Pause,
    /// Where functions left in quarantine that nobody can have replaced.
    outcasts: Outcasts,
}

/// What became of one function.
#[derive(Clone, Copy, Debug)]
struct Standing {
    treatment: Treatment,
    group: Option<&'static str>,
    storm: Storm,
    reach: Reach,
    binding: Option<Binding>,
    /// It is to reach what the guest maps for it.
    is_paged: bool,
    /// What an audit would have refused.
    recorded: u32,
}

impl Fabric {
    /// Reads `to` at `range` for the guest, if that is the fabric's to answer.
    pub(crate) fn read(&mut self, range: ByteRange<Gpa>, to: &mut [u8]) -> bool {
        if self.read_window(range, to) {
            return true;
        }
        if let Some(pins) = self.pins.iter().find(|p| p.page().contains(range.start())) {
            pins.read(range.start().page_offset() as u32, to);
            return true;
        }
        self.table_at(range)
            .is_some_and(|(id, place)| self.read_table(id, place, to))
    }

    /// Writes `from` at `range` for the guest, if that is the fabric's to do.
    pub(crate) fn write(&mut self, range: ByteRange<Gpa>, from: &[u8]) -> bool {
        if self.write_window(range, from) {
            return true;
        }
        let Self {
            pins, remapping, ..
        } = self;
        if let Some(pins) = pins.iter_mut().find(|p| p.page().contains(range.start())) {
            pins.write(range.start().page_offset() as u32, from, remapping);
            return true;
        }
        self.table_at(range)
            .is_some_and(|(id, place)| self.write_table(id, place, from))
    }

    /// Prints the table of devices.
    pub(crate) fn describe(&self) {
        devices::describe(
            self.policy,
            self.mediation.topology(),
            |id| self.mediator(id).map(Kind::name),
            |id| self.protection(id),
        );
    }

    /// Bytes of Bouncer's own memory that were never used.
    pub(crate) fn unused(&self) -> u64 {
        self.remapping.frames.untouched()
    }

    /// What a device really gets, in a word.
    pub(crate) fn protection(&self, id: FunctionId) -> &'static str {
        let standing = self.standings.get(id.index()).and_then(Option::as_ref);
        match standing.map(|standing| (standing.reach, standing.binding)) {
            Some((Reach::Memory, _)) => "none",
            Some((Reach::Own(_), Some(_))) => "byte",
            Some((Reach::Own(_), None)) if self.is_shadowed(id) => "page",
            Some((Reach::Nothing | Reach::Own(_) | Reach::Quarantine, _)) | None => "denied",
        }
    }

    /// The units.
    pub(crate) fn remapping(&mut self) -> &mut Remapping {
        &mut self.remapping
    }

    /// How often units were asked to forget something.
    pub(crate) fn invalidations(&self) -> u64 {
        self.remapping.queue_writes()
    }

    /// The last words: who faulted, and how often units were told to forget.
    pub(crate) fn report(&mut self) {
        let _: Looked = self.take_faults();
        self.faults.report();
        mediated::report();
        crate::virtual_unit::report();
        self.report_audit();
        say!("@invalidations count={}", self.remapping.queue_writes());
    }

    /// Somebody asked who is at `at`: whoever left is forgotten, and whoever came is judged before
    /// the guest sees it.
    fn look_who_is_there(&mut self, at: Address) {
        if let Some(id) = self.mediation.topology().find(at) {
            // Whoever was hidden has made room for another as well, and those behind it leave, too.
            if !self.mediation.is_present(&self.space, id) {
                self.leave(id);
            } else if self.mediation.knows(at) {
                return;
            }
        }
        match self.mediation.discover(&self.space, at) {
            Ok(Some(id)) if self.standings[id.index()].is_none() => {
                self.arrive(id);
                self.cut_exposed();
            }
            Ok(_) => {}
            Err(full) if HIDDEN.is_new(full.at) => say!(
                "device {}: there is room for {MAX_FUNCTIONS} functions; it stays hidden",
                full.at
            ),
            Err(_) => {}
        }
    }

    /// Whoever left from behind the bridge at `at` is forgotten.
    fn look_behind(&mut self, at: Address) {
        let topology = self.mediation.topology();
        let Some(bridge) = topology.find(at) else {
            return;
        };
        let is_slot = topology
            .function(bridge)
            .is_some_and(|f| f.slot.is_hot_plug || f.slot.is_external);
        if !is_slot {
            return;
        }
        let behind: Vec<FunctionId, MAX_FUNCTIONS> = topology.behind(bridge).collect();
        for id in behind {
            let is_reachable = self.mediation.topology().address(id).is_some();
            if is_reachable
                && self.standings[id.index()].is_some()
                && !self.mediation.is_present(&self.space, id)
            {
                self.leave(id);
            }
        }
    }

    fn arrive(&mut self, id: FunctionId) {
        let Some(at) = self.adopt(id) else {
            return;
        };
        self.adopt_messages(id, at);
        self.translate_for(id, at);
        self.keep_outcast(id, at);
        self.announce(id, at);
    }

    /// Whoever came back to its quarantine masters nothing and raises nothing.
    fn keep_outcast(&mut self, id: FunctionId, at: Address) {
        if self.is_quarantined(id)
            && let Err(denied) = self.quarantine(id)
        {
            say!("device {at}: reaches nothing: {denied}");
        }
    }

    /// Whether something about the coming and going at `at` is still told: a device may change its
    /// identity, and a guest switch a slot off and on, for ever.
    fn is_news(&self, at: Address) -> bool {
        NEWS.is_one(at, MOST_NEWS)
    }

    /// Says that the function `id` has come, and what it gets.
    fn announce(&self, id: FunctionId, at: Address) {
        if !self.is_news(at) {
            return;
        }
        let trust = match self.standings[id.index()].map(|standing| standing.treatment) {
            Some(Treatment::Confined | Treatment::Recorded) | None => "untrusted",
            Some(Treatment::Direct) => "trusted",
        };
        let protection = self.protection(id);
        say!("device {at}: arrived; {trust}, protection: {protection}");
        say!("@arrived bdf={at} trust={trust} protection={protection}");
    }

    fn leave(&mut self, id: FunctionId) {
        let mut leaving: Vec<FunctionId, MAX_FUNCTIONS> = Vec::new();
        leaving.extend(self.mediation.topology().behind(id));
        leaving.extend(self.mediation.topology().virtuals(id));
        leaving.extend([id]);
        for id in leaving {
            let topology = self.mediation.topology();
            let (ids, segment) = (topology.requester_ids(id), topology.segment(id));
            if self.is_quarantined(id) {
                // Where nothing is plugged in or out it went silent, or was reset.
                self.outcasts.note(topology, id);
            }
            self.drop_messages(id);
            let standing = self.standings[id.index()].take();
            let names = ids.iter().zip(segment.into_iter().cycle());
            for (index, (source, segment)) in names.enumerate() {
                let at = Address::new(segment, *source);
                // A name stays with those who still share it.
                let (reach, _) = self.reach_of(at);
                self.give(at, reach);
                if index == 0 {
                    self.faults.forget(at);
                    if standing.is_some() && self.is_news(at) {
                        say!("device {at}: left");
                        say!("@left bdf={at}");
                    }
                }
            }
            if let Some(standing) = standing {
                self.unbind(&standing);
                self.drop_shadow(id);
                self.end_domain_unless_shared(standing.reach);
            }
        }
        self.mediation.forget(id);
    }

    /// Takes everything from `id` until it is replaced.
    fn quarantine(&mut self, id: FunctionId) -> Result<(), Denied> {
        let topology = self.mediation.topology();
        let (sources, segment) = (topology.requester_ids(id), topology.segment(id));
        let standing = self.standings.get_mut(id.index());
        let (Some(standing), Some(segment)) = (standing.and_then(Option::as_mut), segment) else {
            return Ok(());
        };
        let before = core::mem::replace(&mut standing.reach, Reach::Quarantine);
        let mut cut = Ok(());
        for source in sources {
            let at = Address::new(segment, source);
            cut = cut.and(self.remapping.give(at, Reach::Quarantine));
        }
        self.take_pages(id, before);
        self.drop_shadow(id);
        self.end_domain_unless_shared(before);
        if let Some(decision) = self.mediation.stop(id) {
            self.carry_out(&decision);
        }
        // Interrupts need no entry of its own among those for memory.
        self.end_messages(id);
        cut
    }

    /// Cuts off whom the guest reaches where it may not.
    fn cut_exposed(&mut self) {
        while let Some(id) = self.exposed.pop() {
            let _: Result<(), Denied> = self.quarantine(id);
        }
    }

    /// Whether the function was cut off.
    fn is_quarantined(&self, id: FunctionId) -> bool {
        let standing = self.standings.get(id.index()).and_then(Option::as_ref);
        standing.is_some_and(|standing| standing.reach == Reach::Quarantine)
    }

    /// Ends the domain that somebody had until now, if nobody else has it.
    fn end_domain_unless_shared(&mut self, reach: Reach) {
        let mut standings = self.standings.iter().flatten();
        if let Reach::Own(slot) = reach
            && !standings.any(|standing| standing.reach == reach)
        {
            self.remapping.end_domain(slot);
        }
    }

    /// Judges a function and takes it under guard. Returns where it is.
    fn adopt(&mut self, id: FunctionId) -> Option<Address> {
        let at = self.mediation.topology().address(id)?;
        let verdict = devices::verdict(self.policy, self.mediation.topology(), id)?;
        if !self.may_stand(at, &verdict) {
            return None;
        }
        let trust = match verdict.treatment() {
            Treatment::Confined => Trust::Untrusted,
            Treatment::Direct | Treatment::Recorded => Trust::Trusted,
        };
        let adoption = match self.mediation.adopt(&mut self.space, id, trust) {
            Ok(adoption) => adoption,
            Err(refused) => {
                if HIDDEN.is_new(at) {
                    say!("devices      {refused}");
                }
                return None;
            }
        };
        let at = adoption.at;
        let is_news = self.is_news(at);
        for malformed in adoption.malformed.into_iter().flatten().filter(|_| is_news) {
            say!("device {at}: {malformed}");
        }
        if let Some(reason) = adoption.withheld.filter(|_| is_news) {
            say!("device {at}: what firmware had it decode is switched off: {reason}");
        }
        self.stand(id, at, &verdict);
        self.bind(id, at, &verdict);
        Some(at)
    }

    /// Whether what the policy says of the function at `at` can be enforced. Says so if not.
    fn may_stand(&self, at: Address, verdict: &Verdict<'_>) -> bool {
        let may = verdict.treatment() != Treatment::Confined || self.is_governed(at);
        if !may && HIDDEN.is_new(at) {
            say!("device {at}: untrusted, and no remapping unit governs it: it stays hidden");
        }
        may
    }

    /// Gives the function what the policy says, under each of its requester ids.
    fn stand(&mut self, id: FunctionId, at: Address, verdict: &Verdict<'static>) {
        let treatment = verdict.treatment();
        let function = self.mediation.topology().function(id);
        let is_paged = function.is_some_and(|function| shadows::is_wanted(function, verdict));
        let reach = match treatment {
            _ if self.outcasts.may_hold(self.mediation.topology(), id) => Reach::Quarantine,
            Treatment::Direct | Treatment::Recorded => Reach::Memory,
            // What the guest maps is one device's: its addresses are no place for pools.
            Treatment::Confined if is_paged => self.own_domain(id, None),
            Treatment::Confined => self.own_domain(id, verdict.group),
        };
        self.standings[id.index()] = Some(Standing {
            treatment,
            group: verdict.group,
            storm: verdict.storm,
            reach,
            binding: None,
            is_paged,
            recorded: 0,
        });
        self.share(reach);
        for source in self.mediation.topology().requester_ids(id) {
            let at = Address::new(at.segment, source);
            // Somebody else may still speak with a name that it has now.
            let (reach, _) = self.reach_of(at);
            self.give(at, reach);
        }
    }

    /// The domain of an untrusted function: shared with its group, and with whom its requests cannot
    /// be told from. A bridge speaks only for others and has none.
    fn own_domain(&mut self, id: FunctionId, group: Option<&'static str>) -> Reach {
        let topology = self.mediation.topology();
        if topology
            .function(id)
            .is_some_and(|f| f.layout == Layout::Bridge)
        {
            return Reach::Nothing;
        }
        let (alias, segment) = (topology.alias(id), topology.segment(id));
        let shared = topology.functions().find_map(|(other, _)| {
            let standing = self.standings[other.index()].as_ref()?;
            let is_own = matches!(standing.reach, Reach::Own(_));
            let is_group = group.is_some() && standing.group == group && !standing.is_paged;
            let is_alias = topology.alias(other) == alias && topology.segment(other) == segment;
            (other != id && is_own && (is_group || is_alias)).then_some(standing.reach)
        });
        match shared.or_else(|| self.remapping.new_domain().map(Reach::Own)) {
            Some(reach) => reach,
            None => {
                let at = self.mediation.topology().address(id);
                if at.is_some_and(|at| DENIED.is_new(at)) {
                    say!(
                        "devices      no room for another domain: the device gets none and reaches nothing"
                    );
                }
                Reach::Nothing
            }
        }
    }

    fn give(&mut self, at: Address, reach: Reach) {
        if let Err(denied) = self.remapping.give(at, reach)
            && DENIED.is_new(at)
        {
            say!("device {at}: reaches nothing: {denied}");
        }
    }

    /// What the requester `at` is to reach today, and whose own number it is.
    fn reach_of(&self, at: Address) -> (Reach, Option<FunctionId>) {
        let topology = self.mediation.topology();
        let reach = |id: FunctionId| {
            let standing = self.standings[id.index()].as_ref();
            standing.map_or(Reach::Nothing, |standing| standing.reach)
        };
        match topology.speaker(at) {
            Speaker::Function(id) => (reach(id), Some(id)),
            Speaker::Behind(bridge) => {
                // Whoever is hidden or leaves has no say, nor have bridges, which speak for others only.
                let has_say = |id: &FunctionId| {
                    let layout = topology.function(*id).map(|function| function.layout);
                    self.standings[id.index()].is_some() && layout != Some(Layout::Bridge)
                };
                let mut all = topology.behind(bridge).filter(has_say).map(reach);
                let first = all.next().unwrap_or(Reach::Nothing);
                let same = all.all(|other| other == first);
                (if same { first } else { Reach::Nothing }, None)
            }
            Speaker::Nobody | Speaker::Ambiguous => (Reach::Nothing, None),
        }
    }
}
