//! Firmware's drivers of devices that Bouncer may mediate.
//!
//! A mediator begins with a controller that nobody has set up. Firmware's driver is taken off before the
//! machine is taken over and set on it again afterwards, so that it starts the controller anew.

use uefi_raw::Handle;
use uefi_raw::protocol::nvme::NvmExpressPassThruProtocol;

use crate::services::Firmware;

/// The controllers whose driver was taken off.
pub(crate) struct Stopped(&'static [Handle]);

/// Takes the driver off every NVMe controller.
pub(crate) fn stop(firmware: Firmware) -> Stopped {
    // What firmware's driver puts on each of its controllers (UEFI 2.10, 13.18).
    let controllers = firmware.handles(&NvmExpressPassThruProtocol::GUID);
    for controller in controllers {
        // A driver that stays finds its controller reset, and starts it again after its own time-out.
        let _ = firmware.disconnect(*controller);
    }
    Stopped(controllers)
}

/// Sets it on again.
pub(crate) fn start(firmware: Firmware, stopped: &Stopped) {
    for controller in stopped.0 {
        // A controller that does not come back is no boot option any more: firmware says so.
        let _ = firmware.connect(*controller);
    }
}
