//! A device's own pages: which of them it reads, which it writes, and whose bytes are in them.
//!
//! Owns the places (`arena`), which pages are free (`pool`), and the life of a loan: a request's
//! bytes are lent to the device in pages of ours at the same offset within a page as in the
//! guest's memory, and taken back (`loan`). The device reaches all of its pages for as long as it
//! is there, so lending and taking back touch no table and need no invalidation. Nothing of what
//! is known about a page lies in the page.
//!
//! Refuses to know what a request is, which device it is, who is trusted, and how memory is
//! copied ([`Pages`]).
#![no_std]
#![forbid(unsafe_code)]

#[cfg(any(test, feature = "rehearsal"))]
extern crate std;

mod arena;
mod loan;
mod pages;
mod pool;
#[cfg(any(test, feature = "rehearsal"))]
pub mod rehearsal;
mod window;

pub use arena::{Arena, Part};
pub use loan::{Direction, Extents, FromDevice, Lent, Returned, ToDevice};
pub use pages::Pages;
pub use pool::{Page, Pool};
pub use window::Window;
