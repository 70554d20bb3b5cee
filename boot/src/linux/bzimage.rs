//! The kernel's file: its setup header, checked, and the protected-mode kernel behind it.

use crate::bytes::{u16_at, u32_at, u64_at};

use super::{HeaderField, LinuxError};

/// Offsets into the file, which are also those into `boot_params` (boot protocol, "Details of
/// Header Fields").
pub(super) mod offset {
    pub(in super::super) const SETUP_SECTS: usize = 0x1f1;
    pub(in super::super) const SYSSIZE: usize = 0x1f4;
    pub(in super::super) const BOOT_FLAG: usize = 0x1fe;
    pub(in super::super) const JUMP: usize = 0x200;
    pub(in super::super) const HEADER: usize = 0x202;
    pub(in super::super) const VERSION: usize = 0x206;
    pub(in super::super) const TYPE_OF_LOADER: usize = 0x210;
    pub(in super::super) const LOADFLAGS: usize = 0x211;
    pub(in super::super) const RAMDISK_IMAGE: usize = 0x218;
    pub(in super::super) const RAMDISK_SIZE: usize = 0x21c;
    pub(in super::super) const CMD_LINE_PTR: usize = 0x228;
    pub(in super::super) const INITRD_ADDR_MAX: usize = 0x22c;
    pub(in super::super) const KERNEL_ALIGNMENT: usize = 0x230;
    pub(in super::super) const RELOCATABLE_KERNEL: usize = 0x234;
    pub(in super::super) const XLOADFLAGS: usize = 0x236;
    pub(in super::super) const CMDLINE_SIZE: usize = 0x238;
    pub(in super::super) const SETUP_DATA: usize = 0x250;
    pub(in super::super) const PREF_ADDRESS: usize = 0x258;
    pub(in super::super) const INIT_SIZE: usize = 0x260;
    /// Behind the last field of protocol 2.12 that is read.
    pub(in super::super) const END_OF_2_12: usize = 0x268;
    /// Where `boot_params` has other things: no header reaches further.
    pub(in super::super) const END_OF_ROOM: usize = 0x290;
}

/// The oldest protocol with `xloadflags`.
const OLDEST: u16 = 0x020c;
const BOOT_FLAG: u16 = 0xaa55;
const MAGIC: u32 = u32::from_le_bytes(*b"HdrS");
const XLF_KERNEL_64: u16 = 1 << 0;
const XLF_CAN_BE_LOADED_ABOVE_4G: u16 = 1 << 1;
/// The 64-bit entry point lies this far into the protected-mode kernel.
const ENTRY_64: u64 = 0x200;
const SECTOR: u64 = 512;
/// `syssize` counts paragraphs.
const PARAGRAPH: u64 = 16;

/// A kernel that can be started in 64-bit mode anywhere in memory.
#[derive(Clone, Copy, Debug)]
pub struct BzImage<'f> {
    /// The setup header, to be copied to the same offset (0x1f1) of `boot_params`.
    pub(super) header: &'f [u8],
    /// The protected-mode kernel.
    pub(super) payload: &'f [u8],
    /// Where the kernel likes to be; not below it.
    pub(super) preferred: u64,
    /// What its address must be a multiple of; a power of two.
    pub(super) alignment: u64,
    /// Bytes it needs from its address on before it can read the memory map.
    pub(super) init_size: u64,
    /// The longest command line, the zero at its end not counted.
    pub(super) command_line_max: u64,
    /// The last byte an initial RAM disk may have.
    pub(super) initrd_last: u64,
}

