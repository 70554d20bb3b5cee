//! What the screen shows when the program is started.

use crate::bytes::{array, u32_at, u64_at};

/// The screen (Multiboot2 2.0, 3.6.12).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Framebuffer {
    /// Where its memory lies.
    pub address: u64,
    /// Bytes of a line.
    pub pitch: u32,
    /// Pixels of a line; characters of a line of text.
    pub width: u32,
    /// Lines of pixels, or of text.
    pub height: u32,
    /// Bits of a pixel.
    pub bits_per_pixel: u8,
    /// What a pixel is.
    pub format: PixelFormat,
}

/// What a pixel is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PixelFormat {
    /// A number in a palette.
    Indexed,
    /// Its colour.
    Direct {
        /// Where red lies in a pixel.
        red: Channel,
        /// Where green lies in a pixel.
        green: Channel,
        /// Where blue lies in a pixel.
        blue: Channel,
    },
    /// A character and its attribute, as in VGA's text mode.
    Text,
    /// Something else.
    Unknown(u8),
}

/// One colour's bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Channel {
    /// The lowest bit.
    pub position: u8,
    /// How many bits.
    pub size: u8,
}

impl Framebuffer {
    /// Bytes every framebuffer tag has behind type and size.
    pub(super) const LEN: usize = 24;

    /// Decodes the content of a tag; `None` if colours are announced and not told.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let [bits_per_pixel, format] = array(bytes, 20)?;
        Some(Self {
            address: u64_at(bytes, 0)?,
            pitch: u32_at(bytes, 8)?,
            width: u32_at(bytes, 12)?,
            height: u32_at(bytes, 16)?,
            bits_per_pixel,
            format: match format {
                0 => PixelFormat::Indexed,
                1 => direct(array(bytes, Self::LEN)?),
                2 => PixelFormat::Text,
                other => PixelFormat::Unknown(other),
            },
        })
    }
}

fn direct(colours: [u8; 6]) -> PixelFormat {
    let channel = |position, size| Channel { position, size };
    let [red_at, red, green_at, green, blue_at, blue] = colours;
    PixelFormat::Direct {
        red: channel(red_at, red),
        green: channel(green_at, green),
        blue: channel(blue_at, blue),
    }
}
