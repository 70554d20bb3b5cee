//! Whether a run counts as success, and the sentence that says why not.

use core::fmt;

use crate::report::{CheckResult, Ended, Report};

/// The judgement on a finished run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The guest did its work and powered off.
    Success,
    /// It ended otherwise than by powering off.
    Ended(Ended),
    /// Checks failed or did not finish: their names.
    Checks(Vec<String>),
    /// The guest's init greeted and powered off without saying `done`.
    NeverDone,
}

impl Verdict {
    /// Judges a report whose machine has ended. A guest that never greeted on COM2 is somebody else's system: all
    /// that is asked of it is to power off.
    #[must_use]
    pub fn on(report: &Report) -> Self {
        let broken =
            |result: &CheckResult| matches!(result, CheckResult::Fail(_) | CheckResult::Unfinished);
        let broken: Vec<_> = report
            .guest
            .checks
            .iter()
            .filter(|(_, result)| broken(result))
            .map(|(name, _)| name.clone())
            .collect();
        match report.guest.ended {
            Ended::PowerOff if !broken.is_empty() => Self::Checks(broken),
            Ended::PowerOff if report.greeted && !report.done => Self::NeverDone,
            Ended::PowerOff => Self::Success,
            ended => Self::Ended(ended),
        }
    }

    /// Whether the guest did its work and powered off.
    #[must_use]
    pub fn is_success(&self) -> bool {
        *self == Self::Success
    }

    /// What a program that ran the machine exits with: 0 or 1.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        u8::from(!self.is_success())
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Success => f.write_str("the guest did its work and powered off"),
            Self::Ended(ended) => write!(f, "the guest {ended}"),
            Self::Checks(names) => write!(
                f,
                "these checks failed or never finished: {}",
                names.join(", ")
            ),
            Self::NeverDone => f.write_str("the guest powered off before its checks were done"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::BouncerLine;

    fn report(ended: Ended, guest: &[&str]) -> Report {
        let mut report = Report::new(1);
        guest.iter().for_each(|line| report.hear_guest(line));
        report.end(ended, 1.0);
        report
    }

    fn verdict(ended: Ended, guest: &[&str]) -> Verdict {
        Verdict::on(&report(ended, guest))
    }

    #[test]
    fn checks_that_pass_or_skip_and_a_power_off_are_success() {
        let lines = [
            "bouncer-guest 1",
            "start a",
            "pass a",
            "start b",
            "skip b no such device",
            "done",
        ];
        assert_eq!(verdict(Ended::PowerOff, &lines).exit_code(), 0);
    }

    #[test]
    fn a_foreign_guest_need_only_power_off() {
        assert_eq!(verdict(Ended::PowerOff, &[]), Verdict::Success);
        assert_eq!(verdict(Ended::Reset, &[]), Verdict::Ended(Ended::Reset));
    }

    #[test]
    fn silence_until_the_deadline_is_failure() {
        assert_eq!(verdict(Ended::Timeout, &[]).exit_code(), 1);
    }

    #[test]
    fn one_failed_check_fails_the_run() {
        let lines = [
            "bouncer-guest 1",
            "start a",
            "fail a byte 3",
            "start b",
            "pass b",
            "done",
        ];
        assert_eq!(
            verdict(Ended::PowerOff, &lines),
            Verdict::Checks(vec!["a".into()])
        );
    }

    #[test]
    fn a_check_that_fails_cannot_pass_later() {
        let lines = [
            "bouncer-guest 1",
            "start a",
            "fail a byte 3",
            "pass a",
            "done",
        ];
        assert_eq!(
            verdict(Ended::PowerOff, &lines),
            Verdict::Checks(vec!["a".into()])
        );
    }

    #[test]
    fn a_check_that_never_ends_fails_the_run() {
        let lines = ["bouncer-guest 1", "start a", "done"];
        assert_eq!(
            verdict(Ended::PowerOff, &lines),
            Verdict::Checks(vec!["a".into()])
        );
    }

    #[test]
    fn a_guest_that_greets_must_say_done() {
        assert_eq!(
            verdict(Ended::PowerOff, &["bouncer-guest 1", "start a", "pass a"]),
            Verdict::NeverDone
        );
    }

    #[test]
    fn a_panic_outweighs_the_power_off() {
        let mut report = Report::new(1);
        report.hear_bouncer(BouncerLine::parse("@panic own invariant broken"));
        report.end(Ended::PowerOff, 1.0);
        assert_eq!(Verdict::on(&report), Verdict::Ended(Ended::Panic));
    }

    #[test]
    fn a_triple_fault_is_told_from_a_reset() {
        let mut report = Report::new(1);
        report.hear_bouncer(BouncerLine::parse("@ended triple-fault"));
        report.end(Ended::Reset, 1.0);
        assert_eq!(report.guest.ended, Ended::TripleFault);
    }

    #[test]
    fn later_device_lines_add_to_earlier_ones() {
        let mut report = Report::new(1);
        report.hear_bouncer(BouncerLine::parse(
            "@device bdf=0000:01:00.0 trust=untrusted mediator=nvme rule=\"all else\"",
        ));
        report.hear_bouncer(BouncerLine::parse(
            "@device bdf=0000:01:00.0 requests=7 bounced_bytes=4096 depth=3",
        ));
        let [device] = report.devices.as_slice() else {
            panic!("one device")
        };
        assert_eq!(
            (device.trust.as_str(), device.rule.as_str()),
            ("untrusted", "all else")
        );
        assert_eq!(
            (device.requests, device.bounced_bytes, device.faults),
            (Some(7), Some(4096), None)
        );
        assert_eq!(device.other["depth"], "3");
    }

    #[test]
    fn the_report_is_the_json_its_readers_expect() {
        let mut report = report(
            Ended::PowerOff,
            &[
                "data kernel 6.1.0-56-amd64",
                "start a",
                "skip a no igb",
                "pass b",
            ],
        );
        report.hear_bouncer(BouncerLine::parse("@launch pm-ticks=7159090"));
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["guest"]["kernel"], "6.1.0-56-amd64");
        assert_eq!(json["guest"]["ended"], "poweroff");
        assert_eq!(
            json["guest"]["checks"],
            serde_json::json!({ "a": "skip: no igb", "b": "pass" })
        );
        assert_eq!(json["seconds"]["loader_to_kernel"], 2.0);
        assert_eq!(json["exits"], serde_json::json!({}));
    }
}
