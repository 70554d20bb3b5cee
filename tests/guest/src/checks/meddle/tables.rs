//! Entries of an MSI-X table written as no driver writes them, past the driver that uses the table.
//!
//! The guest reads back what it wrote; the device holds something else, or nothing. Entries that no
//! driver uses are taken, and put back.

use super::function::Function;
use super::parties::{self, capability, register};
use super::roads::Roads;
use super::stretch::Stretch;
use super::truth::Truth;
use super::vitals::{UNIT, Vitals};
use crate::bouncer;
use crate::cpus;
use crate::verdict::{Attempt, Figures, Shortfall, Verdict, ensure, failed};

/// PCI Local Bus 3.0, section 6.8.2: bytes of an entry, and the fields in it.
const ENTRY: u64 = 16;
const DATA: u64 = 8;
const CONTROL: u64 = 12;
const MASKED: u32 = 1;
const TO_FIRST: u64 = 0xfee0_0000;
/// How far the drive is moved: inside the window of its port, which is 2 MiB at least.
const AWAY: u64 = 1 << 20;
/// Virtio's network card, the modern kind.
const VIRTIO_NETWORK: u32 = 0x02_0000;

/// Writes evil entries into the tables of the drive and the network card.
pub(in super::super) fn run(figures: &mut Figures) -> Verdict {
    let roads = Roads::open()?;
    let truth = Truth::open()?;
    let vitals = Vitals::watch()?;
    let mut written = 0;
    for class in [parties::NVME, VIRTIO_NETWORK] {
        let function = parties::of_class(class)?;
        let table = Table::of(&roads, function)?;
        let last = table.entries - 1;
        let before = table.entry(last);
        for (address, data) in messages(&vitals) {
            for width in [4, 8] {
                let what =
                    format!("{function}: entry {last}, {data:#x} to {address:#x} by {width}");
                table.write(last, address, data, width);
                let outcome = table
                    .judge(&truth, last, address, data, &what)
                    .and_then(|()| vitals.hold(&what));
                table.restore(last, before);
                outcome?;
                written += 1;
            }
        }
        table.odd_accesses_change_nothing(last)?;
        table.restore(last, before);
    }
    super::buses::read_drive()?;
    figures.tell("meddle.msix.entries", written);
    figures.tell("meddle.msix.oracle", truth.is_known());
    Ok(())
}

/// Moves the drive's registers, its table among them, to a lawful place, and writes an evil entry
/// there: from the processor that moves them, and from one that has looked at the place before.
pub(in super::super) fn moved(figures: &mut Figures) -> Verdict {
    let roads = Roads::open()?;
    let truth = Truth::open()?;
    let online = cpus::online()?;
    let function = parties::of_class(parties::NVME)?;
    let driver = |verb: &str| {
        let path = format!("/sys/bus/pci/drivers/nvme/{verb}");
        std::fs::write(&path, function.to_string()).attempt(&path)
    };
    driver("unbind")?;
    let home = Table::of(&roads, function)?;
    let place = roads.dword(function, register::BAR);
    let command = roads.word(function, register::COMMAND) | register::MEMORY;
    roads.put_word(function, register::COMMAND, command);
    let mut written = 0;
    for &cpu in &online {
        for live in [true, false] {
            let what = format!("{function}: its table moved, live {live}, used by processor {cpu}");
            let away = Stretch::map(home.at + AWAY, home.entries * ENTRY)?;
            let seen = cpus::on(cpu, || Ok(away.dword(home.at + AWAY)))?;
            if !live {
                roads.put_word(function, register::COMMAND, command & !register::MEMORY);
            }
            roads.put(function, register::BAR, place + AWAY as u32);
            roads.put_word(function, register::COMMAND, command);
            let table = Table {
                at: home.at + AWAY,
                entries: home.entries,
                stretch: away,
            };
            let outcome = cpus::on(cpu, || {
                ensure!(
                    table.entry(0) != [seen; 4],
                    "{what}: nothing answers at {:#x}",
                    table.at
                );
                Ok(())
            })
            .and_then(|()| {
                let last = table.entries - 1;
                cpus::on(cpu, || {
                    table.write(last, TO_FIRST, 0x402, 4);
                    Ok(())
                })?;
                table.judge(&truth, last, TO_FIRST, 0x402, &what)?;
                table.restore(last, [0, 0, 0, MASKED]);
                Ok(())
            });
            roads.put(function, register::BAR, place);
            outcome?;
            written += 1;
        }
    }
    driver("bind")?;
    super::buses::read_drive()?;
    figures.tell("meddle.moved-table.entries", written);
    Ok(())
}

/// Puts the network card to sleep and wakes it, which may have reset it, and writes an evil entry where its
/// table is all the same.
pub(in super::super) fn woken(figures: &mut Figures) -> Verdict {
    /// PCI Bus Power Management 1.2, section 3.2.4: control and status, and two of its fields.
    const POWER_STATE: u16 = 4;
    const D3HOT: u16 = 3;
    const NO_SOFT_RESET: u16 = 1 << 3;
    let roads = Roads::open()?;
    let truth = Truth::open()?;
    let function = parties::of_class(VIRTIO_NETWORK)?;
    let driver = |verb: &str| {
        let path = format!("/sys/bus/pci/drivers/virtio-pci/{verb}");
        std::fs::write(&path, function.to_string()).attempt(&path)
    };
    driver("unbind")?;
    let command = roads.word(function, register::COMMAND) | register::MEMORY;
    roads.put_word(function, register::COMMAND, command);
    let table = Table::of(&roads, function)?;
    let power = parties::capability_of(&roads, function, capability::POWER)? + POWER_STATE;
    let awake = roads.word(function, power);
    ensure!(
        awake & NO_SOFT_RESET == 0,
        "{function} says that it sleeps without a reset: {awake:#x}"
    );
    let last = table.entries - 1;
    for state in [D3HOT, 0] {
        roads.put_word(function, power, awake & !D3HOT | state);
    }
    roads.put_word(function, register::COMMAND, command);
    table.write(last, TO_FIRST, 0x402, 4);
    let what = format!("{function}: its table after a sleep");
    let outcome = table.judge(&truth, last, TO_FIRST, 0x402, &what);
    table.restore(last, [0, 0, 0, MASKED]);
    driver("bind")?;
    outcome?;
    figures.tell("meddle.woken-table.oracle", truth.is_known());
    Ok(())
}

