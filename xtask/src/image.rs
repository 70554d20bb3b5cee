//! The boot disc: what is on it, and the command that builds one to keep.

use std::fs;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use qemu::{Boot, Bouncer, Esp, Initramfs, Iso, Kernel, Payload, Signer};

use crate::build;
use crate::progress::{say, step};
use crate::setup::{self, KernelChoice, Need, Target};
use crate::stop::Stop;
use crate::workspace;

/// What every guest kernel is told: where its console is, and to reset rather than wait after a panic.
const COMMAND_LINE: &str = "console=ttyS0 panic=-1";

/// What the test guest can use unless told otherwise.
const MODULES: [&str; 2] = ["nvme", "ext4"];

/// What Bouncer is told where it is started by UEFI firmware.
const WORDS: &str = "serial=0x3e8";

/// The policy there unless a file is named: the SATA controller, from which the machine boots, reaches memory.
const POLICY: &str = "version = 1

[[device]]
name = \"boot drives\"
match = { path = \"0000:00:1f.2\" }
trust = \"trusted\"
";

/// What starts the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Starter {
    /// A PC BIOS, then GRUB, then Bouncer with a kernel beside it
    Bios,
    /// UEFI firmware, then bouncer.efi, then what firmware finds next: GRUB with a kernel
    Uefi,
}

/// What goes on a disc.
#[derive(Clone, Debug, Args)]
pub(crate) struct Content {
    /// What starts the machine
    #[arg(long, value_enum, default_value_t = Starter::Bios)]
    firmware: Starter,

    /// The guest's kernel: a Debian version (6.1, 6.12), fetched if need be, or the path of a bzImage
    #[arg(long, value_name = "VERSION|PATH", default_value = "6.1")]
    kernel: KernelChoice,

    /// An initial file system of your own instead of the test guest's
    #[arg(long, value_name = "FILE")]
    initrd: Option<PathBuf>,

    /// More for the kernel's command line, after `console=ttyS0 panic=-1`
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        allow_hyphen_values = true
    )]
    append: String,

    /// The policy file Bouncer is given
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,

    /// A check for the test guest to run, by name (repeatable; none: all)
    #[arg(long, value_name = "NAME", conflicts_with = "initrd")]
    check: Vec<String>,

    /// A kernel module for the test guest to load, with what it needs (repeatable; none: nvme, ext4)
    #[arg(long, value_name = "NAME", conflicts_with = "initrd")]
    module: Vec<String>,

    /// Puts fio and mkfs.ext4 into the test guest, for the checks that need them
    #[arg(long, conflicts_with = "initrd")]
    tools: bool,

    /// The same guest on the same machine without Bouncer
    #[arg(long, conflicts_with = "policy")]
    native: bool,
}

/// What `cargo xtask image` is told.
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    content: Content,

    /// Where the disc goes (target/bouncer.iso; for UEFI firmware target/bouncer.img, with Bouncer alone on it)
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Signs bouncer.efi for firmware in Secure Boot mode: the private key (PEM, no password)
    #[arg(long, value_name = "KEY", requires = "cert")]
    sign: Option<PathBuf>,

    /// The certificate of that key (PEM), which the firmware must know
    #[arg(long, value_name = "CERT", requires = "sign")]
    cert: Option<PathBuf>,
}

/// What a machine starts from, and the Bouncer on it.
#[derive(Debug)]
pub(crate) struct Medium {
    pub(crate) boot: Boot,
    pub(crate) bouncer: Option<Bouncer>,
}

