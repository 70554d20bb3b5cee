//! Every key of the policy file: what it takes, what it is by default, what it means.
//!
//! The parser looks keys up here and nowhere else, so what is listed is exactly what is read.

use crate::{Enforcement, Fallback, Mediators, StormAction, Trust, WholePages};

/// Every key, table by table, in the order in which a file usually gives them.
///
/// `policy explain` prints this; the JSON schema is tested against it.
pub const fn defaults() -> &'static [Key] {
    KEYS
}

/// One key of the policy file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Key {
    pub(crate) id: Id,
    /// The table it belongs in.
    pub table: Table,
    /// Its name.
    pub name: &'static str,
    /// What it can be set to.
    pub takes: Takes,
    /// What it is when it is left out.
    pub default: Omitted,
    /// What it means, in one sentence.
    pub meaning: &'static str,
}

impl Key {
    /// The key called `name` in `table`.
    pub(crate) fn find(table: Table, name: &str) -> Option<&'static Self> {
        Self::of(table).find(|key| key.name == name)
    }

    /// The key with this id.
    pub(crate) fn by_id(id: Id) -> &'static Self {
        // The order of `Id` is the order of `KEYS`, asserted below.
        &KEYS[id as usize]
    }

    /// Every key of `table`.
    pub(crate) fn of(table: Table) -> impl Iterator<Item = &'static Self> {
        KEYS.iter().filter(move |key| key.table == table)
    }
}

/// A table of the policy file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Table {
    /// The keys above the first rule.
    Top,
    /// A `[[device]]` rule.
    Device,
    /// The `match` of a rule.
    Match,
    /// The `storm` of a rule.
    Storm,
}

impl Table {
    /// How a message calls it.
    pub(crate) const fn description(self) -> &'static str {
        match self {
            Self::Top => "the top of the file",
            Self::Device => "a [[device]] rule",
            Self::Match => "`match`",
            Self::Storm => "`storm`",
        }
    }

    /// How a message sends somebody there.
    pub(crate) const fn whereabouts(self) -> &'static str {
        match self {
            Self::Top => "at the top of the file",
            Self::Device => "in a [[device]] rule",
            Self::Match => "in `match`",
            Self::Storm => "in `storm`",
        }
    }
}

/// What a key can be set to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Takes {
    /// The number of the format's version.
    Version,
    /// `true` or `false`.
    Boolean,
    /// One of these words.
    Word(&'static [&'static str]),
    /// Free text of 1 to [`MAX_NAME`](crate::MAX_NAME) bytes.
    Text,
    /// A [`PoolSize`](crate::PoolSize).
    Size,
    /// A [`Period`](crate::Period).
    Period,
    /// A count of faults.
    Faults,
    /// A vendor or device id, in hexadecimal.
    Id,
    /// A [`Path`](crate::Path).
    Path,
    /// A [`ClassPattern`](crate::ClassPattern).
    Class,
    /// An inline table.
    Table(Table),
}

/// What a key is when it is left out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Omitted {
    /// It may not be left out.
    Required,
    /// As if it said this, in TOML.
    Value(&'static str),
    /// This, which no value of the key spells.
    Absent(&'static str),
}

/// What the parser calls a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Id {
    Version,
    Enforcement,
    Default,
    RequireIommu,
    Viommu,
    BounceMemory,
    Name,
    Match,
    Trust,
    Pool,
    WholePages,
    ShadowDoorbells,
    Mediator,
    Fallback,
    Group,
    Storm,
    Path,
    Port,
    Class,
    Vendor,
    Device,
    Faults,
    Per,
    Then,
}

