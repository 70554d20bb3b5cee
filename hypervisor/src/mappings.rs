//! Bouncer's own page tables and the guest's nested ones.

// UNSAFETY: loads control registers.
#![expect(unsafe_code)]

use core::arch::asm;

use boot::handoff::Handoff;
use ept::{
    Access, Depth, Ept, Eptp, FIXED_MTRRS, GuestMap, HostAttributes, HostPaging, MapError, Mtrrs,
    Nested, Npt, PatIndex, Plan, PlanError, Trap, TrapKind, VariableMtrr, map_machine,
};
use heapless::Vec;
use memory::{ByteRange, Flush, Gpa, Hpa, Hva, PAGE_SIZE, TimedOut};
use paging::{Change, Draft, PageSize};
use processor::mtrr;
use processor::physical::Told;
use raw_cpuid::CpuId;
use x86::msr::{IA32_EFER, rdmsr, wrmsr};

use crate::backend::NestedFormat;
use crate::cpu::apic;
use crate::cpu::area::Area;
use crate::cpu::instructions::{cpuid, read_msr};
use crate::machine::{self, Machine};
use crate::own::OwnFrames;
use crate::refusal::Refusal;

/// The lower half of a four-level address space.
const LOWER_HALF: u32 = 47;
const EFER_NXE: u64 = 1 << 11;
const CR0_WP: u64 = 1 << 16;

/// The address of a root table, as CR3 holds it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Root(u64);

impl Root {
    /// The root at a physical address.
    pub(crate) fn new(raw: u64) -> Self {
        Self(raw)
    }

    /// The physical address.
    pub(crate) fn raw(self) -> u64 {
        self.0
    }
}

/// The largest page of tables in the processor's own format.
pub(crate) fn largest_page() -> PageSize {
    let has_1gib = CpuId::new()
        .get_extended_processor_and_feature_identifiers()
        .is_some_and(|features| features.has_1gib_pages());
    if has_1gib {
        PageSize::GiB1
    } else {
        PageSize::MiB2
    }
}

