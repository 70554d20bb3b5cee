//! The machine's bus from the host: memory, MMIO and ports, past CPU and guest.
//!
//! One command, one answer, one bounded wait. Addresses are the machine's physical addresses; nothing translates
//! them, for the bus has no IOMMU in front of it.

use core::fmt::{self, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use crate::Error;
use crate::wait::{self, Lines};

const PATIENCE: Duration = Duration::from_secs(30);

/// The longest run of bytes put into one command, so that a line stays within QEMU's buffers.
const CHUNK: usize = 4096;

/// Stores sent before their answers are waited for.
const AT_ONCE: usize = 64;

/// One store to the machine's bus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Store {
    /// Where.
    pub address: u64,
    /// How wide.
    pub width: Width,
    /// What.
    pub value: u64,
}

/// How many bytes a store has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Width {
    /// One.
    Byte,
    /// Two.
    Word,
    /// Four.
    Double,
}

impl fmt::Display for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let suffix = match self.width {
            Width::Byte => 'b',
            Width::Word => 'w',
            Width::Double => 'l',
        };
        write!(f, "write{suffix} {:#x} {:#x}", self.address, self.value)
    }
}

/// A connection to QEMU's qtest server.
#[derive(Debug)]
pub struct QtestBus {
    lines: Lines,
}

impl QtestBus {
    /// Connects to a bus that QEMU serves at `socket`.
    ///
    /// # Errors
    /// If nothing answers there within 30 seconds.
    pub fn connect(socket: &Path) -> Result<Self, Error> {
        wait::connect(socket, PATIENCE).map(Self::over)
    }

    /// Speaks to the bus at the other end of `stream`.
    #[must_use]
    pub fn over(stream: UnixStream) -> Self {
        Self {
            lines: Lines::over(stream, PATIENCE),
        }
    }

    /// Reads one byte at a physical address.
    ///
    /// # Errors
    /// All methods: [`Error::Refused`] or [`Error::TimedOut`].
    pub fn readb(&mut self, address: u64) -> Result<u8, Error> {
        self.number(&format!("readb {address:#x}"))
            .map(|value| value as u8)
    }

    /// Reads two bytes.
    #[allow(missing_docs, clippy::missing_errors_doc)]
    pub fn readw(&mut self, address: u64) -> Result<u16, Error> {
        self.number(&format!("readw {address:#x}"))
            .map(|value| value as u16)
    }

    /// Reads four bytes.
    #[allow(clippy::missing_errors_doc)]
    pub fn readl(&mut self, address: u64) -> Result<u32, Error> {
        self.number(&format!("readl {address:#x}"))
            .map(|value| value as u32)
    }

    /// Reads eight bytes.
    #[allow(clippy::missing_errors_doc)]
    pub fn readq(&mut self, address: u64) -> Result<u64, Error> {
        self.number(&format!("readq {address:#x}"))
    }

    /// Writes one byte.
    #[allow(clippy::missing_errors_doc)]
    pub fn writeb(&mut self, address: u64, value: u8) -> Result<(), Error> {
        self.order(&format!("writeb {address:#x} {value:#x}"))
    }

    /// Writes two bytes.
    #[allow(clippy::missing_errors_doc)]
    pub fn writew(&mut self, address: u64, value: u16) -> Result<(), Error> {
        self.order(&format!("writew {address:#x} {value:#x}"))
    }

    /// Writes four bytes.
    #[allow(clippy::missing_errors_doc)]
    pub fn writel(&mut self, address: u64, value: u32) -> Result<(), Error> {
        self.order(&format!("writel {address:#x} {value:#x}"))
    }

    /// Writes eight bytes.
    #[allow(clippy::missing_errors_doc)]
    pub fn writeq(&mut self, address: u64, value: u64) -> Result<(), Error> {
        self.order(&format!("writeq {address:#x} {value:#x}"))
    }

