//! The remapping unit's tables of legacy mode, read as the VT-d specification (revision 4.1) has the unit read them:
//! root entry (9.1), context entry (9.3), second-stage paging entries (9.8).

use core::fmt;

/// A machine's memory, a page at a time.
pub trait Physical {
    /// The 512 words of the page at `address`, a multiple of 4096.
    ///
    /// # Errors
    /// Why there are none.
    fn page(&mut self, address: u64) -> Result<[u64; 512], String>;
}

/// The registers that say whether and from where tables are walked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unit {
    /// Global status (11.4.4.2).
    pub status: u32,
    /// Root table address (11.4.5).
    pub root: u64,
}

/// One page that a device reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// Where the device sees it.
    pub iova: u64,
    /// Where it is.
    pub address: u64,
    /// 4 KiB, 2 MiB or 1 GiB.
    pub bytes: u64,
    /// Whether the device may read it.
    pub is_readable: bool,
    /// Whether it may write it.
    pub is_writable: bool,
}

impl fmt::Display for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "iova {:#x}, {} KiB at {:#x}, {}{}",
            self.iova,
            self.bytes >> 10,
            self.address,
            if self.is_readable { "r" } else { "-" },
            if self.is_writable { "w" } else { "-" },
        )
    }
}

/// What a device reaches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// No memory: why.
    Nothing(&'static str),
    /// All memory: why.
    Everything(&'static str),
    /// These pages; none is possible.
    Pages(Vec<Page>),
}

impl Reach {
    /// The bytes that the device reaches, if they can be counted.
    #[must_use]
    pub fn bytes(&self) -> Option<u64> {
        match self {
            Self::Nothing(_) => Some(0),
            Self::Everything(_) => None,
            Self::Pages(pages) => Some(pages.iter().map(|page| page.bytes).sum()),
        }
    }
}

/// Global status, bit 31: translation is on.
const TRANSLATION: u32 = 1 << 31;
/// Bits 51:12 of every address in a table.
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
const PRESENT: u64 = 1;
const READ: u64 = 1;
const WRITE: u64 = 1 << 1;
/// Bit 7 of an entry that is not of the last level: it maps a page, not a table.
const LARGE: u64 = 1 << 7;
/// Tables of more pages than this are no tables: a walk must end.
const MOST: usize = 1 << 16;

/// Walks from the root table to every page of `requester`.
///
/// # Errors
/// If a table cannot be read, or holds what the specification reserves.
pub fn reach(unit: Unit, requester: u16, memory: &mut dyn Physical) -> Result<Reach, String> {
    if unit.status & TRANSLATION == 0 {
        return Ok(Reach::Everything("translation is off"));
    }
    // 11.4.5, translation table mode: 00 is legacy.
    match unit.root >> 10 & 0b11 {
        0b00 => {}
        0b11 => return Ok(Reach::Nothing("the unit aborts all requests")),
        mode => return Err(format!("translation table mode {mode:#b}, not legacy")),
    }
    let [bus, function] = [usize::from(requester >> 8), usize::from(requester & 0xff)];
    let roots = memory.page(unit.root & ADDRESS)?;
    let root = roots[2 * bus];
    if root & PRESENT == 0 {
        return Ok(Reach::Nothing("its bus has no root entry"));
    }
    let contexts = memory.page(root & ADDRESS)?;
    let [low, high] = [contexts[2 * function], contexts[2 * function + 1]];
    if low & PRESENT == 0 {
        return Ok(Reach::Nothing("it has no context entry"));
    }
    // 9.3, translation type: 00 by the tables; 01 as well, but addresses the device calls translated pass unseen.
    match low >> 2 & 0b11 {
        0b00 => {}
        0b01 => return Ok(Reach::Everything("it may translate by itself")),
        0b10 => return Ok(Reach::Everything("it passes through")),
        kind => return Err(format!("translation type {kind:#b}")),
    }
    // 9.3, address width: 1 is 39 bits in three levels, and so on.
    let levels = match high & 0b111 {
        width @ 1..=3 => width as u32 + 2,
        width => return Err(format!("address width {width}")),
    };
    let mut walk = Walk {
        memory,
        pages: Vec::new(),
        tables: 0,
    };
    walk.table(low & ADDRESS, levels, 0, READ | WRITE)?;
    Ok(Reach::Pages(walk.pages))
}

struct Walk<'a> {
    memory: &'a mut dyn Physical,
    pages: Vec<Page>,
    tables: usize,
}

