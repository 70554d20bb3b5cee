//! A disc that UEFI firmware boots: a partition table, an EFI system partition with files, and room behind it.

use std::fs::{self, File};
use std::io::{Cursor, SeekFrom, Write};
use std::path::{Path, PathBuf};

use gpt::{DiskDevice, partition_types};

use crate::Error;

/// Bytes of a sector, as every drive here has them.
const SECTOR: u64 = 512;
/// Where the partition begins, and how much is kept behind it for the second copy of the table.
const MARGIN: u64 = 1 << 20;
/// The smallest partition: below, a file system would be of a kind that not all firmware reads.
const SMALLEST: u64 = 36 << 20;
/// Where firmware looks on a drive that nobody has told it about (UEFI 2.10, 3.5.1.1).
const FALLBACK: &str = "EFI/BOOT/BOOTX64.EFI";

/// A disc to be written.
#[derive(Clone, Debug, Default)]
pub struct Esp {
    files: Vec<(String, Content)>,
}

#[derive(Clone, Debug)]
enum Content {
    Bytes(Vec<u8>),
    File(PathBuf),
}

impl Esp {
    /// A disc that starts `bouncer.efi` with these words and, if there is one, this policy beside it.
    #[must_use]
    pub fn bouncer(efi: &Path, words: &str, policy: Option<&[u8]>) -> Self {
        let mut esp = Self::default()
            .file(FALLBACK, efi)
            .text("EFI/BOOT/options.txt", words.as_bytes());
        if let Some(policy) = policy {
            esp = esp.text("EFI/BOOT/policy.toml", policy);
        }
        esp
    }

    /// A disc whose boot loader, Debian's GRUB at `grub`, starts a Linux kernel.
    #[must_use]
    pub fn linux(grub: &Path, kernel: &Path, initrd: &Path, append: &str) -> Self {
        let append = super::iso::quoted(append);
        let configuration = format!(
            "search --file --set=root /vmlinuz\nlinux /vmlinuz {append}\ninitrd /initrd\nboot\n"
        );
        Self::default()
            .file(FALLBACK, grub)
            .text("EFI/debian/grub.cfg", configuration.as_bytes())
            .kernel(kernel, initrd)
    }

    /// As [`Esp::linux`], where GRUB is started by Debian's shim at `shim`.
    #[must_use]
    pub fn linux_by_shim(
        shim: &Path,
        grub: &Path,
        kernel: &Path,
        initrd: &Path,
        append: &str,
    ) -> Self {
        Self::linux(shim, kernel, initrd, append).file("EFI/BOOT/grubx64.efi", grub)
    }

    /// A disc whose boot loader, systemd-boot at `systemd_boot`, starts a Linux kernel by its only entry, which is called
    /// `test`.
    #[must_use]
    pub fn linux_by_systemd(
        systemd_boot: &Path,
        kernel: &Path,
        initrd: &Path,
        append: &str,
    ) -> Self {
        let entry = format!("title Test\nlinux /vmlinuz\ninitrd /initrd\noptions {append}\n");
        Self::default()
            .file(FALLBACK, systemd_boot)
            .text("loader/entries/test.conf", entry.as_bytes())
            .kernel(kernel, initrd)
    }

    /// A disc with the boot loader of an installed Debian system, its GRUB at `grub`, which goes on with what
    /// `/boot/grub/grub.cfg` says on the file system that has the UUID `root`.
    #[must_use]
    pub fn debian(grub: &Path, root: &str) -> Self {
        let configuration = format!(
            "search.fs_uuid {root} root\nset prefix=($root)'/boot/grub'\nconfigfile $prefix/grub.cfg\n"
        );
        Self::default()
            .file(FALLBACK, grub)
            .file("EFI/debian/grubx64.efi", grub)
            .text("EFI/debian/grub.cfg", configuration.as_bytes())
    }

    /// A disc that starts one program.
    #[must_use]
    pub fn program(efi: &Path) -> Self {
        Self::default().file(FALLBACK, efi)
    }

    fn kernel(self, kernel: &Path, initrd: &Path) -> Self {
        self.file("vmlinuz", kernel).file("initrd", initrd)
    }

    fn file(mut self, path: &str, from: &Path) -> Self {
        self.files
            .push((path.into(), Content::File(from.to_path_buf())));
        self
    }

