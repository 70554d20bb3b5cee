//! What a machine boots from: an initial file system for the guest, a disc for the boot loader, a word
//! of the firmware's.

mod cpio;
mod external_port;
mod initramfs;
mod iso;
mod modules;

pub use external_port::external_port_table;
pub use initramfs::Initramfs;
pub use iso::{Iso, Payload};
