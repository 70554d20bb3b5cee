//! Faults of devices: told, counted, and answered when they become a storm.
//!
//! Units announce faults by an NMI to the first processor. However many come, the console gets a few
//! lines for each device and second, and the guest's processor is interrupted a bounded number of times.

use core::sync::atomic::{AtomicBool, Ordering};

use heapless::Vec;
use pci::topology::Speaker;
use pci::{Address, FunctionId};
use policy::{Storm, StormAction};
use vtd::fault::{Attempt, Fault, Limits, Reaction, Told, Watch};
use vtd::remap::{Destination, Route};

use super::Fabric;
use super::remapping::Reach;
use crate::console::say;
use crate::cpu::timer::Clock;

/// Requesters that are watched one by one at a time.
const MAX_WATCHED: usize = 32;
/// Faults of one requester told in each of its periods.
const TOLD: u32 = 4;
/// Looks at the records for one interrupt; then the guest goes on and there is another look.
const LOOKS: u32 = 16;
/// Faults in a second after which units stop announcing them for as long.
const ANNOUNCED: u32 = 2_000;
const SECOND: u32 = 1_000;
/// Functions that speak with one number at most: all of a conventional bus.
const MAX_SPEAKERS: usize = 256;

/// Functions that speak with one number.
type Speakers = Vec<FunctionId, MAX_SPEAKERS>;

/// Whether units do not announce faults for a while. Beside the lock, for a look at every exit.
static IS_HUSHED: AtomicBool = AtomicBool::new(false);

/// Whether units do not announce faults for a while.
pub(crate) fn are_hushed() -> bool {
    IS_HUSHED.load(Ordering::Acquire)
}

/// What is known of faults.
#[derive(Debug)]
pub(super) struct Faults {
    clock: Clock,
    destination: Destination,
    watched: Vec<Watched, MAX_WATCHED>,
    /// Faults of requesters that nobody is, and of those that made room for others.
    others: Watched,
    lost: u64,
    second: u64,
    in_second: u32,
}

/// One requester's faults.
#[derive(Debug)]
struct Watched {
    at: Option<Address>,
    watch: Watch,
    count: u64,
    /// When it last faulted.
    last: u64,
    /// Interrupts of its that were taken back, and since when.
    muted: (u64, u32),
    is_masked: bool,
}

impl Watched {
    fn new(at: Option<Address>) -> Self {
        Self {
            at,
            watch: Watch::new(Clock::now()),
            count: 0,
            last: Clock::now(),
            muted: (0, 0),
            is_masked: false,
        }
    }

    /// Counts an interrupt that was taken back at `since`, as all were. Returns how many there are.
    fn mute(&mut self, since: u64) -> u32 {
        if self.muted.0 != since {
            self.muted = (since, 0);
        }
        self.muted.1 = self.muted.1.saturating_add(1);
        self.muted.1
    }
}

impl Faults {
    /// No faults yet; they will be announced to the processor with this APIC id.
    pub(super) fn new(clock: Clock, apic_id: u32) -> Self {
        Self {
            clock,
            destination: Destination::physical(apic_id),
            watched: Vec::new(),
            others: Watched::new(None),
            lost: 0,
            second: Clock::now(),
            in_second: 0,
        }
    }

    /// Ticks of the clock in so many milliseconds.
    pub(super) fn ticks(&self, milliseconds: u32) -> u64 {
        self.clock.ticks(milliseconds)
    }

    /// Where and how they are announced.
    pub(super) fn route(&self) -> Route {
        Route::nmi_of_our_own(self.destination)
    }

    fn of(&mut self, at: Address) -> &mut Watched {
        let known = self.watched.iter().position(|w| w.at == Some(at));
        let place = known.unwrap_or_else(|| self.place_for(at));
        match self.watched.get_mut(place) {
            Some(watched) => {
                watched.last = Clock::now();
                watched
            }
            None => &mut self.others,
        }
    }

