//! The first user program of the test guest: runs named checks and reports them.
//!
//! Owns the life of one boot: mounts, modules, the checks asked for, the report on the second
//! serial port, the way the machine ends. Knows nothing of the emulator that runs it; the
//! whole-machine tests on the other end of the serial line read what [`report`] writes.
//! A new check is one file in `checks/` and one row in [`checks::TABLE`].

#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
compile_error!("the test guest is an x86-64 Linux program");

mod block;
mod bouncer;
mod checks;
mod cmdline;
mod cpus;
mod ending;
mod noise;
mod report;
mod selection;
mod setup;
mod soak;
mod toll;
mod trial;
mod verdict;

use ending::Ending;
use report::Report;
use selection::Selection;
use std::path::Path;

fn main() {
    if let Some(status) = checks::fork::status_asked_for(std::env::args()) {
        std::process::exit(status);
    }
    if std::process::id() != 1 {
        // Everything below ends in reboot(2): never on the machine of whoever tried this out.
        eprintln!("guest: this is the init of the test guest and runs as process 1 only");
        std::process::exit(2);
    }
    let mounted = setup::mount_all();
    let mut report = Report::open();
    report.greet();
    if let Ok(system) = nix::sys::utsname::uname() {
        report.tell("kernel", system.release().display());
    }
    power_off_when_panicking();

    let ending = run(&mut report, mounted);

    report.tell("ending", ending.name());
    report.finish();
    ending.carry_out();
}

/// Runs what was asked for and says how the machine is to end.
fn run(report: &mut Report, mounted: Result<(), String>) -> Ending {
    if let Err(why) = mounted.and_then(|()| setup::load_modules(Path::new("/etc/bouncer/modules")))
    {
        report.start("setup");
        report.fail("setup", &why);
    }
    let cmdline = cmdline::read();
    let asked = std::fs::read_to_string("/etc/bouncer/checks").unwrap_or_default();
    let selection = Selection::of(cmdline.value("bouncer.checks"), &asked);

    for name in selection.checks() {
        report.start(name);
        match checks::by_name(name) {
            Some(check) => trial::hold(check, report),
            None => report.fail(name, "there is no check of this name"),
        }
    }
    for counter in bouncer::exit_counters() {
        report.tell(&format!("exits.{}", counter.reason), counter.count);
    }
    match selection.ending().check(&cmdline) {
        Ok(ending) => ending,
        Err(why) => {
            report.start(selection.ending().name());
            report.fail(selection.ending().name(), &why);
            Ending::PowerOff
        }
    }
}

/// A panic of process 1 would only show as a kernel panic: say what it was and power off.
fn power_off_when_panicking() {
    std::panic::set_hook(Box::new(|panic| {
        let mut report = Report::open();
        report.start("init");
        report.fail("init", &panic.to_string());
        report.finish();
        Ending::PowerOff.carry_out();
    }));
}
