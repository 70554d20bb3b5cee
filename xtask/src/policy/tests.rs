//! The examples and the sample machine, as a person at the terminal meets them.

use clap::Parser;

use super::*;

const LAPTOP: &str = include_str!("../../../docs/policy/laptop-thunderbolt.toml");
const SERVER: &str = include_str!("../../../docs/policy/server-hotplug-nvme.toml");
const DEMO: &str = include_str!("../../../docs/policy/qemu-demo.toml");
const SAMPLE: &[u8] = include_bytes!("../../../docs/policy/machine-qemu-q35.txt");
const README: &str = include_str!("../../../docs/policy/README.md");

/// The machine that comes with the examples.
pub(super) fn sample() -> Machine {
    dump::parse(SAMPLE).expect("what lspci printed")
}

fn example(text: &str) -> Policy {
    parsed(Path::new("example.toml"), text.as_bytes()).expect("a valid policy")
}

/// What is said of the sample machine.
fn said(text: &str) -> String {
    explained_for(&example(text), &sample()).expect("a machine of modest size")
}

/// For each device that a rule decides for, its place and the name of the rule.
fn decided(text: &str) -> Vec<(String, String)> {
    let said = said(text);
    let rows = said.lines().filter_map(|row| {
        let (_, rule) = row.strip_suffix('`')?.rsplit_once(" `")?;
        Some((row.split(' ').next()?.to_owned(), rule.to_owned()))
    });
    rows.collect()
}

fn pairs(rows: &[(&str, &str)]) -> Vec<(String, String)> {
    rows.iter()
        .map(|(place, rule)| ((*place).to_owned(), (*rule).to_owned()))
        .collect()
}

#[test]
fn the_laptops_rules_decide_for_these_devices_of_the_sample() {
    let expected = pairs(&[
        ("0000:00:02.0", "graphics"),
        ("0000:00:07.0", "Thunderbolt, left"),
        ("0000:00:07.0/00.0", "Thunderbolt, left"),
        ("0000:00:07.0/00.0/02.0", "Thunderbolt, left"),
        ("0000:00:07.0/00.0/02.0/00.0", "Thunderbolt, left"),
        ("0000:00:07.1", "Thunderbolt, right"),
        ("0000:00:14.0", "USB controller"),
        ("0000:00:1d.0/00.0", "system disk"),
        // A rule by place means the place: here another device sits where the laptop has its audio.
        ("0000:00:1f.3", "audio"),
    ]);
    assert_eq!(decided(LAPTOP), expected);
}

#[test]
fn the_servers_rules_decide_for_these_devices_of_the_sample() {
    let expected = pairs(&[
        ("0000:00:1b.0/00.0", "boot disk, first"),
        ("0000:80:01.0", "front bays"),
        ("0000:80:01.0/00.0", "front bays"),
        ("0000:80:01.0/00.0/07.0", "front bays"),
        ("0000:80:01.0/00.0/07.0/00.0", "front bays"),
        ("0000:80:03.0/00.0", "network, first function"),
        ("0000:80:03.0/00.1", "network, second function"),
    ]);
    assert_eq!(decided(SERVER), expected);
}

#[test]
fn the_demonstrations_rules_decide_for_these_devices_of_the_sample() {
    let expected = pairs(&[
        ("0000:00:03.0", "trusted disk"),
        ("0000:00:04.0", "untrusted disk"),
        ("0000:00:05.0", "hot-plug port"),
        ("0000:00:05.0/00.0", "hot-plug port"),
        ("0000:00:06.0", "attacker"),
    ]);
    assert_eq!(decided(DEMO), expected);
}

#[test]
fn every_device_has_a_row_and_every_idle_rule_a_remark() {
    for text in [LAPTOP, SERVER, DEMO] {
        let said = said(text);
        let rows = said.lines().filter(|row| row.starts_with("0000:")).count();
        assert_eq!(rows, 28, "{said}");
        for (line, rule) in example(text).lines() {
            let name = rule.name().expect("the rules of the examples have names");
            let decides = said.contains(&format!("line {line} `{name}`"));
            let is_idle = said.contains(&format!("line {line}: decides for no device"));
            assert!(decides != is_idle, "{name}\n{said}");
        }
    }
}

#[test]
fn without_a_machine_the_keys_and_the_rules_are_told() {
    for text in [LAPTOP, SERVER, DEMO] {
        let policy = example(text);
        let said = explained(&policy);
        for key in ::policy::defaults() {
            assert!(
                said.contains(&format!("  {}", key.name)),
                "{}\n{said}",
                key.name
            );
        }
        let mut rest = said.as_str();
        for (line, rule) in policy.lines() {
            let start = format!("\nline {line}\n  name = \"{}\"\n", rule.name().unwrap());
            let (_, after) = rest.split_once(&start).expect("the rules in their order");
            rest = after;
        }
        assert!(
            rest.ends_with("\nany other device\n  trust = \"untrusted\"\n"),
            "{rest}"
        );
    }
}

#[test]
fn a_valid_policy_is_summed_up_in_a_line() {
    assert_eq!(
        summary(Path::new("demo.toml"), &example(DEMO)),
        "demo.toml: valid, 4 rules, default untrusted, enforcement on\n"
    );
}

#[test]
fn a_warning_has_a_line_of_its_own() {
    let text = "version = 1\ndefault = \"trusted\"\n[[device]]\nmatch = { class = \"nvme\" }\n";
    let summary = summary(Path::new("p.toml"), &example(text));
    let lines: Vec<_> = summary.lines().collect();
    assert_eq!(
        lines[0],
        "p.toml: valid, 1 rule, default trusted, enforcement on"
    );
    assert!(
        lines[1].starts_with("p.toml: warning: line 3: "),
        "{summary}"
    );
}

#[test]
fn an_error_shows_its_place_and_ends_with_2() {
    let text = "version = 1\nenforcment = \"on\"\n";
    let stop = parsed(Path::new("p.toml"), text.as_bytes()).unwrap_err();
    let Stop::Unready(why) = &stop else {
        panic!("{stop:?}")
    };
    let lines: Vec<_> = why.lines().collect();
    assert!(
        lines[1].starts_with("p.toml:2:1: unknown key `enforcment`"),
        "{why}"
    );
    assert!(
        lines[2].ends_with("enforcment = \"on\"") && lines[3].contains('^'),
        "{why}"
    );
    assert!(why.contains("did you mean `enforcement`"), "{why}");
    assert_eq!(stop.status(), 2);
}

#[test]
fn a_file_that_is_not_there_ends_with_2() {
    let policy = PathBuf::from("/nowhere/policy.toml");
    assert_eq!(run(&Command::Check { policy }).unwrap_err().status(), 2);
}

/// What the document shows is what is printed.
#[test]
fn the_readme_shows_rows_as_they_are() {
    let said = said(DEMO);
    let shown: Vec<_> = README
        .lines()
        .filter(|line| line.starts_with("0000:"))
        .collect();
    assert!(shown.len() > 3, "{said}");
    for row in shown {
        assert!(said.lines().any(|line| line == row), "{row}\n{said}");
    }
}

#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[test]
fn a_machine_is_this_one_or_another() {
    let both = [
        "policy",
        "explain",
        "p.toml",
        "--this-machine",
        "--machine",
        "d.txt",
    ];
    assert!(Cli::try_parse_from(both).is_err());
    assert!(Cli::try_parse_from(&both[..4]).is_ok());
}