/// `cargo xtask image`.
pub(crate) fn run(options: &Options) -> Result<(), Stop> {
    let content = &options.content;
    let signer = options.sign.clone().zip(options.cert.clone());
    if signer.is_some() && content.firmware == Starter::Bios {
        return Err(Stop::unready(
            "a BIOS asks for no signature: --sign goes with --firmware uefi",
        ));
    }
    let mut needs = content.needs();
    needs.extend(signer.as_ref().map(|_| Need::Signing));
    setup::meet(&needs)?;
    let (default, by) = match content.firmware {
        Starter::Bios => ("target/bouncer.iso", "a BIOS"),
        Starter::Uefi => (
            "target/bouncer.img",
            "UEFI firmware, then starts what firmware finds next",
        ),
    };
    let output = options.output.clone().unwrap_or_else(|| default.into());
    match content.firmware {
        Starter::Bios => drop(content.write_iso(&output)?),
        Starter::Uefi => {
            let mut bouncer = build::bouncer()?;
            if let Some((key, certificate)) = signer {
                let signed = workspace::built().join("bouncer/bouncer.signed.efi");
                bouncer.efi = Signer { key, certificate }.sign(&bouncer.efi, &signed)?;
            }
            drop(content.write_esp(&bouncer, &output)?);
        }
    }
    let bytes = fs::metadata(&output)
        .map(|metadata| metadata.len())
        .unwrap_or_default();
    say(&format!(
        "{} boots from {by} ({:.1} MiB)",
        output.display(),
        bytes as f64 / f64::from(1 << 20)
    ));
    Ok(())
}

impl Content {
    /// What building this disc needs.
    pub(crate) fn needs(&self) -> Vec<Need> {
        let mut needs = vec![Need::Disc, Need::Unpacking];
        if !self.native {
            needs.push(Need::Rust(Target::BareMetal));
            needs.push(Need::Rust(Target::Uefi));
        }
        if self.initrd.is_none() {
            needs.push(Need::Rust(Target::Guest));
        }
        needs
    }

    /// Builds all that a machine starts from, in `directory`.
    pub(crate) fn write(&self, directory: &Path) -> Result<Medium, Stop> {
        match self.firmware {
            Starter::Bios => self.write_iso(&directory.join("boot.iso")),
            Starter::Uefi => self.write_discs(directory),
        }
    }

    /// A disc for a BIOS: GRUB with Bouncer and its guest.
    fn write_iso(&self, iso: &Path) -> Result<Medium, Stop> {
        let policy = self.read_policy()?;
        let kernel = setup::fetch_kernel(&self.kernel)?;
        let initrd = self.initial_file_system(&kernel)?;
        let bouncer = self.build()?;

        let payload = Payload::linux(&kernel.image, &initrd);
        let mut disc = match &bouncer {
            Some(bouncer) => Iso::bouncer(&bouncer.image, payload),
            None => Iso::native(payload),
        };
        disc = disc.append(self.command_line());
        if let Some(policy) = policy {
            disc = disc.policy(policy);
        }
        let iso = step("mastering the disc", || disc.write(iso))?;
        let boot = Boot::Iso(iso);
        Ok(Medium { boot, bouncer })
    }

    /// Discs for UEFI firmware: one with Bouncer, and one with what firmware starts after it.
    fn write_discs(&self, directory: &Path) -> Result<Medium, Stop> {
        let firmware = setup::fetch_firmware()?;
        let kernel = setup::fetch_kernel(&self.kernel)?;
        let initrd = self.initial_file_system(&kernel)?;
        let bouncer = self.build()?;
        let mut discs = Vec::new();
        if let Some(bouncer) = &bouncer {
            discs.push(self.write_esp(bouncer, &directory.join("bouncer.img"))?);
        }
        let system = Esp::linux(&firmware.grub, &kernel.image, &initrd, &self.command_line());
        discs.push(step("making the system's disc", || {
            system.write(&directory.join("system.img"))
        })?);
        let boot = Boot::Efi {
            firmware,
            variables: None,
            discs,
        };
        Ok(Medium { boot, bouncer })
    }

