//! Virtual functions: each is judged and has its domain before it can speak.
//!
//! They come by a write of the guest to their physical function, which the policy trusts: others have
//! no such register. Each is then a device of its own to the policy. Its configuration space is taken
//! under guard at the guest's first look, since it may take its time to answer.

use heapless::Vec;
use pci::mediation::Trust;
use pci::{Address, FunctionId};
use policy::Treatment;

use super::{Fabric, MAX_FUNCTIONS};
use crate::console::say;
use crate::devices;
use crate::limit::Once;

/// Virtual functions that could not be taken under guard.
static REFUSED: Once<Address, 32> = Once::new();

impl Fabric {
    /// The virtual functions of `owner` are about to appear.
    pub(super) fn virtuals_appear(&mut self, owner: FunctionId) {
        let all: Vec<FunctionId, MAX_FUNCTIONS> = self.virtuals_of(owner);
        for id in all {
            self.virtual_appears(id);
        }
    }

    /// Those of `owner` are gone.
    pub(super) fn virtuals_vanish(&mut self, owner: FunctionId) {
        let all: Vec<FunctionId, MAX_FUNCTIONS> = self.virtuals_of(owner);
        for id in all {
            self.leave(id);
        }
    }

    /// Takes the virtual function at `at` under guard if it is one, answers, and was not yet.
    pub(super) fn look_for_virtual(&mut self, at: Address) {
        let waiting = self.mediation.unadopted_virtual(&self.space, at);
        let Some((id, standing)) = waiting.and_then(|id| Some((id, self.standings[id.index()]?)))
        else {
            return;
        };
        let trust = match standing.treatment {
            Treatment::Confined => Trust::Untrusted,
            Treatment::Direct | Treatment::Recorded => Trust::Trusted,
        };
        match self.mediation.adopt(&mut self.space, id, trust) {
            Ok(adoption) => {
                self.adopt_messages(id, adoption.at);
                self.keep_outcast(id, adoption.at);
                self.cut_exposed();
            }
            Err(refused) if REFUSED.is_new(at) => say!("device {at}: {refused}"),
            Err(_) => {}
        }
    }

    fn virtual_appears(&mut self, id: FunctionId) {
        let topology = self.mediation.topology();
        let judged = topology
            .address(id)
            .zip(devices::verdict(self.policy, topology, id));
        let Some((at, verdict)) = judged else {
            return;
        };
        if !self.may_stand(at, &verdict) {
            return;
        }
        self.stand(id, at, &verdict);
        self.announce(id, at);
    }

    fn virtuals_of(&self, owner: FunctionId) -> Vec<FunctionId, MAX_FUNCTIONS> {
        self.mediation.topology().virtuals(owner).collect()
    }
}
