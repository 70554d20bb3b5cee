//! A disc that GRUB boots: Bouncer in front of a payload, or the payload alone.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::UNIX_EPOCH;

use crate::Error;

/// What runs on the machine in the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// A Linux kernel and its initial file system.
    Linux {
        /// A bzImage.
        kernel: PathBuf,
        /// Its initial file system, if it has one.
        initrd: Option<PathBuf>,
    },
    /// A Multiboot2 image of one's own, in Bouncer's place.
    Multiboot2(PathBuf),
}

impl Payload {
    /// A Linux kernel with an initial file system.
    #[must_use]
    pub fn linux(kernel: &Path, initrd: &Path) -> Self {
        Self::Linux {
            kernel: kernel.to_path_buf(),
            initrd: Some(initrd.to_path_buf()),
        }
    }
}

/// A disc to be written.
#[derive(Clone, Debug)]
pub struct Iso {
    bouncer: Option<PathBuf>,
    payload: Payload,
    append: String,
    words: String,
    policy: Option<Vec<u8>>,
}

/// GRUB modules beyond those in its core image; few, because each is read from the emulated disc.
const GRUB_MODULES: &str = "multiboot2 linux normal serial terminal";

impl Iso {
    /// A disc that starts `bouncer`, a Multiboot2 image, and gives it the payload's parts as modules.
    #[must_use]
    pub fn bouncer(bouncer: &Path, payload: Payload) -> Self {
        Self {
            bouncer: Some(bouncer.to_path_buf()),
            ..Self::native(payload)
        }
    }

    /// A disc that starts the payload by itself.
    #[must_use]
    pub fn native(payload: Payload) -> Self {
        Self {
            bouncer: None,
            payload,
            append: String::new(),
            words: String::new(),
            policy: None,
        }
    }

    /// Sets the payload's command line.
    #[must_use]
    pub fn append(mut self, append: impl Into<String>) -> Self {
        self.append = append.into();
        self
    }

    /// Sets the words of Bouncer's own command line that follow those for its console, such as `rehearse=panic`.
    #[must_use]
    pub fn words(mut self, words: impl Into<String>) -> Self {
        self.words = words.into();
        self
    }

    /// Gives Bouncer a policy: text, or bytes that are none.
    #[must_use]
    pub fn policy(mut self, policy: impl Into<Vec<u8>>) -> Self {
        self.policy = Some(policy.into());
        self
    }

    /// Writes the disc with `grub-mkrescue` unless `path` is already this very disc. Returns `path`.
    ///
    /// # Errors
    /// [`Error::Missing`] if GRUB's tools are not installed, [`Error::Program`] with their words if they fail.
    pub fn write(&self, path: &Path) -> Result<PathBuf, Error> {
        let stamp_file = path.with_extension("stamp");
        let stamp = self.stamp()?;
        if path.exists() && fs::read_to_string(&stamp_file).is_ok_and(|old| old == stamp) {
            return Ok(path.to_path_buf());
        }
        // Made aside and moved into place: a machine that runs from the old disc keeps it.
        let tree = path.with_extension(format!("{}.tree", std::process::id()));
        let aside = path.with_extension(format!("{}.iso", std::process::id()));
        let _ = fs::remove_dir_all(&tree);
        let made = self.lay_out(&tree).and_then(|()| master(&tree, &aside));
        let _ = fs::remove_dir_all(&tree);
        made?;
        fs::rename(&aside, path).map_err(|error| Error::file(path, "replace", error))?;
        fs::write(&stamp_file, stamp).map_err(|error| Error::file(&stamp_file, "write", error))?;
        Ok(path.to_path_buf())
    }

    /// Everything the disc depends on: its configuration, its texts, and size and time of its files.
    fn stamp(&self) -> Result<String, Error> {
        let mut stamp = format!(
            "{}\n{}\n",
            self.configuration(),
            self.policy.as_deref().unwrap_or_default().escape_ascii()
        );
        for (name, file) in self.files() {
            let metadata = fs::metadata(file).map_err(|error| Error::file(file, "read", error))?;
            let modified = metadata
                .modified()
                .ok()
                .and_then(|time| time.duration_since(UNIX_EPOCH).ok());
            let modified = modified.unwrap_or_default().as_nanos();
            writeln!(
                stamp,
                "{name} {} {} {modified}",
                file.display(),
                metadata.len()
            )
            .expect("a String takes all");
        }
        Ok(stamp)
    }

    fn lay_out(&self, tree: &Path) -> Result<(), Error> {
        let boot = tree.join("boot");
        let grub = boot.join("grub");
        fs::create_dir_all(&grub).map_err(|error| Error::file(&grub, "create", error))?;
        let write = |path: PathBuf, content: &[u8]| {
            fs::write(&path, content).map_err(|error| Error::file(path, "write", error))
        };
        write(grub.join("grub.cfg"), self.configuration().as_bytes())?;
        if let Some(policy) = &self.policy {
            write(boot.join("policy.toml"), policy)?;
        }
        for (name, file) in self.files() {
            fs::copy(file, boot.join(name)).map_err(|error| Error::file(file, "copy", error))?;
        }
        Ok(())
    }

    fn files(&self) -> Vec<(&'static str, &Path)> {
        let mut files = Vec::new();
        files.extend(
            self.bouncer
                .as_deref()
                .map(|bouncer| ("bouncer.elf", bouncer)),
        );
        match &self.payload {
            Payload::Linux { kernel, initrd } => {
                files.push(("vmlinuz", kernel));
                files.extend(initrd.as_deref().map(|initrd| ("initrd", initrd)));
            }
            Payload::Multiboot2(image) => files.push(("payload.elf", image)),
        }
        files
    }