impl<'f> BzImage<'f> {
    /// Checks a kernel's file.
    ///
    /// # Errors
    /// [`LinuxError`] naming the field of the setup header, or how much of the file is missing.
    pub fn parse(file: &'f [u8]) -> Result<Self, LinuxError> {
        let setup = Setup(file);
        setup.check()?;
        let payload = setup.payload()?;
        let header_end = usize::from(setup.u8(offset::JUMP + 1)?) + offset::HEADER;
        if header_end < offset::END_OF_2_12 {
            return Err(setup.error(HeaderField::HeaderEnd, header_end as u64));
        }
        let header = file
            .get(offset::SETUP_SECTS..header_end.min(offset::END_OF_ROOM))
            .ok_or(setup.too_short())?;

        let alignment = u64::from(setup.u32(offset::KERNEL_ALIGNMENT)?);
        if !alignment.is_power_of_two() {
            return Err(setup.error(HeaderField::Alignment, alignment));
        }
        let init_size = u64::from(setup.u32(offset::INIT_SIZE)?);
        if init_size < payload.len() as u64 {
            return Err(setup.error(HeaderField::InitSize, init_size));
        }
        let reaches_above_4g = setup.u16(offset::XLOADFLAGS)? & XLF_CAN_BE_LOADED_ABOVE_4G != 0;
        Ok(Self {
            header,
            payload,
            preferred: setup.u64(offset::PREF_ADDRESS)?,
            alignment,
            init_size,
            command_line_max: u64::from(setup.u32(offset::CMDLINE_SIZE)?),
            initrd_last: if reaches_above_4g {
                u64::MAX
            } else {
                u64::from(setup.u32(offset::INITRD_ADDR_MAX)?)
            },
        })
    }

    /// Bytes from the kernel's address to its 64-bit entry point.
    pub(super) const fn entry_offset() -> u64 {
        ENTRY_64
    }
}

/// The start of the file, where the setup header lies.
struct Setup<'f>(&'f [u8]);

impl<'f> Setup<'f> {
    /// Checks that this is a kernel and that it can be started as wanted.
    fn check(&self) -> Result<(), LinuxError> {
        let boot_flag = self.u16(offset::BOOT_FLAG)?;
        if boot_flag != BOOT_FLAG {
            return Err(self.error(HeaderField::BootFlag, u64::from(boot_flag)));
        }
        let magic = self.u32(offset::HEADER)?;
        if magic != MAGIC {
            return Err(self.error(HeaderField::Magic, u64::from(magic)));
        }
        let version = self.u16(offset::VERSION)?;
        if version < OLDEST {
            return Err(self.error(HeaderField::Version, u64::from(version)));
        }
        let xloadflags = self.u16(offset::XLOADFLAGS)?;
        if xloadflags & XLF_KERNEL_64 == 0 {
            return Err(self.error(HeaderField::Entry64, u64::from(xloadflags)));
        }
        if self.u8(offset::RELOCATABLE_KERNEL)? == 0 {
            return Err(self.error(HeaderField::Relocatable, 0));
        }
        Ok(())
    }

