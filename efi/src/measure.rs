//! What Bouncer is made of and what it is told, measured into the TPM.
//!
//! Owns which register is extended with what. Source: TCG EFI Protocol Specification, family 2.0, revision
//! 00.13, section 6; TCG PC Client Platform Firmware Profile 1.05, table 9 (event types).

// UNSAFETY: calls a protocol of the firmware.
#![expect(unsafe_code)]

use core::ptr;

use boot::way_back::Reason;
use uefi_raw::Status;
use uefi_raw::protocol::tcg::EventType;
use uefi_raw::protocol::tcg::v2::{
    Tcg2BootServiceCapability, Tcg2EventHeader, Tcg2HashLogExtendEventFlags, Tcg2Protocol,
};

use crate::services::Firmware;

/// The register. Of those that are left to systems and their loaders (8 to 15), shim and Windows keep in this one
/// who was trusted to start, which stays as it is from one update to the next.
const REGISTER: u32 = 14;

/// Bytes of a description.
const TEXT: usize = 40;

/// EFI_TCG2_EVENT (6.5) with a text for whoever reads the log.
#[repr(C, packed)]
struct Event {
    size: u32,
    header: Tcg2EventHeader,
    text: [u8; TEXT],
}

/// Measures the hypervisor, its options and its policy. `Ok(false)` if there is no TPM.
pub(crate) fn guard(
    firmware: Firmware,
    hypervisor: &[u8],
    options: &[u8],
    policy: &[u8],
) -> Result<bool, Status> {
    extend(
        firmware,
        &[
            ("Bouncer's hypervisor", hypervisor),
            ("Bouncer's options.txt", options),
            ("Bouncer's policy.toml", policy),
        ],
    )
}

/// Measures that the machine goes on without Bouncer: no system that is started now can bring the register to what
/// it is under Bouncer. `Ok(false)` if there is no TPM.
pub(crate) fn pass_over(firmware: Firmware, reason: Option<Reason>) -> Result<bool, Status> {
    let reason = match reason {
        Some(Reason::Once) => "once",
        Some(Reason::Always) => "always",
        Some(Reason::Tries) => "tries",
        Some(Reason::Key) => "key",
        None => "refused",
    };
    extend(firmware, &[("Bouncer was passed over", reason.as_bytes())])
}

fn extend(firmware: Firmware, parts: &[(&str, &[u8])]) -> Result<bool, Status> {
    // SAFETY: the specification gives the interface this type.
    let Ok(tpm) = (unsafe { firmware.locate::<Tcg2Protocol>(&Tcg2Protocol::GUID) }) else {
        return Ok(false);
    };
    let mut capability = Tcg2BootServiceCapability {
        size: size_of::<Tcg2BootServiceCapability>() as u8,
        ..Tcg2BootServiceCapability::default()
    };
    // SAFETY: the interface is the firmware's; the place says its own size.
    let status = unsafe { (tpm.as_ref().get_capability)(tpm.as_ptr(), &mut capability) };
    if status != Status::SUCCESS || capability.tpm_present_flag == 0 {
        return Ok(false);
    }
    for (text, bytes) in parts {
        let event = event(text);
        // SAFETY: the bytes and the event are there and stay; firmware hashes the one and copies the other.
        let status = unsafe {
            (tpm.as_ref().hash_log_extend_event)(
                tpm.as_ptr(),
                Tcg2HashLogExtendEventFlags::empty(),
                bytes.as_ptr() as u64,
                bytes.len() as u64,
                ptr::from_ref(&event).cast(),
            )
        };
        // A log that is full does not keep the register from being extended (6.6.4).
        if !matches!(status, Status::SUCCESS | Status::VOLUME_FULL) {
            return Err(status);
        }
    }
    Ok(true)
}

fn event(text: &str) -> Event {
    let mut event = Event {
        size: size_of::<Event>() as u32,
        header: Tcg2EventHeader {
            header_size: size_of::<Tcg2EventHeader>() as u32,
            header_version: 1,
            pcr_index: REGISTER,
            event_type: EventType::IPL,
        },
        text: [0; TEXT],
    };
    let len = text.len().min(TEXT);
    event.text[..len].copy_from_slice(&text.as_bytes()[..len]);
    event
}
