//! What holds for every file and every device.

use std::fmt::Write;

use policy::{
    ClassCode, DecidedBy, Device, Fallback, Hop, Place, Policy, Trust, Verdict, WholePages,
};
use proptest::prelude::*;
use proptest::sample::{Index, select};

/// A rule as the test writes it, and as the oracle reads it.
#[derive(Clone, Debug)]
struct Written {
    path: Option<String>,
    port: Option<String>,
    class: Option<String>,
    vendor: Option<u16>,
    device: Option<u16>,
    trusted: bool,
    page: bool,
    map: bool,
    group: Option<u8>,
}

impl Written {
    fn makes_a_claim(&self) -> bool {
        self.class.is_some() || self.vendor.is_some()
    }

    /// Whether a device is meant, said over the text of its place and class.
    fn means(&self, place: &str, class: &str, vendor: u16, device: u16) -> bool {
        self.path.as_deref().is_none_or(|path| place == path)
            && self
                .port
                .as_deref()
                .is_none_or(|port| format!("{place}/").starts_with(&format!("{port}/")))
            && self
                .class
                .as_deref()
                .is_none_or(|prefix| class.starts_with(prefix))
            && self.vendor.is_none_or(|id| id == vendor)
            && self.device.is_none_or(|id| id == device)
    }

    fn text(&self) -> String {
        let mut members = Vec::new();
        members.extend(self.path.iter().map(|path| format!("path = \"{path}\"")));
        members.extend(self.port.iter().map(|port| format!("port = '{port}'")));
        members.extend(
            self.class
                .iter()
                .map(|class| format!("class = \"{class}\"")),
        );
        members.extend(self.vendor.iter().map(|id| format!("vendor = {id:#x}")));
        members.extend(self.device.iter().map(|id| format!("device = {id:#x}")));
        let mut text = format!("[[device]]\nmatch = {{ {} }}\n", members.join(", "));
        if self.trusted {
            text.push_str("trust = \"trusted\"\n");
        }
        if self.page {
            text.push_str("fallback = \"page\"\n");
        }
        if self.map {
            text.push_str("whole-pages = \"map\"\nmediator = \"none\"\n");
        }
        if let Some(group) = self.group {
            // One group for each way to treat pages, as a group is one domain.
            let (page, map) = (self.page, self.map);
            writeln!(text, "group = \"{group} {page} {map}\"").expect("a string grows");
        }
        text
    }
}

/// Places from so few hops that rules and devices often meet.
fn place() -> impl Strategy<Value = String> {
    let hops = proptest::collection::vec(select(vec!["00.0", "01.0", "01.1"]), 1..4);
    (select(vec!["0000:00", "0000:80", "0001:00"]), hops)
        .prop_map(|(root, hops)| format!("{root}:{}", hops.join("/")))
}

fn class() -> impl Strategy<Value = [u8; 3]> {
    (1u8..=2, 0u8..2, 0u8..2).prop_map(|(base, sub, interface)| [base, sub, interface])
}

