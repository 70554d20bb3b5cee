//! Programs of the guest that are Debian's: a load generator and a maker of file systems, with their libraries.
//!
//! Unpacked under `target/tools/`, a tree that is put into an initial file system as it is, and only when asked for.
//! Debian's fio is linked against the clients of half a dozen storage clusters, 80 MB of libraries for engines that
//! no test uses. In their place stand libraries of our own in which every function is a trap: fio starts, and would die
//! by name of the instruction if one of those engines were ever asked for.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::archive::Archive;
use super::lock;
use crate::progress::{self, say};
use crate::stop::Stop;
use crate::workspace;

/// The packages that are unpacked.
const PACKAGES: [&str; 10] = [
    "fio",
    "libaio1",
    "libnuma1",
    "zlib1g",
    "e2fsprogs",
    "libext2fs2",
    "libcom-err2",
    "libblkid1",
    "libuuid1",
    "libc6",
];

/// What is kept: from which places in the packages, the first that has it, to where in the guest.
const KEPT: [(&str, &str); 3] = [
    ("usr/bin/fio", "usr/bin/fio"),
    ("sbin/mke2fs", "sbin/mkfs.ext4"),
    ("etc/mke2fs.conf", "etc/mke2fs.conf"),
];

/// Where Debian's libraries are, in packages and in the guest, and the loader that finds them.
const LIBRARIES: &str = "lib/x86_64-linux-gnu";
const LOADER: &str = "ld-linux-x86-64.so.2";

/// Gets the tree, from the cache or from the archive.
pub(crate) fn fetch() -> Result<PathBuf, Stop> {
    let _alone = lock::take()?;
    let tree = workspace::cache("tools");
    if tree.exists() {
        return Ok(tree);
    }
    say("fetching fio and mkfs.ext4 for the guest (kept in target/tools)");
    let unpacked = workspace::cache("tools.unpacking");
    let _ = fs::remove_dir_all(&unpacked);
    let archive = Archive::open()?;
    for package in PACKAGES {
        archive.unpack(package, &unpacked)?;
    }
    workspace::put_whole(&tree, |aside| assemble(&unpacked, aside))?;
    let _ = fs::remove_dir_all(&unpacked);
    Ok(tree)
}

/// Copies what is kept and the libraries it needs from `unpacked` to `tree`, and sees whether it starts.
fn assemble(unpacked: &Path, tree: &Path) -> Result<(), Stop> {
    let libraries = tree.join(LIBRARIES);
    workspace::make(&libraries)?;
    for (from, to) in KEPT {
        copy(&unpacked.join(from), &tree.join(to))?;
    }
    copy(
        &unpacked.join(LIBRARIES).join(LOADER),
        &tree.join("lib64").join(LOADER),
    )?;
    let mut known = BTreeSet::from([LOADER.to_owned()]);
    let mut absent = BTreeSet::new();
    let mut open = vec![tree.join("usr/bin/fio"), tree.join("sbin/mkfs.ext4")];
    while let Some(program) = open.pop() {
        for name in needed(&program)? {
            if !known.insert(name.clone()) {
                continue;
            }
            match ["", "usr/"]
                .map(|above| unpacked.join(format!("{above}{LIBRARIES}/{name}")))
                .into_iter()
                .find(|path| path.exists())
            {
                Some(library) => {
                    copy(&library, &libraries.join(&name))?;
                    open.push(libraries.join(&name));
                }
                None => drop(absent.insert(name)),
            }
        }
    }
    stand_in(tree, &absent)?;
    try_out(tree)
}

/// Makes a library of traps for each name in `absent`: every function that fio wants and nobody has.
fn stand_in(tree: &Path, absent: &BTreeSet<String>) -> Result<(), Stop> {
    let libraries = tree.join(LIBRARIES);
    let fio = tree.join("usr/bin/fio");
    let mut offered = BTreeSet::new();
    for library in fs::read_dir(&libraries).into_iter().flatten().flatten() {
        let symbols = symbols(&library.path(), "--defined-only")?;
        offered.extend(symbols.into_iter().map(|symbol| symbol.name));
    }
    let mut wanted = symbols(&fio, "--undefined-only")?;
    wanted.retain(|symbol| !offered.contains(&symbol.name));
    let headers = headers(&fio)?;
    let (source, script) = (libraries.join("absent.s"), libraries.join("absent.map"));
    workspace::write(&source, traps(&wanted))?;
    for name in absent {
        workspace::write(&script, versions(&versions_of(&headers, name), &wanted))?;
        let mut link = Command::new("cc");
        link.args(["-shared", "-nostdlib"])
            .arg(format!("-Wl,-soname={name},-z,noexecstack"))
            .arg(format!("-Wl,--version-script={}", script.display()))
            .arg("-o")
            .arg(libraries.join(name))
            .arg(&source);
        progress::command(&format!("standing in for {name}"), &mut link)?;
    }
    for file in [source, script] {
        fs::remove_file(&file)
            .map_err(|error| Stop::unready(format!("cannot remove {}: {error}", file.display())))?;
    }
    Ok(())
}

/// The assembly of a library in which each symbol is one instruction that ends the program.
fn traps(symbols: &BTreeSet<Symbol>) -> String {
    let mut text = String::from(".text\n");
    for Symbol { name, .. } in symbols {
        let _ = writeln!(text, ".globl {name}\n.type {name}, @function\n{name}:");
    }
    text + "ud2\n"
}

