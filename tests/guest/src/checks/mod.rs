//! The checks, one file each, and the table that names them.
//!
//! Owns the table and the sets; a check owns what it demands of the machine. To add one: a file
//! with `pub(super) fn run(&mut Figures) -> Verdict`, its `mod` line, and a row.

mod cpus;
mod detect;
mod disk;
mod efi;
mod endure;
pub(crate) mod fork;
mod fpu;
mod groups;
mod hash;
mod hidden;
mod hotplug;
mod idle;
mod ipis;
mod measured;
mod meddle;
mod message;
mod msr;
mod net;
mod nmi;
mod nvme;
mod sha256_64m;
mod straddle;
mod timers;
mod tmpfs;
mod trap;
mod virtual_functions;

use crate::verdict::{Figures, Verdict};
use std::time::Duration;

/// One check: what process 1 needs to know to run it.
#[derive(Debug)]
pub(crate) struct Check {
    /// The name by which it is asked for and reported.
    pub(crate) name: &'static str,
    /// How long it may take before it counts as hung: a multiple of what the slowest emulated
    /// machine needs.
    pub(crate) deadline: Duration,
    /// The check itself; runs in a process of its own.
    pub(crate) run: fn(&mut Figures) -> Verdict,
    /// Whether a boot that names no checks runs it.
    is_default: bool,
}

#[cfg(test)]
impl Check {
    /// A check that is in no table.
    pub(crate) fn for_trial(
        name: &'static str,
        deadline: Duration,
        run: fn(&mut Figures) -> Verdict,
    ) -> Self {
        Self {
            name,
            deadline,
            run,
            is_default: false,
        }
    }
}

/// Every check, in the order in which the default set runs.
pub(crate) const TABLE: &[Check] = &[
    default("cpus", 10, cpus::run),
    default("detect", 10, detect::run),
    default("hash", 30, hash::run),
    default("fork", 60, fork::run),
    default("tmpfs", 60, tmpfs::run),
    default("timers", 60, timers::run),
    default("ipis", 120, ipis::run),
    default("fpu", 60, fpu::run),
    default("nmi", 90, nmi::run),
    default("hotplug", 120, hotplug::run),
    default("msr", 10, msr::run),
    default("trap", 60, trap::run),
    default("hidden", 120, hidden::run),
    on_request("straddle", 30, straddle::run),
    on_request("message", 10, message::run),
    on_request("hidden-flood", 120, hidden::flood),
    on_request("disk", 120, disk::run),
    on_request("disk-reads", 120, disk::reads),
    on_request("disk-rate", 60, disk::rate),
    on_request("nvme-files", 480, nvme::files),
    on_request("nvme-fio", 480, nvme::fio),
    on_request("nvme-subpage", 300, nvme::subpage),
    on_request("nvme-admin", 120, nvme::admin),
    on_request("nvme-rebind", 300, nvme::rebind),
    on_request("nvme-reset", 300, nvme::reset),
    on_request("nvme-suspend", 180, nvme::suspend),
    on_request("nvme-polled", 300, nvme::polled),
    on_request("nvme-two", 120, nvme::two),
    on_request("nvme-affinity", 480, nvme::affinity),
    on_request("nvme-load", 1800, nvme::measure),
    on_request("disk-work", 120, disk::work),
    on_request("net", 120, net::run),
    on_request("net-exchanges", 120, net::exchanges),
    on_request("virtual-functions", 120, virtual_functions::run),
    on_request("iommu-groups", 30, groups::run),
    on_request("efi-variables", 30, efi::run),
    on_request("measured", 30, measured::run),
    on_request("endure", 240, endure::run),
    on_request("idle", 60, idle::run),
    on_request("sha256-64m", 120, sha256_64m::run),
    on_request("meddle-untranslated", 60, meddle::untranslated::run),
    on_request("meddle-lent", 120, meddle::lent::run),
    on_request("meddle-sizing", 30, meddle::sizing::run),
    on_request("meddle-bars", 90, meddle::placement::run),
    on_request("meddle-master", 60, meddle::mastering::run),
    on_request("meddle-trusted", 60, meddle::mastering::trusted),
    on_request("meddle-buses", 90, meddle::buses::run),
    on_request("meddle-msi", 90, meddle::messages::run),
    on_request("meddle-init", 30, meddle::messages::init),
    on_request("meddle-msix", 60, meddle::tables::run),
    on_request("meddle-dmar", 10, meddle::concealed::table),
    on_request("meddle-unit", 30, meddle::concealed::unit),
    on_request("meddle-capabilities", 30, meddle::concealed::capabilities),
    on_request("meddle-rom", 30, meddle::concealed::rom),
    on_request("meddle-chipset", 30, meddle::chipset::run),
    on_request("meddle-moved-table", 60, meddle::tables::moved),
    on_request("meddle-woken-table", 60, meddle::tables::woken),
    on_request("meddle-forms", 60, meddle::forms::run),
    on_request("meddle-windows", 30, meddle::windows::bridges),
    on_request("meddle-ports", 30, meddle::windows::ports),
    on_request("meddle-firmware", 30, meddle::firmware::run),
    on_request("meddle-race", 60, meddle::race::run),
    on_request("legal-bytes", 60, meddle::legal::bytes),
    on_request("meddle-renumber", 120, meddle::renumber::run),
    on_request("legal-bars", 60, meddle::legal::bars),
    on_request("legal-latency", 30, meddle::legal::latency),
    on_request("legal-affinity", 60, meddle::legal::affinity),
    on_request("legal-rebind", 60, meddle::legal::rebind),
    on_request("legal-rescan", 60, meddle::legal::rescan),
];

/// A few seconds' worth of everything, for quick boots.
const SMOKE: &[&str] = &["cpus", "detect", "hash", "tmpfs"];

/// The check of this name.
pub(crate) fn by_name(name: &str) -> Option<&'static Check> {
    TABLE.iter().find(|check| check.name == name)
}

/// The names of the checks in a set: `default` or `smoke`.
pub(crate) fn set_by_name(name: &str) -> Option<Vec<&'static str>> {
    match name {
        "default" => Some(
            TABLE
                .iter()
                .filter(|check| check.is_default)
                .map(|check| check.name)
                .collect(),
        ),
        "smoke" => Some(SMOKE.to_vec()),
        _ => None,
    }
}

const fn default(name: &'static str, seconds: u64, run: fn(&mut Figures) -> Verdict) -> Check {
    Check {
        name,
        deadline: Duration::from_secs(seconds),
        run,
        is_default: true,
    }
}

const fn on_request(name: &'static str, seconds: u64, run: fn(&mut Figures) -> Verdict) -> Check {
    Check {
        name,
        deadline: Duration::from_secs(seconds),
        run,
        is_default: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_checks_share_a_name() {
        for (index, check) in TABLE.iter().enumerate() {
            assert!(
                TABLE[..index].iter().all(|other| other.name != check.name),
                "{}",
                check.name
            );
        }
    }

    #[test]
    fn the_smoke_set_names_checks_that_exist() {
        assert!(SMOKE.iter().all(|name| by_name(name).is_some()));
    }
}