    /// A place for one more, who takes that of whoever was quiet for longest: a guest can give a device
    /// one number after the other.
    fn place_for(&mut self, at: Address) -> usize {
        if self.watched.push(Watched::new(Some(at))).is_ok() {
            return self.watched.len() - 1;
        }
        let places = self.watched.iter_mut().enumerate();
        let Some((place, quiet)) = places.min_by_key(|(_, watched)| watched.last) else {
            return MAX_WATCHED;
        };
        self.others.count += quiet.count;
        *quiet = Watched::new(Some(at));
        place
    }

    /// Forgets what the requester's device did, as for another in its place.
    pub(super) fn forget(&mut self, at: Address) {
        if let Some(place) = self.watched.iter().position(|w| w.at == Some(at)) {
            self.watched.swap_remove(place);
        }
    }

    /// Whether so many faults came that they are not to be announced for a while.
    fn are_too_many(&mut self, more: u32) -> bool {
        let now = Clock::now();
        if now.wrapping_sub(self.second) > self.clock.ticks(SECOND) {
            self.second = now;
            self.in_second = 0;
        }
        self.in_second = self.in_second.saturating_add(more);
        self.in_second > ANNOUNCED
    }

    /// Prints how many there were.
    pub(super) fn report(&self) {
        for watched in &self.watched {
            if let Some(at) = watched.at {
                say!("@faults bdf={at} count={}", watched.count);
            }
        }
        if self.others.count != 0 {
            say!("@faults bdf=others count={}", self.others.count);
        }
        if self.lost != 0 {
            say!(
                "faults were lost {} times for want of records in the units",
                self.lost
            );
        }
    }
}

/// What became of the look at the records.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Looked {
    /// Nothing had been recorded.
    Nothing,
    /// Something had, and all of it was told at once.
    Done,
    /// Something had, and more came meanwhile; all of it was told.
    Again,
    /// Something had, and more keeps coming: look again soon.
    More,
}

impl Fabric {
    /// Tells what the units recorded.
    pub(crate) fn take_faults(&mut self) -> Looked {
        let (mut came, mut counted, mut looks) = (0, 0, 0);
        for _ in 0..LOOKS {
            let mut found: Vec<(Address, Fault), 64> = Vec::new();
            let mut left_out = 0_u64;
            let told = self.remapping.tell_faults(|at, fault| {
                if found.push((at, fault)).is_err() {
                    left_out += 1;
                }
            });
            self.faults.lost += left_out + u64::from(told == Told::Some);
            if found.is_empty() {
                break;
            }
            came += found.len() as u32;
            looks += 1;
            for (at, fault) in found {
                counted += u32::from(!self.fault(at, fault));
            }
        }
        if came == 0 {
            return Looked::Nothing;
        }
        if self.faults.are_too_many(counted) {
            // What is not announced any more is no way for a device to say that it completed something.
            let were_mute = self.unmute();
            if !IS_HUSHED.swap(true, Ordering::AcqRel) {
                say!(
                    "faults       more than {ANNOUNCED} in a second: units are looked at once a \
                     second until it is over"
                );
            }
            self.remapping.hush_faults();
            // What one said in the last moment was not heard.
            return if were_mute {
                Looked::More
            } else {
                Looked::Again
            };
        }
        match looks {
            LOOKS => Looked::More,
            // Each of several may have been announced by itself.
            1 if came == 1 => Looked::Done,
            _ => Looked::Again,
        }
    }

    /// Looks again if announcing was stopped a second ago, and has it go on if faults have become few.
    pub(crate) fn look_again(&mut self) -> Looked {
        let since = Clock::now().wrapping_sub(self.faults.second);
        if since <= self.faults.clock.ticks(SECOND) {
            return Looked::Nothing;
        }
        self.faults.second = Clock::now();
        self.faults.in_second = 0;
        IS_HUSHED.store(false, Ordering::Release);
        let looked = self.take_faults();
        if !are_hushed() {
            // What is recorded meanwhile is announced at once.
            let route = self.faults.route();
            self.remapping.announce_faults(route);
        }
        looked
    }

    /// Has faults announced from here on.
    pub(super) fn end_hush(&mut self) {
        if IS_HUSHED.swap(false, Ordering::AcqRel) {
            self.faults.in_second = 0;
            let route = self.faults.route();
            self.remapping.announce_faults(route);
        }
    }

