//! Policies that several tests give Bouncer.

/// The first drive is untrusted, by [`DRIVE_RULE`]; all else, a second drive among it, is the guest's.
pub const UNTRUSTED_DRIVE: &str = r#"
version = 1
default = "trusted"

[[device]]
name = "drive"
match = { path = "0000:00:10.0/00.0" }
trust = "untrusted"
pool = "16MiB"
"#;
/// The rule that decides the drive.
pub const DRIVE_RULE: &str = "drive";

/// The SATA controller is trusted, for firmware boots from its drives; there is little memory for pools, so that
/// all of Bouncer's memory is attacked in reasonable time.
pub const BOOT_DRIVES: &str = r#"
version = 1
bounce-memory = "64KiB"

[[device]]
name = "boot drives"
match = { path = "0000:00:1f.2" }
trust = "trusted"
"#;

/// QEMU's `edu` of [`crate::heist::DEVICE`] is mediated, by [`EDU_RULE`]; after so many `faults` in a second comes what
/// `then` says. All else is the guest's.
#[must_use]
pub fn mediated_edu(faults: u32, then: &str) -> String {
    format!(
        r#"
version = 1
viommu = false
default = "trusted"

[[device]]
name = "edu"
match = {{ path = "0000:00:08.0" }}
trust = "untrusted"
mediator = "edu"
storm = {{ faults = {faults}, per = "1s", then = "{then}" }}
"#
    )
}
/// The rule that decides it.
pub const EDU_RULE: &str = "edu";
