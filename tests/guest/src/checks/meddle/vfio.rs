//! A device in the hands of a program, by the kernel's VFIO: the program says what the device reaches.
//!
//! Owns the calls (`linux/vfio.h`) and their numbers. What is mapped, and what comes of it, is the check's.
#![expect(unsafe_code)]
// UNSAFETY: ioctl(2) takes pointers to structures, and hands out files.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::time::{Duration, Instant};

use super::function::Function;
use crate::verdict::{Attempt, Shortfall, ensure, failed};

/// `_IO(';', 100 + n)`.
const fn request(n: libc::c_ulong) -> libc::c_ulong {
    0x3b64 + n
}

const SET_IOMMU: libc::c_ulong = request(2);
const GROUP_SET_CONTAINER: libc::c_ulong = request(4);
const GROUP_GET_DEVICE_FD: libc::c_ulong = request(6);
const DEVICE_SET_IRQS: libc::c_ulong = request(10);
const MAP_DMA: libc::c_ulong = request(13);
const UNMAP_DMA: libc::c_ulong = request(14);

/// `VFIO_TYPE1v2_IOMMU`.
const TYPE_1: libc::c_ulong = 3;
/// `VFIO_PCI_MSI_IRQ_INDEX`.
const MSI: u32 = 1;
/// `VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER`.
const SIGNAL_EVENT: u32 = 1 << 2 | 1 << 5;

const DRIVER: &str = "vfio-pci";
/// How long a file may take to come.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a device may do with memory that is mapped for it.
#[derive(Debug, Clone, Copy)]
#[repr(u32)]
pub(super) enum May {
    /// Read it.
    Read = 1,
    /// Write it, too.
    ReadAndWrite = 3,
}

#[repr(C)]
struct Map {
    size: u32,
    flags: u32,
    from: u64,
    at: u64,
    bytes: u64,
}

#[repr(C)]
struct Unmap {
    size: u32,
    flags: u32,
    at: u64,
    bytes: u64,
}

#[repr(C)]
struct SetInterrupt {
    size: u32,
    flags: u32,
    index: u32,
    start: u32,
    count: u32,
    event: RawFd,
}

/// A device that this program holds.
#[derive(Debug)]
pub(super) struct Held {
    container: File,
    device: OwnedFd,
    // Closed last: the device is given back by it.
    _group: File,
}

impl Held {
    /// Takes `function`, which no driver has, from the kernel.
    pub(super) fn take(function: Function) -> Result<Self, Shortfall> {
        let write = |path: &str, text: &str| {
            std::fs::write(path, text).attempt(&format!("{text} to {path}"))
        };
        let directory = function.directory();
        write(&format!("{directory}/driver_override"), DRIVER)?;
        write("/sys/bus/pci/drivers_probe", &function.to_string())?;
        let group = std::fs::read_link(format!("{directory}/iommu_group"));
        let group = group.attempt(&format!("{function} has no IOMMU group"))?;
        let number = group.file_name().unwrap_or_default().to_string_lossy();
        let container = open("/dev/vfio/vfio")?;
        let group = open(&format!("/dev/vfio/{number}"))?;
        let raw = container.as_raw_fd();
        call(&group, GROUP_SET_CONTAINER, raw, "joining the group")?;
        // SAFETY: (1) the last argument is a number.
        let set = unsafe { libc::ioctl(raw, SET_IOMMU as _, TYPE_1) };
        done(set, "choosing the kind of IOMMU")?;
        let name = std::ffi::CString::new(function.to_string()).attempt("a name")?;
        // SAFETY: (1) the kernel reads the name up to its zero.
        let device =
            unsafe { libc::ioctl(group.as_raw_fd(), GROUP_GET_DEVICE_FD as _, name.as_ptr()) };
        let device = done(device, "taking the device")?;
        Ok(Self {
            container,
            // SAFETY: (2) the kernel has just handed this out.
            device: unsafe { OwnedFd::from_raw_fd(device) },
            _group: group,
        })
    }

    /// Lets the device find the program's memory from `from` on at `at`.
    pub(super) fn map(&self, from: usize, at: u64, bytes: u64, may: May) -> Result<(), Shortfall> {
        let map = Map {
            size: size_of::<Map>() as u32,
            flags: may as u32,
            from: from as u64,
            at,
            bytes,
        };
        call(&self.container, MAP_DMA, map, &format!("mapping {at:#x}"))
    }

    /// Ends that.
    pub(super) fn unmap(&self, at: u64, bytes: u64) -> Result<(), Shortfall> {
        let unmap = Unmap {
            size: size_of::<Unmap>() as u32,
            flags: 0,
            at,
            bytes,
        };
        call(
            &self.container,
            UNMAP_DMA,
            unmap,
            &format!("unmapping {at:#x}"),
        )
    }

    /// Has the device's first message counted from here on.
    pub(super) fn listen(&self) -> Result<Signals, Shortfall> {
        // SAFETY: (1) takes two numbers.
        let event = unsafe { libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) };
        let event = done(event, "making an event")?;
        // SAFETY: (2) the kernel has just handed this out.
        let signals = Signals(unsafe { File::from_raw_fd(event) });
        let set = SetInterrupt {
            size: size_of::<SetInterrupt>() as u32,
            flags: SIGNAL_EVENT,
            index: MSI,
            start: 0,
            count: 1,
            event,
        };
        call(&self.device, DEVICE_SET_IRQS, set, "asking for messages")?;
        Ok(signals)
    }
}

/// The messages that came.
#[derive(Debug)]
pub(super) struct Signals(File);

impl Signals {
    /// Waits until there is one; takes all there are.
    pub(super) fn wait(&mut self) -> Result<u64, Shortfall> {
        let began = Instant::now();
        loop {
            let mut count = [0; 8];
            if self.0.read_exact(&mut count).is_ok() {
                return Ok(u64::from_ne_bytes(count));
            }
            ensure!(began.elapsed() < PATIENCE, "no message came");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn open(path: &str) -> Result<File, Shortfall> {
    let began = Instant::now();
    while !Path::new(path).exists() {
        ensure!(began.elapsed() < PATIENCE, "{path} does not come");
        std::thread::sleep(Duration::from_millis(10));
    }
    let file = OpenOptions::new().read(true).write(true).open(path);
    file.attempt(&format!("opening {path}"))
}

fn call<T>(
    file: &impl AsRawFd,
    request: libc::c_ulong,
    mut argument: T,
    what: &str,
) -> Result<(), Shortfall> {
    // SAFETY: (1) the argument is the structure that belongs to the request, and says its own size, or a number; the
    // kernel reads it and may answer in it.
    let status = unsafe { libc::ioctl(file.as_raw_fd(), request as _, &raw mut argument) };
    done(status, what).map(drop)
}

fn done(status: i32, what: &str) -> Result<i32, Shortfall> {
    match status {
        0.. => Ok(status),
        _ => Err(failed(format!(
            "{what}: {}",
            std::io::Error::last_os_error()
        ))),
    }
}
