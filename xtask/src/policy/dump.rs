//! What `lspci -x` prints, read back into a machine.
//!
//! Owns the text: a line for each function, then its bytes in rows of sixteen. Options that print more bytes (`-xxx`,
//! `-xxxx`) or more words (`-nn`, `-v`, `-k`) are welcome. Refuses to know what a byte means.
//!
//! Source of the form: lspci(8), pciutils 3.9.0, where `lspci -F` reads it too.

use std::fmt;

use pci::config::CONFIG_BYTES;

use super::machine::{HEADER_BYTES, Machine, Name};

/// Bytes in a row.
const ROW: usize = 16;

/// Reads a dump.
///
/// Lines that begin with blanks, which `-v` prints, and lines that begin with `#` say nothing.
///
/// # Errors
/// Whatever else is not as `lspci -x` prints it. Bytes that are not UTF-8 can only stand in names, and do no harm.
pub(super) fn parse(text: &[u8]) -> Result<Machine, Error> {
    let mut reading = Reading::default();
    let mut last = 0;
    for (index, line) in text.split(|byte| *byte == b'\n').enumerate() {
        last = index.saturating_add(1);
        let line = String::from_utf8_lossy(line);
        reading.line(last, line.trim_end())?;
    }
    reading.settle()?;
    if reading.machine.is_empty() {
        let problem = Problem::NoFunction;
        return Err(Error {
            line: last,
            problem,
        });
    }
    Ok(reading.machine)
}

/// The first line a dump cannot have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Error {
    /// Counted from 1.
    pub(super) line: usize,
    pub(super) problem: Problem,
}

/// What is wrong with a line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Problem {
    /// It begins neither with an address nor with an offset.
    Neither,
    /// Bytes of no function.
    Orphan,
    /// A row that does not follow the one before it.
    Gap {
        /// Where the next row starts.
        expected: usize,
    },
    /// Not sixteen bytes of two hexadecimal digits.
    Row,
    /// A function of which too little is known.
    Short {
        /// How many bytes it has.
        bytes: usize,
    },
    /// A function that was there before.
    Twice(Name),
    /// The end, and no function.
    NoFunction,
}

/// As it goes after the name of the file: `12: no offset ...`.
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { line, problem } = self;
        write!(f, "{line}: ")?;
        match problem {
            Problem::Neither => f.write_str(
                "neither a function, as in `0000:00:1d.0 ...`, nor bytes, as in `00: 86 80 ...`",
            ),
            Problem::Orphan => f.write_str("bytes before the first function"),
            Problem::Gap { expected } if *expected >= CONFIG_BYTES.into() => {
                write!(f, "bytes beyond the {CONFIG_BYTES} that a function has")
            }
            Problem::Gap { expected } => write!(
                f,
                "the row that begins with `{expected:02x}:` should stand here"
            ),
            Problem::Row => write!(f, "a row has {ROW} bytes of two hexadecimal digits"),
            Problem::Short { bytes } => write!(
                f,
                "this function has {bytes} bytes, and {HEADER_BYTES} are needed"
            ),
            Problem::Twice(at) => write!(f, "{at} was there before"),
            Problem::NoFunction => f.write_str("the file ends without a function"),
        }?;
        f.write_str("; save what `lspci -Dnnx` prints, as it is")
    }
}

/// A dump read so far.
#[derive(Default)]
struct Reading {
    machine: Machine,
    open: Option<Open>,
}

/// The function whose rows are being read.
struct Open {
    line: usize,
    name: Name,
    bytes: Vec<u8>,
}

impl Reading {
    fn line(&mut self, number: usize, line: &str) -> Result<(), Error> {
        if line.is_empty() || line.starts_with([' ', '\t', '#']) {
            return Ok(());
        }
        let here = |problem| Error {
            line: number,
            problem,
        };
        let (first, rest) = line.split_once(' ').unwrap_or((line, ""));
        if let Some(offset) = first.strip_suffix(':').and_then(offset) {
            let open = self.open.as_mut().ok_or(here(Problem::Orphan))?;
            return open.row(offset, rest).map_err(here);
        }
        let name = Name::parse(first).ok_or(here(Problem::Neither))?;
        self.settle()?;
        self.open = Some(Open {
            line: number,
            name,
            bytes: Vec::new(),
        });
        Ok(())
    }

