//! A policy in words: which line decides for each device, and what every key means.
//!
//! Writes plain text to anything that takes it: the serial console at boot, the terminal on the
//! host.

use core::fmt::{self, Display, Write};

use crate::keys::Omitted;
use crate::{
    DecidedBy, Device, Enforcement, Place, Policy, PoolSize, Storm, Table, Trust, defaults,
};

/// Writes a row for each of `devices`: where it sits, what it says of itself, what the policy says
/// of it, and the line that decided. Then what deserves a second look.
///
/// # Errors
/// Only what `out` itself reports.
pub fn devices(policy: &Policy, devices: &[Device<'_>], out: &mut impl Write) -> fmt::Result {
    switch(policy.enforcement(), out)?;
    let mut widths = HEADINGS.map(|heading| heading.width());
    for device in devices {
        for (width, cell) in widths.iter_mut().zip(row(policy, device)) {
            *width = (*width).max(cell.width());
        }
    }
    print(HEADINGS, widths, out)?;
    for device in devices {
        print(row(policy, device), widths, out)?;
    }
    remarks(policy, devices, out)
}

/// Writes every key of the format: its table, its default and its meaning.
///
/// # Errors
/// Only what `out` itself reports.
pub fn keys(out: &mut impl Write) -> fmt::Result {
    let mut table = None;
    for key in defaults() {
        if table.replace(key.table) != Some(key.table) {
            let heading = match key.table {
                Table::Top => "Above the first rule",
                Table::Device => "In a [[device]] rule",
                Table::Match => "In match = { ... }",
                Table::Storm => "In storm = { ... }",
            };
            writeln!(out, "{heading}")?;
        }
        let name = key.name;
        match key.default {
            Omitted::Required => writeln!(out, "  {name} (required)")?,
            Omitted::Value(value) => writeln!(out, "  {name} = {value}")?,
            Omitted::Absent(meaning) => writeln!(out, "  {name} (if left out: {meaning})")?,
        }
        writeln!(out, "      {}", key.meaning)?;
    }
    Ok(())
}

/// Says what the single switch does to all that follows.
fn switch(enforcement: Enforcement, out: &mut impl Write) -> fmt::Result {
    let effect = match enforcement {
        Enforcement::On => "untrusted devices are confined",
        Enforcement::Audit => "nothing is refused, what would have been is recorded",
        Enforcement::Off => "every device is treated as trusted",
    };
    writeln!(out, "enforcement = \"{enforcement}\": {effect}")
}

/// Names the rules that decided for none of `devices`, and the policy's warnings.
fn remarks(policy: &Policy, devices: &[Device<'_>], out: &mut impl Write) -> fmt::Result {
    for (line, _) in policy.lines() {
        let decides = |device: &Device<'_>| matches!(policy.verdict(device).rule, DecidedBy::Rule { line: by, .. } if by == line);
        if !devices.iter().any(decides) {
            writeln!(out, "line {line}: decides for no device that is present")?;
        }
    }
    policy
        .warnings()
        .try_for_each(|warning| writeln!(out, "{warning}"))
}

const HEADINGS: [Cell<'static>; 8] = [
    Cell::Word("where"),
    Cell::Word("says it is"),
    Cell::Word("trust"),
    Cell::Word("unmediated"),
    Cell::Word("pool"),
    Cell::Word("whole pages"),
    Cell::Word("faults"),
    Cell::Word("decided by"),
];

/// The row for `device`. What does not apply to a trusted device is a dash.
fn row<'a>(policy: &'a Policy, device: &'a Device<'a>) -> [Cell<'a>; 8] {
    let verdict = policy.verdict(device);
    let of_untrusted = |cell| match verdict.trust {
        Trust::Trusted => Cell::Word("-"),
        Trust::Untrusted => cell,
    };
    [
        Cell::Place(device.place),
        Cell::Claim(device),
        Cell::Word(verdict.trust.word()),
        of_untrusted(Cell::Word(verdict.fallback.word())),
        of_untrusted(Cell::Pool(verdict.pool, verdict.group)),
        of_untrusted(Cell::Word(verdict.whole_pages.word())),
        Cell::Storm(verdict.storm),
        Cell::By(verdict.rule),
    ]
}

/// Writes `cells` in columns of `widths` characters.
fn print<const N: usize>(
    cells: [Cell<'_>; N],
    widths: [usize; N],
    out: &mut impl Write,
) -> fmt::Result {
    let mut gap = 0;
    for (cell, width) in cells.iter().zip(widths) {
        write!(out, "{:gap$}{cell}", "")?;
        gap = width.saturating_sub(cell.width()).saturating_add(2);
    }
    writeln!(out)
}

/// What stands in one column of one row.
#[derive(Clone, Copy)]
enum Cell<'a> {
    Word(&'a str),
    Place(Place<'a>),
    Claim(&'a Device<'a>),
    Pool(PoolSize, Option<&'a str>),
    Storm(Storm),
    By(DecidedBy<'a>),
}

impl Cell<'_> {
    /// How many characters it prints.
    fn width(&self) -> usize {
        let mut characters = Characters(0);
        match write!(characters, "{self}") {
            Ok(()) => characters.0,
            // Counting never fails; a cell without width would only look untidy.
            Err(fmt::Error) => 0,
        }
    }
}

impl Display for Cell<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Word(word) => f.write_str(word),
            Self::Place(place) => place.fmt(f),
            Self::Claim(Device {
                class,
                vendor,
                device,
                ..
            }) => {
                write!(f, "{vendor:04x}:{device:04x} {class}")?;
                class.name().map_or(Ok(()), |name| write!(f, " {name}"))
            }
            Self::Pool(size, None) => size.fmt(f),
            Self::Pool(size, Some(group)) => write!(f, "{size} of group `{group}`"),
            Self::Storm(Storm { faults, per, then }) => write!(f, "{faults} in {per}: {then}"),
            Self::By(rule) => rule.fmt(f),
        }
    }
}

/// Counts what is written to it.
struct Characters(usize);

impl Write for Characters {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0 = self.0.saturating_add(text.chars().count());
        Ok(())
    }
}
