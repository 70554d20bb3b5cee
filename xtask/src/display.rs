//! What the person sees: the machine's consoles while it runs, a table at the end.

use std::fmt::Write as _;
use std::io::Write as _;

use qemu::protocol::BouncerLine;
use qemu::{CheckResult, Line, Outcome, Port, Report, Watch};

/// How consoles are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// Line by line: Bouncer's as they are, the guest's behind a bar.
    Lines,
    /// The guest's console byte by byte on a raw terminal, Bouncer's lines in between.
    Terminal,
}

/// Shows a session on standard output.
#[derive(Debug)]
pub(crate) struct Show {
    style: Style,
}

impl Show {
    pub(crate) fn new(style: Style) -> Self {
        Self { style }
    }
}

impl Watch for Show {
    fn bytes(&mut self, port: Port, bytes: &[u8]) {
        if self.style == Style::Terminal && port == Port::Console {
            emit(bytes);
        }
    }

    fn line(&mut self, line: &Line) {
        if let Some(text) = shown(self.style, line) {
            emit(text.as_bytes());
        }
    }
}

/// A closed pipe on standard output is the reader's business, not the machine's.
fn emit(bytes: &[u8]) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(bytes).and_then(|()| out.flush());
}

fn shown(style: Style, line: &Line) -> Option<String> {
    let end = if style == Style::Terminal {
        "\r\n"
    } else {
        "\n"
    };
    match line.port {
        Port::Console if style == Style::Lines => {
            let text = printable(&line.text);
            (!text.trim().is_empty()).then(|| format!("| {text}{end}"))
        }
        Port::Console | Port::Guest => None,
        Port::Bouncer => match BouncerLine::parse(&line.text) {
            BouncerLine::Human(text) => Some(format!("{}{end}", printable(&text))),
            _ => None,
        },
    }
}

/// Without escape sequences and control characters: a guest does not steer the person's terminal.
fn printable(text: &str) -> String {
    let mut printable = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\u{1b}' => {
                if characters.next_if_eq(&'[').is_some() {
                    // A control sequence ends with its first letter.
                    while characters
                        .next_if(|next| !('@'..='~').contains(next))
                        .is_some()
                    {}
                }
                characters.next();
            }
            '\t' => printable.push(' '),
            character if character.is_control() => {}
            character => printable.push(character),
        }
    }
    printable
}

/// The outcome, in a few lines.
pub(crate) fn table(outcome: &Outcome) -> String {
    let report = &outcome.report;
    let mut table = String::from("\n");
    guest_rows(&mut table, report);
    bouncer_rows(&mut table, report);
    device_rows(&mut table, report);
    if !outcome.emulator.trim().is_empty() {
        row(&mut table, "qemu", outcome.emulator.trim());
    }
    row(&mut table, "verdict", &outcome.verdict().to_string());
    table
}

fn row(table: &mut String, name: &str, text: &str) {
    for (index, line) in text.lines().enumerate() {
        let name = if index == 0 { name } else { "" };
        writeln!(table, "{name:<9} {line}").expect("a String takes all");
    }
}

fn guest_rows(table: &mut String, report: &Report) {
    let guest = &report.guest;
    let kernel = if guest.kernel.is_empty() {
        "unknown kernel"
    } else {
        &guest.kernel
    };
    let processors = if guest.vcpus == 1 {
        "1 processor".into()
    } else {
        format!("{} processors", guest.vcpus)
    };
    row(
        table,
        "guest",
        &format!(
            "{kernel}, {processors}, {} after {:.1} s",
            guest.ended, report.seconds.total
        ),
    );
    let mut rows: Vec<_> = guest
        .checks
        .iter()
        .map(|(name, result)| format!("{name}: {}", String::from(result.clone())))
        .collect();
    if !rows.is_empty() {
        let count = |wanted: fn(&CheckResult) -> bool| {
            guest
                .checks
                .values()
                .filter(|result| wanted(result))
                .count()
        };
        let passed = count(|result| *result == CheckResult::Pass);
        let skipped = count(|result| matches!(result, CheckResult::Skip(_)));
        let failed = guest.checks.len() - passed - skipped;
        rows.insert(
            0,
            format!("{passed} passed, {failed} failed, {skipped} skipped"),
        );
        row(table, "checks", &rows.join("\n  "));
    }
    let data: Vec<_> = guest
        .data
        .iter()
        .map(|(key, value)| format!("{key} = {value}"))
        .collect();
    row(table, "data", &data.join("\n"));
}

