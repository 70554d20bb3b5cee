//! The firmware's services, as functions of Rust.
//!
//! Owns the calling of them and no decision. Source: UEFI 2.10, sections 4, 7, 8 and 12; PI 1.8, volume 2, 13.

// UNSAFETY: the services are functions behind pointers that firmware gave.
#![expect(unsafe_code)]

use core::ffi::c_void;
use core::mem::MaybeUninit;
use core::ptr::{self, NonNull};
use core::slice;
use core::time::Duration;

use memory::{ByteRange, Hpa, PAGE_SIZE};
use uefi_raw::protocol::console::{InputKey, SimpleTextInputProtocol, SimpleTextOutputProtocol};
use uefi_raw::table::boot::{
    AllocateType, BootServices, EventNotifyFn, EventType, MemoryDescriptor, MemoryType, TimerDelay,
    Tpl,
};
use uefi_raw::table::runtime::{ResetType, RuntimeServices, VariableAttributes};
use uefi_raw::table::system::SystemTable;
use uefi_raw::{Boolean, Event, Guid, Handle, Status};

/// Letters that a variable's name has at most, with the zero at its end.
const NAME: usize = 24;

/// A variable's name, with zeros behind it.
pub(crate) type Name = [u16; NAME];

/// The firmware that called this program.
#[derive(Clone, Copy)]
pub(crate) struct Firmware {
    image: Handle,
    table: NonNull<SystemTable>,
}

impl Firmware {
    /// The firmware behind the arguments of the entry point.
    ///
    /// # Safety
    /// They are what firmware passed, and boot services have not ended.
    pub(crate) unsafe fn new(image: Handle, table: NonNull<SystemTable>) -> Self {
        Self { image, table }
    }

    /// This program.
    pub(crate) fn image(self) -> Handle {
        self.image
    }

    fn told(&self) -> &SystemTable {
        // SAFETY: the table stays while boot services do (`new`), and firmware changes it only within
        // calls, during which this reference is not used.
        unsafe { self.table.as_ref() }
    }

    fn boot(&self) -> &BootServices {
        // SAFETY: as above.
        unsafe { &*self.told().boot_services }
    }

    fn runtime(&self) -> &RuntimeServices {
        // SAFETY: as above.
        unsafe { &*self.told().runtime_services }
    }

    /// Writes to the text console, which there may not be.
    pub(crate) fn print(&self, text: &str) {
        /// Characters of one call.
        const AT_ONCE: usize = 64;
        let Some(screen) = NonNull::<SimpleTextOutputProtocol>::new(self.told().stdout) else {
            return;
        };
        let mut letters = text.chars().flat_map(|letter| match letter {
            '\n' => [Some(u16::from(b'\r')), Some(u16::from(b'\n'))],
            // The console knows the first plane of Unicode alone.
            letter => [u16::try_from(u32::from(letter)).ok(), None],
        });
        loop {
            let mut line = [0; AT_ONCE + 1];
            let mut len = 0;
            for letter in letters.by_ref().flatten().take(AT_ONCE) {
                line[len] = letter;
                len += 1;
            }
            if len == 0 {
                return;
            }
            // SAFETY: the console is the firmware's; the text ends with zero. A console that does not
            // show it loses it.
            let _ = unsafe { (screen.as_ref().output_string)(screen.as_ptr(), line.as_ptr()) };
        }
    }

    /// The next key that was pressed, as a character; `None` if there is none.
    pub(crate) fn key(&self) -> Option<char> {
        let keyboard = NonNull::<SimpleTextInputProtocol>::new(self.told().stdin)?;
        let mut key = InputKey::default();
        // SAFETY: the keyboard is the firmware's, and the key's place is written.
        let status = unsafe { (keyboard.as_ref().read_key_stroke)(keyboard.as_ptr(), &mut key) };
        let letter = char::from_u32(key.unicode_char.into());
        letter.filter(|_| status == Status::SUCCESS)
    }

    /// Takes pages whose last byte lies below `below`; `bytes` are rounded up to whole pages.
    pub(crate) fn allocate(
        &self,
        below: u64,
        kind: MemoryType,
        bytes: u64,
    ) -> Option<ByteRange<Hpa>> {
        let pages = bytes.div_ceil(PAGE_SIZE) as usize;
        let mut at = below - 1;
        // SAFETY: `at` is read and written.
        let status = unsafe {
            (self.boot().allocate_pages)(AllocateType::MAX_ADDRESS, kind, pages, &mut at)
        };
        let range = ByteRange::new(Hpa::new(at), bytes)?;
        (status == Status::SUCCESS && at != 0).then_some(range)
    }

