//! The interrupts that a guest programmed into a mediated device.
//!
//! The device itself raises NMIs of Bouncer's; what the guest asked for is kept here, and raised
//! by an interrupt command when a mediator has something to say.

use viommu::Blocked;
use vtd::remap::Route;

use crate::cpu::apic;

/// Vectors of one device at most; those behind them raise nothing.
const MAX_VECTORS: usize = 128;

/// One vector.
#[derive(Clone, Copy, Debug)]
struct Signal {
    /// Where the guest wants it.
    route: Option<Route>,
    /// Why the guest's own table refuses it; told once.
    refused: Option<Blocked>,
    is_masked: bool,
}

/// All vectors of one device.
#[derive(Debug)]
pub(crate) struct Signals([Signal; MAX_VECTORS]);

impl Signals {
    /// Vectors at most.
    pub(crate) const MOST: u32 = MAX_VECTORS as u32;

    /// None is programmed.
    pub(crate) const NONE: Self = Self(
        [Signal {
            route: None,
            refused: None,
            is_masked: false,
        }; MAX_VECTORS],
    );

    /// The guest programmed `vector`, or took it back. Returns whether it can be raised from now on
    /// and could not before.
    pub(crate) fn program(&mut self, vector: u16, route: Option<Route>) -> bool {
        self.change(vector, |signal| {
            signal.route = route;
            signal.refused = None;
            signal.is_masked = false;
        })
    }

    /// The guest masked or unmasked `vector`. Returns as `program`.
    pub(crate) fn mask(&mut self, vector: u16, is_masked: bool) -> bool {
        self.change(vector, |signal| signal.is_masked = is_masked)
    }

    /// The guest's own table refuses `vector`, or does not.
    pub(crate) fn refuse(&mut self, vector: u16, refused: Option<Blocked>) {
        if let Some(signal) = self.0.get_mut(usize::from(vector)) {
            signal.refused = refused;
        }
    }

    /// Why the guest's own table refuses `vector`, which is about to be raised, if that was not told.
    pub(crate) fn take_refusal(&mut self, vector: u16) -> Option<Blocked> {
        let signal = self.0.get_mut(usize::from(vector));
        signal.filter(|signal| !signal.is_masked)?.refused.take()
    }

    /// Whether the guest programmed any.
    pub(crate) fn are_any(&self) -> bool {
        self.0.iter().any(|signal| signal.route.is_some())
    }

    /// Raises `vector`. Returns whether the guest lets it.
    pub(crate) fn raise(&self, vector: u16) -> bool {
        let signal = self.0.get(usize::from(vector)).filter(|s| !s.is_masked);
        let Some(route) = signal.and_then(|signal| signal.route) else {
            return false;
        };
        apic::send_for_device(route);
        true
    }

    fn change(&mut self, vector: u16, change: impl FnOnce(&mut Signal)) -> bool {
        let Some(signal) = self.0.get_mut(usize::from(vector)) else {
            return false;
        };
        let could = signal.route.is_some() && !signal.is_masked;
        change(signal);
        !could && signal.route.is_some() && !signal.is_masked
    }
}
