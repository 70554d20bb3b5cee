//! The zero page: `boot_params`, written field by field.

use memory::{ByteRange, Hpa};

use super::bzimage::{BzImage, offset as header};
use crate::memory_map::MemoryMap;

/// Offsets into `boot_params` outside the setup header (zero-page document).
pub(super) mod offset {
    pub(in super::super) const ACPI_RSDP_ADDR: usize = 0x070;
    pub(in super::super) const EXT_RAMDISK_IMAGE: usize = 0x0c0;
    pub(in super::super) const EXT_RAMDISK_SIZE: usize = 0x0c4;
    pub(in super::super) const EXT_CMD_LINE_PTR: usize = 0x0c8;
    pub(in super::super) const E820_ENTRIES: usize = 0x1e8;
    pub(in super::super) const E820_TABLE: usize = 0x2d0;
}

/// Bytes of an E820 entry: base, length, type.
pub(super) const E820_ENTRY: usize = 20;
/// A boot loader without an assigned number.
const UNDEFINED_LOADER: u8 = 0xff;
/// `loadflags`: the protected-mode code is loaded at 1 MiB or above.
const LOADED_HIGH: u8 = 1 << 0;

/// `boot_params` under construction: 4096 bytes, all zero at first.
pub(super) struct ZeroPage<'p>(&'p mut [u8; 4096]);

impl<'p> ZeroPage<'p> {
    /// Starts with what the protocol demands of every loader: zeros, the kernel's own setup
    /// header, and who loads.
    pub(super) fn new(page: &'p mut [u8; 4096], kernel: &BzImage<'_>) -> Self {
        page.fill(0);
        for (to, from) in page.iter_mut().skip(header::SETUP_SECTS).zip(kernel.header) {
            *to = *from;
        }
        let mut page = Self(page);
        page.put(header::TYPE_OF_LOADER, [UNDEFINED_LOADER]);
        page.put(header::LOADFLAGS, [LOADED_HIGH]);
        // Fields a loader writes; what the file has there is nothing to hand on.
        page.put(header::RAMDISK_IMAGE, [0; 8]);
        page.put(header::SETUP_DATA, [0; 8]);
        page
    }

    /// Tells where the command line lies.
    pub(super) fn command_line(&mut self, at: Hpa) {
        self.put_split(header::CMD_LINE_PTR, offset::EXT_CMD_LINE_PTR, at.raw());
    }

    /// Tells where the initial RAM disk lies.
    pub(super) fn initrd(&mut self, range: ByteRange<Hpa>) {
        let (start, len) = (range.start().raw(), range.len());
        self.put_split(header::RAMDISK_IMAGE, offset::EXT_RAMDISK_IMAGE, start);
        self.put_split(header::RAMDISK_SIZE, offset::EXT_RAMDISK_SIZE, len);
    }

    /// Tells where ACPI's root pointer lies.
    pub(super) fn root_pointer(&mut self, at: Hpa) {
        self.put(offset::ACPI_RSDP_ADDR, at.raw().to_le_bytes());
    }

    /// Tells the machine's memory; what is Bouncer's is reserved.
    pub(super) fn memory(&mut self, map: &MemoryMap) {
        let mut entries = 0;
        for (number, region) in map.regions().iter().enumerate() {
            let at = offset::E820_TABLE + number * E820_ENTRY;
            self.put(at, region.range.start().raw().to_le_bytes());
            self.put(at + 8, region.range.len().to_le_bytes());
            self.put(at + 16, region.kind.e820().to_le_bytes());
            entries += 1;
        }
        self.put(offset::E820_ENTRIES, [entries]);
    }

    /// Stores bytes at an offset of ours; what would leave the page is not stored.
    pub(super) fn put<const N: usize>(&mut self, at: usize, bytes: [u8; N]) {
        if let Some(to) = self.0.get_mut(at..).and_then(|rest| rest.first_chunk_mut()) {
            *to = bytes;
        }
    }

    /// Stores the halves of a number in two places.
    fn put_split(&mut self, low_at: usize, high_at: usize, value: u64) {
        self.put(low_at, (value as u32).to_le_bytes());
        self.put(high_at, ((value >> 32) as u32).to_le_bytes());
    }
}

// The table has room for as many regions as a map can have.
const _: () = assert!(offset::E820_TABLE + crate::memory_map::MAX_REGIONS * E820_ENTRY <= 0xd00);

