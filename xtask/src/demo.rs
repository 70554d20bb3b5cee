//! `cargo xtask demo`: an untrusted drive at work and an attack, with Bouncer and without it.
//!
//! Owns the two lives and the table; `machine::heist` knows the attack.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use machine::heist::{self, Loot, Secret};
use qemu::{Boot, Initramfs, Iso, Machine, Outcome, Payload, Qtest, Session};

use crate::bench::measured;
use crate::build;
use crate::progress::{say, step};
use crate::setup;
use crate::stop::Stop;
use crate::workspace;

/// What `cargo xtask demo` is told.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// MiB of files that are written, read back and hashed
    #[arg(long, value_name = "MIB", default_value_t = 16, value_parser = clap::value_parser!(u64).range(1..=40))]
    files: u64,

    /// Seconds for which the drive works beside the attack
    #[arg(long, value_name = "COUNT", default_value_t = 60)]
    seconds: u64,

    /// Another QEMU than the newest there is
    #[arg(long, value_name = "PATH")]
    qemu: Option<PathBuf>,
}

const DRIVE_MIB: u64 = 64;
const MEMORY_MIB: u64 = 1024;
const CHECKS: [&str; 2] = ["nvme-files", "nvme-subpage"];
/// How long one life may take.
const PATIENCE: Duration = Duration::from_secs(600);
const COMMAND_LINE: &str = "console=ttyS0 panic=-1 quiet no_timer_check";

/// Without Bouncer nothing is to stand between the device and memory.
const NO_IOMMU: &str = "intel_iommu=off";

/// One life, and what the attacker took in it.
struct Life {
    outcome: Outcome,
    loot: Loot,
}

/// `cargo xtask demo`.
pub(crate) fn run(options: &Options) -> Result<(), Stop> {
    setup::meet(&setup::ALL)?;
    let directory = workspace::cache("demo");
    workspace::make(&directory)?;
    let kernel = setup::stock_kernel("6.1")?;
    let initrd = Initramfs::new(&build::guest()?)
        .modules(&kernel, ["nvme", "ext4"])
        .checks(CHECKS)
        .tree(&setup::fetch_tools()?)
        .write(&directory.join("initrd"))?;
    let append = format!(
        "{COMMAND_LINE} bouncer.files={} bouncer.seconds={}",
        options.files, options.seconds
    );
    let disc = Iso::bouncer(
        &build::bouncer()?.image,
        Payload::linux(&kernel.image, &initrd),
    )
    .append(append.clone())
    .policy(heist::POLICY)
    .write(&directory.join("boot.iso"))?;
    let native = Boot::Linux {
        kernel: kernel.image.clone(),
        initrd,
        append: format!("{append} {NO_IOMMU}"),
    };
    let emulator = setup::choose_emulator(options.qemu.as_deref())?;
    say("the drive is untrusted; its guest hides secrets around 512-byte requests");
    let live = |name, boot| {
        let mut machine = Machine::new(emulator.clone(), boot)
            .memory_mib(MEMORY_MIB)
            .drive(empty_drive(&directory)?)
            .arguments(heist::DEVICE);
        machine.qtest = Qtest::Harness;
        live(name, &machine, &directory)
    };
    let with = live("with Bouncer", Boot::Iso(disc))?;
    let without = live("without", native)?;
    print!("{}", table(&with, &without));
    judge(&with, &without)
}

fn live(name: &str, machine: &Machine, directory: &Path) -> Result<Life, Stop> {
    let mut session = Session::start(machine)?;
    let secret = step(&format!("{name}: files are copied and hashed"), || {
        Secret::told(&mut session, PATIENCE)
    });
    let scratch = directory.join("memory");
    let loot = match secret {
        Ok(secret) => step(
            &format!("{name}: a second device takes what it can"),
            || heist::steal(&mut session, secret, MEMORY_MIB << 20, &scratch),
        ),
        Err(why) => {
            let outcome = session.run_to_end(Duration::ZERO);
            return Err(Stop::failed(format!("{name}: {why}\n{outcome}")));
        }
    };
    let what = format!("{name}: the guest ends its work");
    let outcome = step(&what, || session.run_to_end(PATIENCE));
    if !outcome.verdict().is_success() {
        return Err(Stop::failed(format!("{name}: {outcome}")));
    }
    Ok(Life { outcome, loot })
}

