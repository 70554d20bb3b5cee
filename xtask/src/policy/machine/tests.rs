//! Places on the sample machine, and on machines that firmware never left like this.

use proptest::prelude::*;

use super::*;
use crate::policy::tests::sample;

impl Machine {
    /// A machine with these functions and these bytes.
    pub(in crate::policy) fn of(functions: &[(&str, &[u8])]) -> Self {
        let mut machine = Self::default();
        for (name, bytes) in functions {
            machine
                .keep(Name::parse(name).unwrap(), bytes.to_vec())
                .unwrap();
        }
        machine
    }

    /// The same machine, of which only the headers were recorded.
    fn headers(mut self) -> Self {
        self.functions
            .values_mut()
            .for_each(|bytes| bytes.truncate(HEADER_BYTES));
        self
    }

    fn places(&self) -> Vec<String> {
        let survey = self.survey().unwrap();
        survey
            .found
            .iter()
            .map(|found| found.device().place.to_string())
            .collect()
    }
}

/// The header of an endpoint.
fn endpoint() -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..4].copy_from_slice(&[0x86, 0x80, 0x33, 0x15]);
    header
}

/// The header of a bridge with these secondary and subordinate bus numbers.
fn bridge(secondary: u8, subordinate: u8) -> [u8; HEADER_BYTES] {
    let mut header = endpoint();
    header[0x0e] = 1;
    header[0x19..0x1b].copy_from_slice(&[secondary, subordinate]);
    header
}

/// What `lspci -D -P` printed in the guest the sample is from, in the order of the tree.
const PLACES: [&str; 28] = [
    "0000:00:00.0",
    "0000:00:02.0",
    "0000:00:03.0",
    "0000:00:04.0",
    "0000:00:05.0",
    "0000:00:05.0/00.0",
    "0000:00:06.0",
    "0000:00:07.0",
    "0000:00:07.0/00.0",
    "0000:00:07.0/00.0/02.0",
    "0000:00:07.0/00.0/02.0/00.0",
    "0000:00:07.1",
    "0000:00:08.0",
    "0000:00:14.0",
    "0000:00:1b.0",
    "0000:00:1b.0/00.0",
    "0000:00:1d.0",
    "0000:00:1d.0/00.0",
    "0000:00:1f.0",
    "0000:00:1f.2",
    "0000:00:1f.3",
    "0000:80:01.0",
    "0000:80:01.0/00.0",
    "0000:80:01.0/00.0/07.0",
    "0000:80:01.0/00.0/07.0/00.0",
    "0000:80:03.0",
    "0000:80:03.0/00.0",
    "0000:80:03.0/00.1",
];

#[test]
fn every_function_is_placed_where_lspci_places_it() {
    assert_eq!(sample().places(), PLACES);
    assert_eq!(sample().survey().unwrap().unjudged, []);
}

#[test]
fn headers_are_enough_to_place_every_function() {
    assert_eq!(sample().headers().places(), PLACES);
}

#[test]
fn a_root_bus_is_one_that_no_bridge_leads_to() {
    assert_eq!(sample().roots(), BTreeSet::from([(0, 0x00), (0, 0x80)]));
}

#[test]
fn bus_numbers_of_one_segment_mean_nothing_in_another() {
    let machine = Machine::of(&[
        ("0000:00:1c.0", &bridge(1, 1)),
        ("0000:01:00.0", &endpoint()),
        ("0001:01:00.0", &endpoint()),
    ]);
    assert_eq!(
        machine.places(),
        ["0000:00:1c.0", "0000:00:1c.0/00.0", "0001:01:00.0"]
    );
}

#[test]
fn a_virtual_function_has_no_verdict_and_is_said_to_have_none() {
    let machine = Machine::of(&[
        ("0000:00:1c.0", &bridge(1, 2)),
        ("0000:01:00.0", &endpoint()),
        ("0000:02:10.0", &[0xff; HEADER_BYTES]),
    ]);
    let survey = machine.survey().unwrap();
    assert_eq!(survey.found.len(), 2);
    let [unjudged] = survey.unjudged[..] else {
        panic!("{survey:?}")
    };
    let said = unjudged.to_string();
    assert!(
        said.starts_with("0000:02:10.0: no verdict") && said.contains("virtual function"),
        "{said}"
    );
}

#[test]
fn what_two_bridges_lead_to_has_no_verdict() {
    let machine = Machine::of(&[
        ("0000:00:1c.0", &bridge(1, 1)),
        ("0000:00:1d.0", &bridge(1, 1)),
        ("0000:01:00.0", &endpoint()),
    ]);
    let at = Name::parse("01:00.0").unwrap().address().unwrap();
    assert_eq!(
        machine.survey().unwrap().unjudged,
        [Unjudged::Unreachable(at)]
    );
}

#[test]
fn what_linux_alone_can_name_is_left_to_its_controller() {
    let name = Name::parse("10000:e1:00.0").unwrap();
    let machine = Machine::of(&[
        ("0000:00:0e.0", &endpoint()),
        ("10000:e1:00.0", &endpoint()),
    ]);
    let survey = machine.survey().unwrap();
    assert_eq!(
        (survey.found.len(), survey.unjudged),
        (1, vec![Unjudged::Remapped(name)])
    );
    assert_eq!(name.to_string(), "10000:e1:00.0");
}

#[test]
fn what_was_not_recorded_reads_as_zeros_and_what_is_absent_as_ones() {
    let machine = Machine::of(&[("0000:00:1d.0", &endpoint())]);
    let here = Address::new(0, Bdf::new(0, 0x1d, 0).unwrap());
    let elsewhere = Address::new(0, Bdf::new(0, 0x1e, 0).unwrap());
    assert_eq!(
        (machine.read_u16(here, 2), machine.read_u32(here, 0x40)),
        (0x1533, 0)
    );
    assert_eq!(
        (
            machine.read_u8(elsewhere, 0),
            machine.read_u32(elsewhere, 0)
        ),
        (0xff, u32::MAX)
    );
}

#[test]
fn the_folder_of_linux_reads_like_a_dump() {
    let folder = std::env::temp_dir().join(format!("bouncer-devices-{}", std::process::id()));
    let recorded = sample();
    for (at, bytes) in &recorded.functions {
        let device = folder.join(at.to_string());
        fs::create_dir_all(&device).unwrap();
        fs::write(device.join("config"), bytes).unwrap();
    }
    let machine = read(&folder);
    fs::remove_dir_all(&folder).unwrap();
    assert_eq!(machine.unwrap(), recorded.headers());
}

#[test]
fn a_folder_without_devices_is_no_machine() {
    assert!(read(Path::new(env!("CARGO_MANIFEST_DIR"))).is_err());
}

proptest! {
    /// Whatever headers say, each function has one place or one reason for having none.
    #[test]
    fn no_function_is_lost_whatever_the_headers_say(
        functions in prop::collection::btree_map(
            (0u8..4, any::<u8>()),
            prop_oneof![
                Just(endpoint()),
                (0u8..5, 0u8..5).prop_map(|(secondary, subordinate)| bridge(secondary, subordinate)),
                Just([0xff; HEADER_BYTES]),
            ],
            0..24,
        ),
    ) {
        let mut machine = Machine::default();
        for ((bus, devfn), header) in &functions {
            let name = Name { segment: 0, bdf: Bdf::from_parts(*bus, *devfn) };
            machine.keep(name, header.to_vec()).unwrap();
        }
        let survey = machine.survey().unwrap();
        prop_assert_eq!(survey.found.len() + survey.unjudged.len(), functions.len());
    }
}
