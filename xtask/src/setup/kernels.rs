//! Guest kernels: Debian's stock ones, unpacked under `target/guest/`, or any bzImage by path.

use std::fs;
use std::path::{Path, PathBuf};

use qemu::Kernel;

use super::archive::Archive;
use super::lock;
use crate::progress::say;
use crate::stop::Stop;
use crate::workspace;

/// Which kernel the person asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    /// One of Debian's, by the beginning of its version: `6.1`, `6.12`.
    Stock(String),
    /// A bzImage.
    File(PathBuf),
}

impl std::str::FromStr for Choice {
    type Err = String;

    /// Digits and dots are a version, everything else is a path.
    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("a version such as 6.1, or the path of a bzImage".into());
        }
        let is_version = text
            .chars()
            .all(|character| character.is_ascii_digit() || character == '.');
        Ok(if is_version {
            Self::Stock(text.into())
        } else {
            Self::File(text.into())
        })
    }
}

/// Gets the kernel asked for.
pub(crate) fn fetch(choice: &Choice) -> Result<Kernel, Stop> {
    match choice {
        Choice::Stock(version) => stock(version),
        Choice::File(image) => Ok(own(image)?),
    }
}

/// Gets Debian's kernel of this version, from the cache or from the archive.
pub(crate) fn stock(version: &str) -> Result<Kernel, Stop> {
    let _alone = lock::take()?;
    let cache = workspace::cache("guest");
    if let Some(kernel) = cached(&cache, version) {
        return Ok(kernel);
    }
    let archive = Archive::open()?;
    let offered = archive.versions("linux-image-amd64")?;
    let package = package_of(&offered, version).ok_or_else(|| {
        let versions: Vec<_> = offered.iter().map(|(version, _)| version.as_str()).collect();
        Stop::unready(format!(
            "Debian 12 and its backports offer no kernel {version}, but {}; or give --kernel the path of a bzImage",
            versions.join(", ")
        ))
    })?;
    let release = package.trim_start_matches("linux-image-").to_owned();
    say(&format!(
        "fetching {package}, the guest's kernel (kept in target/guest)"
    ));
    workspace::put_whole(&cache.join(&release), |aside| {
        archive.unpack(&package, aside)
    })?;
    cached(&cache, version)
        .ok_or_else(|| Stop::unready(format!("{package} holds no boot/vmlinuz-{release}")))
}

fn cached(cache: &Path, version: &str) -> Option<Kernel> {
    let mut releases: Vec<_> = fs::read_dir(cache)
        .ok()?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|release| is_of_version(release, version))
        .collect();
    releases.sort();
    let release = releases.pop()?;
    let root = cache.join(&release);
    let image = root.join(format!("boot/vmlinuz-{release}"));
    let modules = root.join(format!("lib/modules/{release}"));
    image.exists().then_some(Kernel {
        release,
        image,
        modules,
    })
}

/// The newest package behind `linux-image-amd64` of this version.
fn package_of(offered: &[(String, Vec<String>)], version: &str) -> Option<String> {
    let (_, needs) = offered
        .iter()
        .find(|(offer, _)| is_of_version(offer, version))?;
    needs
        .iter()
        .find(|name| name.starts_with("linux-image-"))
        .cloned()
}

/// `6.1` names 6.1 and 6.1.192, not 6.12.
fn is_of_version(release: &str, version: &str) -> bool {
    release
        .strip_prefix(version)
        .is_some_and(|rest| !rest.starts_with(|next: char| next.is_ascii_digit()))
}

/// A kernel of the person's own; its modules are looked for where distributions put them.
fn own(image: &Path) -> Result<Kernel, Stop> {
    let image = image
        .canonicalize()
        .map_err(|error| Stop::unready(format!("--kernel {}: {error}", image.display())))?;
    let name = image.file_name().unwrap_or_default().display().to_string();
    let release = name.strip_prefix("vmlinuz-").unwrap_or(&name).to_owned();
    let beside = image
        .parent()
        .and_then(Path::parent)
        .map(|root| root.join("lib/modules").join(&release));
    let system = Path::new("/lib/modules").join(&release);
    let modules = beside
        .filter(|directory| directory.exists())
        .unwrap_or(system);
    Ok(Kernel {
        release,
        image,
        modules,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_and_a_path_are_told_apart() {
        assert_eq!("6.12".parse(), Ok(Choice::Stock("6.12".into())));
        assert_eq!(
            "./6.12/vmlinuz".parse(),
            Ok(Choice::File("./6.12/vmlinuz".into()))
        );
        assert!("".parse::<Choice>().is_err());
    }

    #[test]
    fn six_one_is_not_six_twelve() {
        assert!(is_of_version("6.1.0-56-amd64", "6.1"));
        assert!(!is_of_version("6.12.95+deb12-amd64", "6.1"));
        assert!(is_of_version("6.12.95+deb12-amd64", "6.12.95"));
    }

    #[test]
    fn the_first_offer_of_the_version_is_taken() {
        let offer = |version: &str, needs: &[&str]| {
            (
                version.to_owned(),
                needs.iter().map(|need| (*need).to_owned()).collect(),
            )
        };
        let offered = [
            offer("6.12.95-1~bpo12+1", &["linux-image-6.12.95+deb12-amd64"]),
            offer("6.1.192-2", &["linux-base", "linux-image-6.1.0-56-amd64"]),
            offer("6.1.190-1", &["linux-image-6.1.0-55-amd64"]),
        ];
        assert_eq!(
            package_of(&offered, "6.1").as_deref(),
            Some("linux-image-6.1.0-56-amd64")
        );
        assert_eq!(package_of(&offered, "5.10"), None);
    }

    #[test]
    fn a_kernel_that_is_not_there_is_missing() {
        assert_eq!(own(Path::new("/no/such/bzImage")).unwrap_err().status(), 2);
    }
}