fn bouncer_rows(table: &mut String, report: &Report) {
    if let (Some(image), Some(resident)) = (report.image_bytes, report.resident_bytes) {
        let at = report.resident_base.unwrap_or_default();
        row(
            table,
            "bouncer",
            &format!(
                "image {} KiB, resident {} KiB at {at:#x}",
                image.div_ceil(1024),
                resident.div_ceil(1024)
            ),
        );
    }
    if let Some(seconds) = report.seconds.loader_to_kernel {
        row(
            table,
            "launch",
            &format!(
                "{:.0} ms from the boot loader to the kernel",
                seconds * 1000.0
            ),
        );
    }
    let exits: Vec<_> = report
        .exits
        .iter()
        .map(|(reason, count)| format!("{reason} {count}"))
        .collect();
    if !exits.is_empty() {
        row(table, "exits", &exits.join(", "));
    }
    if let Some(panic) = &report.panic {
        row(table, "panic", panic);
        row(
            table,
            "",
            &report
                .frames
                .iter()
                .map(|frame| format!("at {frame}\n"))
                .collect::<String>(),
        );
    }
}

fn device_rows(table: &mut String, report: &Report) {
    if report.devices.is_empty() {
        return;
    }
    let head = ["where", "trust", "mediator", "protection", "rule"].map(str::to_owned);
    let rows = report.devices.iter().map(|device| {
        [
            &device.bdf,
            &device.trust,
            &device.mediator,
            &device.protection,
            &device.rule,
        ]
        .map(Clone::clone)
    });
    let rows: Vec<[String; 5]> = std::iter::once(head).chain(rows).collect();
    let width = |column: usize| {
        rows.iter()
            .map(|row| row[column].chars().count())
            .max()
            .unwrap_or_default()
    };
    let widths: [usize; 5] = std::array::from_fn(width);
    let lines = rows.iter().map(|cells| {
        let cells: Vec<_> = cells
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        cells.join("  ").trim_end().to_owned()
    });
    row(table, "devices", &lines.collect::<Vec<_>>().join("\n"));
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn line(port: Port, text: &str) -> Line {
        Line {
            port,
            at: Duration::ZERO,
            text: text.into(),
        }
    }

    #[test]
    fn bouncers_lines_are_shown_as_they_are_and_the_harnesss_are_not() {
        assert_eq!(
            shown(Style::Lines, &line(Port::Bouncer, "00:10.0  nvme")).as_deref(),
            Some("00:10.0  nvme\n")
        );
        assert_eq!(
            shown(Style::Lines, &line(Port::Bouncer, "@exits cpuid=3")),
            None
        );
        assert_eq!(shown(Style::Lines, &line(Port::Guest, "pass a")), None);
    }

    #[test]
    fn the_guests_lines_stand_behind_a_bar_without_their_escapes() {
        let text = "\u{1b}[2J\u{1b}[01;01HWelcome\u{7} to\tGRUB";
        assert_eq!(
            shown(Style::Lines, &line(Port::Console, text)).as_deref(),
            Some("| Welcome to GRUB\n")
        );
        assert_eq!(shown(Style::Lines, &line(Port::Console, "\u{1b}[H")), None);
    }

    #[test]
    fn on_a_raw_terminal_the_console_is_bytes_and_bouncer_is_lines() {
        assert_eq!(shown(Style::Terminal, &line(Port::Console, "x")), None);
        assert_eq!(
            shown(Style::Terminal, &line(Port::Bouncer, "x")).as_deref(),
            Some("x\r\n")
        );
    }

    fn outcome(report: Report) -> Outcome {
        Outcome {
            report,
            console: Vec::new(),
            guest: Vec::new(),
            bouncer: Vec::new(),
            emulator: String::new(),
        }
    }

    #[test]
    fn the_table_tells_checks_devices_and_the_verdict() {
        let mut report = Report::new(2);
        for line in [
            "bouncer-guest 1",
            "data kernel 6.1.0-56-amd64",
            "start a",
            "pass a",
            "skip b no igb",
            "fail c byte 3",
        ] {
            report.hear_guest(line);
        }
        let device = "@device bdf=0000:01:00.0 trust=untrusted mediator=nvme protection=byte rule=\"all else\"";
        report.hear_bouncer(BouncerLine::parse(device));
        let table = table(&outcome(report));
        for text in [
            "guest     6.1.0-56-amd64, 2 processors",
            "checks    1 passed, 1 failed, 1 skipped",
            "  c: fail: byte 3",
            "devices   where         trust      mediator  protection  rule",
            "          0000:01:00.0  untrusted  nvme      byte        all else",
            "verdict   the guest was still running at the deadline",
        ] {
            assert!(table.contains(text), "{text} in\n{table}");
        }
    }

    #[test]
    fn a_panic_is_shown_with_its_frames() {
        let mut report = Report::new(1);
        report.hear_bouncer(BouncerLine::parse("@panic own invariant broken"));
        report.hear_bouncer(BouncerLine::parse("@frame 0x1f40"));
        let table = table(&outcome(report));
        assert!(
            table.contains("panic     own invariant broken\n          at 0x1f40\n"),
            "{table}"
        );
    }
}
