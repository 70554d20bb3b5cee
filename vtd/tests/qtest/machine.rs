//! A machine without a guest: QEMU's VT-d, its memory, two `edu` devices, seen from its bus.
//!
//! Owns the process and the seams: [`Bus`] is [`Registers`] and [`Frames`] over qtest. The
//! processor executes `hlt` with interrupts off, so that vectors stay where they arrive.

use std::cell::RefCell;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};
use std::{env, fs, process, thread};

use memory::{Flushed, Frame, Frames, Hpa, OutOfFrames, PAGE_SIZE};
use pci::Bdf;
use qemu::{Qmp, QtestBus};
use vtd::registers::{Deadline, Offset, Registers};
use vtd::remap::Message;

/// Where the emulated unit has its registers.
const UNIT: u64 = 0xfed9_0000;

/// Our table pages: contiguous from here on.
const POOL: u64 = 0x10_0000;

/// Where the devices' registers are put.
const BARS: u64 = 0xfe00_0000;

/// The devices: `edu` at these functions.
pub(crate) const DEVICE: Bdf = Bdf::from_parts(0, 4 << 3);
/// The second one, for what one device does to another.
pub(crate) const OTHER: Bdf = Bdf::from_parts(0, 5 << 3);

/// The device's own buffer, as it addresses it.
const BUFFER: u64 = 0x4_0000;

/// A page of memory that devices are lent at its own address, to show what they have.
pub(crate) const SCRATCH: u64 = 0x1f_f000;

/// What a device has before it reads.
const NOTHING: u64 = 0x0bad_0bad_0bad_0bad;

/// What no device ever has in its buffer.
const CANARY: u64 = 0xa5a5_a5a5_a5a5_a5a5;

/// Longest wait for anything the machine does.
const PATIENCE: Duration = Duration::from_secs(10);

/// A running machine; it ends with this value.
pub(crate) struct Machine {
    process: Child,
    directory: PathBuf,
    bus: Bus,
    qmp: Qmp,
}

/// The machine's bus; clones are the same bus.
#[derive(Clone, Debug)]
pub(crate) struct Bus {
    qtest: Rc<RefCell<QtestBus>>,
    next: Rc<RefCell<u64>>,
}

impl Machine {
    /// Starts a machine with `unit` as the options of `-device intel-iommu`, or says loudly why
    /// the test cannot run here.
    pub(crate) fn start(test: &str, unit: &str) -> Option<Self> {
        let program = env::var_os("QEMU").unwrap_or_else(|| "qemu-system-x86_64".into());
        let answers = |arguments: &[&str]| {
            let mut command = Command::new(&program);
            command
                .args(arguments)
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            command.status().is_ok_and(|status| status.success())
        };
        if !answers(&["--version"]) {
            eprintln!("SKIPPED {test}: {program:?} does not start; install QEMU or set QEMU=path");
            return None;
        }
        let directory = env::temp_dir().join(format!("vtd-{test}-{}", process::id()));
        fs::create_dir_all(&directory).expect("the temporary directory is writable");
        let rom = directory.join("hlt.rom");
        fs::write(&rom, halting_rom()).expect("the temporary directory is writable");
        let (qtest, qmp) = (directory.join("qtest"), directory.join("qmp"));
        let edu = |slot: u8| format!("edu,addr={slot:02x}.0,dma_mask=0xffffffffffffffff");
        let process = Command::new(&program)
            .args(["-M", "q35", "-accel", "tcg", "-m", "64"])
            .args(["-nodefaults", "-display", "none", "-bios"])
            .arg(&rom)
            .args(["-device", &format!("intel-iommu,{unit}")])
            .args(["-device", &edu(4), "-device", &edu(5)])
            .args(["-qtest-log", "/dev/null", "-qtest"])
            .arg(format!("unix:{},server=on,wait=off", qtest.display()))
            .arg("-qmp")
            .arg(format!("unix:{},server=on,wait=off", qmp.display()))
            .stdin(Stdio::null())
            .stderr(fs::File::create(directory.join("log")).expect("the directory is writable"))
            .spawn()
            .expect("QEMU starts, it just told its version");
        let bus = Bus {
            qtest: Rc::new(RefCell::new(
                QtestBus::connect(&qtest).expect("QEMU serves qtest"),
            )),
            next: Rc::new(RefCell::new(POOL)),
        };
        let machine = Self {
            process,
            directory,
            bus,
            qmp: Qmp::connect(&qmp).expect("QEMU serves QMP"),
        };
        for device in [DEVICE, OTHER] {
            machine.write_config(device, 0x10, machine.bar(device) as u32);
            machine.write_config(device, 0x04, 0x6);
        }
        Some(machine)
    }