    /// `grub.cfg`: everything goes over COM1, nothing is asked, the first entry boots at once.
    fn configuration(&self) -> String {
        let mut text = String::from(
            "serial --unit=0 --speed=115200\nterminal_input serial\nterminal_output serial\nset timeout=0\nset default=0\n",
        );
        let append = quoted(&self.append);
        if self.bouncer.is_some() {
            let words = quoted(&self.words);
            let mut lines = vec![format!("multiboot2 /boot/bouncer.elf serial=0x3e8 {words}")];
            match &self.payload {
                Payload::Linux { initrd, .. } => {
                    lines.push(format!("module2 /boot/vmlinuz kernel {append}"));
                    lines.extend(
                        initrd
                            .as_ref()
                            .map(|_| "module2 /boot/initrd initrd".to_owned()),
                    );
                }
                Payload::Multiboot2(_) => {
                    lines.push(format!("module2 /boot/payload.elf kernel {append}"))
                }
            }
            lines.extend(
                self.policy
                    .as_ref()
                    .map(|_| "module2 /boot/policy.toml policy".to_owned()),
            );
            entry(&mut text, "Bouncer", &lines);
        }
        let lines = match &self.payload {
            Payload::Linux { initrd, .. } => {
                let mut lines = vec![format!("linux /boot/vmlinuz {append}")];
                lines.extend(initrd.as_ref().map(|_| "initrd /boot/initrd".to_owned()));
                lines
            }
            Payload::Multiboot2(_) => vec![format!("multiboot2 /boot/payload.elf {append}")],
        };
        entry(&mut text, "Without Bouncer", &lines);
        text
    }
}

fn entry(text: &mut String, title: &str, lines: &[String]) {
    writeln!(text, "menuentry \"{title}\" {{").expect("a String takes all");
    for line in lines {
        writeln!(text, "    {}", line.trim_end()).expect("a String takes all");
    }
    text.push_str("}\n");
}

/// GRUB reads its configuration as a shell script: what it would take for itself is escaped.
pub(super) fn quoted(append: &str) -> String {
    let mut quoted = String::with_capacity(append.len());
    for character in append.chars() {
        if "\\\"'$;&|<>{}#".contains(character) {
            quoted.push('\\');
        }
        quoted.push(if character == '\n' { ' ' } else { character });
    }
    quoted
}

fn master(tree: &Path, disc: &Path) -> Result<(), Error> {
    let output = Command::new("grub-mkrescue")
        .args(["--fonts=", "--themes=", "--locales=", "--compress=no"])
        .arg(format!("--install-modules={GRUB_MODULES}"))
        .arg("-o")
        .arg(disc)
        .arg(tree)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| Error::Missing {
            what: format!("grub-mkrescue ({error})"),
            remedy: "install grub-common, grub-pc-bin, xorriso and mtools".into(),
        })?;
    if output.status.success() && disc.exists() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let last: Vec<_> = said.lines().rev().take(5).collect();
    Err(Error::Program {
        name: "grub-mkrescue".into(),
        said: last.into_iter().rev().collect::<Vec<_>>().join("; "),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload() -> Payload {
        Payload::linux(Path::new("/k/vmlinuz"), Path::new("/k/initrd"))
    }

    fn entries(iso: &Iso) -> Vec<String> {
        let text = iso.configuration();
        text.split("menuentry ")
            .skip(1)
            .map(str::to_owned)
            .collect()
    }

    #[test]
    fn bouncer_gets_kernel_initrd_and_policy_as_modules() {
        let iso = Iso::bouncer(Path::new("/b.elf"), payload())
            .append("console=ttyS0 quiet")
            .policy("version = 1\n");
        assert_eq!(
            entries(&iso)[0],
            "\"Bouncer\" {\n    multiboot2 /boot/bouncer.elf serial=0x3e8\n    module2 /boot/vmlinuz kernel console=ttyS0 quiet\n    module2 /boot/initrd initrd\n    module2 /boot/policy.toml policy\n}\n"
        );
    }

    #[test]
    fn words_for_bouncer_follow_its_console() {
        let iso = Iso::bouncer(Path::new("/b.elf"), payload()).words("rehearse=panic");
        let entry = &entries(&iso)[0];
        assert!(
            entry.contains("bouncer.elf serial=0x3e8 rehearse=panic\n"),
            "{entry}"
        );
    }

    #[test]
    fn the_native_entry_has_the_same_command_line() {
        let iso = Iso::native(payload()).append("console=ttyS0 quiet");
        assert_eq!(
            entries(&iso),
            [
                "\"Without Bouncer\" {\n    linux /boot/vmlinuz console=ttyS0 quiet\n    initrd /boot/initrd\n}\n"
            ]
        );
    }

    #[test]
    fn what_grubs_shell_would_take_for_itself_is_escaped() {
        assert_eq!(quoted("a=$b;c=\"d e\""), "a=\\$b\\;c=\\\"d e\\\"");
    }

    #[test]
    fn a_disc_depends_on_its_policy_and_its_files() {
        let file = std::env::current_exe().unwrap();
        let native = Iso::native(Payload::linux(&file, &file));
        assert_ne!(
            native.stamp().unwrap(),
            native.clone().policy("version = 1\n").stamp().unwrap()
        );
        assert_ne!(
            native.clone().policy(b"\xff").stamp().unwrap(),
            native.clone().policy(b"\xfe").stamp().unwrap()
        );
        assert!(Iso::native(payload()).stamp().is_err());
    }
}
