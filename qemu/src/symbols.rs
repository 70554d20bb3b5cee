//! Names for the addresses in Bouncer's backtrace, from its unstripped image.

use std::path::Path;

use addr2line::Loader;

use crate::Error;
use crate::report::Report;

/// The hypervisor's symbols and line table.
pub struct Symbols(Loader);

impl core::fmt::Debug for Symbols {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Symbols")
    }
}

impl Symbols {
    /// Reads the unstripped ELF file `image`.
    ///
    /// # Errors
    /// [`Error::Malformed`] if it is no ELF file or its debug information cannot be read.
    pub fn load(image: &Path) -> Result<Self, Error> {
        Loader::new(image)
            .map(Self)
            .map_err(|error| Error::malformed(image.display().to_string(), error))
    }

    /// `function (file:line)` for an offset in the image, callers of inlined functions after them; the bare offset
    /// if nothing is known about it. `address` is a return address: the call is the instruction before it.
    #[must_use]
    pub fn describe(&self, address: u64) -> String {
        let call = address.saturating_sub(1);
        let mut places = Vec::new();
        if let Ok(mut frames) = self.0.find_frames(call) {
            while let Ok(Some(frame)) = frames.next() {
                let function = frame
                    .function
                    .as_ref()
                    .and_then(|name| name.demangle().ok().map(|name| name.into_owned()));
                let line = frame
                    .location
                    .and_then(|place| Some(format!("{}:{}", short(place.file?), place.line?)));
                places.push(match (function, line) {
                    (Some(function), Some(line)) => format!("{function} ({line})"),
                    (Some(known), None) | (None, Some(known)) => known,
                    (None, None) => continue,
                });
            }
        }
        if places.is_empty() {
            places.extend(self.0.find_symbol(call).map(str::to_owned));
        }
        if places.is_empty() {
            format!("{address:#x}")
        } else {
            format!("{address:#x} {}", places.join(", in "))
        }
    }
}

/// A source file's path from the workspace's root, or from that of Rust's own sources.
fn short(file: &str) -> &str {
    let workspace = env!("CARGO_MANIFEST_DIR").trim_end_matches("qemu");
    let rust = || Some(file.strip_prefix("/rustc/")?.split_once('/')?.1);
    file.strip_prefix(workspace).or_else(rust).unwrap_or(file)
}

impl Report {
    /// Puts names to the panic's backtrace.
    pub fn symbolise(&mut self, symbols: &Symbols) {
        self.frames = self
            .frame_offsets
            .iter()
            .map(|offset| symbols.describe(*offset))
            .collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_no_image_is_refused() {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
        assert!(Symbols::load(&source).is_err());
    }

    #[test]
    fn paths_begin_where_the_sources_do() {
        assert_eq!(short(file!()), file!());
        assert_eq!(
            short(concat!(env!("CARGO_MANIFEST_DIR"), "/src/lib.rs")),
            "qemu/src/lib.rs"
        );
        assert_eq!(
            short("/rustc/59807616e1/library/core/src/fmt.rs"),
            "library/core/src/fmt.rs"
        );
        assert_eq!(short("/elsewhere/a.rs"), "/elsewhere/a.rs");
    }

    #[test]
    fn an_offset_nothing_is_known_about_stays_a_number() {
        let symbols = Symbols::load(&std::env::current_exe().unwrap()).unwrap();
        assert_eq!(symbols.describe(u64::MAX), "0xffffffffffffffff");
    }

    #[test]
    fn the_entry_of_this_very_program_has_a_name() {
        use object::{Object, ObjectSymbol};
        let program = std::env::current_exe().unwrap();
        let bytes = std::fs::read(&program).unwrap();
        let object = object::File::parse(&*bytes).unwrap();
        let main = object
            .symbols()
            .find(|symbol| symbol.name() == Ok("main"))
            .unwrap();
        let described = Symbols::load(&program)
            .unwrap()
            .describe(main.address() + 1);
        assert!(described.contains("main"), "{described}");
    }
}