/// A linker's script that gives those of `symbols` that want one of `versions` that version.
fn versions(versions: &[String], symbols: &BTreeSet<Symbol>) -> String {
    if versions.is_empty() {
        return "{ global: *; };\n".into();
    }
    let mut text = String::new();
    for version in versions {
        let of_version = symbols
            .iter()
            .filter(|symbol| symbol.version.as_ref() == Some(version));
        let names: String = of_version
            .map(|symbol| format!(" {};", symbol.name))
            .collect();
        let _ = writeln!(text, "{version} {{ global:{names} }};");
    }
    text
}

/// The versions that a program's headers want of the library `name`.
fn versions_of(headers: &str, name: &str) -> Vec<String> {
    let start = format!("required from {name}:");
    let lines = headers
        .lines()
        .skip_while(|line| line.trim() != start)
        .skip(1);
    let entries = lines.take_while(|line| line.trim().starts_with("0x"));
    entries
        .filter_map(|line| Some(line.split_whitespace().last()?.to_owned()))
        .collect()
}

/// What `objdump` says of a program or library.
fn headers(program: &Path) -> Result<String, Stop> {
    let mut read = Command::new("objdump");
    progress::command(
        &format!("reading what {} needs", program.display()),
        read.arg("--private-headers").arg(program),
    )
}

/// The libraries that a program or library names as needed.
fn needed(program: &Path) -> Result<Vec<String>, Stop> {
    let headers = headers(program)?;
    let names = headers
        .lines()
        .filter_map(|line| line.trim().strip_prefix("NEEDED"));
    Ok(names.map(|name| name.trim().to_owned()).collect())
}

/// A function that one program wants of another, and in which version.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Symbol {
    name: String,
    version: Option<String>,
}

/// The dynamic symbols of a program or library.
fn symbols(program: &Path, which: &str) -> Result<BTreeSet<Symbol>, Stop> {
    let mut read = Command::new("nm");
    let text = progress::command(
        &format!("reading the symbols of {}", program.display()),
        read.args(["--dynamic", which]).arg(program),
    )?;
    Ok(text.lines().filter_map(symbol).collect())
}

/// The symbol in a line of `nm`; weak references are nobody's debt.
fn symbol(line: &str) -> Option<Symbol> {
    let mut words = line.split_whitespace().rev();
    let (name, kind) = (words.next()?, words.next()?);
    let (name, version) = match name.split_once('@') {
        Some((name, version)) => (name, Some(version.trim_start_matches('@').to_owned())),
        None => (name, None),
    };
    (kind != "w").then(|| Symbol {
        name: name.to_owned(),
        version,
    })
}

/// Starts both programs with the tree's own loader and libraries.
fn try_out(tree: &Path) -> Result<(), Stop> {
    for (program, argument) in [("usr/bin/fio", "--version"), ("sbin/mkfs.ext4", "-V")] {
        let mut start = Command::new(tree.join("lib64").join(LOADER));
        start
            .arg("--library-path")
            .arg(tree.join(LIBRARIES))
            .arg(tree.join(program))
            .arg(argument);
        progress::command(&format!("starting the guest's {program}"), &mut start)?;
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<(), Stop> {
    if let Some(directory) = to.parent() {
        workspace::make(directory)?;
    }
    // Follows links: a library's short name becomes the library itself.
    fs::copy(from, to)
        .map(drop)
        .map_err(|error| Stop::unready(format!("cannot copy {}: {error}", from.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wants(name: &str, version: Option<&str>) -> Symbol {
        Symbol {
            name: name.into(),
            version: version.map(Into::into),
        }
    }

    #[test]
    fn a_symbol_is_read_with_its_version() {
        assert_eq!(
            symbol("                 U pmem_unmap@LIBPMEM_1.0"),
            Some(wants("pmem_unmap", Some("LIBPMEM_1.0")))
        );
        assert_eq!(
            symbol("0000000000002a40 T io_submit@@LIBAIO_0.4"),
            Some(wants("io_submit", Some("LIBAIO_0.4")))
        );
        assert_eq!(symbol("   U rbd_open"), Some(wants("rbd_open", None)));
        assert_eq!(symbol("                 w __gmon_start__"), None);
        assert_eq!(symbol(""), None);
    }

    #[test]
    fn the_versions_wanted_of_a_library_are_read() {
        let headers = "Version References:\n  required from libpmem.so.1:\n    0x0c 0x00 05 LIBPMEM_1.0\n    0x0d 0x00 06 LIBPMEM_1.1\n  required from libc.so.6:\n    0x1 0x00 02 GLIBC_2.4\n";
        assert_eq!(
            versions_of(headers, "libpmem.so.1"),
            ["LIBPMEM_1.0", "LIBPMEM_1.1"]
        );
        assert_eq!(versions_of(headers, "librbd.so.1"), [""; 0]);
    }

    #[test]
    fn every_absent_function_is_a_trap_in_its_version() {
        let symbols = BTreeSet::from([
            wants("rbd_open", None),
            wants("pmem_unmap", Some("LIBPMEM_1.0")),
        ]);
        let text = traps(&symbols);
        assert!(
            text.contains(".globl pmem_unmap\n") && text.ends_with("rbd_open:\nud2\n"),
            "{text}"
        );
        let script = versions(&["LIBPMEM_1.0".into()], &symbols);
        assert_eq!(script, "LIBPMEM_1.0 { global: pmem_unmap; };\n");
    }
}
