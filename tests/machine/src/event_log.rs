//! The log of what a TPM's registers were extended with, as firmware keeps it.
//!
//! Source: TCG PC Client Platform Firmware Profile 1.05, "event logging"; structures are named as there, event types are
//! from table 9. Reads the digests of SHA-256 alone.

use sha2::{Digest, Sha256};

/// A value of a register, or what it is extended with.
pub type Sha256Digest = [u8; 32];

/// TPM_ALG_SHA256 (TCG Algorithm Registry 1.32, table 3).
const SHA256: u16 = 0x000b;

/// EV_NO_ACTION: extends nothing.
const NO_ACTION: u32 = 3;
/// EV_EFI_VARIABLE_AUTHORITY: by which entry of which variable a program was let start.
const AUTHORITY: u32 = 0x8000_00e0;

/// What the first event begins with, and the one that says which locality the TPM was started from.
const HEADER: &[u8] = b"Spec ID Event03\0";
const LOCALITY: &[u8] = b"StartupLocality\0";

/// One thing that was measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The register.
    pub register: u32,
    /// The type.
    pub kind: u32,
    /// What the register was extended with.
    pub digest: Sha256Digest,
    /// What was measured, or words about it.
    pub data: Vec<u8>,
}

impl Event {
    /// The words about what was measured, where they are text, as they are in EV_IPL.
    #[must_use]
    pub fn text(&self) -> String {
        let end = self.data.iter().position(|byte| *byte == 0);
        String::from_utf8_lossy(&self.data[..end.unwrap_or(self.data.len())]).into_owned()
    }

    /// Whether the event says that a program was let start by something with `name` in it.
    #[must_use]
    pub fn is_authority(&self, name: &str) -> bool {
        let mut windows = self.data.windows(name.len());
        self.kind == AUTHORITY && windows.any(|window| window == name.as_bytes())
    }
}

/// Reads a log; events come in the order in which they were measured.
///
/// # Errors
/// In words, where the log is none of the form with several digests, or ends within an event.
pub fn read(log: &[u8]) -> Result<Vec<Event>, String> {
    let mut rest = Bytes(log);
    let sizes = rest.header().ok_or("the log does not begin as it must")?;
    let mut events = Vec::new();
    while !rest.0.is_empty() {
        let at = log.len() - rest.0.len();
        let event = rest.event(&sizes);
        events.push(event.ok_or_else(|| format!("there is no event at byte {at} of the log"))?);
    }
    Ok(events)
}

/// What a register holds after these events.
#[must_use]
pub fn replay(events: &[Event], register: u32) -> Sha256Digest {
    let ours = events.iter().filter(|event| event.register == register);
    ours.fold([0; 32], |mut value, event| {
        match event.data.strip_prefix(LOCALITY) {
            _ if event.kind != NO_ACTION => {
                Sha256::digest([value, event.digest].as_flattened()).into()
            }
            // The first register begins with it.
            Some([locality, ..]) => {
                value[31] = *locality;
                value
            }
            _ => value,
        }
    })
}

/// How many bytes a digest of each algorithm has.
type Sizes = Vec<(u16, usize)>;

