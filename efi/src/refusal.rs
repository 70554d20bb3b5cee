//! Why `bouncer.efi` does not start Bouncer.

use core::fmt;

use boot::elf::ElfError;
use boot::facts::FactsError;
use boot::handoff::HandoffError;
use boot::memory_map::MapError;
use boot::options::OptionsError;
use boot::reservation::ReservationError;
use uefi_raw::Status;

macro_rules! refusals {
    ($($name:ident($error:ty)),* $(,)?) => {
        /// Why Bouncer is not started.
        pub(crate) enum Refusal {
            $($name($error),)*
            /// The directory of this program cannot be opened.
            NoFiles(Status),
            /// A file beside this program cannot be read.
            Unreadable { file: &'static str, status: Status },
            /// There is no policy.
            NoPolicy,
            /// The policy does not parse; the place was shown before.
            Policy { line: u32, column: u32 },
            /// No root pointer of ACPI.
            NoRootPointer,
            /// No room for Bouncer.
            NoRoom { bytes: u64 },
            /// No page to start processors in.
            NoTrampoline,
            /// The firmware's memory map cannot be had.
            NoMemoryMap(Status),
            /// This program lies where the hypervisor's first tables do not reach.
            TooHigh { at: u64 },
            /// The hypervisor refuses the machine, for a reason that it told.
            Declined,
            /// The other processors do not answer the firmware.
            Processors(Status),
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
                    Self::NoFiles(status) => write!(
                        f,
                        "the directory that bouncer.efi was loaded from cannot be opened ({status:?}); start \
                         it from an EFI system partition"
                    ),
                    Self::Unreadable { file, status } => write!(
                        f,
                        "{file} beside bouncer.efi cannot be read ({status:?}); it must be a file of less \
                         than 256 KiB"
                    ),
                    Self::NoPolicy => f.write_str(
                        "there is no policy.toml beside bouncer.efi; put one there: `version = 1` alone \
                         trusts no device",
                    ),
                    Self::Policy { line, column } => write!(
                        f,
                        "policy.toml is wrong at line {line}, column {column}; `cargo xtask policy check` \
                         says the same before the machine is started"
                    ),
                    Self::NoRootPointer => f.write_str(
                        "the firmware names no ACPI root pointer; turn ACPI on in its setup",
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
                    Self::NoMemoryMap(status) => {
                        write!(f, "the firmware does not tell its memory map ({status:?})")
                    }
                    Self::TooHigh { at } => write!(
                        f,
                        "the firmware loaded bouncer.efi at {at:#x}, above 4 GiB, where the hypervisor \
                         cannot be called from"
                    ),
                    Self::Declined => f.write_str("the hypervisor refuses this machine, as it says above"),
                    Self::Processors(status) => write!(
                        f,
                        "the other processors do not answer the firmware any more ({status:?}), and an \
                         operating system could not start"
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
    Map(MapError),
    Options(OptionsError),
    Reservation(ReservationError),
}
