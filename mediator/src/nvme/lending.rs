//! Lending: the pages of a request, filled with what the device reads.

use bounce::{Direction, Lent, Pool, Window};
use memory::{Gpa, Iova};

use super::mapping::Mapping;
use super::plan::{Extent, Pass};
use super::requests::{Given, Loan};
use super::spec::{Command, Status};
use super::{Nvme, mapping, prp};
use crate::{Reach, World};

/// Why a request got no pages.
pub(super) enum Short {
    /// There are none now.
    Pages,
    /// What the guest says of its bytes is wrong.
    Refused(Status),
}

/// What a request was lent of what is not copied, and how long its lists were.
#[derive(Default)]
pub(super) struct Besides {
    /// Addresses of the guest's whole pages, if they are not copied.
    pub(super) run: Option<Lent<Window>>,
    /// Bytes of lists that were read for it.
    pub(super) list: u64,
}

impl Nvme<'_> {
    /// Lends the pages to `given`, and fills them with what the device reads.
    pub(super) fn lend(
        &mut self,
        world: &mut impl World,
        command: &Command,
        pass: &Pass,
        given: &mut Given,
    ) -> Result<(), Short> {
        let pools = &mut self.pools;
        // What may be mapped, and is not only to be copied.
        let mapping = self.mapping.as_mut().filter(|_| pass.is_prompt);
        let mut besides = Besides::default();
        match pass.extent {
            Extent::Nothing | Extent::Ring(_) => {}
            Extent::ToDevice(bytes) => {
                let reach = [
                    |at| Reach::ReadGuest(Gpa::new(at)),
                    |at| Reach::ReadOwn(Iova::new(at)),
                ];
                let asked = (command, bytes);
                let lent = lend_walked(mapping, &mut pools.to, world, asked, reach, &mut besides)?;
                if let Some(lent) = lent {
                    let bytes = u64::from(lent.bytes());
                    let filled = pools.to.fill(&lent, world);
                    given.loan = Loan::ToDevice(lent);
                    if filled.is_err() {
                        return self.take_back(world, given, besides);
                    }
                    self.counts.bytes_in += bytes;
                }
            }
            Extent::FromDevice(bytes) => {
                let reach = [
                    |at| Reach::WriteGuest(Gpa::new(at)),
                    |at| Reach::WriteOwn(Iova::new(at)),
                ];
                let asked = (command, bytes);
                let pool = &mut pools.from;
                let lent = lend_walked(mapping, pool, world, asked, reach, &mut besides)?;
                if let Some(lent) = lent {
                    // Of blocks, the copy out tells soon enough; of what asking changes, it is too
                    // late.
                    let is_usable = pass.is_prompt || pools.from.is_memory(&lent, world);
                    given.loan = Loan::FromDevice(lent);
                    if !is_usable {
                        return self.take_back(world, given, besides);
                    }
                }
            }
        }
        given.run = besides.run;
        self.counts.entry_bytes += besides.list;
        Ok(())
    }

    /// Takes back what a request was lent whose bytes are not all the guest's memory.
    #[cold]
    fn take_back(
        &mut self,
        world: &mut impl World,
        given: &mut Given,
        besides: Besides,
    ) -> Result<(), Short> {
        let loan = core::mem::replace(&mut given.loan, Loan::Nothing);
        self.release(world, loan, besides.run);
        self.counts.entry_bytes += besides.list;
        Err(Short::Refused(Status::DATA_TRANSFER_ERROR))
    }
}

/// Lends pages for `bytes` bytes, each page belonging to the guest's page that `command` names;
/// none where all of them are the guest's own.
fn lend_walked<D: Direction, W: World>(
    mapping: Option<&mut Mapping<'_>>,
    pool: &mut Pool<'_, D>,
    world: &mut W,
    (command, bytes): (&Command, u32),
    reach: [fn(u64) -> Reach; 2],
    besides: &mut Besides,
) -> Result<Option<Lent<D>>, Short> {
    let offset = command.prp1().page_offset();
    // "The offset shall be dword aligned, indicated by bits 1:0 being cleared to 00b."
    if !offset.is_multiple_of(4) {
        return Err(Short::Refused(Status::PRP_OFFSET_INVALID));
    }
    if let Some(mapping) = mapping.filter(|_| world.maps()) {
        let asked = (command, bytes);
        if let Some(mapped) = mapping::lend(mapping, pool, world, asked, reach, besides) {
            return mapped;
        }
    }
    let lent = pool.lend(offset as u16, bytes).ok_or(Short::Pages)?;
    let walked = prp::walk(command, lent.pages(), world, |_, index, page| {
        pool.belongs_to(&lent, index, page);
        Ok(())
    });
    match walked {
        Ok(list) => {
            besides.list = list;
            Ok(Some(lent))
        }
        Err(status) => {
            pool.take_back(lent.returned(), world);
            Err(Short::Refused(status))
        }
    }
}
