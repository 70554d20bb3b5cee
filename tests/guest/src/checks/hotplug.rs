//! Processors go offline and come back, and work when they are back.
//!
//! Coming back is INIT and two start-up interrupts on real hardware: the path that a hypervisor
//! must take over without losing the processor.

use super::hash;
use crate::cpus;
use crate::verdict::{Attempt, Figures, Verdict, ensure, skipped};

const ROUNDS: usize = 3;

pub(super) fn run(figures: &mut Figures) -> Verdict {
    let online = cpus::online()?;
    if online.len() < 2 {
        return Err(skipped("one processor: none may go offline"));
    }
    // The first processor cannot leave on x86.
    let movable = &online[1..];
    for round in 1..=ROUNDS {
        for &cpu in movable {
            switch(cpu, Line::Off).attempt(&format!("round {round}, processor {cpu}, offline"))?;
            let left = cpus::online()?;
            ensure!(
                !left.contains(&cpu),
                "round {round}: processor {cpu} is still online"
            );
            ensure!(
                cpus::pin(cpu).is_err(),
                "round {round}: a thread runs on absent {cpu}"
            );
            switch(cpu, Line::On).attempt(&format!("round {round}, processor {cpu}, online"))?;
            cpus::on(cpu, hash::known_answers)?;
        }
        // All of them away at once, then all back.
        for &cpu in movable {
            switch(cpu, Line::Off).attempt(&format!("round {round}, processor {cpu}, all off"))?;
        }
        let left = cpus::online()?;
        ensure!(
            left == online[..1],
            "round {round}: {left:?} online, wanted the first only"
        );
        for &cpu in movable {
            switch(cpu, Line::On).attempt(&format!("round {round}, processor {cpu}, all on"))?;
        }
        ensure!(
            cpus::online()? == online,
            "round {round}: not every processor came back"
        );
        for &cpu in &online {
            cpus::on(cpu, hash::known_answers)?;
        }
    }
    figures.tell("hotplug.returns", ROUNDS * 2 * movable.len());
    Ok(())
}

/// Which way to switch a processor.
#[derive(Clone, Copy)]
enum Line {
    Off,
    On,
}

fn switch(cpu: usize, line: Line) -> std::io::Result<()> {
    let digit = match line {
        Line::Off => "0",
        Line::On => "1",
    };
    std::fs::write(format!("/sys/devices/system/cpu/cpu{cpu}/online"), digit)
}
