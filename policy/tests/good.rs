//! Files that are read, and what they mean.

use policy::{
    ClassCode, DecidedBy, Device, Enforcement, Fallback, Hop, Place, Policy, PoolSize, StormAction,
    Treatment, Trust, Warning, WholePages,
};

/// The example of the design, with a class rule at its end.
const DESIGN: &str = r#"version = 1
enforcement = "on"              # the single switch: on | audit | off
default = "untrusted"           # what no rule names
require-iommu = true            # refuse to start where VT-d or interrupt remapping is missing
viommu = true                   # show the guest a virtual VT-d

[[device]]                      # first match wins
name = "system disk"
match = { path = "0000:00:1d.0/00.0" }
trust = "trusted"

[[device]]
name = "Thunderbolt"
match = { port = "0000:00:07.0" }
trust = "untrusted"
pool = "32MiB"                  # bounce memory of each device matched
whole-pages = "copy"            # copy | map
fallback = "deny"               # without a mediator: deny | page
storm = { faults = 1000, per = "1s", then = "quarantine" }

[[device]]
match = { class = "network" }
trust = "untrusted"
"#;

fn policy(text: &str) -> Policy {
    Policy::parse(text.as_bytes())
        .unwrap_or_else(|error| panic!("{}", error.rendered("test", text.as_bytes())))
}

/// A network controller at the devfns given.
fn network(hops: &[Hop]) -> Device<'_> {
    Device {
        place: Place {
            segment: 0,
            root_bus: 0,
            hops,
        },
        class: ClassCode::new(0x02, 0x00, 0x00),
        vendor: 0x8086,
        device: 0x1533,
    }
}

fn hop(device: u8, function: u8) -> Hop {
    Hop::new(device, function).expect("a device below 32, a function below 8")
}

#[test]
fn memory_is_set_aside_for_pools_where_somebody_is_confined() {
    assert_eq!(policy("version = 1").bytes_set_aside(), 32 << 20);
    let more = policy("version = 1\nbounce-memory = \"64MiB\"");
    assert_eq!(more.bytes_set_aside(), 64 << 20);
    for switch in ["audit", "off"] {
        let text = format!("version = 1\nenforcement = \"{switch}\"");
        assert_eq!(policy(&text).bytes_set_aside(), 0, "{switch}");
    }
}

#[test]
fn the_example_of_the_design_means_what_its_comments_say() {
    let policy = policy(DESIGN);
    assert_eq!(policy.enforcement(), Enforcement::On);
    assert_eq!(policy.default_trust(), Trust::Untrusted);
    assert!(policy.requires_iommu() && policy.shows_viommu());

    let disk = [hop(0x1d, 0), hop(0, 0)];
    let verdict = policy.verdict(&network(&disk));
    assert_eq!(verdict.trust, Trust::Trusted);
    assert_eq!(
        verdict.rule,
        DecidedBy::Rule {
            line: 7,
            name: Some("system disk")
        }
    );

    let dock = [hop(7, 0), hop(0, 0), hop(3, 0)];
    let verdict = policy.verdict(&network(&dock));
    assert_eq!(verdict.trust, Trust::Untrusted);
    assert_eq!(verdict.pool.bytes(), 32 << 20);
    assert_eq!(verdict.storm.then, StormAction::Quarantine);
    assert_eq!(verdict.rule.to_string(), "line 12 `Thunderbolt`");

    let onboard = [hop(0x1f, 6)];
    assert_eq!(
        policy.verdict(&network(&onboard)).rule.to_string(),
        "line 21"
    );
}

#[test]
fn a_path_is_one_function_and_a_port_everything_behind_it() {
    let policy = policy(DESIGN);
    let decided = |hops: &[Hop]| policy.verdict(&network(hops)).rule.to_string();
    assert_eq!(decided(&[hop(0x1d, 0)]), "line 21");
    assert_eq!(decided(&[hop(0x1d, 0), hop(0, 1)]), "line 21");
    assert_eq!(decided(&[hop(0x1d, 0), hop(0, 0), hop(0, 0)]), "line 21");
    assert_eq!(decided(&[hop(7, 0)]), "line 12 `Thunderbolt`");
    assert_eq!(decided(&[hop(0, 0); 200]), "line 21");
}

#[test]
fn a_device_deeper_than_any_rule_is_still_behind_its_port() {
    let policy = policy(DESIGN);
    let mut hops = [hop(0, 0); 100];
    hops[0] = hop(7, 0);
    assert_eq!(
        policy.verdict(&network(&hops)).rule.to_string(),
        "line 12 `Thunderbolt`"
    );
}