/// NMI, SMI, INIT, ExtINT; into memory; into Bouncer and the remapping unit; a guessed handle.
fn messages(vitals: &Vitals) -> Vec<(u64, u32)> {
    let mut messages = vec![
        (TO_FIRST, 0x402),
        (TO_FIRST, 0x202),
        (TO_FIRST, 0x502),
        (TO_FIRST, 0x702),
        (vitals.canary(), 0x5a5a),
        (UNIT + 0x3c, 0x5a5a),
        (TO_FIRST | 1 << 4 | 3 << 5, 0x55),
    ];
    if bouncer::is_there() {
        messages.push((bouncer::own_memory().base, 0x5a5a));
    }
    messages
}

/// The table of one function, mapped.
struct Table {
    at: u64,
    entries: u64,
    stretch: Stretch,
}

impl Table {
    fn of(roads: &Roads, function: Function) -> Result<Self, Shortfall> {
        let msix = parties::capability_of(roads, function, capability::MSIX)?;
        let entries = u64::from(roads.word(function, msix + 2) & 0x7ff) + 1;
        let place = roads.dword(function, msix + 4);
        let bar = register::BAR + 4 * (place & 7) as u16;
        let low = roads.dword(function, bar);
        let high = match low & 6 {
            4 => roads.dword(function, bar + 4),
            _ => 0,
        };
        let base = u64::from(high) << 32 | u64::from(low & !0xf);
        ensure!(base != 0, "{function}: its table has no place");
        let at = base + u64::from(place & !7);
        Ok(Self {
            at,
            entries,
            stretch: Stretch::map(at, entries * ENTRY)?,
        })
    }

    fn field(&self, index: u64, field: u64) -> u64 {
        self.at + index * ENTRY + field
    }

    fn entry(&self, index: u64) -> [u32; 4] {
        [0, 4, DATA, CONTROL].map(|field| self.stretch.dword(self.field(index, field)))
    }

    /// Masked while it changes, as it was at the end.
    fn restore(&self, index: u64, entry: [u32; 4]) {
        let store = |field, value| {
            let at = self.field(index, field);
            self.stretch.store(at, 4, u64::from(value));
        };
        store(CONTROL, MASKED);
        for (field, value) in [0, 4, DATA, CONTROL].into_iter().zip(entry) {
            store(field, value);
        }
    }

    /// Writes an entry and unmasks it.
    fn write(&self, index: u64, address: u64, data: u32, width: usize) {
        let data = u64::from(data);
        if width == 8 {
            self.stretch.store(self.field(index, 0), 8, address);
            // Data and vector control at once: control's mask bit is clear.
            self.stretch.store(self.field(index, DATA), 8, data);
        } else {
            for (field, value) in [(0, address), (4, address >> 32), (DATA, data), (CONTROL, 0)] {
                self.stretch.store(self.field(index, field), 4, value);
            }
        }
    }

    /// Demands that the guest reads what it wrote, and that the device holds something else.
    fn judge(&self, truth: &Truth, index: u64, address: u64, data: u32, what: &str) -> Verdict {
        let entry = self.entry(index);
        let wanted = [address as u32, (address >> 32) as u32, data, 0];
        ensure!(
            entry == wanted,
            "{what}: {wanted:x?} was written and {entry:x?} is read back"
        );
        let ask = |field| truth.dword(self.field(index, field));
        if let (Some(low), Some(high), Some(real), Some(control)) =
            (ask(0)?, ask(4)?, ask(DATA)?, ask(CONTROL)?)
        {
            let is_raw = [low, high, real] == wanted[..3];
            ensure!(
                !is_raw || control & MASKED != 0,
                "{what}: the device was given the entry as the guest wrote it"
            );
        }
        Ok(())
    }

    /// "Software must use only aligned full double word or quad word transactions": whatever comes
    /// of others, it is nothing that the table's own rules forbid.
    fn odd_accesses_change_nothing(&self, index: u64) -> Verdict {
        self.restore(index, [TO_FIRST as u32, 0, 0xf2, MASKED]);
        for (field, bytes) in [
            (1, 1),
            (DATA + 1, 1),
            (DATA, 2),
            (2, 4),
            (DATA + 2, 4),
            (CONTROL + 1, 2),
        ] {
            self.stretch
                .store(self.field(index, field), bytes, 0x0404_0404);
        }
        let mode = self.stretch.dword(self.field(index, DATA));
        let control = self.stretch.dword(self.field(index, CONTROL));
        if control & MASKED == 0 {
            return Err(failed(format!(
                "entry {index}: odd accesses have unmasked it, with data {mode:#x}"
            )));
        }
        Ok(())
    }
}