    /// What lies behind the setup sectors, as much of it as `syssize` says; signed kernels have
    /// a signature behind it, which is left out.
    fn payload(&self) -> Result<&'f [u8], LinuxError> {
        // "If the setup_sects field contains 0, the real value is 4", and the boot sector
        // comes on top.
        let sectors = match self.u8(offset::SETUP_SECTS)? {
            0 => 4,
            sectors => u64::from(sectors),
        };
        let start = (sectors + 1) * SECTOR;
        let len = u64::from(self.u32(offset::SYSSIZE)?) * PARAGRAPH;
        let truncated = LinuxError::Truncated {
            says: start + len,
            has: self.0.len() as u64,
        };
        let rest = self.0.get(start as usize..).ok_or(truncated)?;
        match usize::try_from(len).ok().and_then(|len| rest.get(..len)) {
            Some([]) => Err(self.error(HeaderField::Syssize, 0)),
            Some(payload) => Ok(payload),
            None => Err(truncated),
        }
    }

    fn error(&self, field: HeaderField, found: u64) -> LinuxError {
        LinuxError::Header { field, found }
    }

    fn too_short(&self) -> LinuxError {
        LinuxError::TooShort(self.0.len() as u64)
    }

    fn u8(&self, at: usize) -> Result<u8, LinuxError> {
        self.0.get(at).copied().ok_or(self.too_short())
    }

    fn u16(&self, at: usize) -> Result<u16, LinuxError> {
        u16_at(self.0, at).ok_or(self.too_short())
    }

    fn u32(&self, at: usize) -> Result<u32, LinuxError> {
        u32_at(self.0, at).ok_or(self.too_short())
    }

    fn u64(&self, at: usize) -> Result<u64, LinuxError> {
        u64_at(self.0, at).ok_or(self.too_short())
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::string::ToString;

    use proptest::prelude::*;

    use super::*;
    use crate::linux::sample::{self, INIT_SIZE, PAYLOAD, PAYLOAD_AT, PREFERRED};

    fn refused_field(file: &[u8]) -> HeaderField {
        match BzImage::parse(file) {
            Err(LinuxError::Header { field, .. }) => field,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_kernel_is_understood() {
        let file = sample::kernel();
        let image = BzImage::parse(&file).unwrap();
        assert_eq!(image.payload, &file[PAYLOAD_AT..]);
        assert_eq!(image.header, &file[0x1f1..0x26c]);
        assert_eq!(image.preferred, PREFERRED);
        assert_eq!(image.init_size, INIT_SIZE);
        assert_eq!(image.alignment, 0x20_0000);
        assert_eq!(image.command_line_max, 2047);
        assert_eq!(image.initrd_last, u64::MAX);
    }

    #[test]
    fn what_a_signature_appends_is_left_out() {
        let mut file = sample::kernel();
        file.extend([0x55; 1472]);
        assert_eq!(BzImage::parse(&file).unwrap().payload.len(), PAYLOAD);
    }

    #[test]
    fn if_setup_sects_is_0_the_real_value_is_4() {
        let mut file = sample::changed(offset::SETUP_SECTS, [0]);
        file.resize(5 * 512 + PAYLOAD, 0x91);
        let image = BzImage::parse(&file).unwrap();
        assert_eq!(image.payload.last(), Some(&0x91));
    }

    #[test]
    fn without_the_flag_an_initrd_ends_where_the_header_says() {
        let file = sample::changed(offset::XLOADFLAGS, [XLF_KERNEL_64 as u8]);
        assert_eq!(BzImage::parse(&file).unwrap().initrd_last, 0x7fff_ffff);
    }

    #[test]
    fn a_truncated_kernel_is_refused_in_a_sentence() {
        let file = sample::kernel();
        assert_eq!(
            BzImage::parse(&file[..4096]).unwrap_err().to_string(),
            "the kernel module is truncated: its header says 13312 bytes, the module has 4096; \
             rebuild the boot image"
        );
    }

    #[test]
    fn what_is_no_kernel_is_refused() {
        assert_eq!(
            BzImage::parse(b"\x7fELF").unwrap_err(),
            LinuxError::TooShort(4)
        );
        let file = sample::changed(offset::BOOT_FLAG, [0]);
        assert_eq!(refused_field(&file), HeaderField::BootFlag);
        let file = sample::changed(offset::HEADER, *b"hdrS");
        assert_eq!(refused_field(&file), HeaderField::Magic);
    }

    #[test]
    fn a_kernel_that_cannot_be_started_this_way_is_refused() {
        for (at, byte, field) in [
            (offset::VERSION, 0x0b, HeaderField::Version),
            (offset::XLOADFLAGS, 0x7e, HeaderField::Entry64),
            (offset::RELOCATABLE_KERNEL, 0, HeaderField::Relocatable),
            (offset::KERNEL_ALIGNMENT, 1, HeaderField::Alignment),
            (offset::INIT_SIZE + 2, 0, HeaderField::InitSize),
            (offset::JUMP + 1, 0x65, HeaderField::HeaderEnd),
        ] {
            let mut file = sample::kernel();
            file[at] = byte;
            if field == HeaderField::Version {
                file[at + 1] = 2;
            }
            assert_eq!(refused_field(&file), field);
        }
        let file = sample::changed(offset::SYSSIZE, [0; 4]);
        assert_eq!(refused_field(&file), HeaderField::Syssize);
    }

    #[test]
    fn a_header_is_never_longer_than_its_room() {
        let file = sample::changed(offset::JUMP + 1, [0xff]);
        assert_eq!(BzImage::parse(&file).unwrap().header.len(), 0x290 - 0x1f1);
    }

    proptest! {
        #[test]
        fn any_changed_bytes_are_understood_or_refused(
            changes in proptest::collection::vec((0x1f1_usize..0x290, any::<u8>()), 1..4),
            len in 0_usize..=PAYLOAD_AT + PAYLOAD,
        ) {
            let mut file = sample::kernel();
            for (at, byte) in changes {
                file[at] = byte;
            }
            for file in [&file[..], &file[..len]] {
                match BzImage::parse(file) {
                    Ok(image) => prop_assert!(image.payload.len() as u64 <= image.init_size),
                    Err(error) => prop_assert!(!error.to_string().is_empty()),
                }
            }
        }
    }
}
