//! Firmware whose tables promise that devices are confined, and that does not do it, is named.

use std::time::{Duration, Instant};

use machine::Scene;
use qemu::{Port, Session};

/// How long firmware waits for somebody who wants its boot menu, in milliseconds: its tables lie in memory then.
const MENU: &str = "menu=on,splash-time=10000";
/// Where the BIOS puts them: at the end of the memory that a machine of 1 GiB has.
const TABLES: u64 = 0x3ffe_0000;
const TABLES_BYTES: usize = 0x2_0000;
const PATIENCE: Duration = Duration::from_secs(120);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(200);
const WORDS: &str =
    "DMA_CTRL_PLATFORM_OPT_IN), but the unit at 0xfed90000 was off when Bouncer came";

/// A machine whose table was changed too late, as on a host that is very busy, is tried again.
const TRIES: usize = 3;

#[test]
fn firmware_that_promises_confined_devices_and_left_the_unit_off_is_named() {
    let name = "firmware_that_promises_confined_devices_and_left_the_unit_off_is_named";
    let is_named = |_| {
        let mut session = Scene::bouncer(name).arguments(&["-boot", MENU]).begin();
        promise(&mut session);
        let launch = session.wait_for(Port::Bouncer, "@launch", PATIENCE);
        launch.unwrap_or_else(|error| panic!("{name}: {error}"));
        let lines = session.lines_of(Port::Bouncer).iter();
        lines.filter(|line| line.text.contains(WORDS)).count() == 1
    };
    assert!((0..TRIES).any(is_named), "{name}: {WORDS}");
}

/// Has the firmware's DMAR table promise that DMA is confined.
fn promise(session: &mut Session) {
    /// Byte offsets in the table: checksum and flags. ACPI 6.5, 5.2.6; VT-d 8.1.
    const CHECKSUM: usize = 9;
    const FLAGS: usize = 37;
    const OPT_IN: u8 = 1 << 2;
    let deadline = Instant::now() + PATIENCE;
    loop {
        let bus = session.qtest().expect("the bus is the test's");
        let memory = bus.read(TABLES, TABLES_BYTES);
        let memory = memory.expect("the machine's memory can be read");
        if let Some(at) = table(&memory) {
            let byte = |offset| memory[at + offset];
            let place = |offset| TABLES + (at + offset) as u64;
            let written = bus
                .writeb(place(FLAGS), byte(FLAGS) | OPT_IN)
                .and_then(|()| bus.writeb(place(CHECKSUM), byte(CHECKSUM).wrapping_sub(OPT_IN)));
            written.expect("the machine's memory can be written");
            return;
        }
        assert!(Instant::now() < deadline, "there is no DMAR table");
        std::thread::sleep(PAUSE);
    }
}

/// Where in `memory` a whole DMAR table lies.
fn table(memory: &[u8]) -> Option<usize> {
    (0..memory.len()).find(|at| {
        let bytes = &memory[*at..];
        let length = bytes.get(4..8).and_then(|bytes| bytes.try_into().ok());
        let length = length.map_or(0, u32::from_le_bytes) as usize;
        let whole = bytes.get(..length).unwrap_or_default();
        let sum = whole
            .iter()
            .fold(0, |sum: u8, byte| sum.wrapping_add(*byte));
        whole.len() > 48 && whole.starts_with(b"DMAR") && sum == 0
    })
}