    /// Reads `length` bytes from `address`.
    #[allow(clippy::missing_errors_doc)]
    pub fn read(&mut self, address: u64, length: usize) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::with_capacity(length);
        while bytes.len() < length {
            let count = CHUNK.min(length - bytes.len());
            let command = format!(
                "read {:#x} {count:#x}",
                address.wrapping_add(bytes.len() as u64)
            );
            let answer = self.ask(&command)?;
            let chunk = answer
                .strip_prefix("0x")
                .and_then(unhex)
                .filter(|chunk| chunk.len() == count);
            bytes.extend(chunk.ok_or_else(|| {
                Error::malformed(format!("qtest's answer to `{command}`"), &answer)
            })?);
        }
        Ok(bytes)
    }

    /// Writes `bytes` from `address` on.
    #[allow(clippy::missing_errors_doc)]
    pub fn write(&mut self, address: u64, bytes: &[u8]) -> Result<(), Error> {
        for (index, chunk) in bytes.chunks(CHUNK).enumerate() {
            let at = address.wrapping_add((index * CHUNK) as u64);
            let mut command = format!("write {at:#x} {:#x} 0x", chunk.len());
            chunk
                .iter()
                .for_each(|byte| write!(command, "{byte:02x}").expect("a String takes all"));
            self.order(&command)?;
        }
        Ok(())
    }

    /// Fills `length` bytes from `address` on.
    #[allow(clippy::missing_errors_doc)]
    pub fn fill(&mut self, address: u64, length: u64, byte: u8) -> Result<(), Error> {
        self.order(&format!("memset {address:#x} {length:#x} {byte:#x}"))
    }

    /// Makes many stores, in order, without waiting for each.
    #[allow(clippy::missing_errors_doc)]
    pub fn store_all(&mut self, stores: &[Store]) -> Result<(), Error> {
        for some in stores.chunks(AT_ONCE) {
            let commands: Vec<String> = some.iter().map(Store::to_string).collect();
            let failed =
                |none: wait::NoLine| none.while_waiting_for("qtest's answer to stores", PATIENCE);
            self.lines.send(&commands.join("\n")).map_err(failed)?;
            for command in &commands {
                self.answer(command)?;
            }
        }
        Ok(())
    }

    /// Reads one byte from an I/O port.
    #[allow(clippy::missing_errors_doc)]
    pub fn inb(&mut self, port: u16) -> Result<u8, Error> {
        self.number(&format!("inb {port:#x}"))
            .map(|value| value as u8)
    }

    /// Reads two bytes from an I/O port.
    #[allow(clippy::missing_errors_doc)]
    pub fn inw(&mut self, port: u16) -> Result<u16, Error> {
        self.number(&format!("inw {port:#x}"))
            .map(|value| value as u16)
    }

    /// Reads four bytes from an I/O port.
    #[allow(clippy::missing_errors_doc)]
    pub fn inl(&mut self, port: u16) -> Result<u32, Error> {
        self.number(&format!("inl {port:#x}"))
            .map(|value| value as u32)
    }

    /// Writes one byte to an I/O port.
    #[allow(clippy::missing_errors_doc)]
    pub fn outb(&mut self, port: u16, value: u8) -> Result<(), Error> {
        self.order(&format!("outb {port:#x} {value:#x}"))
    }

    /// Writes two bytes to an I/O port.
    #[allow(clippy::missing_errors_doc)]
    pub fn outw(&mut self, port: u16, value: u16) -> Result<(), Error> {
        self.order(&format!("outw {port:#x} {value:#x}"))
    }

    /// Writes four bytes to an I/O port.
    #[allow(clippy::missing_errors_doc)]
    pub fn outl(&mut self, port: u16, value: u32) -> Result<(), Error> {
        self.order(&format!("outl {port:#x} {value:#x}"))
    }

    fn order(&mut self, command: &str) -> Result<(), Error> {
        self.ask(command).map(drop)
    }

    fn number(&mut self, command: &str) -> Result<u64, Error> {
        let answer = self.ask(command)?;
        let digits = answer.strip_prefix("0x").unwrap_or(&answer);
        u64::from_str_radix(digits, 16).map_err(|error| {
            Error::malformed(format!("qtest's answer {answer:?} to `{command}`"), error)
        })
    }

    /// Sends one command and returns what follows `OK`.
    fn ask(&mut self, command: &str) -> Result<String, Error> {
        let name = command.split_once(' ').map_or(command, |(name, _)| name);
        let failed =
            |none: wait::NoLine| none.while_waiting_for(&format!("qtest {name}"), PATIENCE);
        self.lines.send(command).map_err(failed)?;
        self.answer(command)
    }

    /// What follows `OK` in the next answer.
    fn answer(&mut self, command: &str) -> Result<String, Error> {
        let name = command.split_once(' ').map_or(command, |(name, _)| name);
        let failed =
            |none: wait::NoLine| none.while_waiting_for(&format!("qtest {name}"), PATIENCE);
        loop {
            let answer = self.lines.receive(PATIENCE).map_err(failed)?;
            // Interrupt lines the machine raises meanwhile are announced in between.
            if answer.starts_with("IRQ ") {
                continue;
            }
            return match answer.strip_prefix("OK") {
                Some(rest) => Ok(rest.trim().to_owned()),
                None => Err(Error::Refused {
                    command: format!("qtest {name}"),
                    answer,
                }),
            };
        }
    }
}