#[test]
fn what_no_rule_names_is_untrusted_and_without_dma() {
    let policy = policy("version = 1");
    let verdict_of = [hop(2, 0)];
    let verdict = policy.verdict(&network(&verdict_of));
    assert_eq!(verdict.trust, Trust::Untrusted);
    assert_eq!(verdict.fallback, Fallback::Deny);
    assert_eq!(verdict.whole_pages, WholePages::Copy);
    assert_eq!(verdict.pool, PoolSize::DEFAULT);
    assert_eq!(verdict.rule, DecidedBy::Default);
}

#[test]
fn a_rule_asks_for_every_key_of_its_match() {
    let policy = policy(
        "version = 1\ndefault = 'trusted'\n[[device]]\nmatch = { port = '0000:00:01.0', class = '02', vendor = 0x8086, device = 0x1533 }",
    );
    let there = [hop(1, 0), hop(0, 0)];
    let elsewhere = [hop(2, 0)];
    let named = network(&there);
    assert_eq!(policy.verdict(&named).trust, Trust::Untrusted);
    for other in [
        network(&elsewhere),
        Device {
            class: ClassCode::new(1, 0, 0),
            ..named
        },
        Device {
            vendor: 0x8087,
            ..named
        },
        Device {
            device: 0x1534,
            ..named
        },
    ] {
        assert_eq!(policy.verdict(&other).rule, DecidedBy::Default, "{other:?}");
    }
}

#[test]
fn the_single_switch_rules_over_every_verdict() {
    let somewhere = [hop(2, 0)];
    for (word, treatment) in [
        ("on", Treatment::Confined),
        ("audit", Treatment::Recorded),
        ("off", Treatment::Direct),
    ] {
        let switched = policy(&format!("version = 1\nenforcement = \"{word}\""));
        assert_eq!(
            switched.verdict(&network(&somewhere)).treatment(),
            treatment
        );
        let trusting = policy(&format!(
            "version = 1\ndefault = \"trusted\"\nenforcement = \"{word}\""
        ));
        assert_eq!(
            trusting.verdict(&network(&somewhere)).treatment(),
            Treatment::Direct
        );
    }
}

#[test]
fn devices_the_hardware_cannot_tell_apart_get_the_stricter_verdict() {
    let policy = policy(
        "version = 1\n\
         [[device]]\nmatch = { path = '0000:00:01.0' }\ntrust = 'trusted'\n\
         [[device]]\nmatch = { path = '0000:00:02.0' }\nfallback = 'page'\n\
         [[device]]\nmatch = { path = '0000:00:03.0' }\nwhole-pages = 'map'\n",
    );
    let [trusted, paged, mapped] = [[hop(1, 0)], [hop(2, 0)], [hop(3, 0)]];
    let verdict = |hops| policy.verdict(&network(hops));
    assert_eq!(
        verdict(&trusted).shared_with(verdict(&paged)),
        verdict(&paged)
    );
    assert_eq!(
        verdict(&paged).shared_with(verdict(&trusted)),
        verdict(&paged)
    );
    let both = verdict(&paged).shared_with(verdict(&mapped));
    assert_eq!(
        (both.fallback, both.whole_pages),
        (Fallback::Deny, WholePages::Copy)
    );
    assert_eq!(both.rule, verdict(&paged).rule);
}

#[test]
fn doorbells_in_memory_are_offered_unless_the_rule_says_no() {
    let policy = policy(
        "version = 1\n[[device]]\nmatch = { path = '0000:00:02.0' }\nshadow-doorbells = false\n\
         [[device]]\nmatch = { path = '0000:00:03.0' }\n",
    );
    let [without, with] = [[hop(2, 0)], [hop(3, 0)]];
    let verdict = |hops| policy.verdict(&network(hops));
    assert!(!verdict(&without).shadow_doorbells && verdict(&with).shadow_doorbells);
    assert!(
        !verdict(&with)
            .shared_with(verdict(&without))
            .shadow_doorbells
    );
}

#[test]
fn a_group_is_told_with_the_verdict() {
    let policy =
        policy("version = 1\n[[device]]\nmatch = { path = '0000:00:02.0' }\ngroup = 'dock'");
    let there = [hop(2, 0)];
    assert_eq!(policy.verdict(&network(&there)).group, Some("dock"));
}

