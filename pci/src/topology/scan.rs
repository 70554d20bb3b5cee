//! The search for functions: each bus once, each function number once.
//!
//! Owns the enumeration of a segment at boot and of single functions that appear later. Every
//! loop is bounded by the numbers that exist: 256 buses, 32 devices, 8 functions (256 with ARI).

use super::{Full, Function, FunctionId, MAX_ROOTS, Place, Topology};
use crate::bdf::{DEVICES_PER_BUS, FUNCTIONS_PER_DEVICE};
use crate::capabilities::{Capabilities, ExtendedCapabilities};
use crate::config::ConfigSpace;
use crate::spec::capability::{DeviceControl2, Id, express};
use crate::spec::extended::{self, AriCapability};
use crate::{Address, Bdf};

impl<const N: usize> Topology<N> {
    /// Finds every function reachable from root bus `bus` of `segment`.
    ///
    /// Buses are numbered as firmware left them: a bridge that has no number, or one already
    /// taken by another bridge, is kept, but not looked behind.
    ///
    /// # Errors
    /// [`Full`] if the table has no room; what was found so far stays.
    pub fn scan(&mut self, space: &impl ConfigSpace, segment: u16, bus: u8) -> Result<(), Full> {
        let root = Place::Root { segment, bus };
        if self.roots.contains(&(segment, bus)) {
            return Ok(());
        }
        let full = Full {
            at: Address::new(segment, Bdf::from_parts(bus, 0)),
        };
        debug_assert!(self.roots.len() <= MAX_ROOTS);
        self.roots.push((segment, bus)).map_err(|_| full)?;
        self.scan_bus(space, root, segment, bus)?;
        // The table is its own queue: bridges found on the way are looked behind in turn.
        let mut index = 0;
        while index < self.functions.len() {
            let id = FunctionId(index as u16);
            let place = Place::Behind(id);
            if self.segment(id) == Some(segment)
                && self.at_place(place).next().is_none()
                && let Some(bus) = self.bus(place)
                && self.place_of_bus(segment, bus) == Some(place)
            {
                self.scan_bus(space, place, segment, bus)?;
            }
            index += 1;
        }
        Ok(())
    }

    /// Looks whether a function has appeared at `at`, and keeps it if so.
    ///
    /// # Errors
    /// [`Full`] if there is one and the table has no room for it.
    pub fn discover(
        &mut self,
        space: &impl ConfigSpace,
        at: Address,
    ) -> Result<Option<FunctionId>, Full> {
        if let Some(known) = self.find(at) {
            return Ok(Some(known));
        }
        let Some(place) = self.place_of_bus(at.segment, at.bdf.bus()) else {
            return Ok(None);
        };
        let reachable =
            !self.has_one_device(place) || at.bdf.device() == 0 || self.forwards_ari(space, place);
        if !reachable {
            return Ok(None);
        }
        self.keep(space, place, at)
    }

    fn scan_bus(
        &mut self,
        space: &impl ConfigSpace,
        place: Place,
        segment: u16,
        bus: u8,
    ) -> Result<(), Full> {
        // A link has one device; some answer to every device number on it.
        let devices = if self.has_one_device(place) {
            1
        } else {
            DEVICES_PER_BUS
        };
        for device in 0..devices {
            let first = Address::new(segment, Bdf::from_parts(bus, device << 3));
            let Some(id) = self.keep(space, place, first)? else {
                continue;
            };
            if !self.function(id).is_some_and(|f| f.is_multi_function) {
                continue;
            }
            for function in 1..FUNCTIONS_PER_DEVICE {
                let bdf = Bdf::from_parts(bus, (device << 3) | function);
                self.keep(space, place, Address::new(segment, bdf))?;
            }
        }
        if self.forwards_ari(space, place) {
            self.scan_ari(space, place, segment, bus)?;
        }
        Ok(())
    }

    /// Follows "next function number" from function 0, as long as it rises.
    fn scan_ari(
        &mut self,
        space: &impl ConfigSpace,
        place: Place,
        segment: u16,
        bus: u8,
    ) -> Result<(), Full> {
        let mut function = 0;
        loop {
            let at = Address::new(segment, Bdf::from_parts(bus, function));
            let list = ExtendedCapabilities::walk(space, at);
            let Some(offset) = list.offset_of(extended::Id::ARI) else {
                return Ok(());
            };
            let ari = AriCapability::new(space.read_u16(at, offset + extended::ARI_CAPABILITY));
            if ari.next_function() <= function {
                return Ok(());
            }
            function = ari.next_function();
            let at = Address::new(segment, Bdf::from_parts(bus, function));
            self.keep(space, place, at)?;
        }
    }

    fn keep(
        &mut self,
        space: &impl ConfigSpace,
        place: Place,
        at: Address,
    ) -> Result<Option<FunctionId>, Full> {
        let mut here = self
            .at_place(place)
            .filter(|(_, f)| f.devfn == at.bdf.devfn());
        if let Some((known, _)) = here.next() {
            return Ok(Some(known));
        }
        drop(here);
        let Some(function) = Function::read(space, place, at) else {
            return Ok(None);
        };
        self.insert(function, at).map(Some)
    }

    /// Puts `function`, which is at `at`, into the table.
    pub(super) fn insert(&mut self, function: Function, at: Address) -> Result<FunctionId, Full> {
        let index = match self.functions.iter().position(Option::is_none) {
            Some(free) => {
                self.functions[free] = Some(function);
                free
            }
            None => {
                let index = self.functions.len();
                self.functions
                    .push(Some(function))
                    .map_err(|_| Full { at })?;
                index
            }
        };
        u16::try_from(index)
            .map(FunctionId)
            .map_err(|_| Full { at })
    }

    fn has_one_device(&self, place: Place) -> bool {
        match place {
            Place::Root { .. } => false,
            Place::Behind(port) => self.function(port).is_some_and(Function::has_link_below),
        }
    }

    fn forwards_ari(&self, space: &impl ConfigSpace, place: Place) -> bool {
        let Place::Behind(port) = place else {
            return false;
        };
        let Some(at) = self.address(port).filter(|_| self.has_one_device(place)) else {
            return false;
        };
        let Some(offset) = Capabilities::walk(space, at).offset_of(Id::EXPRESS) else {
            return false;
        };
        let control = space.read_u16(at, offset + express::DEVICE_CONTROL_2);
        DeviceControl2::new(control).ari_forwarding()
    }
}
