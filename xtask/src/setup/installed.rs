//! An installed Debian system on a drive that UEFI firmware boots.
//!
//! `mmdebstrap` installs it into a directory, `mke2fs` makes that a file system on a drive under `target/installed/`:
//! nothing is mounted, and what is there is made anew only when its recipe changes. It knows nothing of Bouncer.
//! One unit in it is the tests': it does what it is ordered by the machine's asset tag, and without orders nothing.

use std::fmt::Write as _;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use qemu::{Esp, Firmware};

use super::archive::{self, Archive};
use super::distribution::Privilege;
use super::lock;
use crate::progress::{self, say};
use crate::stop::Stop;
use crate::workspace;

/// What is installed beside the essential packages and apt.
const PACKAGES: [&str; 7] = [
    "linux-image-amd64",
    "initramfs-tools",
    "systemd-sysv",
    "udev",
    "kmod",
    "e2fsprogs",
    "kexec-tools",
];

/// Room for the system, in bytes; what is not used takes none.
const ROOM: u64 = 2 << 30;

/// The name of the root file system.
const ROOT: &str = "2f1d7c3a-8e55-4f0b-9b6e-7d0c5a1e4c8e";

/// The kernel's command line. It trusts the timer, which is given 40 ms of real time to show itself, and an
/// emulator's busy host may not grant them.
const COMMAND_LINE: &str = "ro console=ttyS0,115200 no_timer_check";

/// What an administrator sets before the kernel is installed: which modules start the system.
const BEFORE: [(&str, &str); 2] = [
    ("etc/initramfs-tools/conf.d/driver-policy", "MODULES=list\n"),
    ("etc/initramfs-tools/modules", "nvme\next4\n"),
];

/// What an installer or an administrator sets afterwards; the last two are the tests'.
const AFTER: [(&str, &str); 10] = [
    ("etc/hostname", "installed\n"),
    ("etc/machine-id", "5a1e4c8e9d57626f756e636572b0ce8b\n"),
    ("etc/fstab", FSTAB),
    ("etc/default/kexec", "LOAD_KEXEC=false\n"),
    // The console is for whoever logs in.
    ("etc/sysctl.d/console.conf", "kernel.printk = 3 4 1 3\n"),
    ("etc/systemd/system.conf.d/patience.conf", PATIENCE),
    // Caches are up to date, as they are after the first start.
    ("etc/.updated", ""),
    ("var/.updated", ""),
    (
        TEST_UNIT,
        include_str!("../../../tests/installed/bouncer-test.service"),
    ),
    (
        TEST_PROGRAM,
        include_str!("../../../tests/installed/bouncer-test"),
    ),
];
const TEST_UNIT: &str = "etc/systemd/system/bouncer-test.service";
const TEST_PROGRAM: &str = "usr/local/lib/bouncer-test";

const FSTAB: &str = "UUID=2f1d7c3a-8e55-4f0b-9b6e-7d0c5a1e4c8e / ext4 errors=remount-ro 0 1\n";

/// An emulated processor is slow, and a service that is late is no service that fails.
const PATIENCE: &str = "[Manager]
DefaultTimeoutStartSec=900s
DefaultTimeoutStopSec=900s
DefaultDeviceTimeoutSec=900s
";

/// What runs now and then for reasons of its own.
const MASKED: [&str; 5] = [
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "fstrim.timer",
];

/// The drive, from the cache or made; a machine on which it cannot be made does without, and is told why.
pub(crate) fn system(firmware: &Firmware) -> Option<PathBuf> {
    match fetch(firmware) {
        Ok(drive) => Some(drive),
        Err(Stop::Failed(why) | Stop::Unready(why)) => {
            say(&format!("doing without an installed system: {why}"));
            None
        }
    }
}

fn fetch(firmware: &Firmware) -> Result<PathBuf, Stop> {
    let _alone = lock::take()?;
    let place = workspace::cache("installed");
    let recipe = recipe();
    if fs::read_to_string(place.join("recipe")).is_ok_and(|old| old == recipe) {
        return Ok(place.join("drive.img"));
    }
    if Privilege::here() == Privilege::None {
        return Err(Stop::unready("only root can install one"));
    }
    say("installing Debian on a drive, which takes a few minutes (kept in target/installed)");
    workspace::put_whole(&place, |aside| {
        let tree = aside.join("tree");
        install(aside, &tree)?;
        set_up(&tree)?;
        write(
            &tree,
            &Esp::debian(&firmware.grub, ROOT),
            &aside.join("drive.img"),
        )?;
        for done in [tree, aside.join("before")] {
            fs::remove_dir_all(&done).map_err(cannot("remove", &done))?;
        }
        workspace::write(&aside.join("recipe"), &recipe)
    })?;
    Ok(place.join("drive.img"))
}

/// All that the drive depends on, but for the archive's own changes.
fn recipe() -> String {
    let mut recipe = format!("{PACKAGES:?} {MASKED:?} {ROOM} {ROOT} {COMMAND_LINE}\n");
    for (path, content) in BEFORE.iter().chain(&AFTER) {
        let _ = writeln!(recipe, "{path}\n{content}");
    }
    recipe
}

