//! The results as a person reads them in a terminal.

use std::fmt::Write as _;

use super::results::{Results, Time};
use super::setting::{REFERENCE, Setting};

/// The arrangement whose instructions are subtracted: Bouncer there, the drive its guest's own.
const WITHOUT_MEDIATION: &str = "trusted";
/// What Linux does by itself against the same device.
const RIVAL: &str = "swiotlb";
/// Exits that the guest's programs force: not the drive's.
const OF_PROGRAMS: &str = "cpuid";

/// Everything that is known, and first what is not.
pub(crate) fn table(results: &Results) -> String {
    let mut text = String::new();
    for (setting, why) in &results.absent {
        line(
            &mut text,
            &format!("ABSENT {}: {}: {why}", setting.name, setting.title),
        );
    }
    for failure in &results.failures {
        line(&mut text, &format!("FAILED {failure}"));
    }
    for (key, value) in &results.machine {
        line(&mut text, &format!("{key:<10} {value}"));
    }
    for time in results.times() {
        times(&mut text, results, time);
        if time == Time::Wall {
            counts(&mut text, results);
        } else {
            instructions(&mut text, results);
        }
    }
    text
}

/// Time of each request, and in brackets its ratio to the same without any protection.
fn times(text: &mut String, results: &Results, time: Time) {
    let settings = results.settings(time);
    let what = match time {
        Time::Wall => "Time",
        Time::Instructions => "Work",
    };
    let head = format!(
        "\n{what} of a request in {} (for that of `{REFERENCE}` in the same round)",
        time.unit()
    );
    line(text, &head);
    let mut rows = vec![heads("", &settings)];
    for load in results.loads() {
        let mut row = vec![load.name()];
        for setting in &settings {
            let spent = results.time(setting.name, time, load);
            let ratio = results.ratio(setting.name, REFERENCE, time, load);
            row.push(match (spent, ratio) {
                (Some(spent), Some(ratio)) => format!("{:.1} ({ratio:.2})", spent / 1000.0),
                (Some(spent), None) => format!("{:.1}", spent / 1000.0),
                (None, _) => "-".into(),
            });
        }
        rows.push(row);
    }
    columns(text, &rows);
    rivalry(text, results, time, &settings);
}

/// How much longer Linux's own bounce takes than each of Bouncer's.
fn rivalry(text: &mut String, results: &Results, time: Time, settings: &[Setting]) {
    let ours: Vec<_> = settings
        .iter()
        .filter(|setting| setting.policy.is_some())
        .copied()
        .collect();
    if ours.is_empty() || !settings.iter().any(|setting| setting.name == RIVAL) {
        return;
    }
    line(
        text,
        &format!("\nSpeed for that of `{RIVAL}`: above 1 is faster than Linux's own bounce"),
    );
    let mut rows = vec![heads("", &ours)];
    for load in results.loads() {
        let mut row = vec![load.name()];
        row.extend(ours.iter().map(|setting| {
            let ratio = results.ratio(RIVAL, setting.name, time, load);
            ratio.map_or("-".into(), |ratio| format!("{ratio:.2}"))
        }));
        rows.push(row);
    }
    columns(text, &rows);
}

/// What each request cost in events, for everything that has Bouncer.
fn counts(text: &mut String, results: &Results) {
    for setting in results.settings(Time::Wall) {
        if setting.policy.is_none() {
            continue;
        }
        line(text, &format!("\n{}: per request", setting.title));
        let reasons = results.counters(setting.name);
        let loads = results.loads();
        // What never happened is not worth a column.
        let happened = |name: &String| {
            loads.iter().any(|load| {
                let each = results.per_request(setting.name, *load, |sample| {
                    sample.counts.get(name).copied().unwrap_or(0)
                });
                each.is_some_and(|each| each > 0.0)
            })
        };
        let reasons: Vec<_> = reasons
            .iter()
            .filter(|name| *name != OF_PROGRAMS && happened(name))
            .collect();
        let mut head = vec![String::new(), "interrupts".into()];
        head.extend(reasons.iter().map(|name| (*name).clone()));
        let mut rows = vec![head];
        for load in results.loads() {
            let mut row = vec![load.name()];
            let interrupts = results.per_request(setting.name, load, |sample| sample.interrupts);
            row.push(number(interrupts));
            row.extend(reasons.iter().map(|name| {
                let count = results.per_request(setting.name, load, |sample| {
                    sample.counts.get(*name).copied().unwrap_or(0)
                });
                number(count)
            }));
            rows.push(row);
        }
        columns(text, &rows);
        let totals = results.totals_per_request(setting.name);
        for (key, each) in totals {
            line(
                text,
                &format!("  over all loads, {key}: {each:.4} a request"),
            );
        }
    }
}

/// Instructions beyond those of the same guest and Bouncer with a drive that is not mediated.
fn instructions(text: &mut String, results: &Results) {
    let time = Time::Instructions;
    let settings = results.settings(time);
    let mediated: Vec<_> = settings
        .iter()
        .filter(|setting| setting.policy.is_some() && setting.name != WITHOUT_MEDIATION)
        .copied()
        .collect();
    if mediated.is_empty() {
        return;
    }
    line(
        text,
        &format!(
            "\nInstructions of a request beyond those of `{WITHOUT_MEDIATION}`: Bouncer's, and what the guest does differently"
        ),
    );
    let mut rows = vec![heads("", &mediated)];
    for load in results.loads() {
        let mut row = vec![load.name()];
        row.extend(mediated.iter().map(|setting| {
            let ours = results.time(setting.name, time, load);
            let theirs = results.time(WITHOUT_MEDIATION, time, load);
            match (ours, theirs) {
                (Some(ours), Some(theirs)) => format!("{:.0}", ours - theirs),
                _ => "-".into(),
            }
        }));
        rows.push(row);
    }
    columns(text, &rows);
}

fn number(value: Option<f64>) -> String {
    value.map_or("-".into(), |value| format!("{value:.3}"))
}

fn heads(first: &str, settings: &[Setting]) -> Vec<String> {
    let names = settings.iter().map(|setting| setting.name.to_owned());
    std::iter::once(first.to_owned()).chain(names).collect()
}

/// Writes rows of equal length, the first column to the left and the others to the right.
fn columns(text: &mut String, rows: &[Vec<String>]) {
    let count = rows.first().map_or(0, Vec::len);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or_default()
    };
    let widths: Vec<_> = (0..count).map(width).collect();
    for row in rows {
        let mut cells = row.iter().zip(&widths);
        let mut joined = cells
            .next()
            .map_or(String::new(), |(cell, width)| format!("  {cell:<width$}"));
        for (cell, width) in cells {
            let _ = write!(joined, "  {cell:>width$}");
        }
        line(text, joined.trim_end());
    }
}

fn line(text: &mut String, content: &str) {
    text.push_str(content);
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::results::tests::run;
    use crate::bench::setting;

    #[test]
    fn what_is_absent_comes_first_and_ratios_stand_beside_times() {
        let mut results = Results::default();
        results.runs.push(run("native", 100, 0, 0));
        results.runs.push(run("swiotlb", 300, 0, 0));
        results.runs.push(run("trusted", 110, 20, 5));
        results.absent.push((
            setting::by_name("copy").unwrap(),
            "no mediator for the drive".into(),
        ));
        let text = table(&results);
        assert!(text.starts_with("ABSENT copy: "), "{text}");
        for part in ["110.0 (1.10)", "4 KiB read, depth 32", "0.020", "2.73"] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
    }
}
