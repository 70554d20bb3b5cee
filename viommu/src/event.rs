//! An event that a unit announces by an interrupt of its own: control, data, address.

use vtd::spec::registers::Fectl;

/// A message as the guest programmed it, in compatibility format. Whether it may be sent is for the
/// sender to say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Message {
    /// Bits 31:0 of the address.
    pub address: u32,
    /// Bits 63:32 of the address, of which 31:8 hold bits 31:8 of a wide destination.
    pub upper: u32,
    /// The data.
    pub data: u32,
}

/// The four registers of one event, in the order of their offsets (section 11.4.8 and 11.4.9).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Event {
    control: Fectl,
    message: Message,
}

/// One of the registers.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Part {
    Control,
    Data,
    Address,
    Upper,
}

impl Event {
    /// Masked, as after reset.
    pub(crate) fn new() -> Self {
        let mut control = Fectl(0);
        control.set_im(true);
        let message = Message {
            address: 0,
            upper: 0,
            data: 0,
        };
        Self { control, message }
    }

    pub(crate) fn read(&self, part: Part) -> u32 {
        match part {
            Part::Control => self.control.0,
            Part::Data => self.message.data,
            Part::Address => self.message.address,
            Part::Upper => self.message.upper,
        }
    }

    /// Takes the guest's write. Returns the message that was held back until now.
    pub(crate) fn write(&mut self, part: Part, value: u32) -> Option<Message> {
        match part {
            Part::Control => {
                self.control.set_im(Fectl(value).im());
                if !self.control.im() && self.control.ip() {
                    self.control.set_ip(false);
                    return Some(self.message);
                }
            }
            Part::Data => self.message.data = value & 0xffff,
            Part::Address => self.message.address = value & !0b11,
            Part::Upper => self.message.upper = value,
        }
        None
    }

    /// Something happened. Returns the message to send, unless it is masked.
    pub(crate) fn happen(&mut self) -> Option<Message> {
        if self.control.im() {
            self.control.set_ip(true);
            return None;
        }
        Some(self.message)
    }

    /// What happened was attended to without a message.
    pub(crate) fn withdraw(&mut self) {
        self.control.set_ip(false);
    }
}
