//! The machine as the hypervisor's own tables show it: everything one to one, memory cached, and nothing
//! else.
//!
//! Owns the choice of the cache's entry. What is executable or not there at all is the caller's, on top.

use memory::{ByteRange, Frames, Hpa, Hva};
use paging::{Draft, PageSize, Refused};

use crate::{Access, HostAttributes, HostPaging, PatIndex};

/// Maps all addresses of `width` bits, readable and writable: `memory` write-back, whatever else there may
/// be (registers of interrupt controllers, of remapping units, of devices) uncached, whatever MTRRs say.
///
/// Memory counts in pages of 2 MiB, so that few tables are split: no device decodes so near to it.
pub fn map_machine(
    draft: &mut Draft<HostPaging>,
    frames: &mut impl Frames,
    width: u32,
    memory: impl IntoIterator<Item = ByteRange<Hpa>>,
) -> Result<(), Refused<Hva>> {
    let within = PageSize::MiB2.bytes() - 1;
    let last = (1_u64 << width) - 1;
    let mut map = |start, last, cache| match ByteRange::inclusive(Hva::new(start), Hva::new(last)) {
        Some(range) => {
            let attributes = HostAttributes {
                access: Access::READ_WRITE,
                cache,
                global: false,
            };
            draft.map(frames, range, Hpa::new(start), attributes)
        }
        // Memory beyond the last address.
        None => Ok(()),
    };
    map(0, last, PatIndex::UNCACHED)?;
    memory.into_iter().try_for_each(|piece| {
        let (start, end) = (piece.start().raw() & !within, piece.last().raw() | within);
        map(start, end.min(last), PatIndex::WRITE_BACK)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Depth;
    use kit::RecordingFrames;

    const WIDTH: u32 = 40;

    fn piece(start: u64, len: u64) -> ByteRange<Hpa> {
        ByteRange::new(Hpa::new(start), len).unwrap()
    }

    fn cached_at(memory: &[ByteRange<Hpa>], at: u64) -> PatIndex {
        let mut frames = RecordingFrames::new();
        let format = HostPaging::new(Depth::Four, WIDTH, PageSize::GiB1);
        let mut draft = Draft::new(format, &mut frames).unwrap();
        map_machine(&mut draft, &mut frames, WIDTH, memory.iter().copied()).unwrap();
        let leaf = draft.walk(&frames, Hva::new(at)).unwrap();
        assert_eq!(leaf.output, Hpa::new(at));
        leaf.attributes.cache
    }

    #[test]
    fn registers_are_not_cached_and_memory_is() {
        let memory = [
            piece(0x1000, 0x9_e000),
            piece(0x10_0000, 0x7fed_0000),
            piece(1 << 32, 1 << 32),
        ];
        // Configuration space, an I/O APIC, a remapping unit, a local APIC, a 64-bit window.
        for register in [
            0xb000_0000,
            0xfec0_0000,
            0xfed9_0000,
            0xfee0_0000,
            0x80_0000_0000,
        ] {
            assert_eq!(
                cached_at(&memory, register),
                PatIndex::UNCACHED,
                "{register:#x}"
            );
        }
        for place in [0x8000, 0x7fe0_0000, 0x7ffc_f000, 1 << 32, 0x1_ffff_f000] {
            assert_eq!(
                cached_at(&memory, place),
                PatIndex::WRITE_BACK,
                "{place:#x}"
            );
        }
    }

    #[test]
    fn memory_beyond_the_last_address_is_left_out() {
        let memory = [piece((1 << WIDTH) - 0x1000, 0x2000), piece(1 << 41, 0x1000)];
        assert_eq!(
            cached_at(&memory, (1 << WIDTH) - 0x1000),
            PatIndex::WRITE_BACK
        );
        assert_eq!(cached_at(&memory, 0), PatIndex::UNCACHED);
    }
}