fn digits(class: [u8; 3]) -> String {
    class.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn id() -> impl Strategy<Value = u16> {
    select(vec![0x8086, 0x1b36])
}

/// A rule that means something; it may still give reach for a claim.
fn rule() -> impl Strategy<Value = Written> {
    let topology = prop_oneof![
        Just((None, None)),
        place().prop_map(|path| (Some(path), None)),
        place().prop_map(|port| (None, Some(port))),
    ];
    let class = proptest::option::of(
        (class(), 1usize..=3).prop_map(|(class, bytes)| digits(class)[..2 * bytes].to_owned()),
    );
    let ids = proptest::option::of((id(), proptest::option::of(id())));
    (
        topology,
        class,
        ids,
        any::<[bool; 3]>(),
        proptest::option::of(0u8..3),
    )
        .prop_map(
            |((path, port), class, ids, [trusted, page, map], group)| Written {
                path,
                port,
                class,
                vendor: ids.map(|(vendor, _)| vendor),
                device: ids.and_then(|(_, device)| device),
                trusted,
                page,
                map,
                group: group.filter(|_| !trusted),
            },
        )
        .prop_filter("a rule needs a match", |rule| {
            rule.path.is_some() || rule.port.is_some() || rule.makes_a_claim()
        })
}

/// The same, with nothing given for a claim.
fn valid_rule() -> impl Strategy<Value = Written> {
    rule().prop_map(|rule| match rule.makes_a_claim() {
        true => Written {
            trusted: false,
            page: false,
            map: false,
            group: None,
            ..rule
        },
        false => rule,
    })
}

fn file(default: Trust, rules: &[Written]) -> String {
    let mut text = format!("version = 1\ndefault = \"{default}\"\n");
    rules.iter().for_each(|rule| text.push_str(&rule.text()));
    text
}

fn valid_file() -> impl Strategy<Value = String> {
    let default = select(vec![Trust::Trusted, Trust::Untrusted]);
    (default, proptest::collection::vec(valid_rule(), 0..8))
        .prop_map(|(default, rules)| file(default, &rules))
}

fn policy(text: &str) -> Policy {
    Policy::parse(text.as_bytes())
        .unwrap_or_else(|error| panic!("{}", error.rendered("test", text.as_bytes())))
}

fn hops(place: &str) -> Vec<Hop> {
    place
        .split([':', '/'])
        .skip(2)
        .map(|hop| {
            let (device, function) = hop.split_once('.').expect("a hop");
            let digit = |text| u8::from_str_radix(text, 16).expect("hexadecimal");
            Hop::new(digit(device), digit(function)).expect("a hop")
        })
        .collect()
}

fn at<'d>(place: &str, hops: &'d [Hop]) -> Place<'d> {
    Place {
        segment: u16::from_str_radix(&place[..4], 16).expect("hexadecimal"),
        root_bus: u8::from_str_radix(&place[5..7], 16).expect("hexadecimal"),
        hops,
    }
}

/// Whether `a` lets a device do nothing that `b` would not.
fn reaches_no_further(a: &Verdict<'_>, b: &Verdict<'_>) -> bool {
    b.trust == Trust::Trusted
        || (a.trust == Trust::Untrusted
            && (a.fallback == Fallback::Deny || b.fallback == Fallback::Page)
            && (a.whole_pages == WholePages::Copy || b.whole_pages == WholePages::Map)
            && (a.group.is_none() || a.group == b.group))
}