    fn text(mut self, path: &str, bytes: &[u8]) -> Self {
        self.files
            .push((path.into(), Content::Bytes(bytes.to_vec())));
        self
    }

    /// Writes the disc to `path`, and returns `path`.
    ///
    /// # Errors
    /// If a file cannot be read, or the disc cannot be written.
    pub fn write(&self, path: &Path) -> Result<PathBuf, Error> {
        self.write_with_room(path, 0)?;
        Ok(path.to_path_buf())
    }

    /// As [`Esp::write`], with an empty Linux partition of so many bytes behind the first. Returns the byte at which
    /// it begins.
    ///
    /// # Errors
    /// As [`Esp::write`].
    pub fn write_with_room(&self, path: &Path, room: u64) -> Result<u64, Error> {
        let mut files = Vec::new();
        for (name, content) in &self.files {
            let bytes = match content {
                Content::Bytes(bytes) => bytes.clone(),
                Content::File(file) => {
                    fs::read(file).map_err(|error| Error::file(file, "read", error))?
                }
            };
            files.push((name.as_str(), bytes));
        }
        // Made aside and moved into place: a machine that runs from the old disc keeps it.
        let aside = path.with_extension(format!("{}.img", std::process::id()));
        let layout = Layout::of(&files, room);
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&aside);
        // What nobody writes stays a hole.
        let mut disc = file
            .and_then(|disc| disc.set_len(layout.bytes()).map(|()| disc))
            .map_err(|error| Error::file(&aside, "write", error))?;
        lay_out(&mut disc, &layout, &files)
            .map_err(|why| Error::malformed(path.display().to_string(), why))?;
        fs::rename(&aside, path).map_err(|error| Error::file(path, "replace", error))?;
        Ok(layout.room_start())
    }
}

/// Where on a disc its partitions are, in bytes.
#[derive(Clone, Copy, Debug)]
struct Layout {
    /// Bytes of the system partition, which begins at [`MARGIN`].
    system: u64,
    /// Bytes of the partition behind it; none if 0.
    room: u64,
}

impl Layout {
    fn of(files: &[(&str, Vec<u8>)], room: u64) -> Self {
        let content: u64 = files.iter().map(|(_, bytes)| bytes.len() as u64).sum();
        // A cluster is lost for each file and directory, and the tables take less than a hundredth.
        let system = (content + content / 16).next_multiple_of(MARGIN) + MARGIN;
        Self {
            system: system.max(SMALLEST),
            room: room.next_multiple_of(MARGIN),
        }
    }

    fn room_start(&self) -> u64 {
        MARGIN + self.system
    }

    fn bytes(&self) -> u64 {
        self.room_start() + self.room + MARGIN
    }
}

/// Writes the partition table and the system partition with these files to a disc of the layout's size.
fn lay_out(
    disc: &mut impl DiskDevice,
    layout: &Layout,
    files: &[(&str, Vec<u8>)],
) -> Result<(), String> {
    describe(disc, layout).map_err(|error| format!("partition table: {error}"))?;
    let mut system = vec![0; layout.system as usize];
    fill(&mut system, files)
        .and_then(|()| disc.seek(SeekFrom::Start(MARGIN)))
        .and_then(|_| disc.write_all(&system))
        .map_err(|error| format!("file system: {error}"))
}

/// Writes the partition table.
fn describe(disc: &mut impl DiskDevice, layout: &Layout) -> Result<(), Box<dyn std::error::Error>> {
    let last = u32::try_from(layout.bytes() / SECTOR - 1).unwrap_or(u32::MAX);
    gpt::mbr::ProtectiveMBR::with_lb_size(last).overwrite_lba0(disc)?;
    let mut table = gpt::GptConfig::new()
        .writable(true)
        .logical_block_size(gpt::disk::LogicalBlockSize::Lb512)
        .create_from_device(disc, None)?;
    let partitions = [
        ("EFI system", MARGIN, layout.system, partition_types::EFI),
        (
            "system",
            layout.room_start(),
            layout.room,
            partition_types::LINUX_FS,
        ),
    ];
    for (number, (name, start, bytes, kind)) in (1..).zip(partitions) {
        if bytes > 0 {
            let (first, sectors) = (start / SECTOR, bytes / SECTOR);
            table.add_partition_at(name, number, first, sectors, kind, 0)?;
        }
    }
    table.write()?;
    Ok(())
}

