//! Queues without interrupts: the driver looks for completions itself, and finds them.

use super::drive::Drive;
use super::interrupts;
use super::program::{self, FIO};
use crate::verdict::{Figures, Verdict, ensure, skipped};
use std::time::Duration;

const REQUESTS: u64 = 2_000;
const PATIENCE: Duration = Duration::from_secs(120);
const PARAMETER: &str = "/sys/module/nvme/parameters/poll_queues";

pub(in super::super) fn run(figures: &mut Figures) -> Verdict {
    let queues = std::fs::read_to_string(PARAMETER).unwrap_or_default();
    if !queues.trim().parse().is_ok_and(|queues: u32| queues > 0) {
        return Err(skipped("no polled queues: boot with nvme.poll_queues=1"));
    }
    let drive = Drive::asked_for()?;
    let is_polled = drive.block_attribute("queue/io_poll")?;
    ensure!(is_polled == "1", "the queue's io_poll is {is_polled}");
    for (kind, depth) in [("randwrite", 1), ("randread", 8)] {
        let before = interrupts::of_drives()?;
        let arguments = [
            format!("--filename={}", drive.path().display()),
            "--name=polled".into(),
            "--thread".into(),
            "--ioengine=io_uring".into(),
            "--hipri".into(),
            "--direct=1".into(),
            "--bs=4k".into(),
            "--size=16M".into(),
            "--output-format=terse".into(),
            format!("--number_ios={REQUESTS}"),
            format!("--rw={kind}"),
            format!("--iodepth={depth}"),
            "--verify=crc32c".into(),
            "--do_verify=0".into(),
        ];
        program::run(FIO, &arguments, PATIENCE)?;
        let raised = interrupts::of_drives()? - before;
        figures.tell(&format!("polled.{kind}.interrupts"), raised);
        ensure!(
            raised < REQUESTS / 20,
            "{raised} interrupts for {REQUESTS} polled requests"
        );
    }
    Ok(())
}
