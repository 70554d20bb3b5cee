//! Bouncer says who it is through CPUID, and shows no virtualisation of its own to build on.

use crate::bouncer;
use crate::cpus;
use crate::verdict::{Figures, Verdict, ensure};
use core::arch::x86_64::__cpuid;

pub(super) fn run(figures: &mut Figures) -> Verdict {
    let (highest, signature) = bouncer::signature();
    figures.tell("detect.signature", signature.escape_ascii());
    for cpu in cpus::online()? {
        cpus::on(cpu, || on_this_processor(cpu))?;
    }
    figures.tell("detect.highest", format_args!("{highest:#x}"));
    figures.tell("detect.version", bouncer::interface_version());
    Ok(())
}

fn on_this_processor(cpu: usize) -> Verdict {
    ensure!(
        bouncer::is_a_guest(),
        "processor {cpu}: leaf 1 ECX[31] (hypervisor) is clear"
    );
    let (highest, signature) = bouncer::signature();
    ensure!(
        signature == *bouncer::SIGNATURE,
        "processor {cpu}: the hypervisor calls itself {:?}, not {:?}",
        String::from_utf8_lossy(&signature),
        String::from_utf8_lossy(bouncer::SIGNATURE)
    );
    ensure!(
        highest >= bouncer::HIGHEST_AT_LEAST,
        "processor {cpu}: the highest leaf is {highest:#x}, below {:#x}",
        bouncer::HIGHEST_AT_LEAST
    );
    let version = bouncer::interface_version();
    ensure!(
        version == bouncer::VERSION,
        "processor {cpu}: interface version {version}"
    );
    // AMD APM volume 3, E.4.2: Fn8000_0001 ECX[2] = SVM.
    ensure!(
        __cpuid(0x8000_0001).ecx & 1 << 2 == 0,
        "processor {cpu}: CPUID offers SVM"
    );
    // Intel SDM volume 2, CPUID: leaf 1 ECX[5] = VMX.
    ensure!(
        __cpuid(1).ecx & 1 << 5 == 0,
        "processor {cpu}: CPUID offers VMX"
    );
    Ok(())
}