#[test]
fn a_name_with_quotes_in_it_is_printed_so_that_it_reads_back() {
    for name in [r#""it's""#, r#"'the "left" one'"#, r"'back\slash'", "'é'"] {
        let text =
            format!("version = 1\n[[device]]\nname = {name}\nmatch = {{ path = '0000:00:02.0' }}");
        let policy = policy(&text);
        let inside = &name[1..name.len() - 1];
        assert_eq!(policy.rules()[0].name(), Some(inside));
        assert_eq!(self::policy(&policy.to_string()).rules(), policy.rules());
    }
}

#[test]
fn a_rule_that_never_decides_is_warned_of() {
    let policy = policy(
        "version = 1\n\
         [[device]]\nmatch = { port = '0000:00:07.0' }\n\
         [[device]]\nmatch = { path = '0000:00:07.0/00.0' }\ntrust = 'trusted'\n\
         [[device]]\nmatch = { class = 'network' }\n\
         [[device]]\nmatch = { class = 'ethernet', vendor = 0x8086 }\n\
         [[device]]\nmatch = { class = '03' }\n",
    );
    let warnings: Vec<_> = policy.warnings().collect();
    assert_eq!(
        warnings,
        [
            Warning::Covered { line: 4, by: 2 },
            Warning::Covered { line: 9, by: 7 }
        ]
    );
}

#[test]
fn a_rule_that_a_lie_gets_around_is_warned_of() {
    let policy =
        policy("version = 1\ndefault = 'trusted'\n[[device]]\nmatch = { class = 'network' }");
    assert_eq!(
        policy.warnings().collect::<Vec<_>>(),
        [Warning::Evadable { line: 3 }]
    );
}

#[test]
fn pages_that_nobody_can_map_are_warned_of() {
    let rule = "[[device]]\nmatch = { path = '0000:00:07.0' }\nfallback = 'page'";
    let warnings = |viommu: &str| {
        let text = format!("version = 1\n{viommu}\n{rule}");
        policy(&text).warnings().collect::<Vec<_>>()
    };
    assert_eq!(warnings("viommu = true"), []);
    assert_eq!(
        warnings("viommu = false"),
        [Warning::Unmappable { line: 3 }]
    );
}

#[test]
fn the_explanation_says_for_each_device_which_line_decided() {
    let policy = policy(DESIGN);
    let [disk, dock, onboard] = [
        vec![hop(0x1d, 0), hop(0, 0)],
        vec![hop(7, 0), hop(0, 0)],
        vec![hop(0x1f, 6)],
    ];
    let disk = Device {
        class: ClassCode::new(1, 8, 2),
        vendor: 0x144d,
        device: 0xa808,
        ..network(&disk)
    };
    let mut table = String::new();
    policy::explain::devices(
        &policy,
        &[disk, network(&dock), network(&onboard)],
        &mut table,
    )
    .expect("a string grows");
    assert_eq!(table, EXPLAINED, "\n{table}");
}

#[rustfmt::skip]
const EXPLAINED: &str = "\
enforcement = \"on\": untrusted devices are confined
where              says it is                 trust      unmediated  pool   whole pages  faults                  decided by
0000:00:1d.0/00.0  144d:a808 010802 nvme      trusted    -           -      -            1000 in 1s: quarantine  line 7 `system disk`
0000:00:07.0/00.0  8086:1533 020000 ethernet  untrusted  deny        32MiB  copy         1000 in 1s: quarantine  line 12 `Thunderbolt`
0000:00:1f.6       8086:1533 020000 ethernet  untrusted  deny        16MiB  copy         1000 in 1s: quarantine  line 21
";

#[test]
fn the_explanation_names_rules_that_decide_for_nobody() {
    let policy = policy(DESIGN);
    let mut table = String::new();
    policy::explain::devices(&policy, &[], &mut table).expect("a string grows");
    for line in [7, 12, 21] {
        assert!(
            table.contains(&format!(
                "line {line}: decides for no device that is present\n"
            )),
            "\n{table}"
        );
    }
}

#[test]
fn the_explanation_of_the_format_names_every_key_with_its_default() {
    let mut text = String::new();
    policy::explain::keys(&mut text).expect("a string grows");
    for key in policy::defaults() {
        assert!(
            text.contains(&format!("  {} ", key.name)),
            "{}:\n{text}",
            key.name
        );
        assert!(text.contains(key.meaning), "{}:\n{text}", key.name);
    }
    assert!(text.contains("  pool = \"16MiB\"\n"), "{text}");
}
