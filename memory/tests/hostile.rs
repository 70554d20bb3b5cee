//! Memory that others can write is fetched once.

use kit::{FlippingMemory, SparseMemory};
use memory::{Gpa, GuestMemory};

const AT: Gpa = Gpa::new(0x1ffe);

#[test]
fn a_word_is_fetched_once_and_little_endian_across_pages() {
    let memory = FlippingMemory::new(SparseMemory::new().holding(AT, &[1, 2, 3, 4, 5, 6, 7, 8]));
    assert_eq!(memory.read_u64(AT), Ok(0x0807_0605_0403_0201));
    assert_eq!(memory.most_fetches(), 1);
}

#[test]
fn a_double_word_is_fetched_once_and_little_endian() {
    let memory = FlippingMemory::new(SparseMemory::new().holding(AT, &[1, 2, 3, 4]));
    assert_eq!(memory.read_u32(AT), Ok(0x0403_0201));
    assert_eq!(memory.most_fetches(), 1);
}

#[test]
fn a_word_that_touches_a_hole_is_no_word() {
    let memory = SparseMemory::new().holding(Gpa::new(0x1000), &[0]);
    let refused = memory.read_u64(Gpa::new(0x1ffc)).unwrap_err();
    assert_eq!(refused.0.start(), Gpa::new(0x2000));
}
