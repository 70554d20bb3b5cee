//! What a machine boots from: an initial file system for the guest, a disc for the boot loader or for UEFI
//! firmware, a word of the firmware's.

mod cpio;
mod esp;
mod external_port;
mod initramfs;
mod iso;
mod modules;
mod signed;
mod variables;

pub use esp::Esp;
pub use external_port::external_port_table;
pub use initramfs::Initramfs;
pub use iso::{Iso, Payload};
pub use signed::{Signer, unified};
pub use variables::trusting_both;
