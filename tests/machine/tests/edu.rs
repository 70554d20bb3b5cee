//! The smallest mediator: a device that moves any bytes is mediated, and moves those it is asked to.

use machine::judge::{figure, held};
use machine::policies::{EDU_RULE, mediated_edu};
use machine::{Scene, heist};

const CHECK: &str = "legal-bytes";

fn scene(scene: Scene) -> Scene {
    scene.arguments(&heist::DEVICE).checks(&[CHECK])
}

#[test]
fn without_bouncer_a_transfer_moves_its_bytes() {
    let name = "without_bouncer_a_transfer_moves_its_bytes";
    // A kernel with an IOMMU lets the device write nothing: nobody drives it.
    let native = Scene::native(name).append("intel_iommu=off");
    held(name, &scene(native).play(), &[CHECK]);
}

#[test]
fn a_mediated_transfer_moves_its_bytes_and_no_others() {
    let name = "a_mediated_transfer_moves_its_bytes_and_no_others";
    let policy = mediated_edu(1, "quarantine");
    let scene = scene(Scene::bouncer(name).policy(policy));
    let session = scene.begin_mediated(EDU_RULE);
    let outcome = scene.end(session);
    held(name, &outcome, &[CHECK]);
    let moved = figure(&outcome, "edu.bytes");
    let line = outcome.bouncer.iter().rev();
    let line = line
        .map(|line| &line.text)
        .find(|text| text.starts_with("@bounce "));
    let line = line.expect("what was bounced");
    let bounced = |key: &str| format!(" {key}={moved} ");
    assert!(
        line.contains(&bounced("bytes-in")) && line.contains(&bounced("bytes-out")),
        "{line}"
    );
}
