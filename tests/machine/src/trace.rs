//! What the emulated remapping unit says it did, past everybody: refusals, and translations that
//! led somewhere.

use std::fs;
use std::path::PathBuf;

use crate::Scene;

/// The unit refused a request.
const REFUSED: &str = "vtd_dmar_fault";
/// The unit found where a request leads. QEMU says so when it remembers a translation.
const LED: &str = "vtd_iotlb_page_update";

/// The file that QEMU writes.
#[derive(Debug)]
pub struct Trace {
    file: PathBuf,
}

/// One request that was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Refusal {
    /// The requester id.
    pub source: u16,
    /// The address.
    pub address: u64,
    /// Whether it was a write.
    pub is_write: bool,
}

impl Trace {
    /// A trace of the machine of the test `name`.
    ///
    /// # Panics
    /// If the test has no directory for it.
    #[must_use]
    pub fn of(name: &str) -> Self {
        let file = Scene::native(name).file("unit.trace");
        // What an earlier run left is not of this machine.
        let _ = fs::remove_file(&file);
        Self { file }
    }

    /// QEMU's arguments.
    #[must_use]
    pub fn arguments(&self) -> Vec<String> {
        let file = self.file.display().to_string();
        let enable = |event: &str| format!("enable={event}");
        let words = [
            "-D",
            &file,
            "-trace",
            &enable(REFUSED),
            "-trace",
            &enable(LED),
        ];
        words.map(str::to_owned).to_vec()
    }

    /// Every refusal so far, in order.
    ///
    /// # Panics
    /// If QEMU wrote nothing, or something else.
    #[must_use]
    pub fn refusals(&self) -> Vec<Refusal> {
        let text = self.read();
        let lines = text.lines().filter(|line| line.contains(REFUSED));
        lines
            .map(|line| refusal(line).unwrap_or_else(|| panic!("a line of QEMU's: {line}")))
            .collect()
    }

    /// How many requests of `source` led somewhere.
    ///
    /// # Panics
    /// If QEMU wrote nothing.
    #[must_use]
    pub fn translations(&self, source: u16) -> usize {
        let sid = format!("sid {source:#x} ");
        let text = self.read();
        let lines = text.lines().filter(|line| line.contains(LED));
        lines.filter(|line| line.contains(&sid)).count()
    }

    fn read(&self) -> String {
        fs::read_to_string(&self.file)
            .unwrap_or_else(|error| panic!("{}: {error}", self.file.display()))
    }
}

/// `vtd_dmar_fault sid 0x50 fault 5 addr 0x1000 write 1`, whatever stands before it.
fn refusal(line: &str) -> Option<Refusal> {
    let (_, rest) = line.split_once(REFUSED)?;
    let mut words = rest.split_whitespace();
    let mut after = |name: &str| {
        words.find(|word| *word == name)?;
        words.next()
    };
    let hexadecimal = |word: &str| u64::from_str_radix(word.trim_start_matches("0x"), 16).ok();
    Some(Refusal {
        source: hexadecimal(after("sid")?)? as u16,
        address: hexadecimal(after("addr")?)?,
        is_write: after("write")? != "0",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_qemus_is_read() {
        let line = "vtd_dmar_fault sid 0x50 fault 5 addr 0x7f001000 write 1";
        let expected = Refusal {
            source: 0x50,
            address: 0x7f00_1000,
            is_write: true,
        };
        assert_eq!(refusal(line), Some(expected));
        assert_eq!(refusal("vtd_dmar_fault sid 0x50"), None);
    }
}