/// What is still to be read.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    /// TCG_PCClientPCREvent with TCG_EfiSpecIDEventStruct: the algorithms of the log.
    fn header(&mut self) -> Option<Sizes> {
        let [_register, _kind] = [self.u32()?, self.u32()?];
        let _digest = self.take(20)?;
        let length = self.length()?;
        let mut header = Bytes(self.take(length)?);
        header.0 = header.0.strip_prefix(HEADER)?;
        // Platform, version, errata, size of a word.
        header.take(8)?;
        let count = header.length()?;
        let algorithm = |_| Some((header.u16()?, usize::from(header.u16()?)));
        (0..count).map(algorithm).collect()
    }

    /// TCG_PCR_EVENT2.
    fn event(&mut self, sizes: &Sizes) -> Option<Event> {
        let [register, kind, count] = [self.u32()?, self.u32()?, self.u32()?];
        let mut digest = None;
        for _ in 0..count {
            let algorithm = self.u16()?;
            let (_, size) = sizes.iter().find(|(one, _)| *one == algorithm)?;
            let bytes = self.take(*size)?;
            if algorithm == SHA256 {
                digest = bytes.try_into().ok();
            }
        }
        let length = self.length()?;
        Some(Event {
            register,
            kind,
            digest: digest?,
            data: self.take(length)?.to_vec(),
        })
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn u16(&mut self) -> Option<u16> {
        let bytes = self.take(2)?.try_into().ok()?;
        Some(u16::from_le_bytes(bytes))
    }

    fn u32(&mut self) -> Option<u32> {
        let bytes = self.take(4)?.try_into().ok()?;
        Some(u32::from_le_bytes(bytes))
    }

    fn length(&mut self) -> Option<usize> {
        usize::try_from(self.u32()?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHA1: u16 = 4;
    const IPL: u32 = 13;

    fn header() -> Vec<u8> {
        let mut event = HEADER.to_vec();
        event.extend([0, 0, 0, 0, 0, 2, 0, 2]);
        event.extend(2_u32.to_le_bytes());
        for (algorithm, size) in [(SHA1, 20_u16), (SHA256, 32)] {
            event.extend([algorithm.to_le_bytes(), size.to_le_bytes()].as_flattened());
        }
        // No bytes of the maker's.
        event.push(0);
        let mut log = [0_u32.to_le_bytes(), NO_ACTION.to_le_bytes()].concat();
        log.extend([0; 20]);
        log.extend((event.len() as u32).to_le_bytes());
        log.extend(event);
        log
    }

    fn event(register: u32, kind: u32, digest: u8, data: &[u8]) -> Vec<u8> {
        let mut event: Vec<_> = [register, kind, 2].map(u32::to_le_bytes).concat();
        event.extend(SHA1.to_le_bytes());
        event.extend([0xff; 20]);
        event.extend(SHA256.to_le_bytes());
        event.extend([digest; 32]);
        event.extend((data.len() as u32).to_le_bytes());
        event.extend(data);
        event
    }

    #[test]
    fn events_are_read_with_the_digest_of_sha_256_among_several() {
        let log = [header(), event(14, IPL, 7, b"words\0\0")].concat();
        let events = read(&log).expect("it is a log");
        assert_eq!(events.len(), 1);
        assert_eq!((events[0].register, events[0].digest), (14, [7; 32]));
        assert_eq!(events[0].text(), "words");
    }

    #[test]
    fn a_register_holds_what_its_own_events_make_of_it() {
        let log = [
            header(),
            event(14, IPL, 1, b""),
            event(4, IPL, 2, b""),
            event(14, NO_ACTION, 3, b""),
            event(14, IPL, 4, b""),
        ];
        let events = read(&log.concat()).expect("it is a log");
        let first: Sha256Digest = Sha256::digest([[0; 32], [1; 32]].as_flattened()).into();
        let both: Sha256Digest = Sha256::digest([first, [4; 32]].as_flattened()).into();
        assert_eq!(replay(&events, 14), both);
        assert_eq!(replay(&events, 15), [0; 32]);
    }

    #[test]
    fn the_first_register_begins_with_the_locality_of_the_start() {
        let log = [header(), event(0, NO_ACTION, 0, b"StartupLocality\0\x03")].concat();
        let events = read(&log).expect("it is a log");
        assert_eq!(replay(&events, 0)[31], 3);
    }

    #[test]
    fn a_log_that_ends_within_an_event_is_refused_with_its_place() {
        let (header, event) = (header(), event(14, IPL, 7, b"words"));
        let log = [header.as_slice(), &event[..event.len() - 1]].concat();
        let told = format!("there is no event at byte {} of the log", header.len());
        assert_eq!(read(&log), Err(told));
        assert!(read(&header[..40]).is_err() && read(b"").is_err());
    }
}
