//! What a loader copies where to start a kernel.

use acpi::Rsdp;
use memory::{ByteRange, Gpa, Hpa, PAGE_SIZE};

use super::launch::{self, LAUNCH_LEN};
use super::zero_page::ZeroPage;
use super::{BzImage, LinuxError, Screen};
use crate::handoff::GuestStart;
use crate::memory_map::{MemoryMap, Region, RegionKind, Wanted};

/// What the page tables the kernel starts with reach.
const REACH: u64 = 1 << 32;
/// Below are the vectors and data of real mode and the stubs of boot loaders.
const LOWEST_LAUNCH: u64 = 0x1_0000;
/// Below is the legacy area, which kernels are not loaded into.
const LOWEST_KERNEL: u64 = 0x10_0000;
/// Bytes a page of text has room for, its final zero left out.
const LONGEST_TEXT: u64 = 4095;

/// What a plan is made of.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    /// The kernel's file.
    pub kernel: &'a [u8],
    /// The kernel's command line.
    pub command_line: &'a [u8],
    /// Where the initial RAM disk lies, and stays.
    pub initrd: Option<ByteRange<Hpa>>,
    /// ACPI's root pointer, to be copied where the kernel leaves it alone.
    pub root_pointer: &'a [u8],
    /// What the screen shows.
    pub screen: Screen,
    /// The machine's memory, Bouncer's own already carved out of it.
    pub map: &'a MemoryMap,
    /// Memory still needed: every module, the loader itself, the boot loader's information and
    /// the trampoline page.
    pub avoid: &'a [ByteRange<Hpa>],
}

/// Where everything goes. A loader copies [`Plan::payload`] to [`Plan::kernel`], lets
/// [`Plan::fill`] write the pages at [`Plan::launch`], and puts the rest into the hand-over.
#[derive(Clone, Debug)]
pub struct Plan<'a> {
    inputs: Inputs<'a>,
    image: BzImage<'a>,
    rsdp: Rsdp,
    kernel: ByteRange<Hpa>,
    launch: ByteRange<Hpa>,
    map: MemoryMap,
}

impl<'a> Plan<'a> {
    /// Checks everything that is handed over and finds room for what is not there yet.
    ///
    /// # Errors
    /// [`LinuxError`], in words for the console.
    pub fn new(inputs: Inputs<'a>) -> Result<Self, LinuxError> {
        let image = BzImage::parse(inputs.kernel)?;
        check_command_line(inputs.command_line, &image)?;
        // The kernel follows the pointer long before it checks anything.
        let rsdp = Rsdp::parse(inputs.root_pointer, Gpa::new(0))
            .map_err(|error| LinuxError::RootPointer(error.fault))?;
        if let Some(initrd) = &inputs.initrd {
            check_initrd(initrd, inputs.map, &image)?;
        }
        let taken = inputs.avoid.iter().copied().chain(inputs.initrd);
        let kernel = place_kernel(inputs.map, &image, taken.clone())?;
        let launch = place_launch(inputs.map, taken.chain([kernel]))?;
        let kept = launch::kept_page(launch.start()).ok_or(LinuxError::NoRoomForLaunch)?;
        let map = inputs.map.overlaid(Region {
            range: kept,
            kind: RegionKind::ACPI_RECLAIMABLE,
        })?;
        Ok(Self {
            inputs,
            image,
            rsdp,
            kernel,
            launch,
            map,
        })
    }

