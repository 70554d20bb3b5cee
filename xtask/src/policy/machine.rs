//! A machine as it was recorded: the configuration space of each of its functions.
//!
//! Owns the bytes, tells the root buses by them, and has `pci` find each function's place as at boot. Refuses to know
//! whom to trust. A recording may hold the headers alone, which is all that anybody but root may read on Linux, and all
//! that is needed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::Path;

use ::policy::{ClassCode, Device, Hop, Place};
use pci::spec::header::{self, BusNumbers, HeaderType};
use pci::topology::{self, Full};
use pci::{Address, Bdf, ConfigSpace, Register, Topology};

use crate::stop::Stop;

/// Bytes of a header, which every function has.
pub(super) const HEADER_BYTES: usize = header::DEVICE_SPECIFIC as usize;

/// Functions that find room: far more than a machine with its virtual functions switched off has.
const ROOM: usize = 1024;

/// Where Linux shows every function's configuration space.
const DEVICES: &str = "/sys/bus/pci/devices";

/// The machine this runs on.
pub(super) fn this() -> Result<Machine, Stop> {
    read(Path::new(DEVICES)).map_err(|error| {
        Stop::unready(format!(
            "cannot read the devices of this machine, which Linux has in {DEVICES}: {error}; \
             give --machine what `lspci -Dnnx` printed on another"
        ))
    })
}

/// Reads the headers of all functions in a folder such as [`DEVICES`].
// The rest is left alone: reading it takes root, and there are devices it upsets.
fn read(devices: &Path) -> io::Result<Machine> {
    let mut machine = Machine::default();
    for entry in fs::read_dir(devices)? {
        let entry = entry?;
        let Some(name) = entry.file_name().to_str().and_then(Name::parse) else {
            continue;
        };
        let mut bytes = Vec::new();
        let config = File::open(entry.path().join("config"))?;
        config.take(HEADER_BYTES as u64).read_to_end(&mut bytes)?;
        // A folder has no name twice.
        let _ = machine.keep(name, bytes);
    }
    if machine.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "there is none"));
    }
    Ok(machine)
}

/// What Linux calls a function: a segment of up to 32 bits, most of which no hardware has.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Name {
    segment: u32,
    bdf: Bdf,
}

impl Name {
    /// Reads `0000:00:1d.0`, or `00:1d.0`, which is of segment 0.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (bus, function) = text.rsplit_once(':')?;
        let (segment, bus) = bus.rsplit_once(':').unwrap_or(("0000", bus));
        let (device, function) = function.split_once('.')?;
        let bdf = Bdf::new(
            u8::try_from(hex(bus, 2, 2)?).ok()?,
            u8::try_from(hex(device, 2, 2)?).ok()?,
            u8::try_from(hex(function, 1, 1)?).ok()?,
        )?;
        let segment = hex(segment, 4, 8)?;
        Some(Self { segment, bdf })
    }

    /// Its address in hardware, or `None` if Linux alone knows the segment.
    fn address(self) -> Option<Address> {
        let segment = u16::try_from(self.segment).ok()?;
        Some(Address::new(segment, self.bdf))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}:{}", self.segment, self.bdf)
    }
}

/// Reads `least` to `most` hexadecimal digits.
fn hex(text: &str, least: usize, most: usize) -> Option<u32> {
    let is_hex = text.bytes().all(|digit| digit.is_ascii_hexdigit());
    if is_hex && (least..=most).contains(&text.len()) {
        u32::from_str_radix(text, 16).ok()
    } else {
        None
    }
}

/// The functions of a machine and their bytes.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Machine {
    functions: BTreeMap<Address, Vec<u8>>,
    /// What Linux reaches through a controller, and numbers as it likes.
    remapped: BTreeSet<Name>,
}

impl Machine {
    /// Adds a function, or refuses it if it is there already.
    pub(super) fn keep(&mut self, name: Name, bytes: Vec<u8>) -> Result<(), Name> {
        let is_new = match name.address() {
            Some(at) => {
                let is_new = !self.functions.contains_key(&at);
                self.functions.entry(at).or_insert(bytes);
                is_new
            }
            None => self.remapped.insert(name),
        };
        if is_new { Ok(()) } else { Err(name) }
    }

    /// Whether there is no function at all.
    pub(super) fn is_empty(&self) -> bool {
        self.functions.is_empty() && self.remapped.is_empty()
    }

    /// Finds the place of every function that answers.
    ///
    /// # Errors
    /// [`Full`] if there are more functions, or more root buses, than the table has room for.
    pub(super) fn survey(&self) -> Result<Survey, Full> {
        let mut topology = Topology::<ROOM>::new();
        for (segment, bus) in self.roots() {
            topology.scan(self, segment, bus)?;
        }
        let reached: BTreeSet<_> = topology
            .functions()
            .filter_map(|(id, _)| topology.address(id))
            .collect();
        let missed = self.functions.keys().filter(|at| !reached.contains(at));
        let missed = missed.map(|&at| match self.says_who_it_is(at) {
            true => Unjudged::Unreachable(at),
            false => Unjudged::Mute(at),
        });
        let remapped = self.remapped.iter().copied().map(Unjudged::Remapped);
        let mut found: Vec<_> = topology
            .functions()
            .filter_map(|(id, function)| Some(Found::new(&topology.path(id)?, function)))
            .collect();
        found.sort_by_cached_key(Found::order);
        Ok(Survey {
            found,
            unjudged: missed.chain(remapped).collect(),
        })
    }

