//! A guest that writes anything anywhere: nothing panics, every step ends, every word is read once.

use kit::{FlippingMemory, SparseMemory};
use memory::{ByteRange, Gpa, GuestMemory, Iova};
use viommu::{Access, Mode, Request, Shadow, Translations, Unit, Width, Work};
use vtd::spec::registers::offset;

use crate::stage::{DEVICE, Lent, limits};

/// Numbers without meaning.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.roll() % bound
    }

    /// A word as a guest would write it: often an address of its memory with small fields.
    fn word(&mut self) -> u64 {
        match self.below(6) {
            0 => self.roll(),
            1 => 1 << self.below(64),
            2 => self.below(32) << 4,
            3 => self.below(64),
            _ => self.below(PAGES) << 12 | self.below(8),
        }
    }
}

const PAGES: u64 = 8;

/// One sequence of register writes, of queue contents and of tables.
fn play(seed: u64) {
    let mut dice = Dice(seed * 2 + 1);
    let range = ByteRange::new(Gpa::new(0), PAGES << 12).unwrap();
    let memory = SparseMemory::new().with(range);
    let width = if seed.is_multiple_of(2) {
        Width::Wide
    } else {
        Width::Narrow
    };
    let mut unit = if seed & 2 == 0 {
        Unit::new(width)
    } else {
        Unit::carried(width, limits())
    };
    let mut capabilities = [0; 24];
    unit.read(0, &mut capabilities);
    let mut device = Translations::new(DEVICE, Mode::Physical);
    let mut shadow = Shadow::new(DEVICE, limits(), Mode::Physical);
    let mut lent = Lent::default();
    for _ in 0..24 {
        for _ in 0..8 {
            let at = dice.below(PAGES * 512) * 8;
            memory
                .write(Gpa::new(at), &dice.word().to_le_bytes())
                .unwrap();
        }
        let known = [
            offset::GCMD,
            offset::RTADDR,
            offset::IQA,
            offset::IQT,
            offset::IRTA,
            offset::CCMD,
            offset::FSTS,
            offset::FECTL,
            0xf0,
            0xf8,
            0x22c,
        ];
        let at = match dice.below(4) {
            0 => dice.below(0x1008) as u32,
            _ => known[dice.below(known.len() as u64) as usize],
        };
        let word = match at {
            offset::GCMD => 1 << (23 + dice.below(9)),
            _ => dice.word(),
        };
        let len = [4, 8, 1][dice.below(3) as usize];
        unit.write(at, &word.to_le_bytes()[..len]);
        let mut budget = 16;
        let (mut steps, mut entries) = (0, 64);
        let mut is_done = shadow.carry_on(&memory, &mut lent, &mut entries);
        while is_done && let Some(work) = unit.next(&memory, &mut budget) {
            steps += 1;
            assert!(steps <= 17, "one exit ends");
            match work {
                Work::Switch(mode) => {
                    device.switch(mode);
                    shadow.switch(mode);
                }
                Work::Forget(scope) => {
                    device.forget(scope);
                    shadow.forget(scope);
                }
                Work::Interrupts(_) => {}
            }
            is_done = shadow.carry_on(&memory, &mut lent, &mut entries);
        }
        let (at, access) = (Iova::new(dice.word()), [Access::Read, Access::Write]);
        let access = access[dice.below(2) as usize];
        if let Err(refused) = device.translate(&memory, at, access) {
            unit.refuse(DEVICE, at, access, refused);
        }
        let request = Request::Message {
            address: 0xfee0_0010 | dice.below(1 << 16) << 5,
            data: dice.roll() as u32,
        };
        if let Ok(Some(route)) = unit.route(&memory, DEVICE, request, false) {
            assert!(route.vector() >= 16 && !route.is_nmi());
        }
        while unit.take_message().is_some() {}
    }
    let mut now = [0; 24];
    unit.read(0, &mut now);
    assert_eq!(now, capabilities, "what it can do never changes");
}