    /// The kernel's bytes, to be copied to the start of [`Self::kernel`].
    pub fn payload(&self) -> &'a [u8] {
        self.image.payload
    }

    /// The memory the kernel starts in. It shares no byte with the file, if the file's memory
    /// was among those to avoid.
    pub fn kernel(&self) -> ByteRange<Hpa> {
        self.kernel
    }

    /// The memory of the pages the kernel starts with, [`LAUNCH_LEN`] bytes.
    pub fn launch(&self) -> ByteRange<Hpa> {
        self.launch
    }

    /// The machine's memory as the guest will see it: the page of ACPI's root pointer is
    /// carved out, too.
    pub fn map(&self) -> &MemoryMap {
        &self.map
    }

    /// Where ACPI's root pointer will lie.
    pub fn root_pointer(&self) -> Hpa {
        launch::page_at(self.launch.start(), launch::ROOT_POINTER)
    }

    /// The rest of that page, which the kernel keeps for ACPI tables.
    pub fn tables(&self) -> Option<ByteRange<Hpa>> {
        /// Behind the root pointer, which has 36 bytes.
        const BEHIND: u64 = 64;
        let at = self.root_pointer().checked_add(BEHIND)?;
        ByteRange::new(at, PAGE_SIZE - BEHIND)
    }

    /// The state the kernel's first instruction must find, in 64-bit mode with paging on and
    /// interrupts off.
    pub fn start(&self) -> GuestStart {
        let entry = self.kernel.start().raw() + BzImage::entry_offset();
        launch::start(self.launch.start(), Hpa::new(entry))
    }

    /// Writes every byte of the pages that will lie at [`Self::launch`].
    pub fn fill(&self, pages: &mut [u8; LAUNCH_LEN]) {
        let base = self.launch.start();
        pages.fill(0);
        launch::fill_tables(pages, base);
        copy(
            launch::page(pages, launch::COMMAND_LINE),
            self.inputs.command_line,
        );
        copy(launch::page(pages, launch::ROOT_POINTER), self.rsdp.bytes());

        let page = launch::page(pages, launch::ZERO_PAGE);
        let mut zero_page = ZeroPage::new(page, &self.image);
        self.inputs.screen.describe(&mut zero_page);
        zero_page.command_line(launch::page_at(base, launch::COMMAND_LINE));
        if let Some(initrd) = self.inputs.initrd {
            zero_page.initrd(initrd);
        }
        zero_page.root_pointer(self.root_pointer());
        zero_page.memory(&self.map);
    }
}

fn check_command_line(line: &[u8], image: &BzImage<'_>) -> Result<(), LinuxError> {
    let len = line.len() as u64;
    let most = image.command_line_max.min(LONGEST_TEXT);
    if len > most {
        return Err(LinuxError::CommandLineTooLong { len, most });
    }
    Ok(())
}

fn check_initrd(
    initrd: &ByteRange<Hpa>,
    map: &MemoryMap,
    image: &BzImage<'_>,
) -> Result<(), LinuxError> {
    if initrd.last().raw() > image.initrd_last {
        return Err(LinuxError::InitrdTooHigh {
            last: initrd.last(),
            most: image.initrd_last,
        });
    }
    // The kernel gives the memory back page by page, and assumes that only the end may lie
    // inside one.
    if initrd.start().page_offset() != 0 {
        return Err(LinuxError::InitrdUnaligned(initrd.start()));
    }
    if !map.is_usable(initrd) {
        return Err(LinuxError::InitrdNotUsable(initrd.start()));
    }
    Ok(())
}

/// Where the kernel likes to be if that is free, otherwise the lowest room above: "a relocatable
/// kernel will move itself to this address if it loaded below this address", over whatever lies
/// there.
fn place_kernel(
    map: &MemoryMap,
    image: &BzImage<'_>,
    taken: impl Iterator<Item = ByteRange<Hpa>> + Clone,
) -> Result<ByteRange<Hpa>, LinuxError> {
    let from = image.preferred.max(LOWEST_KERNEL);
    let preferred = ByteRange::new(Hpa::new(image.preferred), image.init_size).filter(|range| {
        range.start().raw() == from
            && range.last().raw() < REACH
            && map.is_usable(range)
            && !taken.clone().any(|other| other.overlaps(range))
    });
    let wanted = |within| Wanted {
        len: image.init_size,
        align: image.alignment,
        within,
    };
    preferred
        .or_else(|| map.lowest(wanted(below_reach(from)?), taken.clone()))
        .ok_or(LinuxError::NoRoomForKernel {
            len: image.init_size,
            align: image.alignment,
            from,
        })
}

fn place_launch(
    map: &MemoryMap,
    taken: impl Iterator<Item = ByteRange<Hpa>> + Clone,
) -> Result<ByteRange<Hpa>, LinuxError> {
    below_reach(LOWEST_LAUNCH)
        .and_then(|within| {
            let wanted = Wanted {
                len: LAUNCH_LEN as u64,
                align: memory::PAGE_SIZE,
                within,
            };
            map.lowest(wanted, taken)
        })
        .ok_or(LinuxError::NoRoomForLaunch)
}

fn below_reach(from: u64) -> Option<ByteRange<Hpa>> {
    ByteRange::inclusive(Hpa::new(from), Hpa::new(REACH - 1))
}

