use memory::PAGE_SIZE;

use super::*;

const AT: Gpa = Gpa::new(0x1000);

fn sides() -> Sides {
    let guest = SparseMemory::new().holding(AT, &[7; 64]);
    Sides::new(Arena::new(16 * PAGE_SIZE).unwrap(), guest)
}

#[test]
fn the_device_reads_where_it_may_read_and_writes_where_it_may_write() {
    let sides = sides();
    let (readable, writable) = (sides.arena().readable(), sides.arena().writable());
    let mut byte = [0];
    assert_eq!(sides.device_reads(readable.last(), &mut byte), Ok(()));
    assert_eq!(sides.device_writes(writable.start(), &byte), Ok(()));
    assert!(sides.device_reads(writable.start(), &mut byte).is_err());
    assert!(sides.device_writes(readable.last(), &byte).is_err());
    assert!(sides.device_writes(writable.last(), &[0, 0]).is_err());
    assert!(sides.device_reads(Iova::new(0), &mut byte).is_err());
}

#[test]
fn through_a_window_the_device_reaches_what_is_behind_it_and_as_long_as_it_is() {
    let sides = sides();
    let window = sides.arena().writable().last().checked_add(1).unwrap();
    let next = window.checked_add(PAGE_SIZE).unwrap();
    let mut byte = [0];
    assert!(sides.device_reads(window, &mut byte).is_err());
    sides.map(window, Behind::GuestRead(AT));
    sides.map(next, Behind::OwnWritten(sides.arena().writable().start()));
    assert_eq!((sides.device_reads(window, &mut byte), byte), (Ok(()), [7]));
    assert!(sides.device_writes(window, &byte).is_err());
    assert_eq!(sides.device_writes(next, &byte), Ok(()));
    assert_eq!(sides.load_u64(sides.arena().writable().start()), 7);
    sides.unmap(ByteRange::new(window, PAGE_SIZE).unwrap());
    assert!(sides.device_reads(window, &mut byte).is_err());
    assert_eq!(sides.mapped().len(), 1);
}

#[test]
fn whoever_is_restless_changes_what_was_fetched() {
    let mut sides = sides();
    sides.guest_is_restless(true);
    sides.device_is_restless(true);
    let own = sides.arena().writable().start();
    assert_eq!(sides.read_u32(AT), Ok(0x0707_0707));
    assert_eq!(sides.read_u32(AT), Ok(0xf8f8_f8f8));
    assert_eq!((sides.load_u64(own), sides.load_u64(own)), (0, u64::MAX));
    let readable = sides.arena().readable().start();
    sides.store(readable, &[1; 8]);
    assert_eq!(sides.load_u64(readable), sides.load_u64(readable));
}

#[test]
fn somebody_acts_before_each_access() {
    let sides = sides();
    let own = sides.arena().writable().start();
    let mut count = 0;
    sides.meddle(move |sides| {
        count += 1;
        sides.device_writes(own, &[count]).unwrap();
    });
    assert_eq!((sides.load_u64(own), sides.load_u64(own)), (1, 2));
    sides.leave_alone();
    assert_eq!(sides.load_u64(own), 2);
}

#[test]
fn what_is_touched_is_written_down_in_order() {
    let mut sides = sides();
    let from = ByteRange::new(AT, 4).unwrap();
    let (readable, writable) = (sides.arena().readable(), sides.arena().writable());
    sides.copy_in(from, readable.start()).unwrap();
    sides.copy_out(writable.start(), from).unwrap();
    let touches = sides.touches();
    assert_eq!(
        touches,
        [
            Touch::CopiedIn(from, readable.start()),
            Touch::CopiedOut(writable.start(), from)
        ]
    );
    assert!(sides.touches().is_empty());
}

#[test]
fn the_most_fetched_byte_is_found() {
    let ranges = [(0, 10), (5, 5), (9, 3), (20, 1)];
    let ranges = ranges.map(|(start, len)| ByteRange::new(Iova::new(start), len).unwrap());
    assert_eq!(most(ranges.into_iter()), 3);
    assert_eq!(most(core::iter::empty::<ByteRange<Gpa>>()), 0);
}

#[test]
#[should_panic(expected = "is not among the device's pages")]
fn an_access_past_the_pages_is_a_mistake() {
    let sides = sides();
    let end = sides.arena().writable().last();
    sides.load(end, &mut [0; 2]);
}

#[test]
#[should_panic(expected = "where it does not read")]
fn bytes_for_the_device_do_not_go_where_it_writes() {
    let mut sides = sides();
    let to = sides.arena().writable().start();
    let _ = sides.copy_in(ByteRange::new(AT, 4).unwrap(), to);
}
