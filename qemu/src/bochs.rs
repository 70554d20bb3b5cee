//! The machine as Bochs plays it: processors with VMX and EPT, or with SVM and next-RIP save, and no
//! remapping hardware.
//!
//! Owns Bochs' configuration and what must be hidden of it: its build carries a debugger, which waits for
//! a command; its display and its sound want a desktop; a machine that is reset starts again.

use core::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};

use crate::Error;
use crate::machine::{Boot, Machine};

/// A Bochs program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bochs {
    /// The program: a path, or a name to be found in `PATH`.
    pub program: PathBuf,
    /// What it says it is.
    pub version: String,
}

/// Which firmware it is given; where Debian's packages put it.
const BIOS: &str = "/usr/share/bochs/BIOS-bochs-latest";
const VGA_BIOS: &str = "/usr/share/vgabios/vgabios.bin";

/// Instructions in a second of the machine's time: what it does in one of the host's.
const INSTRUCTIONS_PER_SECOND: u32 = 60_000_000;

/// What Bochs says in its log when the guest powers the machine off.
const POWERED_OFF: &str = "soft power off";

impl Bochs {
    /// The model of an Intel processor with everything Bouncer uses.
    pub const INTEL: &str = "corei7_skylake_x";
    /// The model of an AMD processor.
    pub const AMD: &str = "ryzen";

    /// Asks `program` for its version.
    ///
    /// # Errors
    /// [`Error::Missing`] if it cannot be run.
    pub fn probe(program: &Path) -> Result<Self, Error> {
        let output = Command::new(program)
            .args(["--help", "cpu"])
            .stdin(Stdio::null())
            .output();
        let missing = || Error::Missing {
            what: format!("Bochs ({})", program.display()),
            remedy: "install bochs, bochsbios and vgabios, or let `cargo xtask setup` do it".into(),
        };
        let output = output.map_err(|_| missing())?;
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        let version = version_in(&said).ok_or_else(missing)?;
        Ok(Self {
            program: program.to_path_buf(),
            version: version.to_owned(),
        })
    }

    /// Writes what Bochs is to read into `directory` and gives its arguments.
    pub(crate) fn prepare(machine: &Machine, directory: &Path) -> Result<Vec<String>, Error> {
        let (rc, commands) = (directory.join("bochsrc"), directory.join("commands"));
        let write = |file: &Path, text: &str| {
            fs::write(file, text).map_err(|error| Error::file(file, "write", error))
        };
        write(&rc, &configuration(machine, directory)?)?;
        // The debugger's only command: go on.
        write(&commands, "c\n")?;
        for port in PORTS {
            write(&directory.join(port), "")?;
        }
        let text = |path: &Path| path.display().to_string();
        Ok(vec![
            "-q".into(),
            "-f".into(),
            text(&rc),
            "-rc".into(),
            text(&commands),
        ])
    }

    /// Whether the log in `directory` says that the guest powered the machine off.
    pub(crate) fn has_powered_off(directory: &Path) -> bool {
        fs::read_to_string(directory.join(LOG)).is_ok_and(|log| log.contains(POWERED_OFF))
    }
}

/// The files that COM1, COM2 and COM3 write to.
pub(crate) const PORTS: [&str; 3] = ["console", "guest", "bouncer"];
/// Bochs' own log.
pub(crate) const LOG: &str = "log";

/// The text of `bochsrc`.
fn configuration(machine: &Machine, directory: &Path) -> Result<String, Error> {
    let Boot::Iso(disc) = &machine.boot else {
        return Err(Error::Missing {
            what: "a disc for Bochs to boot".into(),
            remedy: "Bochs starts from a disc only".into(),
        });
    };
    let within = |name: &str| directory.join(name).display().to_string();
    let (vcpus, memory) = (machine.vcpus, machine.memory_mib);
    let model = &machine.cpu;
    let mut text = format!(
        "display_library: rfb, options=\"timeout=0\"\n\
         sound: waveoutdrv=dummy, waveindrv=dummy, midioutdrv=dummy\n\
         speaker: enabled=0\n\
         romimage: file={BIOS}\n\
         vgaromimage: file={VGA_BIOS}\n\
         cpu: model={model}, count={vcpus}, ips={INSTRUCTIONS_PER_SECOND}, reset_on_triple_fault=1\n\
         memory: guest={memory}, host={memory}\n\
         pci: enabled=1, chipset=i440fx\n\
         clock: sync=none, time0=utc\n\
         boot: cdrom\n\
         ata0-master: type=cdrom, path=\"{}\", status=inserted\n\
         log: {}\n\
         info: action=ignore\n\
         debug: action=ignore\n\
         error: action=report\n\
         panic: action=fatal\n",
        disc.display(),
        within(LOG),
    );
    for (index, port) in PORTS.iter().enumerate() {
        let number = index + 1;
        writeln!(
            text,
            "com{number}: enabled=1, mode=file, dev={}",
            within(port)
        )
        .expect("a String takes all");
    }
    Ok(text)
}

/// The number in `Bochs x86 Emulator 2.7`.
fn version_in(said: &str) -> Option<&str> {
    let (_, rest) = said.split_once("Bochs x86 Emulator ")?;
    rest.split_whitespace().next()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::emulator::{Emulator, Version};

    fn machine() -> Machine {
        let emulator = Emulator {
            program: "qemu-system-x86_64".into(),
            version: Version::new(7, 2, 22),
        };
        let mut machine = Machine::new(emulator, Boot::Iso("/t/boot.iso".into())).vcpus(2);
        machine.cpu = Bochs::INTEL.into();
        machine
    }

    #[test]
    fn the_banner_tells_the_version() {
        let banner = "=====\n      Bochs x86 Emulator 2.7\n  Built from SVN snapshot\n";
        assert_eq!(version_in(banner), Some("2.7"));
        assert_eq!(version_in("bochs: command not found"), None);
    }

    #[test]
    fn the_serial_ports_come_in_the_order_com1_com2_com3() {
        let text = configuration(&machine(), Path::new("/s")).unwrap();
        for line in [
            "com1: enabled=1, mode=file, dev=/s/console\n",
            "com2: enabled=1, mode=file, dev=/s/guest\n",
            "com3: enabled=1, mode=file, dev=/s/bouncer\n",
            "cpu: model=corei7_skylake_x, count=2, ",
            "ata0-master: type=cdrom, path=\"/t/boot.iso\", ",
        ] {
            assert!(text.contains(line), "{line:?} in\n{text}");
        }
    }

    #[test]
    fn nothing_but_a_disc_is_booted() {
        let mut machine = machine();
        machine.boot = Boot::Rom("/t/rom".into());
        assert!(configuration(&machine, Path::new("/s")).is_err());
    }
}
