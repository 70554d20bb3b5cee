//! What a guest asks of an interrupt, and what of it we grant.
//!
//! Owns the reading of compatibility-format messages and redirection entries, which are hostile,
//! and the only two ways to a [`Route`]: a vector by fixed or lowest-priority delivery for a
//! device, and the NMI that is Bouncer's own. Knows no table.

use core::fmt;

use crate::spec::interrupt::{
    ADDRESS_PREFIX, CompatibilityAddress, CompatibilityData, CompatibilityRedirection, delivery,
};

/// Where an interrupt goes, how, and as what.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Route {
    vector: u8,
    delivery_mode: u8,
    trigger: Trigger,
    destination: Destination,
}

/// How a device's interrupt may be delivered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Delivery {
    /// To the destination.
    Fixed,
    /// To the least busy of the destinations.
    LowestPriority,
}

/// How an interrupt is signalled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trigger {
    /// By an event.
    Edge,
    /// By a state, until it is ended.
    Level,
}

/// Which level of a pin means an interrupt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Polarity {
    /// The high one.
    ActiveHigh,
    /// The low one.
    ActiveLow,
}

/// One processor or several.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Destination {
    id: u32,
    is_logical: bool,
    is_hint: bool,
}

/// Why an interrupt a guest asked for is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Objection {
    /// The address is not one of interrupts.
    Address(u64),
    /// The message is in remappable format, which only we write.
    Remappable(u64),
    /// Reserved bits of the address or entry are set.
    Reserved(u64),
    /// The delivery mode is not fixed or lowest priority: SMI, NMI, INIT, ExtINT or reserved.
    Delivery(u8),
    /// Vectors 0 to 15 are exceptions.
    Vector(u8),
    /// Messages are edge triggered.
    LevelTriggered,
}

impl fmt::Display for Objection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("interrupt refused: ")?;
        match self {
            Self::Address(address) => write!(f, "{address:#x} is no interrupt address"),
            Self::Remappable(address) => {
                write!(
                    f,
                    "{address:#x} is in remappable format, which the guest was not offered"
                )
            }
            Self::Reserved(word) => write!(f, "reserved bits in {word:#x}"),
            Self::Delivery(mode) => write!(f, "delivery mode {mode:#05b} is not for devices"),
            Self::Vector(vector) => write!(f, "vector {vector} is an exception"),
            Self::LevelTriggered => f.write_str("a message cannot be level triggered"),
        }
    }
}

impl Route {
    /// Delivers `vector` (16 to 255) to `destination`.
    pub fn new(
        vector: u8,
        delivery: Delivery,
        trigger: Trigger,
        destination: Destination,
    ) -> Result<Self, Objection> {
        if vector < 16 {
            return Err(Objection::Vector(vector));
        }
        Ok(Self {
            vector,
            delivery_mode: match delivery {
                Delivery::Fixed => delivery::FIXED,
                Delivery::LowestPriority => delivery::LOWEST_PRIORITY,
            },
            trigger,
            destination,
        })
    }

    /// Delivers an NMI to `destination`: how Bouncer hears of a mediated device's interrupt.
    /// Nothing a guest or a device says leads here.
    pub const fn nmi_of_our_own(destination: Destination) -> Self {
        Self {
            vector: 0,
            delivery_mode: delivery::NMI,
            trigger: Trigger::Edge,
            destination,
        }
    }

    /// Reads the message (address and data of an MSI) a guest programmed into its device.
    pub fn of_message(address: u64, data: u32) -> Result<Self, Objection> {
        let low = u32::try_from(address).map_err(|_| Objection::Address(address))?;
        let fields = CompatibilityAddress(low);
        if fields.prefix() != ADDRESS_PREFIX {
            return Err(Objection::Address(address));
        }
        if fields.format() {
            return Err(Objection::Remappable(address));
        }
        if fields.reserved() != 0 {
            return Err(Objection::Reserved(address));
        }
        let data = CompatibilityData(data);
        if data.tm() {
            return Err(Objection::LevelTriggered);
        }
        let destination = Destination {
            id: fields.destination().into(),
            is_logical: fields.dm(),
            is_hint: fields.rh(),
        };
        Self::new(
            data.vector(),
            granted(data.delivery())?,
            Trigger::Edge,
            destination,
        )
    }

    /// Reads the redirection entry a guest wrote for a pin of its I/O APIC.
    pub fn of_redirection(entry: u64) -> Result<(Self, Polarity), Objection> {
        let fields = CompatibilityRedirection(entry);
        if fields.format() {
            return Err(Objection::Remappable(entry));
        }
        if fields.reserved() != 0 {
            return Err(Objection::Reserved(entry));
        }
        let trigger = if fields.tm() {
            Trigger::Level
        } else {
            Trigger::Edge
        };
        let polarity = if fields.polarity() {
            Polarity::ActiveLow
        } else {
            Polarity::ActiveHigh
        };
        let destination = Destination {
            id: fields.destination().into(),
            is_logical: fields.dm(),
            is_hint: false,
        };
        let route = Self::new(
            fields.vector(),
            granted(fields.delivery())?,
            trigger,
            destination,
        )?;
        Ok((route, polarity))
    }

    /// The same, with bits 31:8 of `upper` as those of the destination: what a unit's own interrupts
    /// have in a register beside the address.
    pub const fn with_upper_destination(self, upper: u32) -> Self {
        let id = self.destination.id | upper & !0xff;
        Self {
            destination: Destination {
                id,
                ..self.destination
            },
            ..self
        }
    }