    /// The buses that no bridge on another bus leads to.
    fn roots(&self) -> BTreeSet<(u16, u8)> {
        let bridges: Vec<_> = self
            .functions
            .keys()
            .filter_map(|&at| Some((at, self.bridge(at)?)))
            .collect();
        let leads_to = |(at, numbers): &(Address, BusNumbers), segment, bus| {
            at.segment == segment
                && at.bdf.bus() != bus
                && numbers.secondary() != 0
                && (numbers.secondary()..=numbers.subordinate()).contains(&bus)
        };
        let buses = self.functions.keys().map(|at| (at.segment, at.bdf.bus()));
        buses
            .filter(|&(segment, bus)| !bridges.iter().any(|bridge| leads_to(bridge, segment, bus)))
            .collect()
    }

    /// The bus numbers of a bridge that answers.
    fn bridge(&self, at: Address) -> Option<BusNumbers> {
        let kind = HeaderType::new(self.read_u8(at, header::HEADER_TYPE));
        let is_bridge = self.says_who_it_is(at) && kind.layout() == HeaderType::BRIDGE;
        is_bridge.then(|| BusNumbers::new(self.read_u32(at, header::BUS_NUMBERS)))
    }

    /// Whether there is a vendor id; 0x0001 is "not ready yet".
    fn says_who_it_is(&self, at: Address) -> bool {
        !matches!(
            self.read_u16(at, header::IDENTITY),
            0x0000 | 0x0001 | 0xffff
        )
    }
}

/// The recording answers reads. What it lacks of a function reads as zeros, which end every list.
impl ConfigSpace for Machine {
    fn read(&self, at: Address, register: Register) -> u32 {
        let Some(bytes) = self.functions.get(&at) else {
            return register.width().mask();
        };
        let start = usize::from(register.dword_offset());
        let byte = |index: usize| bytes.get(start.saturating_add(index)).copied().unwrap_or(0);
        register.extract(u32::from_le_bytes([0, 1, 2, 3].map(byte)))
    }

    fn write(&mut self, _: Address, _: Register, _: u32) {}
}

/// Every function of a machine, in the order of the tree.
#[derive(Debug)]
pub(super) struct Survey {
    /// Those that have a place.
    pub(super) found: Vec<Found>,
    /// Those that have none.
    pub(super) unjudged: Vec<Unjudged>,
}

/// A function, its place and what it says it is.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Found {
    segment: u16,
    root_bus: u8,
    hops: Vec<Hop>,
    class: ClassCode,
    vendor: u16,
    device: u16,
}

impl Found {
    fn new(path: &topology::Path, function: &topology::Function) -> Self {
        let topology::Identity {
            vendor,
            device,
            class,
            ..
        } = function.identity;
        Self {
            segment: path.segment,
            root_bus: path.bus,
            hops: path.hops.iter().map(|hop| Hop::from_devfn(hop.0)).collect(),
            class: ClassCode::new(class.base(), class.subclass(), class.interface()),
            vendor,
            device,
        }
    }

    /// It, as a policy sees it.
    pub(super) fn device(&self) -> Device<'_> {
        Device {
            place: Place {
                segment: self.segment,
                root_bus: self.root_bus,
                hops: &self.hops,
            },
            class: self.class,
            vendor: self.vendor,
            device: self.device,
        }
    }

    /// A bridge comes before what is behind it, and that before its neighbour.
    fn order(&self) -> (u16, u8, Vec<(u8, u8)>) {
        let hops = self.hops.iter().map(|hop| (hop.device(), hop.function()));
        (self.segment, self.root_bus, hops.collect())
    }
}

/// Why a function of the recording has no verdict.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Unjudged {
    /// It has no vendor id.
    Mute(Address),
    /// No bridge leads to it, or two would, or its port forwards no function with that number.
    Unreachable(Address),
    /// Linux alone knows its segment.
    Remapped(Name),
}

impl fmt::Display for Unjudged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mute(at) => write!(
                f,
                "{at}: no verdict, it does not say what it is: a virtual function, or one asleep or broken"
            ),
            Self::Unreachable(at) => write!(
                f,
                "{at}: no verdict, no way down from a root bus leads to it alone; compare `lspci -t`"
            ),
            Self::Remapped(name) => write!(
                f,
                "{name}: no verdict, Linux reaches it through a controller such as VMD; the rule for that decides"
            ),
        }
    }
}

#[cfg(test)]
mod tests;
