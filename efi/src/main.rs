//! `bouncer.efi`: takes the machine over from UEFI firmware and gives it back as the first guest.
//!
//! Reads the policy that lies beside it, sets memory aside, and calls the hypervisor as if it were a
//! function. When the call returns, this program and the firmware under it are a guest, unless the hypervisor
//! refused the machine; ending with an error
//! makes the firmware go on to its next boot option (UEFI 2.10, 3.1.1). Every decision is made in
//! libraries; here they are obeyed. Read this file from top to bottom for the order of things.
#![no_std]
#![no_main]
// UNSAFETY: the entry from the firmware, and the clocks.
#![expect(unsafe_code)]

mod arrival;
mod console;
mod cross;
mod drivers;
mod files;
mod measure;
mod place;
mod processors;
mod refusal;
mod services;
mod way_back;

use core::arch::x86_64::__cpuid;
use core::fmt::Write;
use core::panic::PanicInfo;
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicPtr, AtomicU16, Ordering};
use core::time::Duration;

use boot::echo;
use boot::elf::Image;
use boot::facts::{Facts, Paging};
use boot::handoff::{Handoff, Loader, TimeStamp};
use boot::memory_map::{Region, RegionKind};
use boot::options::{self, Options};
use boot::reservation::{LARGE_PAGE, Needs, reserve};
use boot::way_back::Reason;
use memory::{ByteRange, Hpa};
use policy::Policy;
use processor::cpuid;
use uefi_raw::table::system::SystemTable;
use uefi_raw::{Handle, Status};

use console::Console;
use files::Files;
use place::Mapped;
use refusal::Refusal;
use services::Firmware;
use way_back::WayBack;

/// The hypervisor's image, without symbols.
static HYPERVISOR: &[u8] = include_bytes!(env!(
    "BOUNCER_HYPERVISOR",
    "the path of the hypervisor's image; build with `cargo xtask image`"
));

/// Where last words go.
static SERIAL_PORT: AtomicU16 = AtomicU16::new(options::COM1);
static SYSTEM_TABLE: AtomicPtr<SystemTable> = AtomicPtr::new(ptr::null_mut());

/// What makes firmware try its next boot option.
const NEXT: Status = Status::ABORTED;

/// Room for what the hypervisor says before its guest starts.
const ECHO_BYTES: u64 = 32 * 1024;

/// How long a refusal can be read before the machine is switched off.
const READING: Duration = Duration::from_secs(10);

/// Where firmware starts this program. UEFI 2.10, 4.1.
#[unsafe(no_mangle)]
extern "efiapi" fn efi_main(image: Handle, table: *mut SystemTable) -> Status {
    let Some(table) = NonNull::new(table) else {
        return Status::INVALID_PARAMETER;
    };
    SYSTEM_TABLE.store(table.as_ptr(), Ordering::Relaxed);
    // SAFETY: these are the firmware's arguments.
    let firmware = unsafe { Firmware::new(image, table) };
    // Firmware that has tried all its options begins again with the first.
    if is_guarded() {
        return NEXT;
    }
    let mut console = Console::open(firmware, options::COM1);
    // As long as they could not be read, they may take it away.
    let mut words = options::NO_WAY_BACK;
    match start(firmware, &mut console, &mut words) {
        Ok(()) => {
            let _ = writeln!(console, "Bouncer guards this machine; firmware goes on");
        }
        Err(Obstacle::WayBack(reason)) => {
            way_back::pass_over(firmware, &mut console, Some(reason));
        }
        Err(Obstacle::Refusal(refusal)) => {
            // Firmware that cannot use all processors is guarded all the same.
            let may_go_on = options::offers_way_back(words) && !is_guarded();
            refuse(firmware, &mut console, &refusal, may_go_on);
        }
    }
    NEXT
}

/// What keeps Bouncer from being started.
enum Obstacle {
    Refusal(Refusal),
    WayBack(Reason),
}

impl<E: Into<Refusal>> From<E> for Obstacle {
    fn from(error: E) -> Self {
        Self::Refusal(error.into())
    }
}

impl From<Reason> for Obstacle {
    fn from(reason: Reason) -> Self {
        Self::WayBack(reason)
    }
}