fn copy(page: &mut [u8; 4096], text: &[u8]) {
    for (to, from) in page.iter_mut().zip(text) {
        *to = *from;
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::boxed::Box;
    use std::string::ToString;
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;
    use crate::bytes::u64_at;
    use crate::linux::bzimage::offset as header;
    use crate::linux::sample::{self, INIT_SIZE, PREFERRED};
    use crate::linux::zero_page::offset;
    use crate::multiboot2::sample::ROOT_POINTER;

    fn range(start: u64, len: u64) -> ByteRange<Hpa> {
        ByteRange::new(Hpa::new(start), len).unwrap()
    }

    fn region(start: u64, len: u64, kind: RegionKind) -> Region {
        Region {
            range: range(start, len),
            kind,
        }
    }

    /// A machine of 128 MiB whose last 2 MiB are Bouncer's.
    fn machine() -> MemoryMap {
        MemoryMap::normalise(
            [
                region(0, 0x9_fc00, RegionKind::USABLE),
                region(0xf_0000, 0x1_0000, RegionKind::RESERVED),
                region(0x10_0000, 0x7d0_0000, RegionKind::USABLE),
                region(0x7e0_0000, 0x20_0000, RegionKind::BOUNCER),
            ]
            .into_iter(),
        )
        .unwrap()
    }

    fn inputs<'a>(kernel: &'a [u8], map: &'a MemoryMap) -> Inputs<'a> {
        Inputs {
            kernel,
            command_line: b"console=ttyS0",
            initrd: Some(range(0x700_0000, 0x12345)),
            root_pointer: ROOT_POINTER,
            screen: Screen::Dark,
            map,
            avoid: &[],
        }
    }

    /// What becomes of the inputs after `change`.
    fn planned<T>(
        change: impl FnOnce(&mut Inputs<'_>),
        look: impl FnOnce(Result<Plan<'_>, LinuxError>) -> T,
    ) -> T {
        let (kernel, map) = (sample::kernel(), machine());
        let mut inputs = inputs(&kernel, &map);
        change(&mut inputs);
        look(Plan::new(inputs))
    }

    fn filled(plan: &Plan<'_>) -> Box<[u8; LAUNCH_LEN]> {
        let mut pages = Box::new([0xee; LAUNCH_LEN]);
        plan.fill(&mut pages);
        pages
    }

    fn u32_of(bytes: &[u8], at: usize) -> u64 {
        u64::from(crate::bytes::u32_at(bytes, at).unwrap())
    }

    /// The physical address the page tables in `pages` lead `address` to.
    fn walk(pages: &[u8], base: u64, cr3: u64, address: u64) -> Option<u64> {
        let entry = |table: u64, index: u64| {
            let at = table.checked_sub(base)? + index * 8;
            u64_at(pages, at as usize).filter(|entry| entry & 1 == 1)
        };
        let next = |entry: u64| entry & 0x000f_ffff_ffff_f000;
        let level_4 = entry(cr3, address >> 39 & 511)?;
        let level_3 = entry(next(level_4), address >> 30 & 511)?;
        let level_2 = entry(next(level_3), address >> 21 & 511)?;
        assert_eq!(level_2 & 0x80, 0x80, "a large page");
        Some((level_2 & 0x000f_ffff_ffe0_0000) + address % 0x20_0000)
    }

    #[test]
    fn the_kernel_goes_where_it_likes_to_be() {
        planned(
            |_| {},
            |plan| {
                let plan = plan.unwrap();
                assert_eq!(plan.kernel(), range(PREFERRED, INIT_SIZE));
                assert_eq!(plan.start().rip, PREFERRED + 0x200);
                assert_eq!(plan.payload().len(), sample::PAYLOAD);
            },
        );
    }

    #[test]
    fn a_kernel_whose_place_is_taken_goes_above_it() {
        let taken = [range(PREFERRED + INIT_SIZE - 1, 1)];
        let (kernel, map) = (sample::kernel(), machine());
        let plan = Plan::new(Inputs {
            avoid: &taken,
            ..inputs(&kernel, &map)
        });
        // "A relocatable kernel will move itself to this address if it loaded below this
        // address."
        assert_eq!(
            plan.unwrap().kernel(),
            range(PREFERRED + INIT_SIZE, INIT_SIZE)
        );
    }

    #[test]
    fn the_start_pages_lie_in_low_free_memory() {
        planned(
            |_| {},
            |plan| {
                assert_eq!(plan.unwrap().launch(), range(0x1_0000, LAUNCH_LEN as u64));
            },
        );
    }

    #[test]
    fn nothing_lies_over_what_must_be_avoided() {
        let avoid = [range(0x1_0000, 0x8_0000), range(PREFERRED, 1)];
        let (kernel, map) = (sample::kernel(), machine());
        let plan = Plan::new(Inputs {
            avoid: &avoid,
            ..inputs(&kernel, &map)
        })
        .unwrap();
        assert_eq!(plan.launch().start(), Hpa::new(0x9_0000));
        assert!(!avoid.iter().any(|taken| taken.overlaps(&plan.kernel())));
    }

    #[test]
    fn the_page_tables_map_the_low_4_gib_to_itself() {
        planned(
            |_| {},
            |plan| {
                let plan = plan.unwrap();
                let (pages, start) = (filled(&plan), plan.start());
                let base = plan.launch().start().raw();
                for address in [
                    0,
                    0x1f_ffff,
                    0x20_0000,
                    0x3fff_ffff,
                    0x4000_0000,
                    0xffff_ffff,
                ] {
                    assert_eq!(walk(&pages[..], base, start.cr3, address), Some(address));
                }
                assert_eq!(walk(&pages[..], base, start.cr3, 1 << 32), None);
            },
        );
    }

    #[test]
    fn the_descriptors_are_flat_and_at_the_selectors_of_the_protocol() {
        planned(
            |_| {},
            |plan| {
                let plan = plan.unwrap();
                let (pages, start) = (filled(&plan), plan.start());
                let gdt = (start.gdt.base - plan.launch().start().raw()) as usize;
                assert_eq!(u64_at(&pages[..], gdt + 0x10), Some(0x00af_9b00_0000_ffff));
                assert_eq!(u64_at(&pages[..], gdt + 0x18), Some(0x00cf_9300_0000_ffff));
                assert_eq!(start.gdt.limit, 0x1f);
            },
        );
    }

    #[test]
    fn the_zero_page_tells_command_line_initrd_and_acpi() {
        planned(
            |_| {},
            |plan| {
                let plan = plan.unwrap();
                let pages = filled(&plan);
                let base = plan.launch().start().raw();
                let text = u32_of(&pages[..], header::CMD_LINE_PTR) - base;
                assert_eq!(pages[text as usize..][..14], *b"console=ttyS0\0");
                assert_eq!(u32_of(&pages[..], header::RAMDISK_IMAGE), 0x700_0000);
                assert_eq!(u32_of(&pages[..], header::RAMDISK_SIZE), 0x12345);
                let acpi = u64_at(&pages[..], offset::ACPI_RSDP_ADDR).unwrap();
                assert_eq!(acpi, plan.root_pointer().raw());
                assert_eq!(pages[(acpi - base) as usize..][..8], *b"RSD PTR ");
                assert_eq!(pages[header::TYPE_OF_LOADER], 0xff);
                assert_eq!(pages[header::LOADFLAGS] & 1, 1);
            },
        );
    }

    #[test]
    fn what_a_file_says_of_initrd_and_further_data_is_not_handed_on() {
        let mut kernel = sample::kernel();
        kernel[header::RAMDISK_IMAGE..][..8].fill(7);
        kernel[header::SETUP_DATA..][..8].fill(7);
        let map = machine();
        let plan = Plan::new(Inputs {
            initrd: None,
            ..inputs(&kernel, &map)
        })
        .unwrap();
        let pages = filled(&plan);
        assert_eq!(pages[header::RAMDISK_IMAGE..][..8], [0; 8]);
        assert_eq!(pages[header::SETUP_DATA..][..8], [0; 8]);
    }

    #[test]
    fn an_initrd_above_4_gib_is_told_in_two_halves() {
        let map = machine()
            .overlaid(region(1 << 32, 1 << 30, RegionKind::USABLE))
            .unwrap();
        let kernel = sample::kernel();
        let plan = Plan::new(Inputs {
            initrd: Some(range((1 << 32) + 0x5000, 0x1000)),
            ..inputs(&kernel, &map)
        })
        .unwrap();
        let pages = filled(&plan);
        assert_eq!(u32_of(&pages[..], header::RAMDISK_IMAGE), 0x5000);
        assert_eq!(u32_of(&pages[..], offset::EXT_RAMDISK_IMAGE), 1);
    }

    #[test]
    fn the_guests_map_reserves_bouncers_memory_and_keeps_the_root_pointer() {
        planned(
            |_| {},
            |plan| {
                let pages = filled(&plan.unwrap());
                let entries: Vec<(u64, u64, u64)> = (0..usize::from(pages[offset::E820_ENTRIES]))
                    .map(|number| offset::E820_TABLE + number * 20)
                    .map(|at| {
                        let word = |at| u64_at(&pages[..], at).unwrap();
                        (word(at), word(at + 8), u32_of(&pages[..], at + 16))
                    })
                    .collect();
                assert_eq!(
                    entries,
                    [
                        (0, 0x1_a000, 1),
                        (0x1_a000, 0x1000, 3),
                        (0x1_b000, 0x8_4c00, 1),
                        (0xf_0000, 0x1_0000, 2),
                        (0x10_0000, 0x7d0_0000, 1),
                        (0x7e0_0000, 0x20_0000, 2),
                    ]
                );
            },
        );
    }

    #[test]
    fn no_byte_of_the_pages_keeps_what_was_there_before() {
        planned(
            |_| {},
            |plan| {
                let plan = plan.unwrap();
                let mut dirty = Box::new([0x55; LAUNCH_LEN]);
                plan.fill(&mut dirty);
                assert!(dirty == filled(&plan));
            },
        );
    }

    #[test]
    fn a_command_line_longer_than_the_kernel_takes_is_refused() {
        let long = [b'x'; 2048];
        let (kernel, map) = (sample::kernel(), machine());
        let plan = |command_line| {
            Plan::new(Inputs {
                command_line,
                ..inputs(&kernel, &map)
            })
        };
        assert!(plan(&long[..2047]).is_ok());
        assert_eq!(
            plan(&long).unwrap_err(),
            LinuxError::CommandLineTooLong {
                len: 2048,
                most: 2047
            }
        );
    }

    #[test]
    fn an_initrd_where_the_kernel_cannot_use_it_is_refused() {
        let refusal = |start, len| {
            planned(
                |inputs| inputs.initrd = Some(range(start, len)),
                |plan| plan.unwrap_err().to_string(),
            )
        };
        assert!(refusal(0x700_0800, 0x1000).contains("does not begin on a page"));
        assert!(refusal(0x7df_f000, 0x1001).contains("does not lie in usable memory"));
    }

    #[test]
    fn an_initrd_higher_than_the_kernel_looks_is_refused() {
        let kernel = sample::changed(header::XLOADFLAGS, [1]);
        let map = machine()
            .overlaid(region(0x8000_0000, 0x1000_0000, RegionKind::USABLE))
            .unwrap();
        let error = Plan::new(Inputs {
            initrd: Some(range(0x8000_0000, 0x1000)),
            ..inputs(&kernel, &map)
        })
        .unwrap_err();
        assert_eq!(
            error,
            LinuxError::InitrdTooHigh {
                last: Hpa::new(0x8000_0fff),
                most: 0x7fff_ffff
            }
        );
    }

    #[test]
    fn a_machine_too_small_for_the_kernel_is_refused() {
        let kernel = sample::kernel();
        let map =
            MemoryMap::normalise([region(0, PREFERRED + 0x1000, RegionKind::USABLE)].into_iter())
                .unwrap();
        let error = Plan::new(Inputs {
            initrd: None,
            ..inputs(&kernel, &map)
        })
        .unwrap_err();
        assert_eq!(
            error,
            LinuxError::NoRoomForKernel {
                len: INIT_SIZE,
                align: 0x20_0000,
                from: PREFERRED
            }
        );
    }

    #[test]
    fn a_damaged_root_pointer_is_refused() {
        let mut damaged = *ROOT_POINTER;
        damaged[16] ^= 1;
        let (kernel, map) = (sample::kernel(), machine());
        let plan = Plan::new(Inputs {
            root_pointer: &damaged,
            ..inputs(&kernel, &map)
        });
        assert!(matches!(plan, Err(LinuxError::RootPointer(_))));
    }

    proptest! {
        #[test]
        fn a_plan_uses_free_memory_alone(
            start_mib in 0_u64..120,
            len in 1_u64..0x100_0000,
            initrd_page in 0x100_u64..0x7e00,
        ) {
            let (kernel, map) = (sample::kernel(), machine());
            let avoid = [range(start_mib << 20, len)];
            let initrd = range(initrd_page * 0x1000, 0x1000);
            let plan = Plan::new(Inputs {
                avoid: &avoid,
                initrd: Some(initrd),
                ..inputs(&kernel, &map)
            });
            let Ok(plan) = plan else { return Ok(()) };
            prop_assert!(!plan.kernel().overlaps(&plan.launch()));
            for place in [plan.kernel(), plan.launch()] {
                prop_assert!(map.is_usable(&place));
                prop_assert!(!place.overlaps(&avoid[0]) && !place.overlaps(&initrd));
                prop_assert!(place.last().raw() < 1 << 32);
            }
        }
    }
}
