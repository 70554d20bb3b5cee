//! What the kernel is told about the screen.

use crate::multiboot2::{Channel, Framebuffer, Information, PixelFormat};

use super::zero_page::ZeroPage;

/// The screen the kernel starts with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Screen {
    /// Nothing is known: the kernel has its serial line alone.
    Dark,
    /// VGA's text mode.
    Text {
        /// Characters of a line.
        columns: u8,
        /// Lines.
        lines: u8,
    },
    /// Pixels with their colours.
    Pixels(Framebuffer),
}

/// `orig_video_isVGA`: VGA text, and a linear framebuffer set by a boot loader.
const VIDEO_TYPE_VGAC: u8 = 0x01;
const VIDEO_TYPE_VLFB: u8 = 0x23;
/// `capabilities`: `ext_lfb_base` holds the high half of the address.
const VIDEO_CAPABILITY_64BIT_BASE: u32 = 1 << 1;
/// The unit of `lfb_size` for a linear framebuffer set by a boot loader.
const SIZE_UNIT: u64 = 0x1_0000;

/// Offsets into `screen_info`, which begins `boot_params`.
mod offset {
    pub(super) const MODE: usize = 0x06;
    pub(super) const COLUMNS: usize = 0x07;
    pub(super) const LINES: usize = 0x0e;
    pub(super) const IS_VGA: usize = 0x0f;
    pub(super) const POINTS: usize = 0x10;
    pub(super) const WIDTH: usize = 0x12;
    pub(super) const HEIGHT: usize = 0x14;
    pub(super) const DEPTH: usize = 0x16;
    pub(super) const BASE: usize = 0x18;
    pub(super) const SIZE: usize = 0x1c;
    pub(super) const LINE_LENGTH: usize = 0x24;
    /// Size and position of red, green, blue and the rest.
    pub(super) const CHANNELS: usize = 0x26;
    pub(super) const CAPABILITIES: usize = 0x36;
    pub(super) const EXT_BASE: usize = 0x3a;
}

impl Screen {
    /// The screen as the boot loader tells it. A BIOS machine whose boot loader says nothing
    /// shows 80 by 25 characters; an EFI machine shows nothing that is known.
    pub fn of(information: &Information<'_>) -> Self {
        match information.framebuffer {
            Some(framebuffer) => Self::showing(framebuffer),
            None if information.efi_system_table.is_some() => Self::Dark,
            None => Self::Text {
                columns: 80,
                lines: 25,
            },
        }
    }

    fn showing(framebuffer: Framebuffer) -> Self {
        let characters = (
            u8::try_from(framebuffer.width),
            u8::try_from(framebuffer.height),
        );
        match (framebuffer.format, characters) {
            (PixelFormat::Text, (Ok(columns), Ok(lines))) => Self::Text { columns, lines },
            (PixelFormat::Direct { .. }, _) => Self::Pixels(framebuffer),
            _ => Self::Dark,
        }
    }

    /// Writes `screen_info`. A framebuffer its fields cannot hold is left out.
    pub(super) fn describe(&self, page: &mut ZeroPage<'_>) {
        match self {
            Self::Dark => {}
            Self::Text { columns, lines } => {
                // Mode 3 is 80 by 25 in colour; characters are 16 points high.
                page.put(offset::MODE, [3]);
                page.put(offset::COLUMNS, [*columns]);
                page.put(offset::LINES, [*lines]);
                page.put(offset::IS_VGA, [VIDEO_TYPE_VGAC]);
                page.put(offset::POINTS, 16_u16.to_le_bytes());
            }
            Self::Pixels(framebuffer) => {
                let _ = describe_pixels(framebuffer, page);
            }
        }
    }
}

/// `None`, with nothing written, if a field cannot hold its value.
fn describe_pixels(framebuffer: &Framebuffer, page: &mut ZeroPage<'_>) -> Option<()> {
    let PixelFormat::Direct { red, green, blue } = framebuffer.format else {
        return None;
    };
    let width = u16::try_from(framebuffer.width).ok()?;
    let height = u16::try_from(framebuffer.height).ok()?;
    let line_length = u16::try_from(framebuffer.pitch).ok()?;
    let size = u64::from(framebuffer.pitch) * u64::from(framebuffer.height);
    let size = u32::try_from(size.div_ceil(SIZE_UNIT)).ok()?;
    let used = [red, green, blue]
        .iter()
        .fold(0_u8, |used, channel| used.saturating_add(channel.size));
    let rest = Channel {
        size: framebuffer.bits_per_pixel.saturating_sub(used),
        position: used,
    };
    let low = framebuffer.address as u32;
    let high = (framebuffer.address >> 32) as u32;

    page.put(offset::IS_VGA, [VIDEO_TYPE_VLFB]);
    page.put(offset::WIDTH, width.to_le_bytes());
    page.put(offset::HEIGHT, height.to_le_bytes());
    page.put(
        offset::DEPTH,
        u16::from(framebuffer.bits_per_pixel).to_le_bytes(),
    );
    page.put(offset::BASE, low.to_le_bytes());
    page.put(offset::EXT_BASE, high.to_le_bytes());
    if high != 0 {
        page.put(
            offset::CAPABILITIES,
            VIDEO_CAPABILITY_64BIT_BASE.to_le_bytes(),
        );
    }
    page.put(offset::SIZE, size.to_le_bytes());
    page.put(offset::LINE_LENGTH, line_length.to_le_bytes());
    for (number, channel) in [red, green, blue, rest].iter().enumerate() {
        page.put(
            offset::CHANNELS + number * 2,
            [channel.size, channel.position],
        );
    }
    Some(())
}

