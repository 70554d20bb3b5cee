//! The hypervisor: reads hardware and obeys decisions.
//!
//! Starts where a loader jumps to with a [`Handoff`], takes the machine over, and runs the guest.
//! Read this file from top to bottom for the order of things.
#![no_std]
#![no_main]
// UNSAFETY: the entry from the loader, and memory that only its contract gives us.
#![expect(unsafe_code)]

mod backend;
mod command;
mod console;
mod copy;
mod cpu;
mod devices;
mod emulation;
mod epitaph;
mod exits;
mod fabric;
mod firmware;
mod fw_cfg;
mod hidden;
mod io_apic;
mod limit;
mod machine;
mod mappings;
mod mediated;
mod nmis;
mod own;
mod physical;
mod power;
mod refusal;
mod run;
mod svm;
mod virtual_unit;
mod vmx;

use boot::handoff::{Handoff, Rehearsal};
use boot::reservation::PER_CPU_BYTES;
use heapless::Vec;
use memory::{ByteRange, Gpa, Hpa};
use pci::access::{ADDRESS_PORT, DATA_PORT};
use policy::Policy;
use processor::legacy::{self, Keyboard};
use spin::mutex::TicketMutex;

use backend::{Backend, Extension, Means, Missing, Shared};
use console::say;
use cpu::area::{self, Area};
use cpu::timer::TICKS_PER_SECOND;
use cpu::{apic, startup};
use fabric::{Confinement, Needs, Space};
use machine::{Hidden, MAX_PROCESSORS, Machine};
use mappings::NestedMap;
use mediated::Pools;
use own::OwnFrames;
use refusal::{Refusal, refuse};
use run::Runner;

/// Where the loader jumps to, with the address of the hand-over in RDI, on a stack of its own, with
/// the first 4 GiB mapped one to one. Returns only to a loader that asked for what is said ([`decline`]).
///
/// # Safety
/// Called once, by a loader that keeps the contract of `boot::handoff`.
#[unsafe(no_mangle)]
unsafe extern "sysv64" fn _start(handoff: *const Handoff) {
    // SAFETY: the loader put the hand-over into Bouncer's own memory, where it stays, and gave
    // nobody else a way to write it.
    let handoff = unsafe { &*handoff };
    let checked = handoff.validate();
    if handoff.serial_port != 0 {
        console::open(handoff.serial_port);
    }
    if let Err(error) = checked {
        refuse(Refusal::Handoff(error));
    }
    if let Some(memory) = handoff.echo.range() {
        // SAFETY: the validated hand-over names usable memory, which the loader keeps for this.
        unsafe { console::echo_to(memory) };
    }
    match Extension::here() {
        Some(Extension::Vmx) => start::<vmx::Processor>(handoff),
        Some(Extension::Svm) => start::<svm::Processor>(handoff),
        None => decline(handoff, Refusal::Missing(Missing::Virtualization)),
    }
}

/// Refuses before anything of the machine was changed: a loader that asked for what is said goes on with it.
fn decline(handoff: &Handoff, refusal: Refusal) {
    if handoff.echo.range().is_none() {
        refuse(refusal);
    }
    say!("Bouncer does not start: {refusal}");
}

/// The rest, with the backend for this processor. Returns only if it declines.
fn start<B: Backend>(handoff: &'static Handoff) {
    say!("Bouncer {} on {}", env!("CARGO_PKG_VERSION"), B::NAME);
    match take_over(handoff, Means::of::<B>()) {
        Ok((machine, pages)) => run_on::<B>(machine, pages),
        Err(refusal) => decline(handoff, refusal),
    }
}