proptest! {
    /// "First match wins."
    #[test]
    fn the_first_rule_that_matches_decides(
        rules in proptest::collection::vec(valid_rule(), 0..8),
        (place, class, vendor, device) in (place(), class(), id(), id()),
    ) {
        let policy = policy(&file(Trust::Untrusted, &rules));
        let hops = hops(&place);
        let [base, sub, interface] = class;
        let verdict = policy.verdict(&Device {
            place: at(&place, &hops),
            class: ClassCode::new(base, sub, interface),
            vendor,
            device,
        });
        let expected = rules.iter().position(|rule| rule.means(&place, &digits(class), vendor, device));
        let line = |index: usize| policy.lines().nth(index).expect("as many rules as were written").0;
        match (expected, verdict.rule) {
            (None, DecidedBy::Default) => prop_assert_eq!(verdict.trust, Trust::Untrusted),
            (Some(index), DecidedBy::Rule { line: decided, .. }) => {
                prop_assert_eq!(decided, line(index));
                prop_assert_eq!(verdict.trust == Trust::Trusted, rules[index].trusted);
                prop_assert_eq!(verdict.fallback == Fallback::Page, rules[index].page);
                prop_assert_eq!(verdict.whole_pages == WholePages::Map, rules[index].map);
            }
            (expected, by) => prop_assert!(false, "expected rule {expected:?}, decided by {by}"),
        }
    }

    /// "Matches on what a device says of itself may only lower trust."
    #[test]
    fn a_rule_that_gives_reach_for_a_claim_is_refused(rule in rule()) {
        let gives = rule.trusted || rule.page || rule.map || rule.group.is_some();
        let refused = Policy::parse(file(Trust::Untrusted, std::slice::from_ref(&rule)).as_bytes()).is_err();
        prop_assert_eq!(refused, gives && rule.makes_a_claim());
    }

    /// The same, over whole policies: whatever a device claims, it gets no more than a device in its
    /// place that none of those rules look at.
    #[test]
    fn no_claim_gives_a_device_more_than_its_place_does(
        text in valid_file(),
        (place, class, vendor, device) in (place(), class(), id(), id()),
    ) {
        let policy = policy(&text);
        let hops = hops(&place);
        let [base, sub, interface] = class;
        let claiming = Device {
            place: at(&place, &hops),
            class: ClassCode::new(base, sub, interface),
            vendor,
            device,
        };
        let modest = Device { class: ClassCode::new(0xff, 0, 0), vendor: 0, device: 0, ..claiming };
        prop_assert!(reaches_no_further(&policy.verdict(&claiming), &policy.verdict(&modest)), "{text}");
    }

    /// Sharing a requester id never gives either device more than it had.
    #[test]
    fn a_shared_verdict_reaches_no_further_than_either(text in valid_file(), a in place(), b in place()) {
        let policy = policy(&text);
        let (hops_a, hops_b) = (hops(&a), hops(&b));
        let [first, second] = [(&a, &hops_a), (&b, &hops_b)].map(|(place, hops)| policy.verdict(&Device {
            place: at(place, hops),
            class: ClassCode::new(1, 0, 0),
            vendor: 0,
            device: 0,
        }));
        let shared = first.shared_with(second);
        let without_group = |verdict| Verdict { group: None, ..verdict };
        prop_assert!(reaches_no_further(&without_group(shared), &without_group(first)));
        prop_assert!(reaches_no_further(&without_group(shared), &without_group(second)));
    }

    #[test]
    fn a_printed_policy_reads_back_the_same(text in valid_file()) {
        let policy = policy(&text);
        let printed = policy.to_string();
        let again = self::policy(&printed);
        prop_assert_eq!(again.rules(), policy.rules());
        prop_assert_eq!(again.to_string(), printed);
    }

    /// A second reading of TOML, with another grammar, finds the same values.
    #[test]
    fn what_is_read_is_toml_with_the_same_values(text in valid_file(), edits in edits()) {
        let text = edited(text.into_bytes(), edits);
        let Ok(policy) = Policy::parse(&text) else { return Ok(()) };
        let text = std::str::from_utf8(&text).expect("only UTF-8 is read");
        let theirs: toml::Table = text.parse().expect("only TOML is read");
        let ours: toml::Table = policy.to_string().parse().expect("only TOML is printed");
        prop_assert_eq!(theirs.get("device").map_or(0, |rules| rules.as_array().map_or(0, Vec::len)), policy.rules().len());
        prop_assert!(says_no_more_than(&theirs.into(), &ours.into()), "{text}");
    }

    #[test]
    fn any_bytes_are_read_or_refused(text in proptest::collection::vec(any::<u8>(), 0..512)) {
        read_or_refused(&text)?;
    }

    #[test]
    fn any_text_is_read_or_refused(text in "(?s).{0,200}") {
        read_or_refused(text.as_bytes())?;
    }

    /// Made of the pieces of real files, so that it gets far.
    #[test]
    fn any_pieces_of_policies_are_read_or_refused(pieces in proptest::collection::vec(select(PIECES), 0..60)) {
        read_or_refused(pieces.concat().as_bytes())?;
    }

    #[test]
    fn a_mutated_file_is_read_or_refused(text in valid_file(), edits in edits()) {
        read_or_refused(&edited(text.into_bytes(), edits))?;
    }
}

