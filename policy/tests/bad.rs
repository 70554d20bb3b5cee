//! Files that are refused, each with its exact line, column, problem and hint.

use std::fmt::Write;

use policy::{MAX_HOPS, MAX_NAME, MAX_RULES, MAX_TEXT, Policy, Problem};

fn complaint(text: impl AsRef<[u8]>) -> String {
    match Policy::parse(text.as_ref()) {
        Ok(policy) => format!("accepted as\n{policy}"),
        Err(error) => error.to_string(),
    }
}

fn check(before: &str, cases: &[(&str, &str)]) {
    for (text, expected) in cases {
        let text = format!("{before}{text}");
        assert_eq!(complaint(&text), *expected, "for\n{text}");
    }
}

#[test]
fn what_a_policy_cannot_start_with_is_refused_by_name() {
    check("", WHOLE_FILES);
}

#[test]
fn what_a_rule_cannot_say_is_refused_by_name() {
    check(
        "version = 1\n[[device]]\nmatch = { path = \"0000:00:1d.0\" }\n",
        LINES_OF_A_RULE,
    );
}

#[test]
fn what_a_match_cannot_say_is_refused_by_name() {
    check("version = 1\n[[device]]\nmatch = ", MATCHES);
}

#[test]
fn a_file_of_64_kib_is_read_and_one_byte_more_is_not() {
    let mut text = String::from("version = 1\n#");
    text.extend(std::iter::repeat_n('x', MAX_TEXT - text.len()));
    assert_eq!(Policy::parse(text.as_bytes()), Ok(Policy::default()));
    text.push('x');
    assert_eq!(
        complaint(&text),
        "line 2, column 65525: the file has 65537 bytes, more than 65536; is this the right file?"
    );
}

#[test]
fn bytes_that_are_not_utf_8_are_located_by_offset() {
    assert_eq!(
        complaint(b"version = 1\n# \xc3\xa9 \xff"),
        "line 2, column 5: not UTF-8 at byte 17; save the file as UTF-8"
    );
}

#[test]
fn a_byte_order_mark_is_no_column() {
    assert_eq!(
        Policy::parse(b"\xef\xbb\xbfversion = 1"),
        Ok(Policy::default())
    );
    assert_eq!(
        complaint(b"\xef\xbb\xbfversion = 2"),
        "line 1, column 11: unknown version `2`; this program reads version 1"
    );
    assert_eq!(
        complaint(b"\xef\xbb\xbf# \xff"),
        "line 1, column 3: not UTF-8 at byte 5; save the file as UTF-8"
    );
}

#[test]
fn a_character_that_is_not_seen_is_refused_even_in_a_comment() {
    // NUL, escape, delete, the one-character CSI of terminals, a right-to-left override, a carriage return
    // that ends no line, a line separator.
    for unseen in [
        '\0', '\u{1b}', '\u{7f}', '\u{9b}', '\u{202e}', '\r', '\u{2028}',
    ] {
        let text = format!("version = 1\n#é{unseen}");
        let code = u32::from(unseen);
        assert_eq!(
            complaint(text),
            format!(
                "line 2, column 3: character U+{code:04X} is not allowed, not even in a comment; remove it"
            )
        );
    }
}

#[test]
fn lines_may_end_as_on_windows() {
    assert_eq!(
        Policy::parse(b"version = 1\r\n# x\r\n"),
        Ok(Policy::default())
    );
}

#[test]
fn the_65th_rule_is_one_too_many() {
    let mut text = String::from("version = 1\n");
    for bus in 0..MAX_RULES {
        writeln!(
            text,
            "[[device]]\nmatch = {{ path = \"0000:{bus:02x}:00.0\" }}"
        )
        .expect("a string grows");
    }
    let policy = Policy::parse(text.as_bytes()).expect("as many rules as there is room for");
    assert_eq!(policy.rules().len(), MAX_RULES);
    text.push_str("[[device]]\nmatch = { path = \"0000:ff:00.0\" }\n");
    assert_eq!(
        complaint(&text),
        "line 130, column 3: more than 64 [[device]] rules; name a `port` instead of each device behind it"
    );
}

#[test]
fn a_name_has_room_for_31_bytes() {
    let named = |name: &str| {
        format!("version = 1\n[[device]]\nname = \"{name}\"\nmatch = {{ path = \"0000:00:00.0\" }}")
    };
    let longest = "é".repeat(MAX_NAME / 2) + "x";
    let text = named(&longest);
    let policy = Policy::parse(text.as_bytes()).expect("the longest name");
    assert_eq!(policy.rules()[0].name(), Some(longest.as_str()));
    let too_long = named(&(longest + "x"));
    let error = Policy::parse(too_long.as_bytes()).expect_err("one byte too many");
    assert!(
        matches!(error.problem, Problem::OutOfRange { .. }),
        "{error}"
    );
}

