//! Virtual functions: known before they exist, gone with their physical function.
//!
//! Owns their places in the table. A virtual function does not say who it is: it has the vendor of
//! its physical function and a device id that this one gives. PCI Express Base 6.0, section 9.3.4.1.

use super::{Full, Function, FunctionId, Identity, Layout, Slot, Topology};
use crate::{Address, Bdf};

impl<const N: usize> Topology<N> {
    /// Adds the `number`th virtual function of `owner`, on its bus.
    ///
    /// `None` if the owner is gone, or if somebody is there already.
    ///
    /// # Errors
    /// [`Full`] if the table has no room.
    pub(crate) fn add_virtual(
        &mut self,
        owner: FunctionId,
        number: u16,
        devfn: u8,
        device: u16,
    ) -> Result<Option<FunctionId>, Full> {
        let Some((physical, at)) = self.function(owner).copied().zip(self.address(owner)) else {
            return Ok(None);
        };
        let is_taken = self.at_place(physical.place).any(|(_, f)| f.devfn == devfn);
        if is_taken {
            return Ok(None);
        }
        let function = Function {
            devfn,
            identity: Identity {
                device,
                ..physical.identity
            },
            layout: Layout::Endpoint,
            is_multi_function: false,
            bridge: None,
            slot: Slot::default(),
            phantom_bits: 0,
            virtual_of: Some((owner, number)),
            ..physical
        };
        let bdf = Bdf::from_parts(at.bdf.bus(), devfn);
        self.insert(function, Address::new(at.segment, bdf))
            .map(Some)
    }

    /// The virtual functions of `owner`.
    pub fn virtuals(&self, owner: FunctionId) -> impl Iterator<Item = FunctionId> {
        let of_owner = move |f: &Function| f.virtual_of.is_some_and(|(of, _)| of == owner);
        self.functions()
            .filter(move |(_, f)| of_owner(f))
            .map(|(id, _)| id)
    }
}