/// Installs the packages into `tree`.
fn install(aside: &Path, tree: &Path) -> Result<(), Stop> {
    let before = aside.join("before");
    for (path, content) in BEFORE {
        put(&before, path, content)?;
    }
    let mut install = Command::new("mmdebstrap");
    install
        .args(["--mode=root", "--variant=minbase", "--format=directory"])
        .arg(format!("--include={}", PACKAGES.join(",")))
        .arg(format!(
            "--essential-hook=cp -r {}/. \"$1\"",
            before.display()
        ))
        .arg(archive::RELEASE)
        .arg(tree)
        .args(Archive::open()?.of_release()?)
        .env("LC_ALL", "C");
    progress::command("installing Debian", &mut install).map(drop)
}

/// Does what an installer does after the packages, and puts in the tests' unit.
fn set_up(tree: &Path) -> Result<(), Stop> {
    for (path, content) in AFTER {
        put(tree, path, content)?;
    }
    let program = tree.join(TEST_PROGRAM);
    fs::set_permissions(&program, Permissions::from_mode(0o755))
        .map_err(cannot("make executable", &program))?;
    put(tree, "boot/grub/grub.cfg", &menu(&release(tree)?))?;
    let units = tree.join("etc/systemd/system");
    let wanted = units.join("multi-user.target.wants");
    workspace::make(&wanted)?;
    link(
        "/etc/systemd/system/bouncer-test.service",
        &wanted.join("bouncer-test.service"),
    )?;
    for unit in MASKED {
        link("/dev/null", &units.join(unit))?;
    }
    Ok(())
}

/// The release of the kernel that was installed.
fn release(tree: &Path) -> Result<String, Stop> {
    let boot = tree.join("boot");
    let names = fs::read_dir(&boot).map_err(cannot("read", &boot))?;
    let mut releases = names.filter_map(|entry| {
        let name = entry.ok()?.file_name().into_string().ok()?;
        name.strip_prefix("vmlinuz-").map(str::to_owned)
    });
    releases
        .next()
        .ok_or_else(|| Stop::unready(format!("no kernel was installed in {}", boot.display())))
}

/// What `update-grub` would write, were the drive in the machine it is asked on.
fn menu(release: &str) -> String {
    format!(
        "set timeout=0
menuentry 'Debian GNU/Linux' {{
\tsearch --no-floppy --fs-uuid --set=root {ROOT}
\tlinux /boot/vmlinuz-{release} root=UUID={ROOT} {COMMAND_LINE}
\tinitrd /boot/initrd.img-{release}
}}
"
    )
}

/// Makes the drive: table and system partition, and the tree as a file system behind them.
fn write(tree: &Path, system: &Esp, drive: &Path) -> Result<(), Stop> {
    let start = system.write_with_room(drive, ROOM)?;
    let mut make = Command::new("/sbin/mke2fs");
    make.args(["-q", "-F", "-t", "ext4", "-U", ROOT, "-b", "4096"])
        // Newer than the boot loader.
        .args(["-O", "^metadata_csum_seed,^orphan_file"])
        .arg("-E")
        .arg(format!(
            "offset={start},lazy_itable_init=0,lazy_journal_init=0"
        ))
        .arg("-d")
        .arg(tree)
        .arg(drive)
        .arg(format!("{}M", ROOM >> 20));
    progress::command("making the system's file system", &mut make).map(drop)
}

/// Writes a file below `tree`, and makes the directories above it.
fn put(tree: &Path, path: &str, content: &str) -> Result<(), Stop> {
    let path = tree.join(path);
    if let Some(directory) = path.parent() {
        workspace::make(directory)?;
    }
    workspace::write(&path, content)
}

fn link(to: &str, at: &Path) -> Result<(), Stop> {
    symlink(to, at).map_err(cannot("create", at))
}

fn cannot(doing: &str, path: &Path) -> impl FnOnce(std::io::Error) -> Stop {
    let what = format!("cannot {doing} {}", path.display());
    move |error| Stop::unready(format!("{what}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_recipe_has_every_file_in_it() {
        let recipe = recipe();
        for (path, content) in BEFORE.iter().chain(&AFTER) {
            assert!(recipe.contains(path) && recipe.contains(content), "{path}");
        }
    }

    #[test]
    fn kernel_and_file_system_are_found_by_the_same_names() {
        let menu = menu("6.1.0-1-amd64");
        assert!(
            menu.contains("linux /boot/vmlinuz-6.1.0-1-amd64 root=UUID=")
                && menu.contains("initrd /boot/initrd.img-6.1.0-1-amd64\n"),
            "{menu}"
        );
        assert!(FSTAB.starts_with(&format!("UUID={ROOT} / ext4 ")) && menu.contains(ROOT));
    }

    #[test]
    fn a_tree_without_a_kernel_is_no_system() {
        assert_eq!(release(Path::new("/no/such/tree")).unwrap_err().status(), 2);
    }
}
