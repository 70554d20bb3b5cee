//! The plainest format: for tests of the walker alone.

use memory::{Hpa, Iova};

use crate::{Entry, Format, Geometry, Level, PageSize};

/// Bit 0: table, bit 1: leaf, bits 2..=4: attributes.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Sample(pub(crate) Geometry);

/// All the shapes a format may have.
pub(crate) fn shapes() -> impl Iterator<Item = Sample> {
    let sizes = [PageSize::KiB4, PageSize::MiB2, PageSize::GiB1];
    let widths = [39, 48, 57, 47];
    widths.into_iter().flat_map(move |width| {
        sizes
            .into_iter()
            .map(move |largest| Sample(Geometry::new(width, 52, largest)))
    })
}

impl Format for Sample {
    type Input = Iova;
    type Attributes = u8;

    fn geometry(&self) -> Geometry {
        self.0
    }

    fn table(&self, table: Hpa) -> u64 {
        table.raw() | 1
    }

    fn leaf(&self, output: Hpa, size: PageSize, attributes: u8) -> u64 {
        assert!(self.0.has_page(size.level(), output));
        output.raw() | u64::from(attributes) << 2 | 2
    }

    fn decode(&self, word: u64, level: Level) -> Entry<u8> {
        let address = Hpa::new(word & !0xfff);
        match word & 3 {
            1 if level != Level::LOWEST => Entry::Table(address),
            2 if self.0.has_page(level, address) => Entry::Leaf(address, (word >> 2 & 7) as u8),
            _ => Entry::Absent,
        }
    }
}
