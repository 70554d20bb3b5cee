//! The Multiboot2 loader: places the hypervisor and the guest's kernel, and hands over.
//!
//! Runs once, before anything of the guest or of Bouncer does, on the first processor, with the
//! first 4 GiB mapped one to one. Every decision is made in the library; here they are obeyed.
#![no_std]
#![no_main]
// UNSAFETY: a loader's business is memory that no Rust object owns.
#![expect(unsafe_code)]

mod clock;
mod console;
mod entry;
mod memory_access;
mod refusal;

use core::arch::{asm, x86_64::__cpuid, x86_64::_rdtsc};
use core::fmt::Write;
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicU16, Ordering};

use boot::elf::Image;
use boot::facts::{Facts, Paging};
use boot::handoff::{Handoff, Loader, Span, TimeStamp};
use boot::linux::{Inputs, LAUNCH_LEN, Plan, Screen};
use boot::memory_map::{MemoryMap, Region, RegionKind, Wanted};
use boot::modules::Modules;
use boot::multiboot2::Information;
use boot::options::{self, Options};
use boot::reservation::{LARGE_PAGE, Needs, Reservation, reserve};
use heapless::Vec;
use memory::{ByteRange, Hpa, PAGE_SIZE};
use policy::Policy;

use clock::Clock;
use console::Console;
use memory_access::Mapped;
use refusal::Refusal;

/// The hypervisor's image, without symbols.
static HYPERVISOR: &[u8] = include_bytes!(env!(
    "BOUNCER_HYPERVISOR",
    "the path of the hypervisor's image; build with `cargo xtask image`"
));

/// Where last words go, once it is known.
static SERIAL_PORT: AtomicU16 = AtomicU16::new(0);

/// Ranges that must stay as they are until the hand-over: the loader, the information, a page for
/// starting processors, and up to eight modules.
type Taken = Vec<ByteRange<Hpa>, 16>;

/// Everything is told; where to jump and with what.
struct Ready {
    entry: u64,
    handoff: u64,
}

/// Called by `entry` with the address of the boot loader's information.
extern "sysv64" fn main(information: u32) -> ! {
    // SAFETY: reads the time-stamp counter.
    let entered = unsafe { _rdtsc() };
    // Until the command line is read: where a machine without a `serial=` word speaks.
    let mut console = Console::open(boot::options::COM1, true);
    match load(information, entered, &mut console) {
        // SAFETY: the image was placed and relocated, the hand-over validated; the stack is this
        // loader's and nobody comes back.
        Ok(ready) => unsafe {
            asm!("call {}", in(reg) ready.entry, in("rdi") ready.handoff, options(noreturn))
        },
        Err(refusal) => {
            let _ = writeln!(console, "Bouncer does not start: {refusal}\n@ended refused");
            stop()
        }
    }
}