    /// The bus, as registers of the unit and as frames.
    pub(crate) fn bus(&self) -> Bus {
        self.bus.clone()
    }

    /// The word at a physical address.
    pub(crate) fn word(&self, at: u64) -> u64 {
        self.bus
            .qtest
            .borrow_mut()
            .readq(at)
            .expect("the bus answers")
    }

    /// Stores a word at a physical address.
    pub(crate) fn store(&self, at: u64, word: u64) {
        self.bus
            .qtest
            .borrow_mut()
            .writeq(at, word)
            .expect("the bus answers");
    }

    /// Stores a word in a register of the unit, past the driver.
    pub(crate) fn poke_unit(&self, register: u32, word: u64) {
        self.store(UNIT + u64::from(register), word);
    }

    /// Stores half a word in a register of the unit, past the driver.
    pub(crate) fn command_unit(&self, register: u32, word: u32) {
        let at = UNIT + u64::from(register);
        let stored = self.bus.qtest.borrow_mut().writel(at, word);
        stored.expect("the bus answers");
    }

    /// A register of the unit, past the driver.
    pub(crate) fn unit_word(&self, register: u32) -> u64 {
        self.word(UNIT + u64::from(register))
    }

    /// Makes `device` read 8 bytes at `from`, and returns what it has then: zeros from QEMU if
    /// the read was refused. The device must reach [`SCRATCH`] at its own address: its buffer
    /// is seen only through its DMA.
    pub(crate) fn device_reads(&self, device: Bdf, from: u64) -> u64 {
        self.store(SCRATCH, NOTHING);
        self.transfer(device, SCRATCH, BUFFER, 0b01);
        self.transfer(device, from, BUFFER, 0b01);
        self.transfer(device, BUFFER, SCRATCH, 0b11);
        self.word(SCRATCH)
    }

    /// Makes `device` read 8 bytes at `from`, for the fault alone.
    pub(crate) fn device_tries_to_read(&self, device: Bdf, from: u64) {
        self.transfer(device, from, BUFFER, 0b01);
    }

    /// Makes `device` write the 8 bytes it has at `to`, which is at `at` in memory; whether
    /// they arrived there.
    pub(crate) fn device_writes(&self, device: Bdf, to: u64, at: u64) -> bool {
        self.store(at, CANARY);
        self.transfer(device, BUFFER, to, 0b11);
        self.word(at) != CANARY
    }

    /// Tells `device` which message raises its interrupt.
    pub(crate) fn program_message(&self, device: Bdf, message: Message) {
        let capability = self.read_config(device, 0x34) & 0xff;
        let capability = capability as u8;
        self.write_config(device, capability + 4, message.address as u32);
        self.write_config(device, capability + 8, (message.address >> 32) as u32);
        self.write_config(device, capability + 12, message.data);
        self.write_config(device, capability, 1 << 16);
    }

    /// Makes `device` raise its interrupt.
    pub(crate) fn raise(&self, device: Bdf) {
        let mut bus = self.bus.qtest.borrow_mut();
        bus.writel(self.bar(device) + 0x60, 1)
            .expect("the bus answers");
        bus.writel(self.bar(device) + 0x64, 1)
            .expect("the bus answers");
    }

    /// Whether `vector` has arrived at the processor.
    pub(crate) fn has_arrived(&mut self, vector: u8) -> bool {
        let arguments = serde_json::json!({ "command-line": "info lapic" });
        let answer = self.qmp.execute("human-monitor-command", arguments);
        let answer = answer.expect("QEMU knows its local APIC");
        let text = answer.as_str().expect("a monitor answers text").to_owned();
        let pending = text
            .lines()
            .find(|line| line.trim_start().starts_with("IRR"));
        let pending = pending.unwrap_or_else(|| panic!("no IRR in {text}"));
        pending
            .split_whitespace()
            .any(|word| word.trim_end_matches("(level)").parse() == Ok(vector))
    }

