//! Lending: the pages of a request, filled with what the device reads.

use bounce::{Direction, Lent, Pool, Window};
use memory::{Gpa, Iova};

use super::mapping::Mapping;
use super::plan::{Extent, Pass};
use super::requests::Loan;
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

/// What a request was lent.
pub(super) struct Lending<D> {
    /// Pages of ours, for the bytes that are copied.
    pub(super) lent: Option<Lent<D>>,
    /// Addresses of the guest's whole pages, if they are not copied.
    pub(super) run: Option<Lent<Window>>,
    /// Bytes of lists that were read for it.
    pub(super) list: u64,
}

impl Nvme<'_> {
    /// Lends the pages, and fills them with what the device reads.
    pub(super) fn lend(
        &mut self,
        world: &mut impl World,
        command: &Command,
        pass: &Pass,
    ) -> Result<(Loan, Option<Lent<Window>>), Short> {
        let pools = &mut self.pools;
        // What may be mapped, and is not only to be copied.
        let mapping = self.mapping.as_mut().filter(|_| pass.is_prompt);
        match pass.extent {
            Extent::Nothing | Extent::Ring(_) => Ok((Loan::Nothing, None)),
            Extent::ToDevice(bytes) => {
                let reach = [
                    |at| Reach::ReadGuest(Gpa::new(at)),
                    |at| Reach::ReadOwn(Iova::new(at)),
                ];
                let asked = (command, bytes);
                let lending = lend_walked(mapping, &mut pools.to, world, asked, reach)?;
                let Lending { lent, run, list } = lending;
                self.counts.entry_bytes += list;
                let Some(lent) = lent else {
                    return Ok((Loan::Nothing, run));
                };
                if pools.to.fill(&lent, world).is_err() {
                    self.release(world, Loan::ToDevice(lent), run);
                    return Err(Short::Refused(Status::DATA_TRANSFER_ERROR));
                }
                self.counts.bytes_in += u64::from(lent.bytes());
                Ok((Loan::ToDevice(lent), run))
            }
            Extent::FromDevice(bytes) => {
                let reach = [
                    |at| Reach::WriteGuest(Gpa::new(at)),
                    |at| Reach::WriteOwn(Iova::new(at)),
                ];
                let asked = (command, bytes);
                let lending = lend_walked(mapping, &mut pools.from, world, asked, reach)?;
                let Lending { lent, run, list } = lending;
                self.counts.entry_bytes += list;
                let Some(lent) = lent else {
                    return Ok((Loan::Nothing, run));
                };
                // Of blocks, the copy out tells soon enough; of what asking changes, it is too late.
                if !pass.is_prompt && !pools.from.is_memory(&lent, world) {
                    self.release(world, Loan::FromDevice(lent), run);
                    return Err(Short::Refused(Status::DATA_TRANSFER_ERROR));
                }
                Ok((Loan::FromDevice(lent), run))
            }
        }
    }
}

/// Lends pages for `bytes` bytes, each page belonging to the guest's page that `command` names,
/// or being it.
fn lend_walked<D: Direction, W: World>(
    mapping: Option<&mut Mapping<'_>>,
    pool: &mut Pool<'_, D>,
    world: &mut W,
    (command, bytes): (&Command, u32),
    reach: [fn(u64) -> Reach; 2],
) -> Result<Lending<D>, Short> {
    let offset = command.prp1().page_offset();
    // "The offset shall be dword aligned, indicated by bits 1:0 being cleared to 00b."
    if !offset.is_multiple_of(4) {
        return Err(Short::Refused(Status::PRP_OFFSET_INVALID));
    }
    let asked = (command, bytes);
    let mapping = mapping.filter(|_| world.maps());
    let mapped = mapping.and_then(|mapping| mapping::lend(mapping, pool, world, asked, reach));
    if let Some(mapped) = mapped {
        return mapped;
    }
    let lent = pool.lend(offset as u16, bytes).ok_or(Short::Pages)?;
    let walked = prp::walk(command, lent.pages(), world, |_, index, page| {
        pool.belongs_to(&lent, index, page);
        Ok(())
    });
    match walked {
        Ok(list) => Ok(Lending {
            lent: Some(lent),
            run: None,
            list,
        }),
        Err(status) => {
            pool.take_back(lent.returned(), world);
            Err(Short::Refused(status))
        }
    }
}
