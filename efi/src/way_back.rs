//! The ways to a machine without Bouncer: reads keys and variables, and does what `boot::way_back` decides.

use core::fmt::Write;
use core::time::Duration;

use boot::way_back::{self, Course, Reason, Variables};
use uefi_raw::{Guid, Status, guid};

use crate::arrival;
use crate::console::Console;
use crate::measure;
use crate::services::{Alarm, Firmware};

/// Whose the variables are.
const VENDOR: Guid = guid!("b0ce8b0c-5a1e-4c8e-9d57-626f756e6365");

/// How long keys count, from the line that says so.
const KEYS_COUNT: Duration = Duration::from_millis(way_back::KEY_MILLISECONDS as u64);
/// Between two looks at the keyboard while there is nothing else to do.
const LOOK: Duration = Duration::from_millis(10);
/// So many times, should the firmware's timer stand still.
const MOST_LOOKS: u32 = 2 * way_back::KEY_MILLISECONDS / 10;

/// Whether there is a way back on this machine, and what was found of it.
pub(crate) struct WayBack {
    firmware: Firmware,
    /// What the count of starts becomes with this one; `None` if it is not kept.
    tries: Option<u8>,
    /// Comes when keys do not count any more.
    keys_count: Option<Alarm>,
}

impl WayBack {
    /// Looks at the variables and tells of the key; `Err` if the machine is to go on without Bouncer.
    pub(crate) fn offer(
        firmware: Firmware,
        console: &mut Console,
        is_there: bool,
    ) -> Result<Self, Reason> {
        let mut way_back = Self {
            firmware,
            tries: None,
            keys_count: None,
        };
        if !is_there {
            return Ok(way_back);
        }
        let variable = |name| firmware.variable(name, &VENDOR);
        let course = way_back::course(Variables {
            skip: variable(way_back::SKIP),
            tries: variable(way_back::TRIES),
        });
        match course {
            Course::PassOver(reason) => Err(reason),
            Course::Guard { tries } => {
                let _ = writeln!(
                    console,
                    "Bouncer is about to guard this machine; press {} now to start it without",
                    way_back::KEY
                );
                way_back.tries = Some(tries);
                way_back.keys_count = firmware.alarm(KEYS_COUNT);
                Ok(way_back)
            }
        }
    }

    /// `Err` if a key was pressed that leads back. Firmware keeps keys that were pressed while nobody looked.
    pub(crate) fn look_at_keys(&self) -> Result<(), Reason> {
        if self.tries.is_none() {
            return Ok(());
        }
        while let Some(key) = self.firmware.key() {
            if key.eq_ignore_ascii_case(&way_back::KEY) {
                return Err(Reason::Key);
            }
        }
        Ok(())
    }

    /// Takes keys for as long as they count, and does `work` meanwhile, piece by piece until it says that there
    /// is none left; `Err` if one of them leads back.
    pub(crate) fn take_keys(&self, mut work: impl FnMut() -> bool) -> Result<(), Reason> {
        let mut looks = 0;
        loop {
            let is_over = self.keys_count.as_ref().is_none_or(Alarm::has_come);
            self.look_at_keys()?;
            if is_over || looks == MOST_LOOKS {
                return Ok(());
            }
            if !work() {
                looks += 1;
                self.firmware.wait(LOOK);
            }
        }
    }

    /// Counts this start as one that failed, until it has not.
    pub(crate) fn count(&self, console: &mut Console) {
        let Some(tries) = self.tries else { return };
        let status = self
            .firmware
            .set_variable(way_back::TRIES, &VENDOR, Some(tries));
        if status != Status::SUCCESS {
            let _ = writeln!(
                console,
                "The firmware does not keep the variable {} ({status:?}): starts that fail are not counted",
                way_back::TRIES
            );
        }
    }

    /// Takes that back: a machine that is refused does not come to be started without Bouncer by being refused
    /// again and again.
    pub(crate) fn uncount(&self) {
        if let Some(tries) = self.tries {
            let before = Some(tries.saturating_sub(1)).filter(|before| *before != 0);
            // What cannot be taken back was hardly kept.
            let _ = self.firmware.set_variable(way_back::TRIES, &VENDOR, before);
        }
    }

    /// Has the count forgotten as soon as an operating system takes the machine from the firmware.
    pub(crate) fn forget_when_arrived(&self, console: &mut Console) {
        if self.tries.is_none() {
            return;
        }
        let status = arrival::forget(self.firmware, way_back::TRIES, &VENDOR);
        if status != Status::SUCCESS {
            let _ = writeln!(
                console,
                "The firmware does not tell when an operating system takes over ({status:?}): this start \
                 counts as one that failed"
            );
        }
    }
}

/// Whether the machine may go on without Bouncer where Bouncer refuses.
pub(crate) fn allows_unprotected(firmware: Firmware) -> bool {
    firmware.variable(way_back::UNPROTECTED, &VENDOR) == Some(1)
}

/// Lets the machine go on without Bouncer, and says so. No reason is one that was told already.
pub(crate) fn pass_over(firmware: Firmware, console: &mut Console, reason: Option<Reason>) {
    if let Err(status) = measure::pass_over(firmware, reason) {
        let _ = writeln!(console, "The TPM cannot be told of it ({status:?})");
    }
    if let Some(name) = reason.and_then(Reason::spent) {
        let status = firmware.set_variable(name, &VENDOR, None);
        if status != Status::SUCCESS {
            let _ = writeln!(
                console,
                "The variable {name} cannot be removed ({status:?}) and counts again the next time"
            );
        }
    }
    let _ = match reason {
        Some(reason) => writeln!(
            console,
            "Firmware goes on WITHOUT Bouncer, no device is confined: {reason}"
        ),
        None => writeln!(
            console,
            "Firmware goes on WITHOUT Bouncer, no device is confined: the variable {} allows it",
            way_back::UNPROTECTED
        ),
    };
}