/// Makes a file system in `partition` with these files.
fn fill(partition: &mut [u8], files: &[(&str, Vec<u8>)]) -> std::io::Result<()> {
    let mut partition = Cursor::new(partition);
    let options = fatfs::FormatVolumeOptions::new().volume_label(*b"BOUNCER    ");
    fatfs::format_volume(&mut partition, options)?;
    let system = fatfs::FileSystem::new(partition, fatfs::FsOptions::new())?;
    let root = system.root_dir();
    for (path, bytes) in files {
        for (end, _) in path.match_indices('/') {
            root.create_dir(&path[..end])?;
        }
        root.create_file(path)?.write_all(bytes)?;
    }
    drop(root);
    system.unmount()
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn disc(files: &[(&str, Vec<u8>)], room: u64) -> (Layout, Vec<u8>) {
        let layout = Layout::of(files, room);
        let mut disc = Cursor::new(vec![0; layout.bytes() as usize]);
        lay_out(&mut disc, &layout, files).expect("a disc is made");
        (layout, disc.into_inner())
    }

    /// The files of a disc, found as firmware finds them: table, partition, file system.
    fn read_back(disc: Vec<u8>, path: &str) -> Vec<u8> {
        let table = gpt::GptConfig::new()
            .writable(false)
            .open_from_device(Cursor::new(disc.clone()))
            .expect("there is a partition table");
        let partition = table.partitions().values().next().expect("a partition");
        assert_eq!(partition.part_type_guid, gpt::partition_types::EFI);
        let start = partition.first_lba * SECTOR;
        let end = (partition.last_lba + 1) * SECTOR;
        let bytes = disc[start as usize..end as usize].to_vec();
        let system = fatfs::FileSystem::new(Cursor::new(bytes), fatfs::FsOptions::new())
            .expect("there is a file system");
        let mut content = Vec::new();
        let mut file = system
            .root_dir()
            .open_file(path)
            .expect("the file is there");
        file.read_to_end(&mut content).expect("it can be read");
        content
    }

    #[test]
    fn files_are_found_behind_table_and_partition() {
        let long: Vec<u8> = (0..3_000_000_u32).map(|n| (n >> 3) as u8).collect();
        let files = [
            ("EFI/BOOT/BOOTX64.EFI", b"MZ".to_vec()),
            ("EFI/BOOT/policy.toml", b"version = 1\n".to_vec()),
            ("initrd", long.clone()),
        ];
        let (_, disc) = disc(&files, 0);
        assert_eq!(read_back(disc.clone(), "efi/boot/bootx64.efi"), b"MZ");
        assert_eq!(
            read_back(disc.clone(), "EFI/BOOT/policy.toml"),
            b"version = 1\n"
        );
        assert_eq!(read_back(disc, "initrd"), long);
    }

    #[test]
    fn the_room_behind_the_system_partition_is_a_linux_partition() {
        let (layout, disc) = disc(&[("EFI/BOOT/BOOTX64.EFI", b"MZ".to_vec())], 3 << 20);
        assert_eq!(read_back(disc.clone(), "EFI/BOOT/BOOTX64.EFI"), b"MZ");
        let table = gpt::GptConfig::new()
            .writable(false)
            .open_from_device(Cursor::new(disc))
            .expect("there is a partition table");
        let room = &table.partitions()[&2];
        assert_eq!(room.part_type_guid, partition_types::LINUX_FS);
        assert_eq!(room.first_lba * SECTOR, layout.room_start());
        assert_eq!(
            (room.last_lba + 1) * SECTOR,
            layout.room_start() + (3 << 20)
        );
    }

    #[test]
    fn a_disc_without_a_policy_has_none() {
        let with = Esp::bouncer(Path::new("/b.efi"), "serial=0x3e8", Some(b"version = 1\n"));
        let without = Esp::bouncer(Path::new("/b.efi"), "serial=0x3e8", None);
        let has_policy = |esp: &Esp| {
            esp.files
                .iter()
                .any(|(name, _)| name.ends_with("policy.toml"))
        };
        assert!(has_policy(&with) && !has_policy(&without));
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let esp = Esp::bouncer(Path::new("/no/such/bouncer.efi"), "", None);
        let error = esp.write(Path::new("/tmp/never.img")).unwrap_err();
        assert!(
            error.to_string().contains("/no/such/bouncer.efi"),
            "{error}"
        );
    }
}