/// Does all there is to do. `words` become Bouncer's options as soon as they are read.
fn start(
    firmware: Firmware,
    console: &mut Console,
    words: &mut &'static [u8],
) -> Result<(), Obstacle> {
    let files = Files::beside_this(firmware)?;
    *words = files.read(files::OPTIONS)?.unwrap_or_default();
    let port = options::speaking_port(words);
    SERIAL_PORT.store(port, Ordering::Relaxed);
    *console = Console::open(firmware, port);
    let way_back = WayBack::offer(firmware, console, options::offers_way_back(words))?;
    let options = Options::parse(words)?;

    let text = files.read(files::POLICY)?.ok_or(Refusal::NoPolicy)?;
    let pool_bytes = match Policy::parse(text) {
        Ok(policy) => policy.bytes_set_aside(),
        Err(error) => {
            let _ = writeln!(console, "{}", error.rendered("policy.toml", text));
            let (line, column) = (error.at.line, error.at.column);
            return Err(Refusal::Policy { line, column }.into());
        }
    };
    drop(files);

    let rsdp = place::root_pointer(firmware).ok_or(Refusal::NoRootPointer)?;
    let facts = Facts::read(&Mapped, rsdp)?;
    let entered = time(facts.pm_timer);
    let image = Image::parse(HYPERVISOR)?;
    let paging = Paging::ask(__cpuid);
    let reservation = reserve(Needs {
        image_span: image.span(),
        cpus: facts.processors,
        physical_width: paging.physical_width,
        has_1gib_pages: paging.has_1gib_pages,
        policy_len: text.len() as u64,
        pool_bytes,
    })?;

    let own = place::own(firmware, reservation.total)?;
    let trampoline = place::trampoline(firmware)?;
    let tables = place::tables(firmware)?;
    let echo = place::scratch(firmware, ECHO_BYTES)?;
    let bridge = cross::Bridge::build(firmware)?;
    // The hypervisor clears what lies behind this when it takes it.
    let told = ByteRange::new(own.start(), reservation.free).ok_or(Refusal::NoRoom { bytes: 0 })?;
    let memory = place::bytes(told);
    let entry = image.load(memory, own.start().raw())?;
    place::copy(text, memory, reservation.policy);

    let mut handoff = Handoff::new(Loader::EFI);
    handoff.serial_port = options.serial_port;
    handoff.rehearsal = options.rehearsal;
    handoff.describe_own(own, &reservation, text.len() as u64);
    handoff.rsdp = rsdp;
    handoff.tables = tables.into();
    handoff.trampoline = trampoline.start().raw();
    handoff.echo = echo.into();
    handoff.guest = bridge.far_side();
    handoff.describe_image(&image.segments());
    handoff.entry = entered;

    // The time in which keys count has gone by beside all this; what is left of it is used.
    way_back.look_at_keys()?;
    way_back.count(console);
    let stopped = drivers::stop(firmware);
    let pools = handoff.pools;
    let taken = way_back.take_keys(|| {
        let next = Hpa::new(pools.base + handoff.cleared);
        let piece = ByteRange::new(next, LARGE_PAGE.min(pools.len - handoff.cleared));
        handoff.cleared += piece.map_or(0, |piece| place::bytes(piece).len() as u64);
        piece.is_some()
    });
    if let Err(reason) = taken {
        drivers::start(firmware, &stopped);
        way_back.uncount();
        return Err(reason.into());
    }
    if let Err(status) = measure::guard(firmware, HYPERVISOR, words, text) {
        let _ = writeln!(console, "The TPM cannot be told of Bouncer ({status:?})");
    }
    let crossed = cross(firmware, handoff, own, |handoff| {
        place::copy(handoff, memory, reservation.handoff);
        bridge.cross(entry, own.start().raw() + reservation.handoff);
    });
    // What the hypervisor said stands on the serial line already.
    for line in echo::lines(place::view(echo)) {
        console.show(line);
    }
    match &crossed {
        // From here on this is a guest.
        Ok(()) => console.leave_port(),
        Err(_) => way_back.uncount(),
    }
    let gathered = crossed.and_then(|()| processors::gather(firmware));
    drivers::start(firmware, &stopped);
    gathered?;
    way_back.forget_when_arrived(console);
    Ok(())
}

/// Completes the hand-over and lets `over` take its bytes to the hypervisor.
fn cross(
    firmware: Firmware,
    mut handoff: Handoff,
    own: ByteRange<Hpa>,
    over: impl FnOnce(&[u8]),
) -> Result<(), Refusal> {
    let map = place::memory_map(firmware)?;
    let map = map.overlaid(Region {
        range: own,
        kind: RegionKind::BOUNCER,
    })?;
    handoff.describe_memory(&map);
    handoff.seal();
    handoff.validate()?;
    over(zerocopy::IntoBytes::as_bytes(&handoff));
    if is_guarded() {
        return Ok(());
    }
    Err(Refusal::Declined)
}

/// Whether Bouncer runs below, as CPUID tells.
fn is_guarded() -> bool {
    const HYPERVISOR_PRESENT: u32 = 1 << 31;
    let leaf = __cpuid(0x4000_0000);
    let said = [leaf.ebx, leaf.ecx, leaf.edx].map(u32::to_le_bytes);
    __cpuid(1).ecx & HYPERVISOR_PRESENT != 0 && said.as_flattened() == cpuid::SIGNATURE
}

/// What every power-management timer has.
const TIMER_BITS: u32 = 0x00ff_ffff;

/// Both clocks, now.
fn time(pm_timer: Option<u16>) -> TimeStamp {
    // SAFETY: the FADT names the port as the timer, which reading does not change; nor does RDTSC.
    let (tsc, ticks) = unsafe {
        let ticks = pm_timer.map(|port| x86::io::inl(port) & TIMER_BITS);
        (core::arch::x86_64::_rdtsc(), ticks)
    };
    TimeStamp {
        tsc,
        pm_timer: ticks.unwrap_or(0),
        has_pm_timer: u32::from(ticks.is_some()),
    }
}

/// Says why Bouncer does not start, and lets nobody start unprotected unless somebody has allowed that.
fn refuse(firmware: Firmware, console: &mut Console, refusal: &Refusal, may_go_on: bool) {
    let _ = writeln!(console, "Bouncer does not start: {refusal}");
    firmware.wait(READING);
    if may_go_on && way_back::allows_unprotected(firmware) {
        way_back::pass_over(firmware, console, None);
        return;
    }
    let _ = writeln!(
        console,
        "Nothing is started without Bouncer; to start it all the same, choose it in the firmware's boot \
         menu, or set the variable {}. The machine is switched off\n@ended refused",
        boot::way_back::UNPROTECTED
    );
    firmware.power_off()
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    if let Some(table) = NonNull::new(SYSTEM_TABLE.load(Ordering::Relaxed)) {
        // SAFETY: the entry point left it there; no service that needs the image is asked for.
        let firmware = unsafe { Firmware::new(ptr::null_mut(), table) };
        let mut console = Console::open(firmware, SERIAL_PORT.load(Ordering::Relaxed));
        let _ = writeln!(console, "Bouncer's loader failed: {info}\n@ended panic");
    }
    loop {
        // SAFETY: nothing is to run here any more.
        unsafe { core::arch::asm!("hlt", options(nomem, nostack)) };
    }
}