    /// Gives pages back. Firmware that does not take them keeps them as they are.
    ///
    /// # Safety
    /// They are of an allocation, and nobody uses them.
    pub(crate) unsafe fn give_back(&self, range: ByteRange<Hpa>) {
        let pages = range.len() / PAGE_SIZE;
        // SAFETY: as the caller says.
        let _ = unsafe { (self.boot().free_pages)(range.start().raw(), pages as usize) };
    }

    /// Tells `each` entry of the memory map: type, first address, pages.
    pub(crate) fn memory_map(
        &self,
        buffer: &mut [u8],
    ) -> Result<impl Iterator<Item = (u32, u64, u64)> + Clone, Status> {
        let (mut size, mut key, mut stride, mut version) = (buffer.len(), 0, 0, 0);
        let at = buffer.as_mut_ptr().cast::<MemoryDescriptor>();
        // SAFETY: the buffer has `size` bytes, and the rest are places to write to.
        let status = unsafe {
            (self.boot().get_memory_map)(&mut size, at, &mut key, &mut stride, &mut version)
        };
        if status != Status::SUCCESS {
            return Err(status);
        }
        let told = buffer.get(..size).ok_or(Status::BAD_BUFFER_SIZE)?;
        // The stride is the firmware's, and may be longer than the entries known here.
        if stride < size_of::<MemoryDescriptor>() {
            return Err(Status::INCOMPATIBLE_VERSION);
        }
        Ok(told.chunks_exact(stride).map(|entry| {
            // SAFETY: an entry has at least so many bytes (the stride), all of which are numbers.
            let entry = unsafe { entry.as_ptr().cast::<MemoryDescriptor>().read_unaligned() };
            (entry.ty.0, entry.phys_start, entry.page_count)
        }))
    }

    /// The interface `guid` of `handle`.
    ///
    /// # Safety
    /// The specification gives it the type `T`.
    pub(crate) unsafe fn protocol<T>(
        &self,
        handle: Handle,
        guid: &Guid,
    ) -> Result<NonNull<T>, Status> {
        let mut interface = MaybeUninit::<*mut c_void>::zeroed();
        // SAFETY: the interface's place is written.
        let (status, interface) = unsafe {
            let status = (self.boot().handle_protocol)(handle, guid, interface.as_mut_ptr());
            (status, interface.assume_init())
        };
        found(status, interface)
    }

    /// The first interface `guid` there is.
    ///
    /// # Safety
    /// The specification gives it the type `T`.
    pub(crate) unsafe fn locate<T>(&self, guid: &Guid) -> Result<NonNull<T>, Status> {
        let mut interface = ptr::null_mut();
        // SAFETY: the interface's place is written.
        let status = unsafe { (self.boot().locate_protocol)(guid, ptr::null(), &mut interface) };
        found(status, interface)
    }