#[cfg(test)]
mod tests {
    //! The offsets against those generated from the kernel's own headers.

    use core::mem::offset_of;

    use linux_raw_sys::bootparam::{
        E820_MAX_ENTRIES_ZEROPAGE, LOADED_HIGH as LOADED_HIGH_BIT, XLF_CAN_BE_LOADED_ABOVE_4G,
        XLF_KERNEL_64, boot_e820_entry, boot_params, setup_header,
    };

    use super::*;
    use crate::memory_map::MAX_REGIONS;

    #[test]
    fn offsets_into_boot_params_are_the_kernels() {
        assert_eq!(size_of::<boot_params>(), 4096);
        assert_eq!(
            offset::ACPI_RSDP_ADDR,
            offset_of!(boot_params, acpi_rsdp_addr)
        );
        assert_eq!(
            offset::EXT_RAMDISK_IMAGE,
            offset_of!(boot_params, ext_ramdisk_image)
        );
        assert_eq!(
            offset::EXT_RAMDISK_SIZE,
            offset_of!(boot_params, ext_ramdisk_size)
        );
        assert_eq!(
            offset::EXT_CMD_LINE_PTR,
            offset_of!(boot_params, ext_cmd_line_ptr)
        );
        assert_eq!(offset::E820_ENTRIES, offset_of!(boot_params, e820_entries));
        assert_eq!(offset::E820_TABLE, offset_of!(boot_params, e820_table));
        assert_eq!(
            header::END_OF_ROOM,
            offset_of!(boot_params, edd_mbr_sig_buffer)
        );
    }

    #[test]
    fn offsets_into_the_setup_header_are_the_kernels() {
        let at = |field| offset_of!(boot_params, hdr) + field;
        assert_eq!(
            header::SETUP_SECTS,
            at(offset_of!(setup_header, setup_sects))
        );
        assert_eq!(header::SYSSIZE, at(offset_of!(setup_header, syssize)));
        assert_eq!(header::BOOT_FLAG, at(offset_of!(setup_header, boot_flag)));
        assert_eq!(header::JUMP, at(offset_of!(setup_header, jump)));
        assert_eq!(header::HEADER, at(offset_of!(setup_header, header)));
        assert_eq!(header::VERSION, at(offset_of!(setup_header, version)));
        assert_eq!(
            header::TYPE_OF_LOADER,
            at(offset_of!(setup_header, type_of_loader))
        );
        assert_eq!(header::LOADFLAGS, at(offset_of!(setup_header, loadflags)));
        assert_eq!(
            header::RAMDISK_IMAGE,
            at(offset_of!(setup_header, ramdisk_image))
        );
        assert_eq!(
            header::RAMDISK_SIZE,
            at(offset_of!(setup_header, ramdisk_size))
        );
        assert_eq!(
            header::CMD_LINE_PTR,
            at(offset_of!(setup_header, cmd_line_ptr))
        );
        assert_eq!(
            header::INITRD_ADDR_MAX,
            at(offset_of!(setup_header, initrd_addr_max))
        );
        assert_eq!(
            header::KERNEL_ALIGNMENT,
            at(offset_of!(setup_header, kernel_alignment))
        );
        assert_eq!(
            header::RELOCATABLE_KERNEL,
            at(offset_of!(setup_header, relocatable_kernel))
        );
        assert_eq!(header::XLOADFLAGS, at(offset_of!(setup_header, xloadflags)));
        assert_eq!(
            header::CMDLINE_SIZE,
            at(offset_of!(setup_header, cmdline_size))
        );
        assert_eq!(header::SETUP_DATA, at(offset_of!(setup_header, setup_data)));
        assert_eq!(
            header::PREF_ADDRESS,
            at(offset_of!(setup_header, pref_address))
        );
        assert_eq!(header::INIT_SIZE, at(offset_of!(setup_header, init_size)));
        assert_eq!(
            header::END_OF_2_12,
            at(offset_of!(setup_header, kernel_info_offset))
        );
    }

    #[test]
    fn sizes_and_flags_are_the_kernels() {
        assert_eq!(E820_ENTRY, size_of::<boot_e820_entry>());
        assert_eq!(MAX_REGIONS as u32, E820_MAX_ENTRIES_ZEROPAGE);
        assert_eq!(u32::from(LOADED_HIGH), LOADED_HIGH_BIT);
        assert_eq!((XLF_KERNEL_64, XLF_CAN_BE_LOADED_ABOVE_4G), (1, 2));
    }
}
