//! The drive's administration: what it says of itself, its features, its logs, flush, format, and what it refuses.
//!
//! Numbers are those of the NVM Express base specification 2.0, figures 138 (opcodes), 202 (logs), 317 (features).

use super::buffers::{PAGE, Pages};
use super::drive::{Drive, drop_caches};
use super::passthrough::{Answer, Question, Queue, ask};
use crate::block::Way;
use crate::noise::Noise;
use crate::verdict::{Attempt, Figures, Shortfall, Verdict, ensure};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

const GET_LOG: u8 = 0x02;
const IDENTIFY: u8 = 0x06;
const SET_FEATURES: u8 = 0x09;
const GET_FEATURES: u8 = 0x0a;
const FORMAT: u8 = 0x80;
/// An opcode in the range that vendors have for themselves, with data to the host.
const VENDORS: u8 = 0xc2;
/// Commands of the NVM command set.
const FLUSH: u8 = 0x00;
const COMPARE: u8 = 0x05;
const WRITE_ZEROES: u8 = 0x08;
const VERIFY: u8 = 0x0c;

const ALL_NAMESPACES: u32 = 0xffff_ffff;
/// The temperature threshold, which is a guest's to set.
const THRESHOLD: u32 = 0x04;
/// Features that every controller has: arbitration, power, threshold, queues, asynchronous events.
const FEATURES: [u32; 5] = [0x01, 0x02, THRESHOLD, 0x07, 0x0b];
/// "Invalid Command Opcode" of the generic command status.
const INVALID_OPCODE: u16 = 0x01;
const SECTOR: usize = 512;

pub(in super::super) fn run(figures: &mut Figures) -> Verdict {
    let drive = Drive::asked_for()?;
    let controller = drive.open_controller()?;
    attributes(&drive)?;
    let about = identify(&drive, &controller)?;
    logs(&controller)?;
    features(&controller)?;
    commands(&drive, &about)?;
    refusals(&controller)?;
    format(&drive, &controller, &about, figures)?;
    // After all that the drive still does its work.
    figures.tell("admin.model", drive.attribute("model")?);
    Ok(())
}

/// What the driver learned from the drive.
fn attributes(drive: &Drive) -> Verdict {
    for (name, expected) in [
        ("serial", drive.serial()),
        ("state", "live"),
        ("transport", "pcie"),
    ] {
        let value = drive.attribute(name)?;
        ensure!(value == expected, "sysfs: {name} is {value:?}");
    }
    for name in ["model", "firmware_rev", "queue_count", "sqsize", "cntlid"] {
        ensure!(
            !drive.attribute(name)?.is_empty(),
            "sysfs: {name} says nothing"
        );
    }
    Ok(())
}

/// What is optional, as the controller says.
struct About {
    can_format: bool,
    can_compare: bool,
    can_verify: bool,
    can_zero: bool,
}

fn identify(drive: &Drive, controller: &File) -> Result<About, Shortfall> {
    let mut pages = Pages::new(2 * PAGE);
    // Not at the beginning of a page: the data structure lies across a border.
    let data = pages.part(0x740, PAGE);
    demand(
        controller,
        "identify controller",
        question(IDENTIFY, 0, 1),
        data,
    )?;
    let serial = String::from_utf8_lossy(&data[4..24]).trim().to_owned();
    ensure!(
        serial == drive.serial(),
        "identify controller: serial number {serial:?}"
    );
    let word = |offset: usize| u16::from_le_bytes([data[offset], data[offset + 1]]);
    let (admin, optional) = (word(256), word(520));
    let about = About {
        can_format: admin & 1 << 1 != 0,
        can_compare: optional & 1 != 0,
        can_zero: optional & 1 << 3 != 0,
        can_verify: optional & 1 << 7 != 0,
    };
    demand(
        controller,
        "identify namespace",
        question(IDENTIFY, 1, 0),
        data,
    )?;
    let blocks = u64::from_le_bytes(std::array::from_fn(|index| data[index]));
    ensure!(
        blocks * SECTOR as u64 == drive.bytes()?,
        "identify namespace: {blocks} blocks, {} bytes by sysfs",
        drive.bytes()?
    );
    demand(
        controller,
        "list of namespaces",
        question(IDENTIFY, 0, 2),
        data,
    )?;
    ensure!(
        data[..8] == [1, 0, 0, 0, 0, 0, 0, 0],
        "list of namespaces: {:?}",
        &data[..8]
    );
    Ok(about)
}

/// Reads logs into the middle of a page whose other bytes stay as they are.
fn logs(controller: &File) -> Verdict {
    const AROUND: u8 = 0x5a;
    let mut pages = Pages::new(PAGE);
    for (log, name, length) in [
        (1, "error log", 64),
        (2, "SMART log", 512),
        (3, "firmware log", 512),
    ] {
        pages.all().fill(AROUND);
        let place = 0x6c4;
        let dwords = length as u32 / 4 - 1;
        let asked = question(GET_LOG, ALL_NAMESPACES, log | dwords << 16);
        demand(controller, name, asked, pages.part(place, length))?;
        if log == 2 {
            // Composite temperature in kelvins: bytes 1 and 2.
            let data = pages.part(place, length);
            let kelvins = u16::from_le_bytes([data[1], data[2]]);
            ensure!((200..400).contains(&kelvins), "SMART log: {kelvins} K");
        }
        let all = pages.all();
        let is_whole = all[..place].iter().all(|byte| *byte == AROUND)
            && all[place + length..].iter().all(|byte| *byte == AROUND);
        ensure!(is_whole, "{name}: bytes around the buffer changed");
    }
    Ok(())
}