fn load(information: u32, entered: u64, console: &mut Console) -> Result<Ready, Refusal> {
    let bytes = memory_access::information(information)?;
    let told = Information::parse(bytes)?;
    let screen = Screen::of(&told);
    let port = options::speaking_port(told.command_line);
    SERIAL_PORT.store(port, Ordering::Relaxed);
    *console = Console::open(port, matches!(screen, Screen::Text { .. }));

    let options = Options::parse(told.command_line)?;
    let root_pointer = told.root_pointer.ok_or(Refusal::NoRootPointer)?;
    let rsdp = u64::from(information) + u64::from(root_pointer.offset);
    let found = Facts::read(&Mapped, rsdp)?;
    let clock = Clock::start(found.pm_timer, entered);

    let modules = Modules::assign(&told.modules)?;
    let map = MemoryMap::normalise(told.memory())?;
    let image = Image::parse(HYPERVISOR)?;
    let policy = memory_access::policy(modules.policy)?;
    let paging = Paging::ask(__cpuid);
    let needs = Needs {
        image_span: image.span(),
        cpus: found.processors,
        physical_width: paging.physical_width,
        has_1gib_pages: paging.has_1gib_pages,
        policy_len: policy.len() as u64,
        pool_bytes: pool_bytes(policy),
    };
    let reservation = reserve(needs)?;

    let mut taken: Taken = modules.ranges().collect();
    taken.extend(memory_access::own_range());
    taken.extend(ByteRange::new(
        Hpa::new(u64::from(information)),
        bytes.len() as u64,
    ));
    let own = place(&map, &reservation, &taken)?;
    let map = map.overlaid(Region {
        range: own,
        kind: RegionKind::BOUNCER,
    })?;
    let trampoline = place_trampoline(&map, &taken)?;
    taken.extend([trampoline]);

    let plan = Plan::new(Inputs {
        kernel: memory_access::module(modules.kernel)?,
        command_line: modules.command_line,
        initrd: modules.initrd,
        root_pointer: root_pointer.bytes,
        screen,
        map: &map,
        avoid: &taken,
    })?;

    // From here on memory is written: every place was chosen free of all that is still needed.
    memory_access::copy(plan.payload(), plan.kernel());
    let mut pages = [0; LAUNCH_LEN];
    plan.fill(&mut pages);
    memory_access::copy(&pages, plan.launch());
    let entry = image.load(memory_access::own_memory(own)?, own.start().raw())?;

    let mut handoff = Handoff::new(Loader::MULTIBOOT2);
    handoff.serial_port = options.serial_port;
    handoff.rehearsal = options.rehearsal;
    handoff.describe_own(own, &reservation, policy.len() as u64);
    handoff.rsdp = plan.root_pointer().raw();
    handoff.tables = plan.tables().map_or(Span::EMPTY, Span::from);
    handoff.trampoline = trampoline.start().raw();
    handoff.guest = plan.start();
    handoff.describe_memory(plan.map());
    handoff.describe_image(&image.segments());
    handoff.entry = clock.entry();
    handoff.seal();
    handoff.validate()?;
    memory_access::place_policy(policy, &handoff);
    Ok(Ready {
        entry,
        handoff: memory_access::place_handoff(&handoff, own.start().raw() + reservation.handoff),
    })
}

/// Bytes for the pages of untrusted devices. A policy that cannot be read stops the hypervisor,
/// which says where.
fn pool_bytes(policy: &str) -> u64 {
    if policy.is_empty() {
        return Policy::default().bytes_set_aside();
    }
    Policy::parse(policy.as_bytes()).map_or(0, |policy| policy.bytes_set_aside())
}

/// Bouncer's memory: the highest room below 4 GiB.
fn place(
    map: &MemoryMap,
    reservation: &Reservation,
    taken: &Taken,
) -> Result<ByteRange<Hpa>, Refusal> {
    let mapped = ByteRange::inclusive(Hpa::new(1 << 20), Hpa::new(u64::from(u32::MAX)));
    let no_room = || Refusal::NoRoom {
        bytes: reservation.total,
    };
    let wanted = Wanted {
        len: reservation.total,
        align: LARGE_PAGE,
        within: mapped.ok_or_else(no_room)?,
    };
    map.highest(wanted, taken.iter().copied())
        .ok_or_else(no_room)
}

/// A page that real-mode code can start in.
fn place_trampoline(map: &MemoryMap, taken: &Taken) -> Result<ByteRange<Hpa>, Refusal> {
    let low = ByteRange::inclusive(Hpa::new(0x1000), Hpa::new(0x9_ffff));
    let within = low.ok_or(Refusal::NoTrampoline)?;
    let wanted = Wanted {
        len: PAGE_SIZE,
        align: PAGE_SIZE,
        within,
    };
    map.lowest(wanted, taken.iter().copied())
        .ok_or(Refusal::NoTrampoline)
}

/// Stops for ever.
fn stop() -> ! {
    loop {
        // SAFETY: interrupts are off; nothing is to run any more.
        unsafe { asm!("hlt", options(nomem, nostack)) };
    }
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    let mut console = Console::open(SERIAL_PORT.load(Ordering::Relaxed), true);
    let _ = writeln!(console, "Bouncer's loader failed: {info}\n@ended panic");
    stop()
}

impl Clock {
    /// When the loader was entered, told backwards from two readings since.
    fn entry(&self) -> TimeStamp {
        let (tsc, pm_timer) = self.entered();
        TimeStamp {
            tsc,
            pm_timer: pm_timer.unwrap_or(0),
            has_pm_timer: u32::from(pm_timer.is_some()),
        }
    }
}