    /// Everybody who has the interface `guid`. The list is never given back.
    pub(crate) fn handles(&self, guid: &Guid) -> &'static [Handle] {
        /// EFI_LOCATE_SEARCH_TYPE.
        const BY_PROTOCOL: i32 = 2;
        let (mut count, mut list) = (0, ptr::null_mut());
        // SAFETY: count and list are places to write to.
        let status = unsafe {
            (self.boot().locate_handle_buffer)(
                BY_PROTOCOL,
                guid,
                ptr::null(),
                &mut count,
                &mut list,
            )
        };
        if status != Status::SUCCESS || list.is_null() {
            return &[];
        }
        // SAFETY: firmware made the list for this program, which never gives it back.
        unsafe { slice::from_raw_parts(list, count) }
    }

    /// Takes all drivers off a controller.
    pub(crate) fn disconnect(&self, controller: Handle) -> Status {
        // SAFETY: no driver and no child are named: all are meant.
        unsafe { (self.boot().disconnect_controller)(controller, ptr::null_mut(), ptr::null_mut()) }
    }

    /// Sets drivers on a controller and on all that they find behind it.
    pub(crate) fn connect(&self, controller: Handle) -> Status {
        // SAFETY: no driver is named: all may try.
        unsafe {
            (self.boot().connect_controller)(controller, ptr::null(), ptr::null(), Boolean::TRUE)
        }
    }

    /// Waits.
    pub(crate) fn wait(&self, time: Duration) {
        // SAFETY: waits and nothing else. The longest wait here is a dozen seconds.
        let _ = unsafe { (self.boot().stall)(time.as_micros() as usize) };
    }

    /// Begins to wait for `time`, while others work. `None` from a firmware that has no timer.
    pub(crate) fn alarm(&self, time: Duration) -> Option<Alarm> {
        /// Nanoseconds of the timer's unit.
        const UNIT: u128 = 100;
        let mut event = ptr::null_mut();
        // SAFETY: the event's place is written; nobody is called when it comes.
        let status = unsafe {
            (self.boot().create_event)(
                EventType::TIMER,
                Tpl::APPLICATION,
                None,
                ptr::null_mut(),
                &mut event,
            )
        };
        if status != Status::SUCCESS {
            return None;
        }
        let alarm = Alarm {
            firmware: *self,
            event,
        };
        let units = (time.as_nanos() / UNIT) as u64;
        // SAFETY: the event was just made.
        let status = unsafe { (self.boot().set_timer)(event, TimerDelay::RELATIVE, units) };
        (status == Status::SUCCESS).then_some(alarm)
    }

    /// A variable of one byte; `None` if there is none, or it has another length.
    pub(crate) fn variable(&self, name: &str, vendor: &Guid) -> Option<u8> {
        let name = letters(name);
        let (mut attributes, mut len, mut value) = (VariableAttributes::empty(), 1, 0);
        // SAFETY: the value has one byte, and the rest are places to write to.
        let status = unsafe {
            (self.runtime().get_variable)(
                name.as_ptr(),
                vendor,
                &mut attributes,
                &mut len,
                &mut value,
            )
        };
        (status == Status::SUCCESS && len == 1).then_some(value)
    }

    /// Makes a variable that stays hold one byte; `None` removes it.
    pub(crate) fn set_variable(&self, name: &str, vendor: &Guid, value: Option<u8>) -> Status {
        let name = letters(name);
        let attributes = VariableAttributes::NON_VOLATILE
            | VariableAttributes::BOOTSERVICE_ACCESS
            | VariableAttributes::RUNTIME_ACCESS;
        // SAFETY: name and value are there; a variable of no bytes is removed (UEFI 2.10, 8.2.3).
        unsafe {
            (self.runtime().set_variable)(
                name.as_ptr(),
                vendor,
                attributes,
                value.iter().len(),
                value.as_ref().map_or(ptr::null(), ptr::from_ref),
            )
        }
    }

    /// The service that sets variables.
    pub(crate) fn variable_setter(&self) -> u64 {
        self.runtime().set_variable as usize as u64
    }

    /// Has `notify` called with `context` when boot services end.
    ///
    /// # Safety
    /// It can be called then, whatever became of this program.
    pub(crate) unsafe fn at_exit(&self, notify: EventNotifyFn, context: *mut c_void) -> Status {
        let mut event = ptr::null_mut();
        // SAFETY: as the caller says; the event's place is written.
        unsafe {
            (self.boot().create_event)(
                EventType::SIGNAL_EXIT_BOOT_SERVICES,
                Tpl::CALLBACK,
                Some(notify),
                context,
                &mut event,
            )
        }
    }

    /// Switches the machine off.
    pub(crate) fn power_off(&self) -> ! {
        // SAFETY: no data is passed.
        unsafe {
            (self.runtime().reset_system)(ResetType::SHUTDOWN, Status::SUCCESS, 0, ptr::null())
        }
    }

    /// Where the table `guid` of the configuration lies.
    pub(crate) fn configuration(&self, guid: &Guid) -> Option<u64> {
        let told = self.told();
        if told.configuration_table.is_null() {
            return None;
        }
        // SAFETY: the firmware says how many there are; they change only within calls.
        let entries = unsafe {
            slice::from_raw_parts(
                told.configuration_table,
                told.number_of_configuration_table_entries,
            )
        };
        let entry = entries.iter().find(|entry| entry.vendor_guid == *guid)?;
        Some(entry.vendor_table as u64)
    }
}

/// A time that passes while others work.
pub(crate) struct Alarm {
    firmware: Firmware,
    event: Event,
}

impl Alarm {
    /// Whether the time has passed; said once.
    pub(crate) fn has_come(&self) -> bool {
        // SAFETY: the event is there until this is dropped.
        unsafe { (self.firmware.boot().check_event)(self.event) == Status::SUCCESS }
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        // SAFETY: nobody knows the event any more. What firmware does not close, it keeps.
        let _ = unsafe { (self.firmware.boot().close_event)(self.event) };
    }
}

/// A variable's name as the firmware reads it.
pub(crate) fn letters(name: &str) -> Name {
    assert!(name.len() < NAME, "this program's names are short");
    let mut letters = [0; NAME];
    for (place, letter) in letters.iter_mut().zip(name.bytes()) {
        *place = letter.into();
    }
    letters
}

fn found<T>(status: Status, interface: *mut c_void) -> Result<NonNull<T>, Status> {
    match NonNull::new(interface.cast()) {
        Some(interface) if status == Status::SUCCESS => Ok(interface),
        _ if status == Status::SUCCESS => Err(Status::UNSUPPORTED),
        _ => Err(status),
    }
}