    /// A disc for UEFI firmware with Bouncer alone.
    fn write_esp(&self, bouncer: &Bouncer, path: &Path) -> Result<PathBuf, Stop> {
        let policy = self.read_policy()?.unwrap_or_else(|| POLICY.into());
        let disc = Esp::bouncer(&bouncer.efi, WORDS, Some(policy.as_bytes()));
        Ok(step("making Bouncer's disc", || disc.write(path))?)
    }

    fn read_policy(&self) -> Result<Option<String>, Stop> {
        let policy = self.policy.as_deref();
        policy.map(|file| read(file, "--policy")).transpose()
    }

    fn build(&self) -> Result<Option<Bouncer>, Stop> {
        if self.native {
            return Ok(None);
        }
        build::bouncer().map(Some)
    }

    fn initial_file_system(&self, kernel: &Kernel) -> Result<PathBuf, Stop> {
        if let Some(initrd) = &self.initrd {
            return match fs::metadata(initrd) {
                Ok(_) => Ok(initrd.clone()),
                Err(error) => Err(Stop::unready(format!(
                    "--initrd {}: {error}",
                    initrd.display()
                ))),
            };
        }
        let init = build::guest()?;
        let directory = workspace::cache("run");
        workspace::make(&directory)?;
        let mut initramfs = Initramfs::new(&init).checks(self.check.iter().cloned());
        let wanted: Vec<String> = if self.module.is_empty() {
            MODULES.map(Into::into).to_vec()
        } else {
            self.module.clone()
        };
        // A kernel of the person's own may come without modules; then it has what it needs built in.
        if kernel.modules.exists() {
            initramfs = initramfs.modules(kernel, wanted);
        }
        if self.tools {
            initramfs = initramfs.tree(&setup::fetch_tools()?);
        }
        Ok(initramfs.write(&directory.join(format!("initrd-{}", kernel.release)))?)
    }

    fn command_line(&self) -> String {
        format!("{COMMAND_LINE} {}", self.append)
            .trim_end()
            .to_owned()
    }
}

fn read(file: &Path, option: &str) -> Result<String, Stop> {
    fs::read_to_string(file)
        .map_err(|error| Stop::unready(format!("{option} {}: {error}", file.display())))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        content: Content,
    }

    fn content(arguments: &[&str]) -> Result<Content, clap::Error> {
        Cli::try_parse_from([&["image"], arguments].concat()).map(|cli| cli.content)
    }

    #[test]
    fn a_native_disc_with_its_own_initrd_needs_no_toolchain_target() {
        let needs = content(&["--native", "--initrd", "/i"]).unwrap().needs();
        assert!(
            !needs.iter().any(|need| matches!(need, Need::Rust(_))),
            "{needs:?}"
        );
    }

    #[test]
    fn bouncers_disc_needs_every_target() {
        let needs = content(&[]).unwrap().needs();
        for target in [Target::BareMetal, Target::Uefi, Target::Guest] {
            assert!(needs.contains(&Need::Rust(target)), "{target:?}");
        }
    }

    #[test]
    fn a_bios_starts_the_machine_unless_told_otherwise() {
        assert_eq!(content(&[]).unwrap().firmware, Starter::Bios);
        let uefi = content(&["--firmware", "uefi"]).unwrap();
        assert_eq!(uefi.firmware, Starter::Uefi);
    }

    #[test]
    fn what_the_person_appends_comes_after_the_console() {
        let content = content(&["--append", "intel_iommu=on"]).unwrap();
        assert_eq!(
            content.command_line(),
            "console=ttyS0 panic=-1 intel_iommu=on"
        );
    }

    #[test]
    fn a_policy_without_bouncer_is_wrong_use() {
        assert_eq!(
            content(&["--native", "--policy", "p"])
                .unwrap_err()
                .exit_code(),
            2
        );
    }

    #[test]
    fn a_policy_that_cannot_be_read_is_missing() {
        let error = read(Path::new("/no/such/policy.toml"), "--policy").unwrap_err();
        assert_eq!(error.status(), 2);
    }
}