/// Reads what the firmware says and lays out Bouncer's own memory. An error is one from before the machine was
/// changed; afterwards there is no way but to stop.
fn take_over(
    handoff: &'static Handoff,
    means: Means,
) -> Result<(&'static Machine, mappings::Root), Refusal> {
    (means.check)().map_err(Refusal::Missing)?;
    let policy = devices::policy(handoff)?;
    let found = firmware::read(handoff)?;
    check_ids(&found)?;
    mappings::check_width(handoff)?;
    let own = ByteRange::new(Gpa::new(handoff.own.base), handoff.own.len).ok_or(Refusal::Memory)?;
    let free = handoff.free.range().ok_or(Refusal::Memory)?;
    // SAFETY: the validated hand-over says that nobody uses this part of Bouncer's own memory.
    let mut frames = unsafe { OwnFrames::new(free) };

    let count = found.apic_ids.len();
    let areas_at = frames.take_run(count as u64 * PER_CPU_BYTES)?;
    let mut areas = Vec::<&'static Area, MAX_PROCESSORS>::new();
    for index in 0..count {
        let at = Hpa::new(areas_at.raw() + index as u64 * PER_CPU_BYTES);
        // SAFETY: the run was just taken, zeroed, and is cut into one area for each processor.
        let area = unsafe { Area::create(at, index as u32) };
        areas
            .push(area)
            .map_err(|_| Refusal::Processors { found: count })?;
    }
    let own_tables = mappings::own(handoff, &areas, &mut frames)?;
    let permission_maps = frames.take_run(means.permission_bytes)?;

    // SAFETY: the firmware names the windows, and no guest runs that could use the ports.
    let space = unsafe { Space::new(found.windows.clone()) };
    let topology = devices::scan(&space);
    let dmar = firmware::dmar(handoff, &mut frames)?;
    let policy: &'static Policy = frames.keep(policy)?;
    let confinement = fabric::plan(handoff, policy, dmar, &topology, found.timer)?;
    let ports = watched_ports(handoff, &found, confinement.is_some());
    // SAFETY: the run was just taken.
    unsafe { (means.fill_permission_maps)(permission_maps, &ports) };

    let hidden: &'static Hidden = frames.keep(hidden(own, confinement.as_ref(), &found))?;
    let mut holes: Hidden = hidden.clone();
    holes.extend(mappings::message_window());
    let traps = traps(&found, confinement.is_some());
    let format = (means.nested_format)(mappings::physical_width());
    let map = NestedMap::new(format, frames.keep(holes)?, traps, &mut frames)?;
    let shared = Shared {
        nested_root: map.root(),
        permission_maps,
    };
    let (fabric, unused) = match confinement {
        Some(confinement) => {
            let needs = Needs {
                handoff,
                policy,
                own,
                space,
                topology,
                io_apics: found.io_apics.clone(),
                timer: found.timer,
                unreached: &found.unreached,
                watched: &ports,
                apic_id: apic::id(),
                map,
                // SAFETY: the validated hand-over says that nobody uses this part of Bouncer's memory.
                pools: unsafe { Pools::new(handoff.pools.range(), handoff.cleared) },
            };
            let fabric = fabric::take_over(confinement, needs, frames)?;
            if let Err(refusal) = firmware::replace_dmar(handoff, virtual_unit::table()) {
                refuse(refusal);
            }
            let held = fabric.lock();
            held.describe();
            (Some(fabric), held.unused())
        }
        None => {
            devices::describe(policy, &topology, |_| None, |_| "none");
            say!("@iommu units=0 enforcement=none");
            (None, frames.untouched())
        }
    };
    let machine = Machine {
        handoff,
        own,
        hidden,
        memory: machine::memory_of(handoff),
        fabric,
        timer: found.timer,
        power: found.power,
        io_apics: found.io_apics,
        keyboard: TicketMutex::new(Keyboard::default()),
        physical_width: mappings::physical_width(),
        shared,
        areas,
        apic_ids: found.apic_ids,
        areas_at,
    };
    say!(
        "own memory   {} KiB at {}, of which {} KiB are unused",
        own.len() / 1024,
        own.start(),
        unused / 1024
    );
    Ok((machine.publish(), own_tables))
}

