//! The other processors.
//!
//! The hypervisor takes them by INIT and start-up messages and leaves each as a guest that waits for a
//! start-up message of the firmware's. Firmware whose idle processors halt sends one whenever it wants
//! them. Firmware whose idle processors watch a word in memory does not, and would wait for ever; but it
//! resets, by INIT and start-up, whoever does not answer in the time it is given (PI 1.8, vol. 2, 13.4). So
//! all are called once, and again if some did not come: then they are in the firmware's idle loop, whichever
//! it has.

// UNSAFETY: calls a service of the firmware.
#![expect(unsafe_code)]

use core::ffi::c_void;
use core::ptr::{self, NonNull};
use core::time::Duration;

use uefi_raw::{Boolean, Event, Guid, Status, guid};

use crate::refusal::Refusal;
use crate::services::Firmware;

/// How long a processor may take to do nothing.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often they are called: those that a first call resets come at the second.
const CALLS: u32 = 3;

const MP_SERVICES: Guid = guid!("3fdda605-a76e-4f46-ad29-12f4531b3d08");

/// EFI_MP_SERVICES_PROTOCOL as far as it is used. PI 1.8, volume 2, 13.4.
#[repr(C)]
struct MpServices {
    get_number_of_processors: *const c_void,
    get_processor_info: *const c_void,
    startup_all_aps: unsafe extern "efiapi" fn(
        this: *mut Self,
        procedure: extern "efiapi" fn(*mut c_void),
        one_by_one: Boolean,
        finished: Event,
        microseconds: usize,
        argument: *mut c_void,
        failed: *mut *mut usize,
    ) -> Status,
}

/// Has every other processor that firmware uses come once.
pub(crate) fn gather(firmware: Firmware) -> Result<(), Refusal> {
    // SAFETY: the specification gives the interface this type.
    let services = unsafe { firmware.locate::<MpServices>(&MP_SERVICES) };
    // Firmware without it uses no other processor.
    let Ok(services) = services else {
        return Ok(());
    };
    let mut status = Status::SUCCESS;
    for _ in 0..CALLS {
        status = call(services);
        // NOT_STARTED: there is no other one.
        if matches!(status, Status::SUCCESS | Status::NOT_STARTED) {
            return Ok(());
        }
    }
    Err(Refusal::Processors(status))
}

fn call(services: NonNull<MpServices>) -> Status {
    // SAFETY: the interface is the firmware's and stays; without an event the call returns when all have
    // come, or the time is over. The procedure uses nothing.
    unsafe {
        (services.as_ref().startup_all_aps)(
            services.as_ptr(),
            nothing,
            Boolean::FALSE,
            ptr::null_mut(),
            PATIENCE.as_micros() as usize,
            ptr::null_mut(),
            ptr::null_mut(),
        )
    }
}

extern "efiapi" fn nothing(_: *mut c_void) {}
