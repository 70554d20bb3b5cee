//! What can be asked.

/// Opcodes of the admin queue; figure 138.
pub(crate) mod admin {
    pub(crate) const DELETE_SUBMISSION_QUEUE: u8 = 0x00;
    pub(crate) const CREATE_SUBMISSION_QUEUE: u8 = 0x01;
    pub(crate) const LOG_PAGE: u8 = 0x02;
    pub(crate) const DELETE_COMPLETION_QUEUE: u8 = 0x04;
    pub(crate) const CREATE_COMPLETION_QUEUE: u8 = 0x05;
    pub(crate) const IDENTIFY: u8 = 0x06;
    pub(crate) const ABORT: u8 = 0x08;
    pub(crate) const SET_FEATURES: u8 = 0x09;
    pub(crate) const READ_FEATURES: u8 = 0x0a;
    pub(crate) const EVENT_REQUEST: u8 = 0x0c;
    pub(crate) const NAMESPACE_MANAGEMENT: u8 = 0x0d;
    pub(crate) const FIRMWARE_COMMIT: u8 = 0x10;
    pub(crate) const FIRMWARE_DOWNLOAD: u8 = 0x11;
    pub(crate) const SELF_TEST: u8 = 0x14;
    pub(crate) const NAMESPACE_ATTACHMENT: u8 = 0x15;
    pub(crate) const KEEP_ALIVE: u8 = 0x18;
    pub(crate) const DOORBELL_BUFFERS: u8 = 0x7c;
    pub(crate) const FORMAT: u8 = 0x80;
    pub(crate) const SECURITY_SEND: u8 = 0x81;
    pub(crate) const SECURITY_RECEIVE: u8 = 0x82;
    pub(crate) const SANITIZE: u8 = 0x84;
    pub(crate) const BLOCK_STATUS: u8 = 0x86;
}

/// Opcodes of the other queues: figure 374, and figure 15 of the NVM command set.
pub(crate) mod io {
    pub(crate) const FLUSH: u8 = 0x00;
    pub(crate) const WRITE: u8 = 0x01;
    pub(crate) const READ: u8 = 0x02;
    pub(crate) const WRITE_UNCORRECTABLE: u8 = 0x04;
    pub(crate) const COMPARE: u8 = 0x05;
    pub(crate) const WRITE_ZEROES: u8 = 0x08;
    pub(crate) const DATASET_MANAGEMENT: u8 = 0x09;
    pub(crate) const VERIFY: u8 = 0x0c;
    pub(crate) const RESERVATION_REGISTER: u8 = 0x0d;
    pub(crate) const RESERVATION_REPORT: u8 = 0x0e;
    pub(crate) const RESERVATION_ACQUIRE: u8 = 0x11;
    pub(crate) const RESERVATION_RELEASE: u8 = 0x15;
}