/// Every processor must be one that can be told from the others, the running one among them.
fn check_ids(found: &firmware::Found) -> Result<(), Refusal> {
    /// The largest id that the eight bits of an xAPIC name; the next one is everybody.
    const LARGEST_XAPIC_ID: u32 = 254;
    let running = apic::id();
    if !found.apic_ids.contains(&running) {
        return Err(Refusal::UnlistedProcessor { id: running });
    }
    match found.apic_ids.iter().find(|id| **id > LARGEST_XAPIC_ID) {
        Some(id) if !apic::is_x2apic() => Err(Refusal::UnlistedProcessor { id: *id }),
        _ => Ok(()),
    }
}

/// What the guest never reaches. There is room: there are fewer units (`fabric`) than places.
fn hidden(
    own: ByteRange<Gpa>,
    confinement: Option<&Confinement>,
    found: &firmware::Found,
) -> Hidden {
    let registers = confinement.into_iter().flat_map(Confinement::registers);
    let registers = registers.map(|range| range.identity());
    let unreached = found.unreached.iter().filter(|_| confinement.is_some());
    let all = core::iter::once(own).chain(registers);
    all.chain(unreached.copied()).collect()
}

/// Where the guest is stopped from the start: at stores to the I/O APICs, whose entries could stop
/// processors; where devices are confined, at any access to those and to configuration space.
fn traps(found: &firmware::Found, is_confined: bool) -> mappings::Traps {
    let pages = found.io_apics.iter().map(|io_apic| io_apic.page);
    if !is_confined {
        return pages.map(mappings::on_stores).collect();
    }
    let windows = found.windows.iter().map(|window| window.range());
    windows.chain(pages).map(mappings::on_any_access).collect()
}

/// Ports that end or reset the machine, Bouncer's own serial line, configuration space where devices
/// are confined, and a way to memory past them.
fn watched_ports(handoff: &Handoff, found: &firmware::Found, is_confined: bool) -> Vec<u16, 40> {
    /// Registers of a serial port.
    const SERIAL_PORTS: u16 = 8;
    let mut ports: Vec<u16, 40> = found.power.ports().chain(legacy::PORTS).collect();
    if handoff.serial_port != 0 {
        ports.extend((0..SERIAL_PORTS).map(|offset| handoff.serial_port.wrapping_add(offset)));
    }
    if is_confined {
        ports.extend(ADDRESS_PORT..DATA_PORT + 4);
    }
    if fw_cfg::is_there() {
        ports.extend(fw_cfg::PORTS);
    }
    ports
}

/// Goes over to Bouncer's own tables and stack.
fn run_on<B: Backend>(machine: &'static Machine, own_tables: mappings::Root) -> ! {
    let loader_tables = mappings::current_root();
    let area = machine.areas[0];
    // SAFETY: the tables map all of Bouncer and the machine one to one; the area is this processor's,
    // and its stack is unused. Nothing on the loader's stack is needed any more.
    unsafe {
        mappings::switch(own_tables);
        area.adopt(apic::id());
        mappings::call_on_stack(
            area.stack().1,
            loader_tables.raw(),
            own_tables.raw(),
            raise_and_run::<B>,
        )
    }
}

/// The rest of the first processor's life, on its own stack.
extern "sysv64" fn raise_and_run<B: Backend>(loader_tables: u64, own_tables: u64) -> ! {
    let Some(machine) = Machine::published() else {
        refuse(Refusal::Memory)
    };
    OWN_TABLES.call_once(|| own_tables);
    let area = area::current();
    let mut cpu = B::enable(area, &machine.shared);
    area.note_ready();
    raise_others(machine, loader_tables, processor_entry::<B>);
    describe(machine);
    rehearse(machine.handoff.rehearsal);
    say!("starting the guest");
    announce_launch(machine);
    console::end_echo();
    if machine.handoff.rehearsal == Rehearsal::ENTRY {
        *cpu.state().rflags = 0;
    }
    Runner::first(cpu, area, machine).run()
}