fn features(controller: &File) -> Verdict {
    let read = |feature: u32| {
        let name = format!("feature {feature:#04x}");
        demand(
            controller,
            &name,
            question(GET_FEATURES, 0, feature),
            &mut [],
        )
    };
    for feature in FEATURES {
        read(feature)?;
    }
    let before = read(THRESHOLD)?.result & 0xffff;
    for kelvins in [before - 1, before] {
        let mut asked = question(SET_FEATURES, 0, THRESHOLD);
        asked.words[1] = kelvins;
        demand(controller, "setting the threshold", asked, &mut [])?;
        let now = read(THRESHOLD)?.result & 0xffff;
        ensure!(now == kelvins, "threshold {now} K, {kelvins} K was set");
    }
    Ok(())
}

/// Commands to the namespace that no read or write of a program causes.
fn commands(drive: &Drive, about: &About) -> Verdict {
    let file = drive.open(Way::Direct)?;
    let mut pages = Pages::new(PAGE);
    let content = Noise::new(0x636d_7072).bytes(SECTOR);
    pages.part(0x804, SECTOR).copy_from_slice(&content);
    file.write_all_at(pages.part(0x804, SECTOR), 0)
        .attempt("writing a sector")?;
    let give = |name: &str, opcode: u8, data: &mut [u8]| {
        // Words 10 and 11 are the first block, word 12 the number of blocks less one: all zero.
        let asked = question(opcode, 1, 0);
        let answer = ask(&file, Queue::InputOutput, asked, data)?;
        Ok::<_, Shortfall>((name.to_owned(), answer))
    };
    let succeeds = |(name, answer): (String, Answer)| {
        ensure!(answer.is_success(), "{name}: status {:#06x}", answer.status);
        Ok(())
    };
    succeeds(give("flush", FLUSH, &mut [])?)?;
    if about.can_compare {
        succeeds(give("compare", COMPARE, pages.part(0x804, SECTOR))?)?;
        pages.part(0x804, 1)[0] ^= 1;
        let (_, answer) = give("compare", COMPARE, pages.part(0x804, SECTOR))?;
        // "Compare Failure" of the media errors.
        ensure!(
            answer.status & 0x7ff == 0x285,
            "comparing other bytes: status {:#06x}",
            answer.status
        );
    }
    if about.can_verify {
        succeeds(give("verify", VERIFY, &mut [])?)?;
    }
    if about.can_zero {
        succeeds(give("write zeroes", WRITE_ZEROES, &mut [])?)?;
        let data = pages.part(0x804, SECTOR);
        file.read_exact_at(data, 0).attempt("reading the zeroes")?;
        ensure!(data.iter().all(|byte| *byte == 0), "zeroes are not");
    }
    Ok(())
}

/// What nobody understands is answered with a status, and soon.
fn refusals(controller: &File) -> Verdict {
    let mut pages = Pages::new(PAGE);
    pages.all().fill(0x5a);
    let answer = ask(
        controller,
        Queue::Admin,
        question(VENDORS, 0, 0),
        pages.part(0x200, SECTOR),
    )?;
    ensure!(
        answer.status & 0x7ff == INVALID_OPCODE,
        "a vendor's command: status {:#06x}",
        answer.status
    );
    let answer = ask(
        controller,
        Queue::Admin,
        question(IDENTIFY, 0, 0xfe),
        pages.part(0, PAGE),
    )?;
    ensure!(
        !answer.is_success(),
        "a structure nobody knows is identified"
    );
    Ok(())
}

/// Formats the namespace: what was written is gone.
fn format(drive: &Drive, controller: &File, about: &About, figures: &mut Figures) -> Verdict {
    figures.tell("admin.can-format", about.can_format);
    if !about.can_format {
        return Ok(());
    }
    const AT: u64 = 3 << 20;
    let content = Noise::new(0x666f_726d).bytes(PAGE);
    let file = drive.open(Way::Buffered)?;
    file.write_all_at(&content, AT)
        .and_then(|()| file.sync_all())
        .attempt("writing before the format")?;
    demand(controller, "format", question(FORMAT, 1, 0), &mut [])?;
    drop_caches()?;
    let began = Instant::now();
    let mut bytes = vec![0; PAGE];
    loop {
        // A drive may still be at it: reads fail until it is done.
        match file.read_exact_at(&mut bytes, AT) {
            Ok(()) => break,
            Err(error) => ensure!(
                began.elapsed() < Duration::from_secs(20),
                "reading after the format: {error}"
            ),
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    ensure!(bytes != content, "a format left what was written");
    Ok(())
}

/// Asks the controller and demands success.
fn demand(
    controller: &File,
    name: &str,
    asked: Question,
    data: &mut [u8],
) -> Result<Answer, Shortfall> {
    let answer = ask(controller, Queue::Admin, asked, data)?;
    ensure!(answer.is_success(), "{name}: status {:#06x}", answer.status);
    Ok(answer)
}

fn question(opcode: u8, namespace: u32, word_10: u32) -> Question {
    Question {
        opcode,
        namespace,
        words: [word_10, 0, 0, 0, 0, 0],
    }
}