#[cfg(test)]
mod tests {
    extern crate std;

    use core::mem::offset_of;
    use std::vec::Vec;

    use linux_raw_sys::bootparam::{boot_params, screen_info};

    use super::*;
    use crate::linux::{BzImage, sample};
    use crate::multiboot2::sample as multiboot;

    /// The zero page of a kernel shown this screen.
    fn page(screen: Screen) -> [u8; 4096] {
        let mut page = [0xff; 4096];
        let file = sample::kernel();
        let image = BzImage::parse(&file).unwrap();
        screen.describe(&mut ZeroPage::new(&mut page, &image));
        page
    }

    fn told(extra: (u32, Vec<u8>)) -> Screen {
        let mut tags = multiboot::grub();
        tags.push(extra);
        let bytes = multiboot::information(&tags);
        Screen::of(&Information::parse(&bytes).unwrap())
    }

    #[test]
    fn offsets_into_screen_info_are_the_kernels() {
        assert_eq!(offset_of!(boot_params, screen_info), 0);
        assert_eq!(offset::MODE, offset_of!(screen_info, orig_video_mode));
        assert_eq!(offset::COLUMNS, offset_of!(screen_info, orig_video_cols));
        assert_eq!(offset::LINES, offset_of!(screen_info, orig_video_lines));
        assert_eq!(offset::IS_VGA, offset_of!(screen_info, orig_video_isVGA));
        assert_eq!(offset::POINTS, offset_of!(screen_info, orig_video_points));
        assert_eq!(offset::WIDTH, offset_of!(screen_info, lfb_width));
        assert_eq!(offset::HEIGHT, offset_of!(screen_info, lfb_height));
        assert_eq!(offset::DEPTH, offset_of!(screen_info, lfb_depth));
        assert_eq!(offset::BASE, offset_of!(screen_info, lfb_base));
        assert_eq!(offset::SIZE, offset_of!(screen_info, lfb_size));
        assert_eq!(offset::LINE_LENGTH, offset_of!(screen_info, lfb_linelength));
        assert_eq!(offset::CHANNELS, offset_of!(screen_info, red_size));
        assert_eq!(offset::CAPABILITIES, offset_of!(screen_info, capabilities));
        assert_eq!(offset::EXT_BASE, offset_of!(screen_info, ext_lfb_base));
    }

    #[test]
    fn a_bios_machine_shows_80_by_25_characters() {
        let bytes = multiboot::information(&multiboot::grub());
        let screen = Screen::of(&Information::parse(&bytes).unwrap());
        let page = page(screen);
        assert_eq!(
            page[..16],
            [0, 0, 0, 0, 0, 0, 3, 80, 0, 0, 0, 0, 0, 0, 25, 1]
        );
    }

    #[test]
    fn an_efi_machine_without_a_framebuffer_is_dark() {
        let screen = told((12, Vec::from([0; 8])));
        assert_eq!(screen, Screen::Dark);
        assert_eq!(page(screen)[..64], [0; 64]);
    }

    #[test]
    fn a_framebuffer_is_told_with_both_halves_of_its_address() {
        let page = page(told((8, multiboot::framebuffer())));
        assert_eq!(page[offset::IS_VGA], 0x23);
        assert_eq!(page[offset::WIDTH..offset::BASE], [0, 4, 0, 3, 32, 0]);
        assert_eq!(page[offset::BASE..offset::SIZE], [0; 4]);
        assert_eq!(page[offset::EXT_BASE..][..4], [8, 0, 0, 0]);
        assert_eq!(page[offset::CAPABILITIES], 2);
        assert_eq!(page[offset::SIZE..][..4], [48, 0, 0, 0]);
        assert_eq!(page[offset::LINE_LENGTH..][..2], [0, 16]);
        assert_eq!(page[offset::CHANNELS..][..8], [8, 16, 8, 8, 8, 0, 8, 24]);
    }

    #[test]
    fn a_framebuffer_too_large_for_the_fields_is_left_out() {
        let mut content = multiboot::framebuffer();
        content[12..16].copy_from_slice(&0x1_0000_u32.to_le_bytes());
        assert_eq!(page(told((8, content)))[..64], [0; 64]);
    }
}