/// The root of Bouncer's own tables, for the processors that are raised.
static OWN_TABLES: spin::Once<u64> = spin::Once::new();

/// Microseconds until a processor that was raised must be ready.
const READY: u32 = 500_000;

fn raise_others(
    machine: &'static Machine,
    loader_tables: u64,
    arrive: extern "sysv64" fn(u32, u64) -> !,
) {
    let own = area::current().apic_id();
    let others: Vec<u32, MAX_PROCESSORS> = machine
        .apic_ids
        .iter()
        .copied()
        .filter(|id| *id != own)
        .collect();
    if others.is_empty() {
        return;
    }
    let plan = startup::Plan {
        trampoline: Hpa::new(machine.handoff.trampoline),
        page_tables: Hpa::new(loader_tables),
        areas: machine.areas_at,
        apic_ids: &others,
    };
    // SAFETY: the validated hand-over sets the page aside; the loader's tables map the low 4 GiB,
    // with Bouncer and that page in them; there is an area for every APIC id.
    let came = unsafe { startup::raise(&plan, machine.timer, arrive) };
    let is_ready = || machine.areas.iter().filter(|area| area.is_ready()).count() as u32 > came;
    let all = machine.timer.wait_until(READY, is_ready) && came as usize == others.len();
    if !all {
        // Those that did not come must not come later, into memory that is the guest's then.
        for id in others
            .iter()
            .filter(|id| !machine.areas.iter().any(|area| area.apic_id() == **id))
        {
            apic::send(apic::Signal::Init, *id);
        }
        let ready = machine.areas.iter().filter(|area| area.is_ready()).count();
        say!(
            "only {ready} of {} processors started: the guest gets those",
            machine.areas.len()
        );
    }
}

/// Where the other processors arrive, each on its own stack.
extern "sysv64" fn processor_entry<B: Backend>(number: u32, _: u64) -> ! {
    let (Some(machine), Some(root)) = (Machine::published(), OWN_TABLES.get()) else {
        cpu::instructions::stop()
    };
    let Some(area) = machine.areas.get(number as usize).copied() else {
        cpu::instructions::stop()
    };
    // SAFETY: as for the first processor; `startup` gave this number to this processor alone.
    unsafe {
        mappings::switch(mappings::Root::new(*root));
        area.adopt(apic::id());
    }
    if let Err(missing) = B::check() {
        say!("processor {number}: {missing}");
        cpu::instructions::stop()
    }
    let cpu = B::enable(area, &machine.shared);
    area.note_ready();
    Runner::waiting(cpu, area, machine).run()
}

/// Dies as the command line asks, so that the last words can be seen; by its own name.
#[inline(never)]
fn rehearse(rehearsal: Rehearsal) {
    match rehearsal {
        Rehearsal::PANIC => panic!("a rehearsed panic: the command line asked for it"),
        // SAFETY: UD2 raises an exception, which ends in the epitaph.
        Rehearsal::FAULT => unsafe { core::arch::asm!("ud2", options(noreturn)) },
        _ => {}
    }
}

/// The table of what was found.
fn describe(machine: &Machine) {
    let handoff = machine.handoff;
    say!("processors   {}", machine.areas.len());
    say!(
        "guest memory {} MiB usable",
        handoff
            .regions()
            .filter(|region| region.kind == boot::memory_map::RegionKind::USABLE)
            .map(|region| region.range.len())
            .sum::<u64>()
            >> 20
    );
    say!(
        "@own base={:#x} bytes={} image={} pools={}",
        handoff.own.base,
        handoff.own.len,
        handoff.image.len,
        handoff.pools.len
    );
}

/// How long it took from the loader's first instruction to here.
fn announce_launch(machine: &Machine) {
    let entry = machine.handoff.entry;
    if entry.has_pm_timer != 0 {
        let ticks = machine.timer.since(entry.pm_timer);
        say!("@launch pm-ticks={ticks} per-second={TICKS_PER_SECOND}");
    }
}