#[test]
fn nothing_that_a_guest_writes_panics_or_goes_on_for_ever() {
    (0..10_000).for_each(play);
}

#[test]
#[ignore = "a million sequences: cargo test --release -p viommu -- --ignored"]
fn nothing_that_a_guest_writes_panics_in_a_million_sequences() {
    (0..1_000_000).for_each(play);
}

#[test]
fn every_word_of_the_tables_is_fetched_once() {
    // Root 0, context 0x1000, tables 0x2000 to 0x5000.
    let words: [(u64, u64); 7] = [
        (3 * 16, 0x1001),
        (0x1000 + 0x20 * 16, 0x2001),
        (0x1000 + 0x20 * 16 + 8, 0x0502),
        (0x2000, 0x3003),
        (0x3000, 0x4003),
        (0x4000, 0x5003),
        (0x5000 + 8, 0x9003),
    ];
    let mut memory = SparseMemory::new().with(ByteRange::new(Gpa::new(0), 0x6000).unwrap());
    for (at, word) in words {
        memory = memory.holding(Gpa::new(at), &word.to_le_bytes());
    }
    let memory = FlippingMemory::new(memory);
    let mut device = Translations::new(DEVICE, Mode::Tables(Gpa::new(0)));
    let found = device.translate(&memory, Iova::new(0x1234), Access::Write);
    assert_eq!(found, Ok(Gpa::new(0x9234)));
    assert_eq!(memory.most_fetches(), 1);
    // What is remembered is not fetched at all.
    let again = device.translate(&memory, Iova::new(0x1ff8), Access::Read);
    assert_eq!(again, Ok(Gpa::new(0x9ff8)));
    assert_eq!(memory.most_fetches(), 1);
}

#[test]
fn tables_that_lie_nowhere_or_hold_reserved_bits_refuse() {
    use vtd::spec::fault::Reason;
    let reason = |words: &[(u64, u64)]| {
        let mut memory = SparseMemory::new().with(ByteRange::new(Gpa::new(0), 0x4000).unwrap());
        for (at, word) in words {
            memory = memory.holding(Gpa::new(*at), &word.to_le_bytes());
        }
        let mut device = Translations::new(DEVICE, Mode::Tables(Gpa::new(0)));
        let found = device.translate(&memory, Iova::new(0x1234), Access::Read);
        found.unwrap_err().reason
    };
    let root = (3 * 16, 0x1001);
    let context = 0x1000 + 0x20 * 16;
    let width = (context + 8, 0x0501);
    assert_eq!(reason(&[]), Reason::ROOT_NOT_PRESENT);
    assert_eq!(reason(&[(3 * 16, 0x1003)]), Reason::ROOT_RESERVED);
    assert_eq!(
        reason(&[(3 * 16, 0xfed9_0001)]),
        Reason::CONTEXT_UNREACHABLE
    );
    assert_eq!(reason(&[root]), Reason::CONTEXT_NOT_PRESENT);
    assert_eq!(reason(&[root, (context, 0x2001)]), Reason::CONTEXT_INVALID);
    assert_eq!(
        reason(&[root, (context, 0x2011), width]),
        Reason::CONTEXT_RESERVED
    );
    assert_eq!(
        reason(&[root, (context, 0x2005), width]),
        Reason::CONTEXT_INVALID
    );
    let table = (context, 0x2001);
    assert_eq!(reason(&[root, table, width]), Reason::READ_DENIED);
    assert_eq!(
        reason(&[root, (context, 0xfed9_0001), width]),
        Reason::TABLE_UNREACHABLE
    );
    assert_eq!(
        reason(&[root, table, width, (0x2000, 0x1083)]),
        Reason::ENTRY_RESERVED
    );
    assert_eq!(
        reason(&[root, table, width, (0x2000, 0x3002)]),
        Reason::READ_DENIED
    );
}