impl Walk<'_> {
    /// Adds every page below the table at `address`, whose first entry is for `iova`; `rights` are those that all
    /// tables above give.
    fn table(&mut self, address: u64, level: u32, iova: u64, rights: u64) -> Result<(), String> {
        self.tables += 1;
        if self.tables > MOST {
            return Err(format!("more than {MOST} tables"));
        }
        let entries = self.memory.page(address)?;
        let shift = 12 + 9 * (level - 1);
        for (index, entry) in entries.into_iter().enumerate() {
            // 9.8: an entry that gives neither right is not present. Every level can take a right away.
            if entry & (READ | WRITE) == 0 {
                continue;
            }
            let rights = rights & entry;
            let iova = iova | (index as u64) << shift;
            let is_page = level == 1 || entry & LARGE != 0;
            if !is_page {
                self.table(entry & ADDRESS, level - 1, iova, rights)?;
            } else if level > 3 {
                return Err(format!("a page of level {level} at iova {iova:#x}"));
            } else if rights & (READ | WRITE) != 0 {
                self.pages.push(Page {
                    iova,
                    address: entry & ADDRESS & !((1 << shift) - 1),
                    bytes: 1 << shift,
                    is_readable: rights & READ != 0,
                    is_writable: rights & WRITE != 0,
                });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// Memory written by hand; what nobody wrote is not there.
    #[derive(Default)]
    struct Written(BTreeMap<u64, [u64; 512]>);

    impl Written {
        fn with(mut self, page: u64, entries: &[(usize, u64)]) -> Self {
            let words = self.0.entry(page).or_insert([0; 512]);
            for (index, value) in entries {
                words[*index] = *value;
            }
            self
        }
    }

    impl Physical for Written {
        fn page(&mut self, address: u64) -> Result<[u64; 512], String> {
            let page = self.0.get(&address).copied();
            page.ok_or_else(|| format!("nothing at {address:#x}"))
        }
    }

    const ON: Unit = Unit {
        status: TRANSLATION,
        root: 0x1000,
    };
    /// Bus 1, device 0, function 0; its root entry is the third word, its context entry the first two.
    const DRIVE: u16 = 0x0100;

    /// Tables in which `DRIVE` has four levels whose top is at 0x3000.
    fn tables(kind: u64, width: u64) -> Written {
        Written::default()
            .with(0x1000, &[(2, 0x2000 | PRESENT)])
            .with(0x2000, &[(0, 0x3000 | kind << 2 | PRESENT), (1, width)])
    }

    fn walk(mut memory: Written) -> Result<Reach, String> {
        reach(ON, DRIVE, &mut memory)
    }

    fn pages(memory: Written) -> Vec<Page> {
        match walk(memory) {
            Ok(Reach::Pages(pages)) => pages,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_device_without_entries_reaches_nothing() {
        let empty = Written::default().with(0x1000, &[]);
        assert_eq!(walk(empty), Ok(Reach::Nothing("its bus has no root entry")));
        let no_context = Written::default()
            .with(0x1000, &[(2, 0x2000 | PRESENT)])
            .with(0x2000, &[(2, 0x3000 | PRESENT), (3, 2)]);
        assert_eq!(
            walk(no_context),
            Ok(Reach::Nothing("it has no context entry"))
        );
        assert_eq!(pages(tables(0, 2).with(0x3000, &[])), []);
    }

    #[test]
    fn a_unit_that_does_not_translate_and_a_device_that_passes_through_reach_everything() {
        let off = Unit { status: 0, ..ON };
        let reach_of = |unit, mut memory: Written| reach(unit, DRIVE, &mut memory);
        assert_eq!(
            reach_of(off, Written::default()),
            Ok(Reach::Everything("translation is off"))
        );
        for kind in [1, 2] {
            let reach = walk(tables(kind, 2));
            assert!(matches!(reach, Ok(Reach::Everything(_))), "{reach:?}");
        }
    }

    #[test]
    fn a_page_is_found_through_four_levels_with_its_place_in_each() {
        let memory = tables(0, 2)
            .with(0x3000, &[(1, 0x4000 | READ | WRITE)])
            .with(0x4000, &[(2, 0x5000 | READ | WRITE)])
            .with(0x5000, &[(3, 0x6000 | READ | WRITE)])
            .with(0x6000, &[(4, 0xabc_d000 | READ)]);
        let page = Page {
            iova: 1 << 39 | 2 << 30 | 3 << 21 | 4 << 12,
            address: 0xabc_d000,
            bytes: 4096,
            is_readable: true,
            is_writable: false,
        };
        assert_eq!(pages(memory), [page]);
    }

    #[test]
    fn three_levels_begin_one_lower() {
        let memory = tables(0, 1)
            .with(0x3000, &[(511, 0x4000 | READ | WRITE)])
            .with(0x4000, &[(0, 0x4020_0000 | LARGE | WRITE)]);
        let [page] = pages(memory)[..] else {
            panic!("one page")
        };
        assert_eq!((page.iova, page.bytes), (511 << 30, 2 << 20));
        assert!(page.is_writable && !page.is_readable);
    }

    #[test]
    fn large_pages_are_as_large_as_their_level() {
        let memory = tables(0, 2)
            .with(0x3000, &[(0, 0x4000 | READ | WRITE)])
            .with(
                0x4000,
                &[
                    (0, 0x4000_0000 | LARGE | READ | WRITE),
                    (1, 0x5000 | READ | WRITE),
                ],
            )
            .with(0x5000, &[(1, 0x20_0000 | LARGE | READ | WRITE)]);
        let sizes: Vec<_> = pages(memory)
            .iter()
            .map(|page| (page.iova, page.address, page.bytes))
            .collect();
        assert_eq!(
            sizes,
            [
                (0, 0x4000_0000, 1 << 30),
                (1 << 30 | 1 << 21, 0x20_0000, 2 << 20)
            ]
        );
    }

    #[test]
    fn a_right_that_any_level_withholds_is_withheld() {
        let memory = tables(0, 2)
            .with(0x3000, &[(0, 0x4000 | READ | WRITE)])
            .with(0x4000, &[(0, 0x5000 | READ)])
            .with(0x5000, &[(0, 0x6000 | READ | WRITE)])
            .with(0x6000, &[(0, 0x7000 | READ | WRITE), (1, 0x8000 | WRITE)]);
        let [page] = pages(memory)[..] else {
            panic!("the second page is out of reach")
        };
        assert!(page.is_readable && !page.is_writable);
    }

    #[test]
    fn what_the_specification_reserves_is_told() {
        assert!(walk(tables(3, 2)).is_err(), "translation type 3");
        assert!(walk(tables(0, 0)).is_err(), "address width 0");
        let at_the_top = tables(0, 2).with(0x3000, &[(0, LARGE | READ)]);
        assert!(walk(at_the_top).is_err(), "a page of 512 GiB");
        let scalable = Unit {
            root: 0x1000 | 1 << 10,
            ..ON
        };
        assert!(reach(scalable, DRIVE, &mut Written::default()).is_err());
    }

    #[test]
    fn tables_in_a_ring_are_told() {
        let memory = tables(0, 2).with(0x3000, &[(0, 0x4000 | READ)]);
        // Every entry of the second table leads to a table that leads to itself.
        let all: Vec<_> = (0..512).map(|index| (index, 0x4000 | READ)).collect();
        assert!(walk(memory.with(0x4000, &all)).is_err());
    }
}