/// Whether every value of `theirs` is one that `ours` says too; `ours` may add defaults.
fn says_no_more_than(theirs: &toml::Value, ours: &toml::Value) -> bool {
    use toml::Value::{Array, String, Table};
    match (theirs, ours) {
        (Table(theirs), Table(ours)) => theirs.iter().all(|(key, value)| {
            ours.get(key)
                .is_some_and(|other| says_no_more_than(value, other))
        }),
        (Array(theirs), Array(ours)) => {
            theirs.len() == ours.len()
                && theirs
                    .iter()
                    .zip(ours)
                    .all(|(a, b)| says_no_more_than(a, b))
        }
        // Classes, places and amounts have several spellings.
        (String(theirs), String(ours)) => {
            theirs.eq_ignore_ascii_case(ours) || respelt(theirs) == respelt(ours)
        }
        (theirs, ours) => theirs == ours,
    }
}

/// A class code by name is as good as one by digits.
fn respelt(text: &str) -> &str {
    match text {
        "storage" => "01",
        "network" => "02",
        "ethernet" => "0200",
        other => other,
    }
}

/// The parser ends, and either refuses at a place that can be shown or means what it prints.
fn read_or_refused(text: &[u8]) -> Result<(), TestCaseError> {
    match Policy::parse(text) {
        Ok(policy) => {
            let again = self::policy(&policy.to_string());
            prop_assert_eq!(again.rules(), policy.rules());
        }
        Err(error) => {
            let lines = text.split(|byte| *byte == b'\n').count();
            prop_assert!(usize::try_from(error.at.line).expect("64 bits") <= lines);
            prop_assert!(!error.rendered("test", text).to_string().is_empty());
        }
    }
    Ok(())
}

/// A change to one place of a file.
#[derive(Clone, Debug)]
enum Edit {
    Remove(Index),
    Insert(Index, &'static str),
    Replace(Index, u8),
    Cut(Index),
}

fn edits() -> impl Strategy<Value = Vec<Edit>> {
    let edit = prop_oneof![
        any::<Index>().prop_map(Edit::Remove),
        (any::<Index>(), select(PIECES)).prop_map(|(at, piece)| Edit::Insert(at, piece)),
        (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Edit::Replace(at, byte)),
        any::<Index>().prop_map(Edit::Cut),
    ];
    proptest::collection::vec(edit, 0..4)
}

fn edited(mut text: Vec<u8>, edits: Vec<Edit>) -> Vec<u8> {
    for edit in edits {
        let end = text.len() + 1;
        match edit {
            Edit::Remove(at) => drop(text.drain(at.index(end)..).next()),
            Edit::Insert(at, piece) => {
                drop(text.splice(at.index(end)..at.index(end), piece.bytes()))
            }
            Edit::Replace(at, byte) => text
                .iter_mut()
                .skip(at.index(end))
                .take(1)
                .for_each(|old| *old = byte),
            Edit::Cut(at) => text.truncate(at.index(end)),
        }
    }
    text
}

const PIECES: &[&str] = &[
    "version = 1\n",
    "[[device]]\n",
    "[[",
    "]]",
    "match = ",
    "{ ",
    " }",
    "path = \"0000:00:01.0\"",
    "port = ",
    "'0000:00:07.0/00.0'",
    "class = \"network\"",
    "vendor = 0x8086",
    "device = 0x1",
    "trust = \"untrusted\"\n",
    "pool = \"1MiB\"\n",
    "group = 'a'\n",
    "name = \"n\"\n",
    "storm = ",
    "faults = 5",
    "per = \"2s\"",
    "then = \"log\"",
    "viommu = false\n",
    "bounce-memory = \"8MiB\"\n",
    ", ",
    "\n",
    "\r\n",
    " ",
    "\t",
    "# c\n",
    "\"",
    "'",
    "\"\"\"",
    "'''",
    "\\",
    ".",
    "=",
    "1",
    "0x",
    "-",
    "_",
    "1.5",
    "1979-05-27",
    "true",
    "inf",
    "é",
    "\u{feff}",
    "\0",
    "[",
    "]",
    "{",
    "}",
];
