//! The boot disc: what is on it, and the command that builds one to keep.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use qemu::{Bouncer, Initramfs, Iso, Kernel, Payload};

use crate::build;
use crate::progress::{say, step};
use crate::setup::{self, KernelChoice, Need, Target};
use crate::stop::Stop;
use crate::workspace;

/// What every guest kernel is told: where its console is, and to reset rather than wait after a panic.
const COMMAND_LINE: &str = "console=ttyS0 panic=-1";

/// What the test guest can use unless told otherwise.
const MODULES: [&str; 2] = ["nvme", "ext4"];

/// What goes on a disc.
#[derive(Clone, Debug, Args)]
pub(crate) struct Content {
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

    /// Where the disc goes
    #[arg(long, short, value_name = "FILE", default_value = "target/bouncer.iso")]
    output: PathBuf,
}

/// A disc, and the Bouncer on it.
#[derive(Debug)]
pub(crate) struct Disc {
    pub(crate) iso: PathBuf,
    pub(crate) bouncer: Option<Bouncer>,
}

/// `cargo xtask image`.
pub(crate) fn run(options: &Options) -> Result<(), Stop> {
    setup::meet(&options.content.needs())?;
    let disc = options.content.write(&options.output)?;
    let bytes = fs::metadata(&disc.iso)
        .map(|metadata| metadata.len())
        .unwrap_or_default();
    say(&format!(
        "{} boots from a BIOS ({:.1} MiB)",
        disc.iso.display(),
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
        }
        if self.initrd.is_none() {
            needs.push(Need::Rust(Target::Guest));
        }
        needs
    }

    /// Builds all that is on the disc, and the disc.
    pub(crate) fn write(&self, iso: &Path) -> Result<Disc, Stop> {
        let policy = self
            .policy
            .as_deref()
            .map(|file| read(file, "--policy"))
            .transpose()?;
        let kernel = setup::fetch_kernel(&self.kernel)?;
        let initrd = self.initial_file_system(&kernel)?;
        let bouncer = if self.native {
            None
        } else {
            Some(build::bouncer()?)
        };

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
        Ok(Disc { iso, bouncer })
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
    fn bouncers_disc_needs_both_targets() {
        let needs = content(&[]).unwrap().needs();
        assert!(
            needs.contains(&Need::Rust(Target::BareMetal))
                && needs.contains(&Need::Rust(Target::Guest))
        );
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
