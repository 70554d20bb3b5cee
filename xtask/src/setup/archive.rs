//! Debian's archive, read without touching the system: package lists and downloads of our own.
//!
//! `apt-get` does the work with its lists, cache and sources moved under `target/`, so that nothing on the machine
//! changes and no privilege is needed. Packages come down signed and are unpacked, never installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use super::packages::is_in_path;
use crate::progress;
use crate::stop::Stop;
use crate::workspace;

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// The release whose packages are used, and the suites beside it: updates for it, newer programs.
pub(super) const RELEASE: &str = "bookworm";
const SECURITY: &str = "bookworm-security";
const BACKPORTS: &str = "bookworm-backports";

/// Package lists older than this are fetched again before anything is downloaded.
const FRESH: Duration = Duration::from_secs(24 * 3600);

/// A private view of the archive.
pub(super) struct Archive {
    directory: PathBuf,
}

impl Archive {
    /// Opens the archive, fetching its package lists if they are old.
    pub(super) fn open() -> Result<Self, Stop> {
        for (what, is_here) in [
            ("apt-get", is_in_path("apt-get")),
            (KEYRING, Path::new(KEYRING).exists()),
        ] {
            if !is_here {
                return Err(Stop::unready(format!(
                    "{what} is missing, so nothing can be fetched from Debian's archive: give a kernel of your own with --kernel PATH and an emulator with --qemu PATH"
                )));
            }
        }
        let archive = Self {
            directory: workspace::cache("archive"),
        };
        for directory in ["lists/partial", "cache/archives/partial"] {
            workspace::make(&archive.directory.join(directory))?;
        }
        let told = progress::command(
            "asking apt where this machine's packages come from",
            Command::new("apt-get").args([
                "indextargets",
                "--format",
                "$(REPO_URI) $(RELEASE)",
                "Created-By: Packages",
            ]),
        )?;
        let sources = sources(&told).ok_or_else(|| {
            Stop::unready(format!(
                "this machine's package sources do not name Debian's {RELEASE}, so nothing can be fetched from its archive: give a kernel of your own with --kernel PATH and an emulator with --qemu PATH"
            ))
        })?;
        workspace::write(&archive.directory.join("sources.list"), sources)?;
        archive.refresh()?;
        Ok(archive)
    }

    fn refresh(&self) -> Result<(), Stop> {
        let stamp = self.directory.join("refreshed");
        let age = fs::metadata(&stamp)
            .and_then(|metadata| metadata.modified())
            .map(|time| SystemTime::now().duration_since(time));
        if matches!(age, Ok(Ok(age)) if age < FRESH) {
            return Ok(());
        }
        progress::command(
            "fetching Debian's package lists (into target/archive)",
            self.apt("apt-get").arg("update"),
        )?;
        workspace::write(&stamp, "")
    }

    /// The lines of a source list for the release itself, without the backports.
    pub(super) fn of_release(&self) -> Result<Vec<String>, Stop> {
        let file = self.directory.join("sources.list");
        let text = fs::read_to_string(&file)
            .map_err(|error| Stop::unready(format!("cannot read {}: {error}", file.display())))?;
        let lines = text.lines().filter(|line| !line.contains(BACKPORTS));
        Ok(lines.map(str::to_owned).collect())
    }

    /// Every version of `package` with what it depends on: (version, names), as the archive lists them.
    pub(super) fn versions(&self, package: &str) -> Result<Vec<(String, Vec<String>)>, Stop> {
        let mut show = self.apt("apt-cache");
        progress::command(
            "reading Debian's package lists",
            show.args(["show", package]),
        )
        .map(|text| parse_versions(&text))
    }

    /// Downloads `package` and unpacks it into `root`.
    pub(super) fn unpack(&self, package: &str, root: &Path) -> Result<(), Stop> {
        self.clear()?;
        let mut download = self.apt("apt-get");
        download
            .args(["download", package])
            .current_dir(self.downloads());
        progress::command(&format!("downloading {package}"), &mut download)?;
        self.unpack_downloads(root)
    }

    /// Downloads `package` from `suite` with everything it needs that this machine does not have installed, and
    /// unpacks it all into `root`.
    pub(super) fn unpack_with_needs(
        &self,
        package: &str,
        suite: &str,
        root: &Path,
    ) -> Result<(), Stop> {
        self.clear()?;
        let mut install = self.apt("apt-get");
        install.args([
            "install",
            "--download-only",
            "--yes",
            "--no-install-recommends",
            "--target-release",
            suite,
            package,
        ]);
        progress::command(&format!("downloading {package} from {suite}"), &mut install)?;
        self.unpack_downloads(root)
    }

