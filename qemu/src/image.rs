//! What a machine boots from: an initial file system for the guest, a disc for the boot loader.

mod cpio;
mod initramfs;
mod iso;
mod modules;

pub use initramfs::Initramfs;
pub use iso::{Iso, Payload};