    /// The vector; 0 for an NMI.
    pub const fn vector(self) -> u8 {
        self.vector
    }

    /// How it is signalled.
    pub const fn trigger(self) -> Trigger {
        self.trigger
    }

    /// Where it goes.
    pub const fn destination(self) -> Destination {
        self.destination
    }

    /// Whether the least busy of several destinations is to get it.
    pub const fn is_lowest_priority(self) -> bool {
        self.delivery_mode == delivery::LOWEST_PRIORITY
    }

    /// Whether it is Bouncer's own NMI.
    pub const fn is_nmi(self) -> bool {
        self.delivery_mode == delivery::NMI
    }

    pub(crate) const fn delivery_mode(self) -> u8 {
        self.delivery_mode
    }
}

impl Destination {
    /// The processor with local APIC id `id`.
    pub const fn physical(id: u32) -> Self {
        Self {
            id,
            is_logical: false,
            is_hint: false,
        }
    }

    /// The processors that the logical destination `id` names.
    pub const fn logical(id: u32) -> Self {
        Self {
            id,
            is_logical: true,
            is_hint: false,
        }
    }

    /// The same, where hardware may choose one of the processors.
    pub const fn hinted(self) -> Self {
        Self {
            is_hint: true,
            ..self
        }
    }

    /// The number, physical or logical.
    pub const fn id(self) -> u32 {
        self.id
    }

    /// Whether the number is a logical destination.
    pub const fn is_logical(self) -> bool {
        self.is_logical
    }

    /// Whether hardware may choose one of the processors (the redirection hint).
    pub const fn is_hint(self) -> bool {
        self.is_hint
    }
}

fn granted(mode: u8) -> Result<Delivery, Objection> {
    match mode {
        delivery::FIXED => Ok(Delivery::Fixed),
        delivery::LOWEST_PRIORITY => Ok(Delivery::LowestPriority),
        other => Err(Objection::Delivery(other)),
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use proptest::prelude::*;

    use super::*;

    const ADDRESS: u64 = 0xfee0_0000;

    #[test]
    fn a_guests_message_becomes_the_same_route() {
        let route = Route::of_message(ADDRESS | 0x12 << 12 | 1 << 3 | 1 << 2, 0x4051);
        let route = route.unwrap_or_else(|refused| panic!("{refused}"));
        assert_eq!(route.vector(), 0x51);
        assert_eq!(route.destination().id(), 0x12);
        assert!(route.destination().is_logical() && route.destination().is_hint());
        assert_eq!(route.trigger(), Trigger::Edge);
    }

    /// No delivery mode but fixed and lowest priority.
    #[test]
    fn no_guest_gets_more_than_a_vector() {
        for mode in [0b010, 0b011, 0b100, 0b101, 0b110, 0b111] {
            let data = u32::from(mode) << 8 | 0x41;
            assert_eq!(
                Route::of_message(ADDRESS, data),
                Err(Objection::Delivery(mode))
            );
            let entry = u64::from(data);
            assert_eq!(Route::of_redirection(entry), Err(Objection::Delivery(mode)));
        }
    }

    #[test]
    fn no_guest_gets_an_exceptions_vector() {
        for vector in 0..16u8 {
            let refused = Err(Objection::Vector(vector));
            assert_eq!(Route::of_message(ADDRESS, vector.into()), refused);
        }
    }

    #[test]
    fn what_is_no_compatibility_message_is_refused() {
        let refused = |address| Route::of_message(address, 0x41).unwrap_err();
        assert_eq!(refused(0), Objection::Address(0));
        assert_eq!(refused(0xfed0_0000), Objection::Address(0xfed0_0000));
        assert_eq!(refused(0x1_fee0_0000), Objection::Address(0x1_fee0_0000));
        assert_eq!(
            refused(ADDRESS | 1 << 4),
            Objection::Remappable(ADDRESS | 1 << 4)
        );
        assert_eq!(
            refused(ADDRESS | 1 << 5),
            Objection::Reserved(ADDRESS | 1 << 5)
        );
        let level = Route::of_message(ADDRESS, 1 << 15 | 0x41);
        assert_eq!(level, Err(Objection::LevelTriggered));
    }

    #[test]
    fn a_guests_redirection_entry_becomes_the_same_route() {
        let (route, polarity) = Route::of_redirection(0x0300_0000_0001_a939).unwrap();
        assert_eq!((route.vector(), route.destination().id()), (0x39, 3));
        assert_eq!(
            (route.trigger(), polarity),
            (Trigger::Level, Polarity::ActiveLow)
        );
        assert!(route.destination().is_logical());
        let remappable = 1 << 48 | 0x39;
        assert_eq!(
            Route::of_redirection(remappable),
            Err(Objection::Remappable(remappable))
        );
    }

    proptest! {
        /// Whatever a guest writes is refused or a device's vector; an NMI is never among them.
        #[test]
        fn no_message_is_more_than_a_vector(address: u64, low in 0u64..1 << 20, data: u32) {
            for address in [address, ADDRESS | low] {
                if let Ok(route) = Route::of_message(address, data) {
                    prop_assert!(route.vector() >= 16 && !route.is_nmi());
                    prop_assert!(route.delivery_mode() <= 1);
                }
            }
            if let Ok((route, _)) = Route::of_redirection(address) {
                prop_assert!(route.vector() >= 16 && !route.is_nmi());
            }
        }
    }
}
