//! The end of a start: an operating system has come.
//!
//! Failed starts are counted in a variable that is removed when boot services end, which is what a loader of an
//! operating system ends. By then this program is gone; what removes the variable lies in a page of its own, which
//! firmware keeps until that very moment.

// UNSAFETY: makes code that firmware calls when this program is no more.
#![expect(unsafe_code)]

use core::arch::global_asm;
use core::mem::{self, offset_of};
use core::{ptr, slice};

use memory::PAGE_SIZE;
use uefi_raw::table::boot::{EventNotifyFn, MemoryType};
use uefi_raw::{Guid, Status};

use crate::place;
use crate::services::{self, Firmware};

global_asm!(
    ".global bouncer_forget, bouncer_forget_end",
    "bouncer_forget:", // rcx: event, rdx: what to forget
    "sub rsp, 0x38",   // room for five arguments; the stack is aligned
    "mov rax, [rdx + {service}]",
    "lea rcx, [rdx + {name}]",
    "lea rdx, [rdx + {vendor}]",
    "xor r8d, r8d",
    "xor r9d, r9d",
    "mov qword ptr [rsp + 0x20], 0",
    "call rax",
    "add rsp, 0x38",
    "ret",
    "bouncer_forget_end:",
    service = const offset_of!(Forgotten, service),
    name = const offset_of!(Forgotten, name),
    vendor = const offset_of!(Forgotten, vendor),
);

unsafe extern "efiapi" {
    fn bouncer_forget();
    fn bouncer_forget_end();
}

/// The variable to remove, and the service that does it.
#[repr(C)]
struct Forgotten {
    service: u64,
    vendor: Guid,
    name: services::Name,
}

/// Where in the page the code stands.
const CODE: u64 = 0x100;
const _: () = assert!(size_of::<Forgotten>() as u64 <= CODE);

/// Has the variable `name` removed when boot services end.
pub(crate) fn forget(firmware: Firmware, name: &str, vendor: &Guid) -> Status {
    let page = firmware.allocate(place::MAPPED, MemoryType::BOOT_SERVICES_CODE, PAGE_SIZE);
    let Some(page) = page else {
        return Status::OUT_OF_RESOURCES;
    };
    let at = page.start().raw();
    let bytes = place::bytes(page);
    let start = bouncer_forget as *const () as usize;
    let len = bouncer_forget_end as *const () as usize - start;
    // SAFETY: between the two labels stands code, which names no address.
    let code = unsafe { slice::from_raw_parts(start as *const u8, len) };
    place::copy(code, bytes, CODE);
    let forgotten = bytes.as_mut_ptr().cast::<Forgotten>();
    // SAFETY: the page is this program's, aligned and longer than this; its code has the calling convention of
    // a notification, uses its context alone, and both stay until boot services have ended.
    unsafe {
        ptr::write(
            forgotten,
            Forgotten {
                service: firmware.variable_setter(),
                vendor: *vendor,
                name: services::letters(name),
            },
        );
        let code = mem::transmute::<usize, EventNotifyFn>((at + CODE) as usize);
        firmware.at_exit(code, forgotten.cast())
    }
}
