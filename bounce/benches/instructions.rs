//! How many instructions a loan takes, copying and scrubbing left out and put in.
//!
//! Each case is run twice under valgrind, once for a thousand and once for two thousand turns;
//! the difference is what a thousand turns take. Without valgrind nothing is counted, and that is
//! said.

mod plain;

use std::env;
use std::hint::black_box;
use std::process::Command;

use bounce::{Part, Pool, ToDevice};

use plain::{Apart, Plain, account, lend};

const TURNS: u64 = 1000;

/// What is counted: a name, the bytes of a request, others lent meanwhile, and whether they are
/// copied.
const CASES: [(&str, u32, usize, bool); 8] = [
    ("512 B, lend and take back", 512, 0, false),
    ("4 KiB, lend and take back", 4096, 0, false),
    ("4 KiB, 31 others lent", 4096, 31, false),
    ("64 KiB, lend and take back", 64 << 10, 0, false),
    ("128 KiB, lend and take back", 128 << 10, 0, false),
    ("512 B, filled and scrubbed", 512, 0, true),
    ("4 KiB, filled and scrubbed", 4096, 0, true),
    ("128 KiB, filled and scrubbed", 128 << 10, 0, true),
];

fn main() {
    let mut arguments = env::args().skip(1);
    match (arguments.next(), arguments.next(), arguments.next()) {
        (Some(first), Some(case), Some(turns)) if first == "turns" => {
            let number = |text: String| text.parse().expect("a number");
            play(number(case) as usize, number(turns));
        }
        _ => count_all(),
    }
}

fn count_all() {
    for (case, (name, ..)) in CASES.iter().enumerate() {
        let Some((once, twice)) = count(case, TURNS).zip(count(case, 2 * TURNS)) else {
            println!("SKIPPED instructions: valgrind does not run; `apt-get install valgrind`");
            return;
        };
        println!("{:>8} instructions: {name}", (twice - once) / TURNS);
    }
}

/// Instructions of this program from start to end.
fn count(case: usize, turns: u64) -> Option<u64> {
    let output = Command::new("valgrind")
        .args(["--tool=cachegrind", "--cache-sim=no"])
        .arg("--cachegrind-out-file=/dev/null")
        .arg(env::current_exe().ok()?)
        .args(["turns", &case.to_string(), &turns.to_string()])
        .output()
        .ok()?;
    let said = String::from_utf8_lossy(&output.stderr);
    let (_, count) = said.lines().find_map(|line| line.split_once("refs:"))?;
    count.trim().replace(',', "").parse().ok()
}

fn play(case: usize, turns: u64) {
    let (_, bytes, others, is_copied) = CASES[case];
    let (mut plain, arena) = Plain::new();
    let mut pages = account(arena, Part::ToDevice);
    let mut pool = Pool::<ToDevice>::new(arena.part(Part::ToDevice), &mut pages);
    let others: Vec<_> = (0..others).filter_map(|_| pool.lend(0, 4096)).collect();
    for _ in 0..turns {
        let lent = lend(&mut pool, 0, black_box(bytes), Apart(1));
        if is_copied {
            black_box(pool.fill(&lent, &mut plain)).expect("the guest has memory");
            pool.take_back(lent.returned(), &mut plain);
        } else {
            plain.is_scrubbed = false;
            pool.take_back(lent.returned(), &mut plain);
        }
    }
    drop(others);
}
