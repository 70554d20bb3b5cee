//! The two line protocols: what the guest says on COM2, what Bouncer says on COM3.
//!
//! Both speakers may be broken or hostile: a line that does not parse is kept as what it is and judged elsewhere.

mod bouncer;
mod guest;

pub use bouncer::{BouncerLine, DeviceLine};
pub use guest::{GuestLine, Unreadable};
