//! A kernel's modules, in the order they must be loaded.
//!
//! A package that has been unpacked but not installed has no `modules.dep`; what each module needs is read from its
//! own `.modinfo` section instead.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use object::{Object, ObjectSection};

use crate::Error;

/// One module, ready to be loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Module {
    /// Its name with underscores.
    pub(crate) name: String,
    /// The `.ko` file's content, uncompressed.
    pub(crate) content: Vec<u8>,
}

/// Reads `wanted` and all that they need from `directory` (`…/lib/modules/<release>`), each after what it needs.
///
/// # Errors
/// [`Error::Missing`] if a module is neither there nor built into the kernel.
pub(crate) fn with_dependencies(directory: &Path, wanted: &[String]) -> Result<Vec<Module>, Error> {
    let index = Index::read(directory)?;
    let mut order = Order {
        index: &index,
        visited: BTreeSet::new(),
        modules: Vec::new(),
    };
    for name in wanted {
        order.visit(&plain(name))?;
    }
    Ok(order.modules)
}

struct Order<'a> {
    index: &'a Index,
    visited: BTreeSet<String>,
    modules: Vec<Module>,
}

impl Order<'_> {
    fn visit(&mut self, name: &str) -> Result<(), Error> {
        if self.index.is_built_in(name) || !self.visited.insert(name.to_owned()) {
            return Ok(());
        }
        let content = self.index.load(name)?;
        let needs = Needs::of(name, &content)?;
        for module in &needs.hard {
            self.visit(module)?;
        }
        for module in &needs.soft {
            // A soft need may be the name of an algorithm, bare or behind `crypto-`; its plain implementation is called
            // `<name>_generic`.
            let algorithm = module.strip_prefix("crypto_").unwrap_or(module);
            if let Some(module) = [module.clone(), format!("{algorithm}_generic")]
                .iter()
                .find(|name| self.index.has(name))
            {
                self.visit(module)?;
            }
        }
        self.modules.push(Module {
            name: name.to_owned(),
            content,
        });
        Ok(())
    }
}

/// Where each module's file is.
struct Index {
    directory: PathBuf,
    files: BTreeMap<String, PathBuf>,
    built_in: BTreeSet<String>,
}

impl Index {
    fn read(directory: &Path) -> Result<Self, Error> {
        let list = |name: &str| {
            let path = directory.join(name);
            fs::read_to_string(&path).map_err(|error| Error::file(path, "read", error))
        };
        let files = list("modules.order")?
            .lines()
            .map(|line| (name_of(line), PathBuf::from(line)))
            .collect();
        let built_in = list("modules.builtin")?.lines().map(name_of).collect();
        Ok(Self {
            directory: directory.to_path_buf(),
            files,
            built_in,
        })
    }

    fn is_built_in(&self, name: &str) -> bool {
        self.built_in.contains(name)
    }

    fn has(&self, name: &str) -> bool {
        self.files.contains_key(name)
    }

    fn load(&self, name: &str) -> Result<Vec<u8>, Error> {
        let file = self.files.get(name).ok_or_else(|| Error::Missing {
            what: format!("kernel module {name} in {}", self.directory.display()),
            remedy: "name a module of this kernel, or choose another kernel".into(),
        })?;
        let plain = self.directory.join(file);
        let packed = plain.with_extension("ko.xz");
        match fs::read(&plain) {
            Ok(content) => Ok(content),
            Err(_) if packed.exists() => unpack(&packed),
            Err(error) => Err(Error::file(plain, "read", error)),
        }
    }
}

fn unpack(packed: &Path) -> Result<Vec<u8>, Error> {
    let output = Command::new("xz")
        .args(["--decompress", "--stdout"])
        .arg(packed)
        .output()
        .map_err(|error| Error::Missing {
            what: format!("xz ({error})"),
            remedy: "install xz-utils: this kernel's modules are compressed".into(),
        })?;
    if output.status.success() {
        Ok(output.stdout)
    } else {
        Err(Error::Program {
            name: "xz".into(),
            said: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }
}

/// What a module's `.modinfo` says it needs.
#[derive(Debug, Default, PartialEq, Eq)]
struct Needs {
    hard: Vec<String>,
    soft: Vec<String>,
}

impl Needs {
    fn of(name: &str, content: &[u8]) -> Result<Self, Error> {
        let malformed =
            |why: &dyn core::fmt::Display| Error::malformed(format!("kernel module {name}"), why);
        let object = object::File::parse(content).map_err(|error| malformed(&error))?;
        let section = object
            .section_by_name(".modinfo")
            .ok_or_else(|| malformed(&"no .modinfo section"))?;
        let text = section.data().map_err(|error| malformed(&error))?;
        Ok(Self::parse(&String::from_utf8_lossy(text)))
    }

    /// Reads `key=value` strings, each ended by a zero byte.
    fn parse(modinfo: &str) -> Self {
        let mut needs = Self::default();
        for line in modinfo.split('\0') {
            if let Some(names) = line.strip_prefix("depends=") {
                needs
                    .hard
                    .extend(names.split(',').filter(|name| !name.is_empty()).map(plain));
            } else if let Some(rules) = line.strip_prefix("softdep=") {
                let before = rules
                    .split_whitespace()
                    .skip_while(|word| *word != "pre:")
                    .skip(1);
                needs
                    .soft
                    .extend(before.take_while(|word| *word != "post:").map(plain));
            }
        }
        needs
    }
}

/// `kernel/drivers/nvme/host/nvme-core.ko` → `nvme_core`.
fn name_of(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    plain(file.split(".ko").next().unwrap_or(file))
}

/// The kernel takes dashes and underscores in module names as the same.
fn plain(name: &str) -> String {
    name.replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dashes_paths_and_suffixes_are_no_part_of_a_name() {
        assert_eq!(
            name_of("kernel/drivers/nvme/host/nvme-core.ko"),
            "nvme_core"
        );
        assert_eq!(
            name_of("kernel/crypto/crc32c_generic.ko.xz"),
            "crc32c_generic"
        );
    }

    #[test]
    fn hard_and_soft_needs_are_read() {
        let modinfo = "license=GPL\0softdep=pre: crc32c post: later\0depends=mbcache,jbd2,crc16\0retpoline=Y\0";
        let needs = Needs {
            hard: vec!["mbcache".into(), "jbd2".into(), "crc16".into()],
            soft: vec!["crc32c".into()],
        };
        assert_eq!(Needs::parse(modinfo), needs);
    }

    #[test]
    fn a_module_without_needs_has_none() {
        assert_eq!(
            Needs::parse("depends=\0softdep=post: later\0"),
            Needs::default()
        );
    }
}
