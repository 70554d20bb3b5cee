//! A writer of `newc` cpio archives, the only format Linux unpacks as its initial file system.
//!
//! The header is described in the kernel's documentation, "initramfs buffer format" (2023): `070701`, then
//! thirteen fields of eight hexadecimal digits; name and data each padded to four bytes.

use std::collections::BTreeSet;

const REGULAR: u32 = 0o100_000;
const DIRECTORY: u32 = 0o040_000;
const CHARACTER_DEVICE: u32 = 0o020_000;

/// An archive being written. Parent directories come by themselves.
#[derive(Debug, Default)]
pub(crate) struct Archive {
    bytes: Vec<u8>,
    directories: BTreeSet<String>,
    entries: u32,
}

struct Entry<'a> {
    name: &'a str,
    mode: u32,
    device: (u32, u32),
    data: &'a [u8],
}

impl Archive {
    /// Adds a file at an absolute `path`, readable by all.
    pub(crate) fn file(&mut self, path: &str, data: &[u8]) {
        self.node(path, REGULAR | 0o644, (0, 0), data);
    }

    /// Adds a program at an absolute `path`.
    pub(crate) fn program(&mut self, path: &str, data: &[u8]) {
        self.node(path, REGULAR | 0o755, (0, 0), data);
    }

    /// Adds a character device.
    pub(crate) fn character_device(&mut self, path: &str, major: u32, minor: u32) {
        self.node(path, CHARACTER_DEVICE | 0o600, (major, minor), &[]);
    }

    /// Adds a directory and those above it.
    pub(crate) fn directory(&mut self, path: &str) {
        let path = path.trim_matches('/');
        if path.is_empty() || self.directories.contains(path) {
            return;
        }
        if let Some((above, _)) = path.rsplit_once('/') {
            self.directory(above);
        }
        self.directories.insert(path.to_owned());
        self.append(&Entry {
            name: path,
            mode: DIRECTORY | 0o755,
            device: (0, 0),
            data: &[],
        });
    }

    /// Ends the archive.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.append(&Entry {
            name: "TRAILER!!!",
            mode: 0,
            device: (0, 0),
            data: &[],
        });
        self.bytes
    }

    fn node(&mut self, path: &str, mode: u32, device: (u32, u32), data: &[u8]) {
        let name = path.trim_matches('/');
        if let Some((above, _)) = name.rsplit_once('/') {
            self.directory(above);
        }
        self.append(&Entry {
            name,
            mode,
            device,
            data,
        });
    }

    fn append(&mut self, entry: &Entry<'_>) {
        self.entries += 1;
        let size = u32::try_from(entry.data.len())
            .expect("a file in an initial file system is smaller than 4 GiB");
        let name_size = entry.name.len() as u32 + 1;
        let (major, minor) = entry.device;
        // inode, mode, uid, gid, links, mtime, size, device of the file system (2), device (2), name size, check.
        let fields = [
            self.entries,
            entry.mode,
            0,
            0,
            1,
            0,
            size,
            0,
            0,
            major,
            minor,
            name_size,
            0,
        ];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes
                .extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(entry.name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(entry.data);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Reads an archive back: (name, mode, data) of each entry, the trailer left out.
    fn read(mut bytes: &[u8]) -> Vec<(String, u32, Vec<u8>)> {
        let mut entries = Vec::new();
        loop {
            assert_eq!(&bytes[..6], b"070701");
            let field = |index: usize| {
                let digits = std::str::from_utf8(&bytes[6 + index * 8..14 + index * 8]).unwrap();
                u32::from_str_radix(digits, 16).unwrap()
            };
            let (mode, size, name_size) = (field(1), field(6) as usize, field(11) as usize);
            let name = String::from_utf8(bytes[110..110 + name_size - 1].to_vec()).unwrap();
            let data_at = (110 + name_size).next_multiple_of(4);
            if name == "TRAILER!!!" {
                return entries;
            }
            entries.push((name, mode, bytes[data_at..data_at + size].to_vec()));
            bytes = &bytes[(data_at + size).next_multiple_of(4)..];
        }
    }

    #[test]
    fn parent_directories_come_first_and_once() {
        let mut archive = Archive::default();
        archive.file("/etc/bouncer/checks", b"nvme\n");
        archive.file("/etc/bouncer/modules", b"");
        let names: Vec<_> = read(&archive.finish())
            .into_iter()
            .map(|(name, _, _)| name)
            .collect();
        assert_eq!(
            names,
            [
                "etc",
                "etc/bouncer",
                "etc/bouncer/checks",
                "etc/bouncer/modules"
            ]
        );
    }

    #[test]
    fn kinds_and_permissions_are_in_the_mode() {
        let mut archive = Archive::default();
        archive.program("/init", b"\x7fELF");
        archive.character_device("/dev/console", 5, 1);
        let modes: Vec<_> = read(&archive.finish())
            .into_iter()
            .map(|(_, mode, _)| mode)
            .collect();
        assert_eq!(modes, [0o100_755, 0o040_755, 0o020_600]);
    }

    proptest! {
        #[test]
        fn files_survive_being_written_and_read(files in proptest::collection::vec(("[a-z]{1,9}", proptest::collection::vec(any::<u8>(), 0..40)), 0..5)) {
            let mut archive = Archive::default();
            for (name, data) in &files {
                archive.file(name, data);
            }
            let read: Vec<_> = read(&archive.finish()).into_iter().map(|(name, _, data)| (name, data)).collect();
            prop_assert_eq!(read, files);
        }
    }
}