fn empty_drive(directory: &Path) -> Result<PathBuf, Stop> {
    let image = directory.join("drive.img");
    let made = std::fs::File::create(&image).and_then(|file| file.set_len(DRIVE_MIB << 20));
    made.map_err(|error| Stop::unready(format!("{}: {error}", image.display())))?;
    Ok(image)
}

/// What both lives came to, side by side.
fn table(with: &Life, without: &Life) -> String {
    let totals = measured::totals(&with.outcome.report.other);
    let of = |key: &str| totals.get(key).copied();
    let told = |key: &str| of(key).map_or("?".into(), |number| number.to_string());
    let requests = of("bounce.requests").unwrap_or(0);
    let exits = &with.outcome.report.exits;
    let exits: u64 = ["nested", "nmi"]
        .iter()
        .filter_map(|key| exits.get(*key))
        .sum();
    let nothing = || "-".to_owned();
    let figure = |life: &Life, key: &str| {
        let figure = life.outcome.report.guest.data.get(key);
        figure.cloned().unwrap_or_else(|| "?".into())
    };
    let files = |life: &Life| {
        let [count, bytes] = ["files.count", "files.bytes"].map(|key| figure(life, key));
        format!("{count}, {bytes} bytes, intact")
    };
    let found = |life: &Life| {
        if life.loot.is_within_reach {
            "yes"
        } else {
            "no"
        }
        .to_owned()
    };
    let bounced = match (of("bounce.bytes-in"), of("bounce.bytes-out")) {
        (Some(from), Some(to)) => (from + to).to_string(),
        _ => "?".into(),
    };
    let rows = [
        (
            "",
            "with Bouncer".to_owned(),
            "without, no IOMMU".to_owned(),
        ),
        ("files on ext4, hashed", files(with), files(without)),
        (
            "requests amid secrets, all intact",
            figure(with, "subpage.requests"),
            figure(without, "subpage.requests"),
        ),
        ("requests of the drive", told("bounce.requests"), nothing()),
        ("bytes bounced", bounced, nothing()),
        (
            "exits a request, boot included",
            ratio(exits, requests),
            nothing(),
        ),
        ("invalidations in all", told("invalidations"), nothing()),
        (
            "the attacker can reach",
            with.loot.reach(),
            without.loot.reach(),
        ),
        ("with secrets in it", found(with), found(without)),
        (
            "the attacker read",
            with.loot.to_string(),
            without.loot.to_string(),
        ),
    ];
    let mut text = String::from("\n");
    for (what, left, right) in rows {
        text.push_str(format!("{what:36}{left:34}{right}").trim_end());
        text.push('\n');
    }
    text.push('\n');
    text
}

fn ratio(count: u64, of: u64) -> String {
    if of == 0 {
        return "-".into();
    }
    format!("{:.2}", count as f64 / of as f64)
}

/// The demonstration shows what it is to show, or fails.
fn judge(with: &Life, without: &Life) -> Result<(), Stop> {
    if with.loot.is_within_reach || with.loot.with_secret != 0 {
        return Err(Stop::failed("the attacker has secrets in spite of Bouncer"));
    }
    if without.loot.with_secret == 0 {
        return Err(Stop::failed(
            "the attacker has no secret without Bouncer either: the attack shows nothing",
        ));
    }
    say("without Bouncer the second device read the guest's secrets; with Bouncer, none");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policy_of_the_attack_is_valid() {
        assert!(policy::Policy::parse(heist::POLICY.as_bytes()).is_ok());
    }

    #[test]
    fn nothing_is_divided_by_no_request() {
        assert_eq!(ratio(3, 2), "1.50");
        assert_eq!(ratio(3, 0), "-");
    }
}