    /// Tells and answers a fault. Returns whether it is a message of an honest device's that was taken back.
    fn fault(&mut self, at: Address, fault: Fault) -> bool {
        self.hand_over(at, &fault);
        let speakers = self.speakers(at);
        let storm = self.storm_of(&speakers);
        let limits = Limits {
            window: self.faults.clock.ticks(storm.per.milliseconds()),
            logged: TOLD,
            storm: match storm.then {
                StormAction::Quarantine => storm.faults,
                StormAction::Log | StormAction::Mask => u32::MAX,
            },
        };
        let most_of_muted = match fault.attempt {
            Attempt::Interrupt(_) => self.may_raise_while_mute(&speakers),
            _ => None,
        };
        // A number that nobody has is a forger's: places for watching are not his to fill.
        let watched = match speakers.is_empty() {
            true => &mut self.faults.others,
            false => self.faults.of(at),
        };
        watched.count += 1;
        if let Some(most) = most_of_muted
            && watched.mute(self.pause.began()) <= most
        {
            return true;
        }
        let (count, is_masked) = (watched.count, watched.is_masked);
        let is_shared = watched.at.is_none();
        match watched.watch.fault(Clock::now(), limits) {
            Reaction::Log { .. } if is_masked => {}
            Reaction::Log { left_out } => tell(at, fault, count, left_out),
            Reaction::Count => {
                if storm.then == StormAction::Mask && !is_masked && count >= storm.faults.into() {
                    watched.is_masked = true;
                    say!("fault        {at}: {count} so far; the policy says not to report more");
                    say!("@storm bdf={at} action=mask");
                }
            }
            // Nobody in particular: what a requester out of many does is blocked and counted.
            _ if is_shared => {}
            Reaction::MasteringOff => self.stop_mastering(at, &speakers, count),
            Reaction::Quarantine => self.cut_off(at, &speakers, count),
        }
        false
    }

    /// Who speaks with the number `at` today: one function, or all behind a bridge that speaks for them.
    fn speakers(&self, at: Address) -> Speakers {
        let topology = self.mediation.topology();
        match topology.speaker(at) {
            Speaker::Function(id) => [id].into_iter().collect(),
            Speaker::Behind(bridge) => topology.behind(bridge).take(MAX_SPEAKERS).collect(),
            Speaker::Nobody | Speaker::Ambiguous => Speakers::new(),
        }
    }

    fn storm_of(&self, speakers: &Speakers) -> Storm {
        let mut standings = speakers
            .iter()
            .filter_map(|id| self.standings.get(id.index())?.as_ref());
        let standing = standings.next();
        standing.map_or(Storm::default(), |standing| standing.storm)
    }

    fn stop_mastering(&mut self, at: Address, speakers: &Speakers, count: u64) {
        for id in speakers {
            if let Some(decision) = self.mediation.stop(*id) {
                self.carry_out(&decision);
            }
        }
        say!("fault        {at}: a storm of {count} so far; its bus mastering is switched off");
        say!("@storm bdf={at} action=mastering-off");
    }

    /// Whatever number they will have, the devices reach nothing from here on.
    fn cut_off(&mut self, at: Address, speakers: &Speakers, count: u64) {
        let mut cut = Ok(());
        for id in speakers {
            cut = cut.and(self.quarantine(*id));
        }
        match cut.and(self.remapping.give(at, Reach::Quarantine)) {
            Ok(()) => {
                say!(
                    "fault        {at}: goes on after {count}; it is in quarantine until it is replaced \
                     or the machine starts again"
                );
                say!("@storm bdf={at} action=quarantine");
            }
            Err(_) => say!("fault        {at}: no page is left for its quarantine"),
        }
    }
}

fn tell(at: Address, fault: Fault, count: u64, left_out: u32) {
    let (access, address) = match fault.attempt {
        Attempt::Read(page) => ("read", page.raw()),
        Attempt::Write(page) => ("write", page.raw()),
        Attempt::Interrupt(index) => ("interrupt", u64::from(index)),
    };
    match left_out {
        0 => say!("fault        {fault}"),
        _ => say!("fault        {fault} ({left_out} others since the last line)"),
    }
    say!(
        "@fault bdf={at} access={access} address={address:#x} reason={:#04x} count={count}",
        fault.reason.0
    );
}
