//! The other end of a network card's wire: returns every frame with its payload inverted.
//!
//! Owns a pair of sockets, one frame a datagram, and the thread that answers. Answers frames of one
//! type only: whatever a kernel sends of its own accord stays without answer.

use std::fs;
use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::thread;

/// The type of the frames answered: IEEE's first one for local experiments.
const KIND: [u8; 2] = [0x88, 0xb5];
/// Two addresses and a type.
const HEADER: usize = 14;

/// Tells the echoes of one test program apart.
static COUNT: AtomicU32 = AtomicU32::new(0);

/// The end of the wire.
#[derive(Debug)]
pub struct Echo {
    directory: PathBuf,
    answered: Arc<AtomicU64>,
}

impl Echo {
    /// Opens its end; it answers, on a thread of its own, for as long as the test program lives.
    ///
    /// # Panics
    /// If there is no room for a socket.
    #[must_use]
    pub fn listen() -> Self {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("bouncer-echo-{}-{number}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        fs::create_dir_all(&directory).expect("a directory for sockets");
        let socket = UnixDatagram::bind(directory.join("peer")).expect("a socket for frames");
        let answered = Arc::new(AtomicU64::new(0));
        let (machine, count) = (directory.join("machine"), Arc::clone(&answered));
        thread::spawn(move || answer(&socket, &machine, &count));
        Self {
            directory,
            answered,
        }
    }

    /// QEMU's arguments for a network backend of this `id` at the other end.
    #[must_use]
    pub fn arguments(&self, id: &str) -> Vec<String> {
        let at = self.directory.display();
        let ends = format!(
            "local.type=unix,local.path={at}/machine,remote.type=unix,remote.path={at}/peer"
        );
        vec!["-netdev".into(), format!("dgram,id={id},{ends}")]
    }

    /// How many frames were answered so far.
    #[must_use]
    pub fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        // What is left of it is a directory of dead sockets.
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// Answers until the socket breaks. A frame that the machine does not take is lost, as on a wire.
fn answer(socket: &UnixDatagram, machine: &Path, count: &AtomicU64) -> io::Result<()> {
    let mut frame = [0; 65536];
    loop {
        let length = socket.recv(&mut frame)?;
        let Some(frame) = frame.get_mut(..length).filter(|frame| is_ours(frame)) else {
            continue;
        };
        let (addresses, payload) = frame.split_at_mut(HEADER);
        let (to, from) = addresses.split_at_mut(6);
        to.swap_with_slice(&mut from[..6]);
        payload.iter_mut().for_each(|byte| *byte = !*byte);
        if socket.send_to(frame, machine).is_ok() {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn is_ours(frame: &[u8]) -> bool {
    frame.len() >= HEADER && frame.get(12..HEADER) == Some(&KIND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_frames_of_the_local_type_are_answered() {
        let mut frame = vec![0; 60];
        assert!(!is_ours(&frame));
        frame[12..14].copy_from_slice(&KIND);
        assert!(is_ours(&frame));
        assert!(!is_ours(&frame[..13]));
    }
}
