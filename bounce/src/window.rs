//! Addresses at which a device finds pages that are not its own, for a time.

use crate::loan::Lent;
use crate::pool::Pool;

/// Neither direction: the addresses of a window have no pages of their own.
#[derive(Debug)]
pub enum Window {}

impl Pool<'_, Window> {
    /// Ends a loan behind whose addresses there is nothing any more.
    pub fn close(&mut self, lent: Lent<Window>) {
        self.put(lent.first(), lent.pages());
    }
}
