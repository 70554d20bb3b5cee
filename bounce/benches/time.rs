//! How long copying through a request's extents takes beside one `memcpy` of as many bytes, and
//! what a loan costs that copies nothing.

mod plain;

use std::hint::black_box;

use bounce::{FromDevice, Part, Pool, ToDevice};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

use plain::{Apart, Plain, account, lend};

/// Bytes of a request.
const SIZES: [u32; 4] = [512, 4096, 64 << 10, 128 << 10];

fn copies(criterion: &mut Criterion) {
    for bytes in SIZES {
        let mut group = criterion.benchmark_group(format!("copy {bytes}"));
        group.throughput(Throughput::Bytes(bytes.into()));
        let (mut plain, arena) = Plain::new();

        let guest = plain.guest.clone();
        let mut own = vec![0_u8; bytes as usize];
        group.bench_function("memcpy", |bencher| {
            bencher.iter(|| own.copy_from_slice(black_box(&guest[0x10000..][..bytes as usize])));
        });
        for (name, apart) in [("pages together", Apart(1)), ("pages apart", Apart(2))] {
            let mut pages = account(arena, Part::ToDevice);
            let mut pool = Pool::<ToDevice>::new(arena.part(Part::ToDevice), &mut pages);
            let lent = lend(&mut pool, 0, bytes, apart);
            group.bench_function(format!("in, {name}"), |bencher| {
                bencher.iter(|| pool.fill(black_box(&lent), &mut plain));
            });
            let mut pages = account(arena, Part::FromDevice);
            let mut pool = Pool::<FromDevice>::new(arena.part(Part::FromDevice), &mut pages);
            let returned = lend(&mut pool, 0, bytes, apart).returned();
            group.bench_function(format!("out, {name}"), |bencher| {
                bencher.iter(|| pool.hand_out(black_box(&returned), bytes, &mut plain));
            });
        }
        let mut pages = account(arena, Part::ToDevice);
        let mut pool = Pool::<ToDevice>::new(arena.part(Part::ToDevice), &mut pages);
        group.bench_function("whole loan, filled and scrubbed", |bencher| {
            bencher.iter(|| {
                let lent = lend(&mut pool, 0, bytes, Apart(1));
                let filled = pool.fill(&lent, &mut plain);
                pool.take_back(lent.returned(), &mut plain);
                filled
            });
        });
        group.finish();
    }
}

fn loans(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("loan of one byte");
    let (mut plain, arena) = Plain::new();
    let mut pages = account(arena, Part::ToDevice);
    let mut pool = Pool::<ToDevice>::new(arena.part(Part::ToDevice), &mut pages);
    group.bench_function("pool empty", |bencher| {
        bencher.iter(|| {
            let lent = pool.lend(0, black_box(1)).expect("room");
            pool.take_back(lent.returned(), &mut plain);
        });
    });
    let kept: Vec<_> = (0..32).filter_map(|_| pool.lend(0, 4096)).collect();
    group.bench_function("32 others lent", |bencher| {
        bencher.iter(|| {
            let lent = pool.lend(0, black_box(1)).expect("room");
            pool.take_back(lent.returned(), &mut plain);
        });
    });
    for lent in kept {
        pool.take_back(lent.returned(), &mut plain);
    }
    group.finish();
}

criterion_group!(all, copies, loans);
criterion_main!(all);