const KEYS: &[Key] = &[
    Key {
        id: Id::Version,
        table: Table::Top,
        name: "version",
        takes: Takes::Version,
        default: Omitted::Required,
        meaning: "The version of this format.",
    },
    Key {
        id: Id::Enforcement,
        table: Table::Top,
        name: "enforcement",
        takes: Takes::Word(Enforcement::WORDS),
        default: Omitted::Value(r#""on""#),
        meaning: "The single switch: on confines untrusted devices, audit only records what would have been \
                  refused, off treats every device as trusted.",
    },
    Key {
        id: Id::Default,
        table: Table::Top,
        name: "default",
        takes: Takes::Word(Trust::WORDS),
        default: Omitted::Value(r#""untrusted""#),
        meaning: "The trust of a device that no rule names.",
    },
    Key {
        id: Id::RequireIommu,
        table: Table::Top,
        name: "require-iommu",
        takes: Takes::Boolean,
        default: Omitted::Value("true"),
        meaning: "Refuse to start where DMA remapping or interrupt remapping is missing.",
    },
    Key {
        id: Id::Viommu,
        table: Table::Top,
        name: "viommu",
        takes: Takes::Boolean,
        default: Omitted::Value("true"),
        meaning: "Show the guest a virtual VT-d in front of the untrusted devices.",
    },
    Key {
        id: Id::BounceMemory,
        table: Table::Top,
        name: "bounce-memory",
        takes: Takes::Size,
        default: Omitted::Value(r#""32MiB""#),
        meaning: "The memory set aside at boot for the pools of all untrusted devices, those that are plugged \
                  in later with them.",
    },
    Key {
        id: Id::Name,
        table: Table::Device,
        name: "name",
        takes: Takes::Text,
        default: Omitted::Absent("the line of the rule"),
        meaning: "What the operator calls the rule; tables and logs show it.",
    },
    Key {
        id: Id::Match,
        table: Table::Device,
        name: "match",
        takes: Takes::Table(Table::Match),
        default: Omitted::Required,
        meaning: "Whom the rule is about; a device must satisfy every key given, and the first rule that \
                  matches decides.",
    },
    Key {
        id: Id::Trust,
        table: Table::Device,
        name: "trust",
        takes: Takes::Word(Trust::WORDS),
        default: Omitted::Value(r#""untrusted""#),
        meaning: "Whether the device may reach guest memory directly; trusted needs a match on path or port \
                  alone.",
    },
    Key {
        id: Id::Pool,
        table: Table::Device,
        name: "pool",
        takes: Takes::Size,
        default: Omitted::Value(r#""16MiB""#),
        meaning: "Bounce memory of each device matched, or of its group, both directions together.",
    },
    Key {
        id: Id::WholePages,
        table: Table::Device,
        name: "whole-pages",
        takes: Takes::Word(WholePages::WORDS),
        default: Omitted::Value(r#""copy""#),
        meaning: "Whether pages that a request covers from end to end are copied too, or mapped for the \
                  request and revoked before it is shown complete.",
    },
    Key {
        id: Id::ShadowDoorbells,
        table: Table::Device,
        name: "shadow-doorbells",
        takes: Takes::Boolean,
        default: Omitted::Value("true"),
        meaning: "Whether a drive's driver is offered doorbells in its own memory, by which it seldom needs to \
                  leave the guest.",
    },
    Key {
        id: Id::Mediator,
        table: Table::Device,
        name: "mediator",
        takes: Takes::Word(Mediators::WORDS),
        default: Omitted::Value(r#""auto""#),
        meaning: "Which mediator an untrusted device may have: the one for the interface that its class code \
                  names, the one for QEMU's edu, or none.",
    },
    Key {
        id: Id::Fallback,
        table: Table::Device,
        name: "fallback",
        takes: Takes::Word(Fallback::WORDS),
        default: Omitted::Value(r#""deny""#),
        meaning: "What an untrusted device without a mediator gets: no DMA at all, or what the guest mapped \
                  for it, page by page.",
    },
    Key {
        id: Id::Group,
        table: Table::Device,
        name: "group",
        takes: Takes::Text,
        default: Omitted::Absent("a domain of its own"),
        meaning: "Untrusted devices with the same group share one domain and one pool, and can see each \
                  other's bounce pages.",
    },
    Key {
        id: Id::Storm,
        table: Table::Device,
        name: "storm",
        takes: Takes::Table(Table::Storm),
        default: Omitted::Value(r#"{ faults = 1000, per = "1s", then = "quarantine" }"#),
        meaning: "How many faults in how long are too many, and what follows.",
    },
    Key {
        id: Id::Path,
        table: Table::Match,
        name: "path",
        takes: Takes::Path,
        default: Omitted::Absent("anywhere"),
        meaning: "The one function at this place: segment, root bus, then device.function behind each bridge.",
    },
    Key {
        id: Id::Port,
        table: Table::Match,
        name: "port",
        takes: Takes::Path,
        default: Omitted::Absent("anywhere"),
        meaning: "The port at this place and everything behind it, hot-plugged included.",
    },
    Key {
        id: Id::Class,
        table: Table::Match,
        name: "class",
        takes: Takes::Class,
        default: Omitted::Absent("any class"),
        meaning: "The class the device claims: a name, or 2, 4 or 6 hexadecimal digits of its class code.",
    },
    Key {
        id: Id::Vendor,
        table: Table::Match,
        name: "vendor",
        takes: Takes::Id,
        default: Omitted::Absent("any vendor"),
        meaning: "The PCI vendor id the device claims.",
    },
    Key {
        id: Id::Device,
        table: Table::Match,
        name: "device",
        takes: Takes::Id,
        default: Omitted::Absent("any device"),
        meaning: "The PCI device id the device claims; only together with vendor.",
    },
    Key {
        id: Id::Faults,
        table: Table::Storm,
        name: "faults",
        takes: Takes::Faults,
        default: Omitted::Value("1000"),
        meaning: "The number of faults that is too many.",
    },
    Key {
        id: Id::Per,
        table: Table::Storm,
        name: "per",
        takes: Takes::Period,
        default: Omitted::Value(r#""1s""#),
        meaning: "The time in which faults are counted.",
    },
    Key {
        id: Id::Then,
        table: Table::Storm,
        name: "then",
        takes: Takes::Word(StormAction::WORDS),
        default: Omitted::Value(r#""quarantine""#),
        meaning: "What follows: a line in the log, faults no longer reported, or the device cut off.",
    },
];

/// How many keys there are.
pub(crate) const COUNT: usize = KEYS.len();

const _: () = {
    let mut index = 0;
    while index < COUNT {
        assert!(
            KEYS[index].id as usize == index,
            "KEYS follows the order of Id"
        );
        index += 1;
    }
};
