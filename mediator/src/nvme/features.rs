//! Features: sections 5.15 and 5.27. Which have data, how much, and which are not offered.

use super::Nvme;
use super::completion::Then;
use super::plan::Plan;
use super::spec::{Command, Status};

/// Feature identifiers: figure 317.
const NUMBER_OF_QUEUES: u8 = 0x07;
const HOST_IDENTIFIER: u8 = 0x81;

/// "Select": dword 10, bits 10:8, of which 3 asks for capabilities and no data.
const SUPPORTED_CAPABILITIES: u32 = 3;

/// Bytes of the data of a feature, if it is offered.
fn bytes(feature: u8, dword11: u32) -> Option<u32> {
    Some(match feature {
        // LBA range type, and the host's metadata.
        0x03 | 0x7d..=0x7f => 4096,
        // Autonomous power state transition.
        0x0c => 256,
        // Timestamp.
        0x0e => 8,
        // Predictable latency mode, host behaviour support.
        0x13 | 0x16 => 512,
        // Extended or not: dword 11, bit 0.
        HOST_IDENTIFIER if dword11 & 1 != 0 => 16,
        HOST_IDENTIFIER => 8,
        0x01 | 0x02 | 0x04..=0x0b | 0x0f..=0x12 | 0x14 | 0x15 | 0x17 | 0x18 | 0x1a => 0,
        // Software progress marker, reservations, write protection.
        0x80 | 0x82..=0x84 => 0,
        // The host memory buffer (0Dh) would be memory of the guest's for the device alone.
        _ => return None,
    })
}

impl Nvme<'_> {
    pub(super) fn plan_set_features(&mut self, command: &mut Command) -> Result<Plan, Status> {
        let feature = command.dword(10) as u8;
        let bytes = bytes(feature, command.dword(11)).ok_or(Status::INVALID_FIELD)?;
        if feature == NUMBER_OF_QUEUES {
            return self.plan_queue_count(command);
        }
        Ok(Plan::pass(self.readable(bytes.into())?))
    }

    pub(super) fn plan_read_features(&mut self, command: &Command) -> Result<Plan, Status> {
        let feature = command.dword(10) as u8;
        let bytes = bytes(feature, command.dword(11)).ok_or(Status::INVALID_FIELD)?;
        let is_about_support = command.dword(10) >> 8 & 0b111 == SUPPORTED_CAPABILITIES;
        let bytes = if is_about_support { 0 } else { bytes };
        let extent = self.writable(bytes.into())?;
        let then = if feature == NUMBER_OF_QUEUES && !is_about_support {
            Then::QueueCount
        } else {
            Then::Show
        };
        Ok(Plan::pass_then(extent, then))
    }

    /// "The value 65,535 is not valid" in either half of dword 11. More than there is room for is
    /// not asked of the device.
    fn plan_queue_count(&self, command: &mut Command) -> Result<Plan, Status> {
        let wanted = command.dword(11);
        if wanted as u16 == u16::MAX || wanted >> 16 == 0xffff {
            return Err(Status::INVALID_FIELD);
        }
        let wanted = self.cut_queue_count(wanted);
        // One more of each, for the pair of ours.
        let more = u32::from(self.limits.has_quiet) * 0x0001_0001;
        command.set_dword(11, wanted + more);
        let extent = self.readable(0)?;
        Ok(Plan::pass_then(extent, Then::Queues))
    }

    /// What the guest is shown of the numbers of queues that the device has for us: all but the pair of
    /// ours.
    pub(super) fn shown_queue_count(&self, count: u32) -> u32 {
        let less = u32::from(self.limits.has_quiet);
        let [high, low] = [count >> 16, count & 0xffff].map(|count| count.saturating_sub(less));
        self.cut_queue_count(high << 16 | low)
    }

    /// Numbers of queues of both kinds, counted from 0, not above what the guest may create.
    pub(super) fn cut_queue_count(&self, count: u32) -> u32 {
        let most = self.last_queue();
        (count >> 16).min(most) << 16 | (count & 0xffff).min(most)
    }
}