#[test]
fn a_path_has_room_for_16_hops() {
    let deep = |hops: usize| {
        format!(
            "version = 1\n[[device]]\nmatch = {{ path = \"0000:00:00.0{}\" }}",
            "/00.0".repeat(hops - 1)
        )
    };
    assert!(Policy::parse(deep(MAX_HOPS).as_bytes()).is_ok());
    let too_deep = deep(MAX_HOPS + 1);
    let error = Policy::parse(too_deep.as_bytes()).expect_err("one hop too many");
    assert!(matches!(error.problem, Problem::TooDeep { .. }), "{error}");
}

#[test]
fn rules_of_one_group_describe_one_domain() {
    let grouped = |second: &str| {
        format!(
            "version = 1\n[[device]]\nmatch = {{ path = \"0000:00:01.0\" }}\ngroup = \"dock\"\npool = \"8MiB\"\n\
             [[device]]\nmatch = {{ path = \"0000:00:02.0\" }}\ngroup = \"dock\"\n{second}"
        )
    };
    assert!(Policy::parse(grouped("pool = \"8MiB\"").as_bytes()).is_ok());
    let hint = "a group is one domain with one pool; say the same in each of its rules";
    for (second, line, column, key) in [
        ("", 8, 9, "pool"),
        ("pool = \"9MiB\"", 9, 8, "pool"),
        ("pool = \"8MiB\"\nfallback = \"page\"", 10, 12, "fallback"),
        (
            "whole-pages = \"map\"\npool = \"8MiB\"",
            9,
            15,
            "whole-pages",
        ),
    ] {
        assert_eq!(
            complaint(grouped(second)),
            format!(
                "line {line}, column {column}: `{key}` differs from the rule of the same group on line 2; {hint}"
            )
        );
    }
}

#[test]
fn a_rendered_error_shows_the_line_with_a_caret_under_the_place() {
    let text = "version = 1\r\n[[device]]\r\n\tname = 'é'\r\n\ttrsut = \"trusted\" # ü\r\n";
    let error = Policy::parse(text.as_bytes()).expect_err("a slip");
    assert_eq!(
        error.rendered("policy.toml", text.as_bytes()).to_string(),
        "policy.toml:4:2: unknown key `trsut`\n    \
         4 |  trsut = \"trusted\" # ü\n      \
           |  ^^^^^\n      \
           = did you mean `trust`?\n"
    );
}

#[test]
fn a_rendered_error_shows_a_long_line_around_the_place() {
    let text = format!(
        "version = 1\n[[device]]\nmatch = {{ path = \"{}",
        "é".repeat(60_000 / 2)
    );
    let error = Policy::parse(text.as_bytes()).expect_err("an open string");
    let rendered = error.rendered("policy.toml", text.as_bytes()).to_string();
    assert!(
        rendered.lines().all(|line| line.chars().count() < 160),
        "{rendered}"
    );
    let text = format!("version = 1{}2", " ".repeat(50_000));
    let error = Policy::parse(text.as_bytes()).expect_err("a second value");
    let rendered = error.rendered("policy.toml", text.as_bytes()).to_string();
    let [_, line, caret] = rendered.lines().collect::<Vec<_>>()[..] else {
        panic!("three lines:\n{rendered}");
    };
    assert_eq!(line.find('2'), caret.find('^'), "\n{rendered}");
}

#[test]
fn a_rendered_error_lets_no_control_character_through() {
    let text = b"version = 1 # \x1b[2J\x07\xff";
    let error = Policy::parse(text).expect_err("an escape");
    let rendered = error.rendered("policy.toml", text).to_string();
    assert!(
        !rendered.chars().any(|c| c.is_control() && c != '\n'),
        "{rendered:?}"
    );
}

