//! INIT and start-up messages between the guest's processors.

use processor::icr::{Command, Targets};

use crate::console::say;
use crate::cpu::area::Area;
use crate::limit::Once;
use crate::machine::Machine;
use crate::run;

static UNSUPPORTED: Once<(), 1> = Once::new();

/// Delivers a command of the processor `sender` that the local APIC must not see.
pub(crate) fn obey(machine: &Machine, sender: &Area, command: Command) {
    match command {
        Command::Init(targets) => {
            for other in named(machine, sender, targets) {
                other.mailbox.post_init();
                tell(sender, other);
            }
        }
        Command::Startup { vector, targets } => {
            for other in named(machine, sender, targets) {
                other.mailbox.post_startup(vector);
                tell(sender, other);
            }
        }
        Command::Nothing | Command::Pass => {}
        Command::Unsupported => {
            if UNSUPPORTED.is_new(()) {
                say!(
                    "guest processor {}: interrupt command dropped: an SMI or a reserved delivery mode, or \
                     INIT or start-up to a logical destination",
                    sender.index()
                );
            }
        }
    }
}

fn named<'a>(
    machine: &'a Machine,
    sender: &'a Area,
    targets: Targets,
) -> impl Iterator<Item = &'static Area> + 'a {
    // Who did not start has no id, and a call to it would reach everybody.
    let areas = machine.areas.iter().copied().filter(|area| area.is_ready());
    areas.filter(move |area| targets.includes(area.apic_id(), sender.apic_id()))
}

/// The sender looks at its own orders before it enters the guest again; others are called.
fn tell(sender: &Area, other: &Area) {
    if sender.index() != other.index() {
        run::call(other);
    }
}