/// Builds Bouncer's own tables: all physical addresses one to one, readable and writable and never
/// executable, what is not memory uncached; but for the image, whose parts get what they need and no
/// more, and for the pages below the stacks, which are not there.
pub(crate) fn own(
    handoff: &Handoff,
    areas: &[&'static Area],
    frames: &mut OwnFrames,
) -> Result<Root, Refusal> {
    let width = mapped_width(physical_width());
    let format = HostPaging::new(Depth::Four, width, largest_page());
    let mut draft = Draft::new(format, frames)?;
    let memory = machine::memory_of(handoff);
    map_machine(
        &mut draft,
        frames,
        width,
        memory.into_iter().chain(handoff.own.range()),
    )?;
    let mut map = |start: u64, len: u64, access| -> Result<(), Refusal> {
        let range = ByteRange::new(Hva::new(start), len).ok_or(Refusal::Memory)?;
        let attributes = HostAttributes {
            access,
            cache: PatIndex::WRITE_BACK,
            global: false,
        };
        Ok(draft.map(frames, range, Hpa::new(start), attributes)?)
    };
    for segment in handoff.told_segments() {
        let access = Access {
            write: segment.access.is_writable(),
            execute: segment.access.is_executable(),
        };
        map(handoff.image.base + segment.offset, segment.len, access)?;
    }
    for area in areas {
        let guard =
            ByteRange::new(Hva::new(area.guard().raw()), PAGE_SIZE).ok_or(Refusal::Memory)?;
        draft.unmap(frames, guard)?;
    }
    Ok(Root(draft.finish().root().raw()))
}

/// What lies behind the local APIC's page and is taken for messages to processors when a device
/// writes it. A processor has no business there, and some emulators let it send such messages.
pub(crate) fn message_window() -> Option<ByteRange<Gpa>> {
    ByteRange::inclusive(Gpa::new(0xfee0_1000), Gpa::new(0xfeef_ffff))
}

/// Bits of a physical address that name memory, as far as tables of four levels translate them.
pub(crate) fn physical_width() -> u32 {
    const TME_ACTIVATE: u32 = 0x982;
    const SYSCFG: u32 = 0xc001_0010;
    /// CPUID 7, ECX: IA32_TME_ACTIVATE exists.
    const TME: u32 = 1 << 13;
    /// CPUID 8000_001Fh, EAX: memory can be encrypted by page tables.
    const SME: u32 = 1 << 0;
    let has = |leaf: u32| cpuid(0x8000_0000, 0).eax >= leaf;
    let activate = || read_msr(TME_ACTIVATE).ok();
    let syscfg = |ebx| read_msr(SYSCFG).ok().map(|syscfg| (ebx, syscfg));
    let encryption = if has(0x8000_001f) {
        let leaf = cpuid(0x8000_001f, 0);
        (leaf.eax & SME != 0).then_some(leaf.ebx)
    } else {
        None
    };
    let told = Told {
        width: match has(0x8000_0008) {
            true => cpuid(0x8000_0008, 0).eax & 0xff,
            false => 36,
        },
        key_ids: (cpuid(7, 0).ecx & TME != 0).then(activate).flatten(),
        encryption: encryption.and_then(syscfg),
    };
    told.width()
}

/// Refuses a machine whose addresses cannot be told apart: of a width that no processor has, or with
/// memory where Bouncer sees none.
pub(crate) fn check_width(handoff: &Handoff) -> Result<(), Refusal> {
    let width = physical_width();
    if !(32..=52).contains(&width) {
        return Err(PlanError::Width(width).into());
    }
    let beyond = |piece: &ByteRange<Hpa>| piece.last().raw() >> width != 0;
    match machine::memory_of(handoff)
        .iter()
        .find(|piece| beyond(piece))
    {
        Some(piece) => Err(Refusal::MemoryBeyond {
            last: piece.last(),
            width,
        }),
        None => Ok(()),
    }
}

/// Bits of an address that Bouncer's own tables map, of so many of a physical one.
pub(crate) fn mapped_width(physical_width: u32) -> u32 {
    physical_width.min(LOWER_HALF)
}

/// The guest's nested tables: everything one to one but what is hidden from it, and stops where
/// somebody has to look.
#[derive(Debug)]
pub(crate) enum NestedMap {
    Npt(GuestMap<'static, Npt>),
    Ept(GuestMap<'static, Ept>),
}

/// Places at which the guest is stopped from the start.
pub(crate) type Traps = Vec<Trap, 40>;

impl NestedMap {
    /// Builds the tables. `holes` are never mapped; at `traps` the guest is stopped, and at stores to
    /// the local APIC's page, some of whose registers start and stop processors.
    pub(crate) fn new(
        format: NestedFormat,
        holes: &'static [ByteRange<Gpa>],
        mut traps: Traps,
        frames: &mut OwnFrames,
    ) -> Result<Self, Refusal> {
        let width = physical_width();
        let page = apic::page().ok_or(Refusal::Memory)?;
        traps.push(on_stores(page)).map_err(|_| Refusal::Memory)?;
        let traps: &'static Traps = frames.keep(traps)?;
        let plan = |mtrrs| Plan::new(width, holes, traps, mtrrs);
        Ok(match format {
            // SVM combines the guest's memory types with the MTRRs itself (APM 15.25.8).
            NestedFormat::Npt(format) => {
                let plan = plan(Mtrrs::new(width, 0, None, &[])?)?;
                Self::Npt(GuestMap::build(format, plan, frames)?)
            }
            // EPT takes their place (SDM vol. 3C, 29.3.7.2).
            NestedFormat::Ept(format) => {
                let plan = plan(mtrrs(width, frames)?)?;
                Self::Ept(GuestMap::build(format, plan, frames)?)
            }
        })
    }

    /// The root, as the processor is told of it.
    pub(crate) fn root(&self) -> u64 {
        match self {
            Self::Npt(map) => map.table().root().raw(),
            Self::Ept(map) => Eptp::new(map.table()).word(),
        }
    }

    /// Stops the guest at every access to the page at `page`.
    pub(crate) fn stop_at(&mut self, frames: &mut OwnFrames, page: Gpa) -> Result<(), MapError> {
        match self {
            Self::Npt(map) => stop_at(map, frames, page),
            Self::Ept(map) => stop_at(map, frames, page),
        }
    }

    /// Lets the guest through at the page at `page` again.
    pub(crate) fn let_through(
        &mut self,
        frames: &mut OwnFrames,
        page: Gpa,
    ) -> Result<(), MapError> {
        match self {
            Self::Npt(map) => let_through(map, frames, page),
            Self::Ept(map) => let_through(map, frames, page),
        }
    }
}

fn stop_at<F: Nested>(
    map: &mut GuestMap<'static, F>,
    frames: &mut OwnFrames,
    page: Gpa,
) -> Result<(), MapError> {
    let change = map.trap(frames, page, TrapKind::Absent)?;
    settle(change, frames);
    Ok(())
}

fn let_through<F: Nested>(
    map: &mut GuestMap<'static, F>,
    frames: &mut OwnFrames,
    page: Gpa,
) -> Result<(), MapError> {
    let change = map.untrap(frames, page)?;
    settle(change, frames);
    Ok(())
}

/// The MTRRs of the running processor as the firmware set them; those of the others are the same (SDM
/// vol. 3A, 12.11.8).
fn mtrrs(width: u32, frames: &mut OwnFrames) -> Result<Mtrrs<'static>, Refusal> {
    use x86::msr::{IA32_MTRR_DEF_TYPE, IA32_MTRR_PHYSBASE0, IA32_MTRRCAP};
    /// IA32_MTRRCAP: how many variable pairs there are, and whether there are fixed ones.
    const VARIABLE: u64 = 0xff;
    const FIXED: u64 = 1 << 8;
    let read = |index| read_msr(index).unwrap_or(0);
    let capability = read(IA32_MTRRCAP);
    let pairs = (0..(capability & VARIABLE) as u32).map(|pair| VariableMtrr {
        base: read(IA32_MTRR_PHYSBASE0 + 2 * pair),
        mask: read(IA32_MTRR_PHYSBASE0 + 2 * pair + 1),
    });
    // Pairs beyond any processor's number are none.
    let variable: &'static Vec<VariableMtrr, 32> = frames.keep(pairs.take(32).collect())?;
    let fixed: &'static [u64; FIXED_MTRRS] = frames.keep(mtrr::FIXED.map(read))?;
    let fixed = (capability & FIXED != 0).then_some(fixed);
    Ok(Mtrrs::new(
        width,
        read(IA32_MTRR_DEF_TYPE),
        fixed,
        variable,
    )?)
}

/// Stops the guest at stores to `pages`.
pub(crate) fn on_stores(pages: ByteRange<Gpa>) -> Trap {
    Trap {
        pages,
        kind: TrapKind::ReadOnly,
    }
}

/// Stops the guest at every access to `pages`.
pub(crate) fn on_any_access(pages: ByteRange<Gpa>) -> Trap {
    Trap {
        pages,
        kind: TrapKind::Absent,
    }
}

/// All processors, which remember pieces of the nested tables.
struct Processors;

impl Flush<ByteRange<Gpa>> for Processors {
    fn flush(&mut self, _: &ByteRange<Gpa>) -> Result<(), TimedOut> {
        // Before the machine is published no processor has been in a guest.
        Machine::published().map_or(Ok(()), Machine::forget_translations)
    }
}

/// A processor that cannot be called out of the guest goes on with pages that are not the guest's
/// any more: the machine stops there.
fn settle<F: Nested>(change: Change<F>, frames: &mut OwnFrames) {
    if let Err((change, _)) = change.settle(&mut Processors, frames) {
        panic!(
            "a processor did not leave the guest; it still knows {:?}",
            change.stale()
        );
    }
}

/// The root of the tables in use.
pub(crate) fn current_root() -> Root {
    // SAFETY: reading CR3 has no effect.
    Root(unsafe { x86::controlregs::cr3() } & !(PAGE_SIZE - 1))
}

/// Goes over to other tables, with no-execute pages and write protection for Bouncer itself.
///
/// # Safety
/// The tables map the running code and stack, and everything Bouncer uses, one to one.
pub(crate) unsafe fn switch(to: Root) {
    // SAFETY: the processor has no-execute pages (`Backend::check`); the rest is the caller's.
    unsafe {
        wrmsr(IA32_EFER, rdmsr(IA32_EFER) | EFER_NXE);
        asm!(
            "mov {scratch}, cr0",
            "or {scratch}, {wp}",
            "mov cr0, {scratch}",
            "mov cr3, {root}",
            scratch = out(reg) _,
            wp = in(reg) CR0_WP,
            root = in(reg) to.0,
            options(nostack),
        );
    }
}

/// Goes on in `entry` with two arguments on the stack that ends at `top`.
///
/// # Safety
/// `top` ends a mapped stack that nobody uses.
pub(crate) unsafe fn call_on_stack(
    top: u64,
    first: u64,
    second: u64,
    entry: extern "sysv64" fn(u64, u64) -> !,
) -> ! {
    // SAFETY: the stack is the caller's promise; the frame-pointer chain ends here.
    unsafe {
        asm!(
            "mov rsp, {top}",
            "xor ebp, ebp",
            "call {entry}",
            top = in(reg) top,
            entry = in(reg) entry,
            in("rdi") first,
            in("rsi") second,
            options(noreturn),
        );
    }
}