/// Whole files, and what is said of them.
#[rustfmt::skip]
const WHOLE_FILES: &[(&str, &str)] = &[
    ("",
     "line 1, column 1: `version` is missing; start the file with `version = 1`"),
    ("# nothing\n",
     "line 1, column 1: `version` is missing; start the file with `version = 1`"),
    ("[[device]]\n",
     "line 1, column 1: `version` is missing; start the file with `version = 1`"),
    ("version = 2\n",
     "line 1, column 11: unknown version `2`; this program reads version 1"),
    (r#"version = "1""#,
     "line 1, column 11: `version` cannot be a text; write 1"),
    ("version = 1.5",
     "line 1, column 11: fractions are not supported in a policy; write a whole number, with a smaller unit if need be"),
    ("viommu = true.1",
     "line 1, column 14: expected the end of the line, found `.`"),
    ("version = inf",
     "line 1, column 11: fractions are not supported in a policy; write a whole number, with a smaller unit if need be"),
    ("version = 99999999999999999999",
     "line 1, column 11: unknown version `99999999999999999999`; this program reads version 1"),
    ("version = -1",
     "line 1, column 11: unknown version `-1`; this program reads version 1"),
    ("version",
     "line 1, column 8: expected `=`, found the end of the file"),
    ("version =",
     "line 1, column 10: expected a value, found the end of the file"),
    ("version = 1 2",
     "line 1, column 13: expected the end of the line, found `2`"),
    ("version = 1\nversion = 1",
     "line 2, column 1: `version` is already given on line 1; keep one of them"),
    ("= 1",
     "line 1, column 1: expected a key, found `=`"),
    ("version = 1\ncolour = 3",
     "line 2, column 1: unknown key `colour`; the top of the file takes version, enforcement, default, require-iommu, viommu, bounce-memory"),
    ("version = 1\ntrust = \"trusted\"",
     "line 2, column 1: unknown key `trust`; `trust` belongs in a [[device]] rule"),
    ("version = 1\nenforcment = \"on\"",
     "line 2, column 1: unknown key `enforcment`; did you mean `enforcement`?"),
    ("version = 1\nenforcement = on",
     "line 2, column 15: expected a value (texts need quotes), found `on`"),
    ("version = 1\nenforcement = \"yes\"",
     r#"line 2, column 15: `enforcement` cannot be `yes`; must be one of "on", "audit", "off""#),
    ("version = 1\nenforcement = \"off",
     r#"line 2, column 15: expected a text that ends with a quote, found `"off`"#),
    ("version = 1\nenforcement = 'on\n",
     "line 2, column 15: expected a text that ends with a quote, found `'on`"),
    ("version = 1\nenforcement = true",
     r#"line 2, column 15: `enforcement` cannot be true or false; must be one of "on", "audit", "off""#),
    ("version = 1\nviommu = \"true\"",
     "line 2, column 10: `viommu` cannot be a text; write true or false, without quotes"),
    ("version = 1\nviommu = yes",
     "line 2, column 10: expected a value (texts need quotes), found `yes`"),
    ("version = 1\n[device]",
     "line 2, column 1: a table in single brackets is not supported in a policy; rules start with [[device]], their `match` and `storm` are { ... } in one line"),
    ("version = 1\n[[devices]]",
     "line 2, column 3: unknown table `devices`; every table is a rule: [[device]]"),
    ("version = 1\n[[device]",
     "line 2, column 9: expected `]]`, found `]`"),
    ("version = 1\n[[\"device\"]]",
     "line 2, column 3: keys in quotes are not supported in a policy; write the key without quotes"),
    ("version = 1\n[[device.match]]",
     "line 2, column 9: dotted keys are not supported in a policy; write match = { path = ... } in full"),
    ("version = 1\n[ [device]]",
     "line 2, column 1: a table in single brackets is not supported in a policy; rules start with [[device]], their `match` and `storm` are { ... } in one line"),
    ("version = 1\ndevice = []",
     "line 2, column 1: unknown key `device`; `device` belongs in `match`"),
    ("version = 1\n[[device]] x",
     "line 2, column 12: expected the end of the line, found `x`"),
    ("version = 1\n[[",
     "line 2, column 3: expected `device`, found the end of the file"),
    ("version = 1\n[[]]",
     "line 2, column 3: expected `device`, found `]`"),
    ("version = 1\n\"viommu\" = true",
     "line 2, column 1: keys in quotes are not supported in a policy; write the key without quotes"),
    ("version = 1\na.b = true",
     "line 2, column 2: dotted keys are not supported in a policy; write match = { path = ... } in full"),
    ("version = 1\nviommu = { }",
     "line 2, column 10: `viommu` cannot be a table; write true or false, without quotes"),
    ("version = 1\nviommu = 1979-05-27",
     "line 2, column 10: dates and times are not supported in a policy; no key takes one"),
    ("version = 0o1",
     "line 1, column 11: octal numbers are not supported in a policy; write it in decimal, or as 0x... in hexadecimal"),
    ("version = 0b1",
     "line 1, column 11: binary numbers are not supported in a policy; write it in decimal, or as 0x... in hexadecimal"),
    ("version = 1\ndefault = \"\"\"trusted\"\"\"",
     "line 2, column 11: multi-line strings are not supported in a policy; keep the text in one line"),
    ("version = 1\ndefault = \"trust\\u0065d\"",
     r#"line 2, column 11: escapes in strings are not supported in a policy; write the character itself, or '...' for a text with " or \ in it"#),
    ("version = 1\ndefault = \"trustd\"",
     "line 2, column 11: `default` cannot be `trustd`; did you mean `trusted`?"),
    ("version = 0x1_",
     "line 1, column 11: expected a value (texts need quotes), found `0x1_`"),
    ("version = +1 # fine\nversion",
     "line 2, column 8: expected `=`, found the end of the file"),
    ("version = 1\nviommu = \"a\u{1b}\"",
     "line 2, column 12: character U+001B is not allowed, not even in a comment; remove it"),
];

/// Lines after `[[device]]` and a valid `match`, and what is said of them.
#[rustfmt::skip]
const LINES_OF_A_RULE: &[(&str, &str)] = &[
    (r#"trsut = "untrusted""#,
     "line 4, column 1: unknown key `trsut`; did you mean `trust`?"),
    (r#"default = "trusted""#,
     "line 4, column 1: unknown key `default`; `default` belongs at the top of the file"),
    (r#"trust = "high""#,
     r#"line 4, column 9: `trust` cannot be `high`; must be one of "trusted", "untrusted""#),
    (r#"pool = "32MB""#,
     r#"line 4, column 8: `pool` cannot be `32MB`; write a size such as "32MiB", from 64KiB to 1GiB in steps of 4KiB"#),
    (r#"pool = "2GiB""#,
     r#"line 4, column 8: `pool` cannot be `2GiB`; write a size such as "32MiB", from 64KiB to 1GiB in steps of 4KiB"#),
    ("pool = 32",
     r#"line 4, column 8: `pool` cannot be a number; write a size such as "32MiB", from 64KiB to 1GiB in steps of 4KiB"#),
    (r#"pool = "33KiB""#,
     r#"line 4, column 8: `pool` cannot be `33KiB`; write a size such as "32MiB", from 64KiB to 1GiB in steps of 4KiB"#),
    (r#"name = """#,
     r#"line 4, column 8: `name` cannot be `""`; write a text of 1 to 31 bytes, in quotes"#),
    (r#"name = "0123456789012345678901234567890123456789""#,
     "line 4, column 8: `name` cannot be `0123456789012345678901234567890123456789`; write a text of 1 to 31 bytes, in quotes"),
    (r#"whole_pages = "copy""#,
     "line 4, column 1: unknown key `whole_pages`; did you mean `whole-pages`?"),
    (r#"fallback = "allow""#,
     r#"line 4, column 12: `fallback` cannot be `allow`; must be one of "deny", "page""#),
    ("storm = { faults = 0 }",
     "line 4, column 20: `faults` cannot be `0`; write a number from 1 to 1000000"),
    ("storm = { faults = 1, }",
     "line 4, column 21: a comma before } is not supported in a policy; leave it out"),
    ("storm = { faults = 1\n}",
     "line 4, column 21: line breaks and comments between { and } are not supported in a policy; keep { ... } in one line"),
    (r#"storm = { faults = 1 then = "log" }"#,
     "line 4, column 22: expected `,` or `}`, found `then`"),
    (r#"storm = { per = "1h" }"#,
     r#"line 4, column 17: `per` cannot be `1h`; write a time such as "500ms", "1s" or "2min", from 1ms to 60min"#),
    (r#"storm = { then = "quarentine" }"#,
     "line 4, column 18: `then` cannot be `quarentine`; did you mean `quarantine`?"),
    ("storm = 5",
     "line 4, column 9: `storm` cannot be a number; write { ... } with faults, per, then"),
    ("storm = {",
     "line 4, column 10: expected a key, found the end of the file"),
    ("storm = {\n",
     "line 4, column 10: line breaks and comments between { and } are not supported in a policy; keep { ... } in one line"),
    ("storm = { # x\n",
     "line 4, column 11: line breaks and comments between { and } are not supported in a policy; keep { ... } in one line"),
    ("storm = { faults = 1, faults = 2 }",
     "line 4, column 23: `faults` is already given on line 4; keep one of them"),
    ("storm = { , }",
     "line 4, column 11: expected a key, found `,`"),
    ("storm = { per.x = 1 }",
     "line 4, column 14: dotted keys are not supported in a policy; write match = { path = ... } in full"),
    (r#"storm = { per = "61min" }"#,
     r#"line 4, column 17: `per` cannot be `61min`; write a time such as "500ms", "1s" or "2min", from 1ms to 60min"#),
    (r#"match = { port = "0000:00:07.0" }"#,
     "line 4, column 1: `match` is already given on line 3; keep one of them"),
    ("trust = \"trusted\"\ngroup = \"a\"",
     "line 5, column 9: a trusted device cannot have a `group`; trusted devices share one domain anyway"),
    ("[[device]]",
     "line 4, column 3: `match` is missing; a [[device]] rule needs one"),
    ("[[device]]\ntrust = \"trusted\"",
     "line 4, column 3: `match` is missing; a [[device]] rule needs one"),
];

/// Values of `match`, and what is said of them.
#[rustfmt::skip]
const MATCHES: &[(&str, &str)] = &[
    ("{}",
     "line 3, column 9: `match` is empty; for devices that no rule names there is `default`"),
    (r#"{ path = "00:1d.0" }"#,
     r#"line 3, column 18: `path` cannot be `00:1d.0`; write segment, root bus and device.function hops such as "0000:00:1d.0/00.0"; `lspci -D -P` prints them"#),
    (r#"{ path = "0000:01:00.0/20.0" }"#,
     r#"line 3, column 18: `path` cannot be `0000:01:00.0/20.0`; write segment, root bus and device.function hops such as "0000:00:1d.0/00.0"; `lspci -D -P` prints them"#),
    ("{ port = 7 }",
     r#"line 3, column 18: `port` cannot be a number; write segment, root bus and device.function hops such as "0000:00:1d.0/00.0"; `lspci -D -P` prints them"#),
    (r#"{ path = "0000:00:1d.0", port = "0000:00:1d.0" }"#,
     "line 3, column 41: `path` and `port` exclude each other; `path` is one function, `port` also everything behind it"),
    (r#"{ class = "netwrok" }"#,
     "line 3, column 19: `class` cannot be `netwrok`; did you mean `network`?"),
    (r#"{ class = "gpu" }"#,
     r#"line 3, column 19: `class` cannot be `gpu`; write 2, 4 or 6 hexadecimal digits such as "0c03", or one of storage, network, display, multimedia, memory, bridge, communication, system, input, docking, processor, serial-bus, wireless, intelligent-io, satellite, encryption, signal-processing, accelerator, instrumentation, sata, nvme, ethernet, audio, firewire, usb, usb4"#),
    ("{ vendor = 8086 }",
     "line 3, column 20: `vendor` cannot be `8086`; ids are hexadecimal: did you mean `0x8086`?"),
    ("{ vendor = 0x18086 }",
     "line 3, column 20: `vendor` cannot be `0x18086`; write four hexadecimal digits such as 0x8086, without quotes"),
    (r#"{ vendor = "8086" }"#,
     "line 3, column 20: `vendor` cannot be a text; write four hexadecimal digits such as 0x8086, without quotes"),
    ("{ device = 0x1 }",
     "line 3, column 20: `device` means nothing without `vendor`; device ids are each vendor's own"),
    ("{ class = \"nvme\" }\ntrust = \"trusted\"",
     "line 4, column 9: `trust` cannot give more reach in a rule that matches on `class`; a device can claim to be anything; say where it sits, with `path` or `port` alone"),
    ("{ class = \"nvme\" }\nfallback = \"page\"",
     "line 4, column 12: `fallback` cannot give more reach in a rule that matches on `class`; a device can claim to be anything; say where it sits, with `path` or `port` alone"),
    ("{ path = \"0000:00:00.0\", vendor = 0x8086 }\nwhole-pages = \"map\"",
     "line 4, column 15: `whole-pages` cannot give more reach in a rule that matches on `vendor`; a device can claim to be anything; say where it sits, with `path` or `port` alone"),
    ("{ class = \"nvme\" }\ngroup = \"x\"",
     "line 4, column 9: `group` cannot give more reach in a rule that matches on `class`; a device can claim to be anything; say where it sits, with `path` or `port` alone"),
    (r#""0000:00:07.0""#,
     "line 3, column 9: `match` cannot be a text; write { ... } with path, port, class, vendor, device"),
    (r#"{ prot = "x" }"#,
     "line 3, column 11: unknown key `prot`; did you mean `port`?"),
    (r#"{ trust = "trusted" }"#,
     "line 3, column 11: unknown key `trust`; `trust` belongs in a [[device]] rule"),
    (r#"{ path = "0000:00:00.0/00.0/00.0/00.0/00.0/00.0/00.0/00.0/00.0/00.0/00.0/00.0/00.0/00.0/00.0/00.0/00.0" }"#,
     "line 3, column 18: `path` has more than 16 hops; name a `port` further up"),
];