    fn transfer(&self, device: Bdf, from: u64, to: u64, command: u32) {
        let bar = self.bar(device);
        let mut bus = self.bus.qtest.borrow_mut();
        bus.writeq(bar + 0x80, from).expect("the bus answers");
        bus.writeq(bar + 0x88, to).expect("the bus answers");
        bus.writeq(bar + 0x90, 8).expect("the bus answers");
        bus.writel(bar + 0x98, command).expect("the bus answers");
        let start = Instant::now();
        while bus.readl(bar + 0x98).expect("the bus answers") & 1 != 0 {
            assert!(start.elapsed() < PATIENCE, "the device never finishes");
            thread::sleep(Duration::from_millis(2));
        }
    }

    fn bar(&self, device: Bdf) -> u64 {
        BARS + (u64::from(device.device()) << 20)
    }

    fn read_config(&self, device: Bdf, register: u8) -> u32 {
        let mut bus = self.bus.qtest.borrow_mut();
        bus.outl(0xcf8, config_address(device, register))
            .expect("the bus answers");
        bus.inl(0xcfc).expect("the bus answers")
    }

    fn write_config(&self, device: Bdf, register: u8, value: u32) {
        let mut bus = self.bus.qtest.borrow_mut();
        bus.outl(0xcf8, config_address(device, register))
            .expect("the bus answers");
        bus.outl(0xcfc, value).expect("the bus answers");
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if thread::panicking() {
            let log = fs::read_to_string(self.directory.join("log")).unwrap_or_default();
            eprintln!("QEMU said:\n{log}");
        }
        let _ = fs::remove_dir_all(&self.directory);
    }
}

impl Bus {
    fn ask<T>(&self, question: impl FnOnce(&mut QtestBus) -> Result<T, qemu::Error>) -> T {
        question(&mut self.qtest.borrow_mut()).expect("the bus answers")
    }
}

impl Registers for Bus {
    type Deadline = Until;

    fn window(&self) -> u32 {
        0x1000
    }
    fn load32(&self, at: Offset) -> u32 {
        self.ask(|bus| bus.readl(UNIT + u64::from(at.bytes())))
    }
    fn load64(&self, at: Offset) -> u64 {
        self.ask(|bus| bus.readq(UNIT + u64::from(at.bytes())))
    }
    fn store32(&mut self, at: Offset, value: u32) {
        self.ask(|bus| bus.writel(UNIT + u64::from(at.bytes()), value));
    }
    fn store64(&mut self, at: Offset, value: u64) {
        self.ask(|bus| bus.writeq(UNIT + u64::from(at.bytes()), value));
    }
    fn deadline(&self) -> Until {
        Until(Instant::now() + Duration::from_secs(2))
    }
}

/// A point in time.
pub(crate) struct Until(Instant);

impl Deadline for Until {
    fn has_passed(&mut self) -> bool {
        Instant::now() >= self.0
    }
}

impl Frames for Bus {
    fn take(&mut self) -> Result<Frame, OutOfFrames> {
        let mut next = self.next.borrow_mut();
        let base = *next;
        *next += PAGE_SIZE;
        self.ask(|bus| bus.write(base, &[0; PAGE_SIZE as usize]));
        Frame::new(Hpa::new(base)).ok_or(OutOfFrames)
    }
    fn read(&self, table: Hpa, index: usize) -> u64 {
        self.ask(|bus| bus.readq(table.raw() + index as u64 * 8))
    }
    fn publish(&mut self, table: Hpa, index: usize, word: u64) {
        self.ask(|bus| bus.writeq(table.raw() + index as u64 * 8, word));
    }
    fn give_back(&mut self, _: Frame, _: &Flushed) {}
}

fn config_address(device: Bdf, register: u8) -> u32 {
    1 << 31 | u32::from(device.requester_id()) << 8 | u32::from(register)
}

/// 64 KiB that end at the reset vector: `cli; hlt; jmp` back to it.
fn halting_rom() -> Vec<u8> {
    let mut rom = vec![0xf4; 0x1_0000];
    rom[0xfff0..0xfff4].copy_from_slice(&[0xfa, 0xf4, 0xeb, 0xfd]);
    rom
}
