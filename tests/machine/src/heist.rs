//! The demonstration's attack: a second device in a drive's domain takes all that it can reach, while the drive works.
//!
//! Owns what the attacker does and what came of it; the attacker is QEMU's `edu`, a page at a time. The secret is the
//! guest's canary, which fills the pages around the buffers of its requests.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use qemu::{Port, Session};

use crate::attacker::{Attacker, REACH as PAGE, Transfer};
use crate::audit::{self, Canary, Page, Reach};

/// The device, as QEMU's arguments.
pub const DEVICE: [&str; 2] = ["-device", "edu,addr=08.0,dma_mask=0xffffffffffffffff"];

/// Both devices are nobody's and of one group: whatever the drive reaches, the attacker reaches.
pub const POLICY: &str = r#"version = 1
default = "trusted"

[[device]]
name = "drive"
match = { path = "0000:00:10.0/00.0" }
trust = "untrusted"
group = "attacked"
pool = "512KiB"

[[device]]
name = "attacker"
match = { path = "0000:00:08.0" }
trust = "untrusted"
group = "attacked"
pool = "512KiB"
"#;

/// Pages around the secret that are taken where everything is within reach.
const AROUND: u64 = 8;
/// Where the attacker brings what it took if it may write anywhere: memory that kernels leave to the firmware.
const ANYWHERE: u64 = 0x8000;

/// What the guest says that it hides.
#[derive(Clone, Copy, Debug)]
pub struct Secret {
    /// The bytes, over and over.
    pub canary: Canary,
    /// A page full of them.
    pub page: u64,
}

impl Secret {
    /// Waits until the guest has hidden it.
    ///
    /// # Errors
    /// If it says nothing, or nothing that can be read.
    pub fn told(session: &mut Session, patience: Duration) -> Result<Self, String> {
        let mut figure = |key: &str| {
            let line = session.wait_for(Port::Guest, key, patience);
            let line = line.map_err(|error| error.to_string())?;
            Ok::<_, String>(line.text.rsplit(' ').next().unwrap_or_default().to_owned())
        };
        let canary = Canary::parse(&figure("data subpage.canary ")?);
        let page = figure("data subpage.page ")?;
        let page = page
            .strip_prefix("0x")
            .and_then(|page| u64::from_str_radix(page, 16).ok());
        let both = canary.zip(page);
        let (canary, page) = both.ok_or("the guest tells its secret in no way that is known")?;
        Ok(Self { canary, page })
    }
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loot {
    /// Bytes that the tables let the device reach; none is all there is.
    pub bytes: Option<u64>,
    /// Whether any memory within its reach, taken whole from outside, holds some of the secret.
    pub is_within_reach: bool,
    /// Pages that the device asked for.
    pub asked: u64,
    /// Those it got some of the secret with.
    pub with_secret: u64,
}

impl Loot {
    /// What the device can reach, for a person.
    #[must_use]
    pub fn reach(&self) -> String {
        match self.bytes {
            Some(bytes) => format!("{} KiB", bytes / 1024),
            None => "all memory".into(),
        }
    }
}

impl fmt::Display for Loot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            asked, with_secret, ..
        } = self;
        write!(f, "secrets in {with_secret} of {asked} pages")
    }
}

/// Has the device read every page within its reach, and those of the guest's with the secret in any case. Of memory without
/// bounds, those around the secret. Memory is dumped through the file `scratch`; the machine has `memory` bytes from 0 on.
///
/// # Panics
/// If there is no attacker, or bus or monitor do not answer.
pub fn steal(session: &mut Session, secret: Secret, memory: u64, scratch: &Path) -> Loot {
    let attacker = Attacker::arm(session, &[]);
    let (reach, found) = audit::standing_still(session, |session| {
        let reach = audit::reach(session, attacker.requester());
        let whole = match &reach {
            Reach::Everything(_) => Reach::Pages(vec![everything(memory)]),
            other => other.clone(),
        };
        let found = audit::holding(session, &whole, secret.canary, scratch);
        (reach, found)
    });
    // The pages of the guest's come first, as long as the device's buffer holds nothing yet.
    let around = (0..2 * AROUND).map(|index| secret.page - AROUND * PAGE + index * PAGE);
    let mut targets: Vec<u64> = around.collect();
    let mut way_out = Some((ANYWHERE, ANYWHERE));
    if let Reach::Pages(pages) = &reach {
        targets.extend(pages.iter().filter(|page| page.is_readable).flat_map(parts));
        let writable = pages.iter().filter(|page| page.is_writable);
        way_out = writable.map(last).max();
    }
    let mut loot = Loot {
        bytes: reach.bytes(),
        is_within_reach: !found.is_empty(),
        asked: targets.len() as u64,
        with_secret: 0,
    };
    let Some((device_sees, place)) = way_out else {
        return loot;
    };
    for target in targets {
        attacker.transfer(session, Transfer::Read, target, PAGE);
        attacker.transfer(session, Transfer::Write, device_sees, PAGE);
        let bus = session.qtest().expect("the machine has a bus");
        let taken = bus.read(place, PAGE as usize).expect("the bus answers");
        loot.with_secret += u64::from(secret.canary.find_in(&taken).is_some());
    }
    loot
}

fn everything(memory: u64) -> Page {
    Page {
        iova: 0,
        address: 0,
        bytes: memory,
        is_readable: true,
        is_writable: true,
    }
}

/// Where the device sees each 4 KiB of a page.
fn parts(page: &Page) -> impl Iterator<Item = u64> + use<> {
    let start = page.iova;
    (0..page.bytes / PAGE).map(move |index| start + index * PAGE)
}

/// Where the device sees the last 4 KiB of a page, and where they are.
fn last(page: &Page) -> (u64, u64) {
    let offset = page.bytes - PAGE;
    (page.iova + offset, page.address + offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_page_is_taken_in_parts() {
        let page = Page {
            iova: 0x20_0000,
            address: 0x3fa0_0000,
            bytes: 0x20_0000,
            ..everything(0)
        };
        let parts: Vec<_> = parts(&page).collect();
        assert_eq!(
            (parts.len(), parts[1], parts[511]),
            (512, 0x20_1000, 0x3f_f000)
        );
        assert_eq!(last(&page), (0x3f_f000, 0x3fbf_f000));
    }

    #[test]
    fn loot_is_told_in_a_sentence() {
        let loot = Loot {
            bytes: Some(1 << 20),
            is_within_reach: false,
            asked: 144,
            with_secret: 0,
        };
        assert_eq!(loot.reach(), "1024 KiB");
        assert_eq!(loot.to_string(), "secrets in 0 of 144 pages");
        assert_eq!(
            Loot {
                bytes: None,
                ..loot
            }
            .reach(),
            "all memory"
        );
    }
}