fn unhex(digits: &str) -> Option<Vec<u8>> {
    let digits = digits.as_bytes();
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    let nibble = |digit: u8| (digit as char).to_digit(16);
    digits
        .chunks(2)
        .map(|pair| Some((nibble(pair[0])? * 16 + nibble(pair[1])?) as u8))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::thread::{self, JoinHandle};

    use super::*;

    /// A bus that plays `answers` and returns the commands it got.
    fn bus(answers: Vec<String>) -> (QtestBus, JoinHandle<Vec<String>>) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let played = thread::spawn(move || {
            let mut writer = theirs.try_clone().unwrap();
            let commands = BufReader::new(theirs).lines();
            // The answers come first: when they run out, no further command is waited for.
            answers
                .into_iter()
                .zip(commands)
                .map(|(answer, command)| writeln!(writer, "{answer}").and(command).unwrap())
                .collect()
        });
        (QtestBus::over(ours), played)
    }

    #[test]
    fn a_register_is_read_and_written_at_its_width() {
        let (mut bus, played) = bus(vec!["OK 0x00000000000000d2".into(), "OK".into()]);
        assert_eq!(bus.readl(0xfed9_0008).unwrap(), 0xd2);
        bus.writeq(0xfed9_0020, 0x10_0000).unwrap();
        assert_eq!(
            played.join().unwrap(),
            ["readl 0xfed90008", "writeq 0xfed90020 0x100000"]
        );
    }

    #[test]
    fn many_stores_go_out_in_order_and_each_is_answered() {
        let (mut bus, played) = bus(vec!["OK".into(), "OK".into(), "FAIL Bad".into()]);
        let store = |address, width| Store {
            address,
            width,
            value: 7,
        };
        let stores = [store(0x10, Width::Byte), store(0x20, Width::Double)];
        bus.store_all(&stores).unwrap();
        let refused = bus.store_all(&[store(0x30, Width::Word)]);
        assert!(matches!(refused, Err(Error::Refused { .. })));
        assert_eq!(
            played.join().unwrap(),
            ["writeb 0x10 0x7", "writel 0x20 0x7", "writew 0x30 0x7"]
        );
    }

    #[test]
    fn announced_interrupts_are_not_answers() {
        let (mut bus, _played) = bus(vec!["IRQ raise 4\nIRQ lower 4\nOK 0xff".into()]);
        assert_eq!(bus.inb(0x3fd).unwrap(), 0xff);
    }

    #[test]
    fn a_refusal_is_an_error() {
        let (mut bus, _played) = bus(vec!["FAIL Unknown command".into()]);
        assert!(matches!(bus.readb(0), Err(Error::Refused { .. })));
    }

    #[test]
    fn long_reads_are_cut_into_chunks_in_address_order() {
        let (mut bus, played) = bus(vec![
            format!("OK 0x{}", "ab".repeat(4096)),
            "OK 0x0102".into(),
        ]);
        let bytes = bus.read(0x1000, 4098).unwrap();
        assert_eq!(
            (bytes[0], bytes[4096], bytes[4097], bytes.len()),
            (0xab, 1, 2, 4098)
        );
        assert_eq!(
            played.join().unwrap(),
            ["read 0x1000 0x1000", "read 0x2000 0x2"]
        );
    }

    #[test]
    fn a_short_answer_to_a_read_is_an_error() {
        let (mut bus, _played) = bus(vec!["OK 0x01".into()]);
        assert!(matches!(bus.read(0, 2), Err(Error::Malformed { .. })));
    }

    #[test]
    fn bytes_are_written_as_pairs_of_digits() {
        let (mut bus, played) = bus(vec!["OK".into()]);
        bus.write(0x2000, &[0, 0x0f, 0xa5]).unwrap();
        assert_eq!(played.join().unwrap(), ["write 0x2000 0x3 0x000fa5"]);
    }
}
