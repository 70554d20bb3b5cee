//! Why the loader does not start Bouncer.

use core::fmt;

use boot::elf::ElfError;
use boot::facts::FactsError;
use boot::handoff::HandoffError;
use boot::linux::LinuxError;
use boot::memory_map::MapError;
use boot::modules::ModulesError;
use boot::multiboot2::MultibootError;
use boot::options::OptionsError;
use boot::reservation::ReservationError;
use memory::Hpa;

macro_rules! refusals {
    ($($name:ident($error:ty)),* $(,)?) => {
        /// Why the loader does not start Bouncer.
        pub(crate) enum Refusal {
            $($name($error),)*
            /// The boot loader told nothing.
            NoInformation,
            /// No root pointer of ACPI.
            NoRootPointer,
            /// Something lies where the loader cannot read.
            Unreachable { start: Hpa, last: Hpa },
            /// No room for Bouncer.
            NoRoom { bytes: u64 },
            /// No page to start processors in.
            NoTrampoline,
            /// The policy is not UTF-8.
            PolicyNotText { offset: usize },
        }

        $(impl From<$error> for Refusal {
            fn from(error: $error) -> Self {
                Self::$name(error)
            }
        })*

        impl fmt::Display for Refusal {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $(Self::$name(error) => error.fmt(f),)*
                    Self::NoInformation => f.write_str(
                        "the boot loader passed no information; load Bouncer with GRUB's multiboot2",
                    ),
                    Self::NoRootPointer => f.write_str(
                        "the boot loader found no ACPI root pointer; turn ACPI on in the firmware",
                    ),
                    Self::Unreachable { start, last } => write!(
                        f,
                        "the boot loader put something at {start}..={last}, where it cannot be read"
                    ),
                    Self::NoRoom { bytes } => write!(
                        f,
                        "too little memory: {} KiB in one piece below 4 GiB are needed for Bouncer \
                         itself; give the machine more memory",
                        bytes / 1024
                    ),
                    Self::NoTrampoline => f.write_str(
                        "no free page below 640 KiB, which the other processors would start in",
                    ),
                    Self::PolicyNotText { offset } => write!(
                        f,
                        "policy.toml is not UTF-8 text: the byte at offset {offset} is wrong; save it as \
                         UTF-8"
                    ),
                }
            }
        }
    };
}

refusals! {
    Elf(ElfError),
    Facts(FactsError),
    Handoff(HandoffError),
    Linux(LinuxError),
    Map(MapError),
    Modules(ModulesError),
    Multiboot(MultibootError),
    Options(OptionsError),
    Reservation(ReservationError),
}
