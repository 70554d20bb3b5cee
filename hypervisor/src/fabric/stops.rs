//! Pages at which the guest is stopped, because registers are there that it may not reach itself.

use memory::{ByteRange, Gpa, PAGE_SIZE};
use pci::{Address, FunctionId};

use super::Fabric;
use crate::console::say;
use crate::limit::{Few, Once};

/// Devices at whose registers the guest could not be stopped.
static EXPOSED: Once<Address, 32> = Once::new();
/// Pages at which it could not be let through again, told a few times.
static KEPT: Few<(), 1> = Few::new();
const TOLD: u32 = 4;

impl Fabric {
    /// Stops the guest at `pages`, where registers of `id` are that it may not reach itself. A device of
    /// which that is not true reaches nothing.
    pub(super) fn stop_at(&mut self, id: FunctionId, pages: ByteRange<Gpa>) {
        let mut stopped = Ok(());
        for page in pages_of(pages) {
            stopped = stopped.and(self.map.stop_at(&mut self.remapping.frames, page));
        }
        if let Err(error) = stopped {
            let at = self.mediation.topology().address(id);
            if let Some(at) = at.filter(|at| EXPOSED.is_new(*at)) {
                say!(
                    "device {at}: the guest is not stopped at its registers, so it reaches nothing: {error}"
                );
            }
            // Told once more when nothing of the decision under way is left to do.
            let _ = self.exposed.push(id);
        }
    }

    /// Lets the guest through at `pages` again, but where other registers are that it may not reach: those
    /// of small devices share a page.
    pub(super) fn let_through(&mut self, pages: ByteRange<Gpa>) {
        for page in pages_of(pages) {
            if self.is_stopped_at(page) || self.is_table_at(page) {
                continue;
            }
            if let Err(error) = self.map.let_through(&mut self.remapping.frames, page)
                && KEPT.is_one((), TOLD)
            {
                say!("the guest stays stopped at {page}, where a device's registers were: {error}");
            }
        }
    }
}

fn pages_of(range: ByteRange<Gpa>) -> impl Iterator<Item = Gpa> {
    let pages = range.whole_pages();
    let step = move |page: &Gpa| {
        page.checked_add(PAGE_SIZE)
            .filter(|next| pages.contains(*next))
    };
    core::iter::successors(Some(pages.start()), step)
}