    /// Keeps the function that was being read.
    fn settle(&mut self) -> Result<(), Error> {
        let Some(Open { line, name, bytes }) = self.open.take() else {
            return Ok(());
        };
        if bytes.len() < HEADER_BYTES {
            let problem = Problem::Short { bytes: bytes.len() };
            return Err(Error { line, problem });
        }
        self.machine.keep(name, bytes).map_err(|twice| Error {
            line,
            problem: Problem::Twice(twice),
        })
    }
}

impl Open {
    fn row(&mut self, offset: usize, text: &str) -> Result<(), Problem> {
        if offset != self.bytes.len() {
            return Err(Problem::Gap {
                expected: self.bytes.len(),
            });
        }
        for byte in text.split(' ') {
            self.bytes.push(two_digits(byte).ok_or(Problem::Row)?);
        }
        if self.bytes.len().checked_sub(offset) != Some(ROW) {
            return Err(Problem::Row);
        }
        Ok(())
    }
}

/// `00` to `ff0`, as `lspci` writes offsets.
fn offset(text: &str) -> Option<usize> {
    match text.len() {
        2 | 3 => usize::from_str_radix(text, 16).ok(),
        _ => None,
    }
}

fn two_digits(text: &str) -> Option<u8> {
    // The standard library takes a sign for a digit, and one digit for two.
    let is_hex = text.len() == 2 && text.bytes().all(|digit| digit.is_ascii_hexdigit());
    u8::from_str_radix(text, 16).ok().filter(|_| is_hex)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A function at `name` with `rows` rows of zeros.
    fn function(name: &str, rows: usize) -> String {
        let rows = (0..rows).map(|row| format!("{:02x}:{}\n", row * ROW, " 00".repeat(ROW)));
        format!(
            "{name} Something [0000]: Somebody [0000:0000]\n{}\n",
            rows.collect::<String>()
        )
    }

    fn problem(text: &str) -> (usize, Problem) {
        let error = parse(text.as_bytes()).expect_err("a dump nobody printed");
        (error.line, error.problem)
    }

    #[test]
    fn any_number_of_bytes_lspci_prints_is_taken() {
        for bytes in [64, 128, 256, 4096] {
            let machine = parse(function("0000:00:1d.0", bytes / ROW).as_bytes()).unwrap();
            assert_eq!(machine, Machine::of(&[("0000:00:1d.0", &vec![0; bytes])]));
        }
    }

    #[test]
    fn a_function_without_a_segment_is_of_segment_0() {
        let text = function("00:1d.0", 4) + &function("0001:00:1d.0", 4);
        let machine = parse(text.as_bytes()).unwrap();
        assert_eq!(
            machine,
            Machine::of(&[("0000:00:1d.0", &[0; 64]), ("0001:00:1d.0", &[0; 64])])
        );
    }

    #[test]
    fn details_comments_and_other_line_ends_are_passed_over() {
        let text = format!("# ours\n{}", function("00:1d.0", 4));
        let text = text
            .replace("\n00:", "\n\tKernel driver in use: nvme\n00:")
            .replace('\n', "\r\n");
        assert_eq!(
            parse(text.as_bytes()).unwrap(),
            Machine::of(&[("00:1d.0", &[0; 64])])
        );
    }

    #[test]
    fn a_function_cut_short_is_named_by_its_line() {
        let text = function("00:1c.0", 4) + &function("00:1d.0", 3);
        assert_eq!(problem(&text), (7, Problem::Short { bytes: 48 }));
    }

    #[test]
    fn a_row_cut_short_is_refused() {
        assert_eq!(problem("00:1d.0 x\n00: 86 80 c0"), (2, Problem::Row));
    }

    #[test]
    fn a_row_too_long_is_refused() {
        let text = format!("00:1d.0 x\n00:{}", " 00".repeat(ROW + 1));
        assert_eq!(problem(&text), (2, Problem::Row));
    }

    #[test]
    fn what_is_no_byte_is_refused() {
        for byte in ["0", "+1", "000", "0g", "é", ""] {
            let text = format!("00:1d.0 x\n00: {byte}{}", " 00".repeat(ROW - 1));
            assert_eq!(problem(&text), (2, Problem::Row), "{byte}");
        }
    }

    #[test]
    fn a_row_that_is_missing_is_noticed() {
        let text = function("00:1d.0", 4).replace("10:", "20:");
        assert_eq!(problem(&text), (3, Problem::Gap { expected: 0x10 }));
    }

    #[test]
    fn there_are_no_bytes_beyond_configuration_space() {
        let text = function("00:1d.0", 256).trim_end().to_owned() + "\nfff: 00";
        assert_eq!(problem(&text), (258, Problem::Gap { expected: 4096 }));
        let error = parse(text.as_bytes()).unwrap_err().to_string();
        assert!(error.starts_with("258: bytes beyond the 4096"), "{error}");
    }

    #[test]
    fn bytes_of_nobody_are_refused() {
        assert_eq!(problem("\n00: 00\n"), (2, Problem::Orphan));
    }

    #[test]
    fn a_function_that_comes_twice_is_refused() {
        let text = function("00:1d.0", 4).repeat(2);
        assert_eq!(problem(&text).0, 7);
        assert!(
            parse(text.as_bytes())
                .unwrap_err()
                .to_string()
                .contains("0000:00:1d.0 was there")
        );
    }

    #[test]
    fn what_lspci_never_prints_is_refused() {
        for line in [
            "hello",
            "00:1d",
            "00:1d.8 x",
            "00:20.0 x",
            "0:1d.0 x",
            "-f:1d.0 x",
            "1d.0 x",
            "0000:00: 00",
            ":",
        ] {
            assert_eq!(problem(line), (1, Problem::Neither), "{line}");
        }
    }

    #[test]
    fn a_file_without_a_function_is_no_dump() {
        for text in ["", "\n\n", "# nothing here\n"] {
            assert_eq!(problem(text).1, Problem::NoFunction, "{text:?}");
        }
    }

    /// Linux counts what it reaches through a controller from segment 10000 up, beyond all that firmware can name.
    #[test]
    fn functions_behind_a_remapping_controller_are_read_too() {
        let text = function("00:0e.0", 4) + &function("10000:e1:00.0", 4);
        assert_eq!(
            parse(text.as_bytes()).unwrap(),
            Machine::of(&[("00:0e.0", &[0; 64]), ("10000:e1:00.0", &[0; 64])])
        );
    }

    /// Text in which every kind of line is likely.
    fn lines() -> impl Strategy<Value = String> {
        let line = prop_oneof![
            "[0-9a-f]{2,5}:[0-9a-f]{2}:[0-2][0-9a-f]\\.[0-8] .{0,8}",
            "[0-9a-f]{2,4}:( [0-9a-f]{2}){14,17}",
            (0usize..5).prop_map(|row| format!("{:02x}:{}", row * ROW, " ff".repeat(ROW))),
            ".{0,16}",
        ];
        prop::collection::vec(line, 0..24).prop_map(|lines| lines.join("\n"))
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(text in prop::collection::vec(any::<u8>(), 0..512)) {
            let _ = parse(&text);
        }

        #[test]
        fn no_lines_make_it_panic(text in lines()) {
            let lines = text.split('\n').count();
            if let Err(error) = parse(text.as_bytes()) {
                prop_assert!((1..=lines).contains(&error.line));
            }
        }

        #[test]
        fn every_byte_arrives_where_it_was(rows in prop::collection::vec(any::<[u8; ROW]>(), 4..=256)) {
            let mut text = String::from("0000:00:1d.0 x\n");
            for (index, row) in rows.iter().enumerate() {
                let bytes: String = row.iter().map(|byte| format!(" {byte:02x}")).collect();
                text += &format!("{:02x}:{bytes}\n", index * ROW);
            }
            prop_assert_eq!(parse(text.as_bytes()), Ok(Machine::of(&[("0000:00:1d.0", &rows.concat())])));
        }
    }
}
