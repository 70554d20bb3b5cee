//! Whole Ethernet frames in and out of the machine's virtio network card.
#![expect(unsafe_code)]
// UNSAFETY: packet sockets, which no safe interface here has.

use std::fs;
use std::io;
use std::mem::{size_of, zeroed};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::verdict::{Attempt, Shortfall, failed, skipped};

/// The type of our frames: IEEE's first one for local experiments.
const KIND: u16 = 0x88b5;
/// Two addresses and a type.
const HEADER: usize = 14;
/// Payload that fills the shortest frame, and the longest.
pub(super) const PAYLOAD_MIN: usize = 46;
/// See [`PAYLOAD_MIN`].
pub(super) const PAYLOAD_MAX: usize = 1500;
/// Who answers at the other end: a locally administered address.
const PEER: [u8; 6] = [0x02, 0, 0, 0, 0, 0x01];
/// How long the driver may take to find the card, and an answer to come.
const PATIENCE: Duration = Duration::from_secs(20);

/// A socket on the card.
#[derive(Debug)]
pub(super) struct Frames {
    socket: OwnedFd,
    own: [u8; 6],
}

impl Frames {
    /// Finds the card and switches it on.
    pub(super) fn open() -> Result<Self, Shortfall> {
        let name = find()?;
        let own = fs::read_to_string(format!("/sys/class/net/{name}/address"));
        let own = address(&own.attempt("the card's address")?)
            .ok_or_else(|| failed(format!("{name} has no Ethernet address")))?;
        // SAFETY: system calls without memory of ours.
        let socket = unsafe {
            libc::socket(
                libc::AF_PACKET,
                libc::SOCK_RAW | libc::SOCK_CLOEXEC,
                i32::from(KIND.to_be()),
            )
        };
        if socket < 0 {
            return Err(failed(format!(
                "a packet socket: {}",
                io::Error::last_os_error()
            )));
        }
        // SAFETY: just opened, and nobody else's.
        let socket = unsafe { OwnedFd::from_raw_fd(socket) };
        let this = Self { socket, own };
        this.switch_on(&name)?;
        this.bind(&name)?;
        Ok(this)
    }

    /// Sends a frame with this payload.
    pub(super) fn send(&self, payload: &[u8]) -> Result<(), Shortfall> {
        let mut frame = Vec::with_capacity(HEADER + payload.len());
        frame.extend(PEER);
        frame.extend(self.own);
        frame.extend(KIND.to_be_bytes());
        frame.extend(payload);
        // SAFETY: the kernel reads the frame's bytes and no others.
        let sent = unsafe {
            libc::send(
                self.socket.as_raw_fd(),
                frame.as_ptr().cast(),
                frame.len(),
                0,
            )
        };
        match usize::try_from(sent) {
            Ok(sent) if sent == frame.len() => Ok(()),
            _ => Err(failed(format!(
                "sending a frame: {}",
                io::Error::last_os_error()
            ))),
        }
    }

    /// The payload of the next frame for us.
    pub(super) fn receive(&self) -> Result<Vec<u8>, Shortfall> {
        let mut frame = vec![0; HEADER + PAYLOAD_MAX + 64];
        loop {
            // SAFETY: the kernel writes to the frame's bytes and no others.
            let came = unsafe {
                libc::recv(
                    self.socket.as_raw_fd(),
                    frame.as_mut_ptr().cast(),
                    frame.len(),
                    0,
                )
            };
            let came = usize::try_from(came);
            let came = came.map_err(|_| io::Error::last_os_error());
            let came = came.attempt("waiting for a frame")?;
            if came >= HEADER && frame[..6] == self.own && frame[6..12] == PEER {
                frame.truncate(came);
                return Ok(frame.split_off(HEADER));
            }
        }
    }

    fn switch_on(&self, name: &str) -> Result<(), Shortfall> {
        // SAFETY: a plain structure, for which zeros are a value.
        let mut request: libc::ifreq = unsafe { zeroed() };
        for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
            *to = from as libc::c_char;
        }
        request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_NOARP) as libc::c_short;
        // SAFETY: the kernel reads one such structure.
        let done = unsafe {
            libc::ioctl(
                self.socket.as_raw_fd(),
                libc::SIOCSIFFLAGS as _,
                &raw const request,
            )
        };
        match done {
            0 => Ok(()),
            _ => Err(failed(format!(
                "switching {name} on: {}",
                io::Error::last_os_error()
            ))),
        }
    }

    fn bind(&self, name: &str) -> Result<(), Shortfall> {
        let index = fs::read_to_string(format!("/sys/class/net/{name}/ifindex"));
        let index = index.attempt("the card's number")?;
        let index: i32 = index.trim().parse().attempt("the card's number")?;
        // SAFETY: plain structures, for which zeros are a value.
        let (mut to, mut patience): (libc::sockaddr_ll, libc::timeval) =
            unsafe { (zeroed(), zeroed()) };
        to.sll_family = libc::AF_PACKET as u16;
        to.sll_protocol = KIND.to_be();
        to.sll_ifindex = index;
        patience.tv_sec = PATIENCE.as_secs() as _;
        let socket = self.socket.as_raw_fd();
        // SAFETY: the kernel reads one structure each, of the size given.
        let done = unsafe {
            libc::bind(
                socket,
                (&raw const to).cast(),
                size_of::<libc::sockaddr_ll>() as u32,
            ) | libc::setsockopt(
                socket,
                libc::SOL_SOCKET,
                libc::SO_RCVTIMEO,
                (&raw const patience).cast(),
                size_of::<libc::timeval>() as u32,
            )
        };
        match done {
            0 => Ok(()),
            _ => Err(failed(format!(
                "a socket on {name}: {}",
                io::Error::last_os_error()
            ))),
        }
    }
}

/// The first network interface that a virtio driver serves.
fn find() -> Result<String, Shortfall> {
    let began = Instant::now();
    while began.elapsed() < PATIENCE {
        let names = fs::read_dir("/sys/class/net").attempt("listing /sys/class/net")?;
        let found = names
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .find(|name| {
                let driver = fs::read_link(format!("/sys/class/net/{name}/device/driver"));
                driver.is_ok_and(|driver| Path::new(&driver).ends_with("virtio_net"))
            });
        if let Some(name) = found {
            return Ok(name);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Err(skipped("no virtio network card"))
}

/// Six bytes as `52:54:00:12:34:56` spells them.
fn address(text: &str) -> Option<[u8; 6]> {
    let bytes = text.trim().split(':');
    let bytes: Option<Vec<u8>> = bytes.map(|b| u8::from_str_radix(b, 16).ok()).collect();
    bytes?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_six_bytes() {
        let spelt = address("52:54:00:12:34:56\n");
        assert_eq!(spelt, Some([0x52, 0x54, 0, 0x12, 0x34, 0x56]));
        assert_eq!(address("52:54"), None);
        assert_eq!(address("lo"), None);
    }
}