    fn unpack_downloads(&self, root: &Path) -> Result<(), Stop> {
        workspace::make(root)?;
        let failed = |error| {
            Stop::unready(format!(
                "cannot read {}: {error}",
                self.downloads().display()
            ))
        };
        for entry in fs::read_dir(self.downloads()).map_err(failed)? {
            let package = entry.map_err(failed)?.path();
            if package.extension().is_some_and(|suffix| suffix == "deb") {
                let name = package
                    .file_name()
                    .unwrap_or_default()
                    .display()
                    .to_string();
                let mut unpack = Command::new("dpkg-deb");
                progress::command(
                    &format!("unpacking {name}"),
                    unpack.arg("-x").arg(&package).arg(root),
                )?;
            }
        }
        self.clear()
    }

    fn downloads(&self) -> PathBuf {
        self.directory.join("cache/archives")
    }

    fn clear(&self) -> Result<(), Stop> {
        let _ = fs::remove_dir_all(self.downloads());
        workspace::make(&self.downloads().join("partial"))
    }

    fn apt(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let directory = self.directory.display();
        for option in [
            format!("Dir::Etc::SourceList={directory}/sources.list"),
            "Dir::Etc::SourceParts=/dev/null".into(),
            "Dir::Etc::Preferences=/dev/null".into(),
            "Dir::Etc::PreferencesParts=/dev/null".into(),
            format!("Dir::State::Lists={directory}/lists"),
            format!("Dir::Cache={directory}/cache"),
            // The directories are ours, so neither the system's locks nor its download user have a say in them.
            "Debug::NoLocking=1".into(),
            "APT::Sandbox::User=".into(),
            // A machine's own clean-up hooks may empty the cache before we have read it.
            "DPkg::Post-Invoke=".into(),
            "APT::Keep-Downloaded-Packages=1".into(),
        ] {
            command.args(["-o", &option]);
        }
        command
            .env("DEBIAN_FRONTEND", "noninteractive")
            .env("LC_ALL", "C");
        command
    }
}

/// Reads the stanzas of `apt-cache show`.
fn parse_versions(text: &str) -> Vec<(String, Vec<String>)> {
    let value = |stanza: &str, key: &str| {
        stanza
            .lines()
            .find_map(|line| Some(line.strip_prefix(key)?.trim().to_owned()))
    };
    let names = |list: &str| {
        list.split(',')
            .filter_map(|item| item.split_whitespace().next().map(str::to_owned))
            .collect::<Vec<_>>()
    };
    text.split("\n\n")
        .filter_map(|stanza| {
            let depends = value(stanza, "Depends:").unwrap_or_default();
            Some((value(stanza, "Version:")?, names(&depends)))
        })
        .collect()
}

/// The lines of a source list: the mirrors this machine itself uses, and the backports beside them.
/// `told` has a mirror and a suite a line. `None` if the release is not among them.
fn sources(told: &str) -> Option<String> {
    let mirror_of = |wanted: &str| {
        told.lines()
            .filter_map(|line| line.split_once(' '))
            .find(|(_, suite)| suite.trim() == wanted)
            .map(|(mirror, _)| mirror)
    };
    let main = mirror_of(RELEASE)?;
    let suites = [
        (Some(main), RELEASE),
        (mirror_of(SECURITY), SECURITY),
        (Some(main), BACKPORTS),
    ];
    let line = |(mirror, suite): (Option<&str>, &str)| {
        mirror.map(|mirror| format!("deb [arch=amd64 signed-by={KEYRING}] {mirror} {suite} main\n"))
    };
    Some(suites.into_iter().filter_map(line).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_come_from_where_the_machine_gets_its_own() {
        let told = "http://mirror.example/debian/ bookworm\nhttp://mirror.example/debian/ bookworm-updates\nhttp://fast.example/security/ bookworm-security\n";
        let lines = sources(told).unwrap();
        let ends: Vec<_> = lines
            .lines()
            .filter_map(|line| line.split_once("] "))
            .map(|(_, end)| end)
            .collect();
        assert_eq!(
            ends,
            [
                "http://mirror.example/debian/ bookworm main",
                "http://fast.example/security/ bookworm-security main",
                "http://mirror.example/debian/ bookworm-backports main",
            ]
        );
        assert_eq!(sources("http://mirror.example/debian/ trixie\n"), None);
    }

    #[test]
    fn versions_are_read_with_what_they_depend_on() {
        let text = "Package: linux-image-amd64\nVersion: 6.12.95-1~bpo12+1\nDepends: linux-image-6.12.95+deb12-amd64 (= 6.12.95-1~bpo12+1)\n\nPackage: linux-image-amd64\nVersion: 6.1.192-2\nDepends: linux-image-6.1.0-56-amd64 (= 6.1.192-2), other\n";
        let expected = vec![
            (
                "6.12.95-1~bpo12+1".to_owned(),
                vec!["linux-image-6.12.95+deb12-amd64".to_owned()],
            ),
            (
                "6.1.192-2".to_owned(),
                vec!["linux-image-6.1.0-56-amd64".to_owned(), "other".to_owned()],
            ),
        ];
        assert_eq!(parse_versions(text), expected);
    }
}
