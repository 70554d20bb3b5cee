//! Which crate of the workspace may use which: the architecture's arrows, enforced.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

use crate::progress;
use crate::stop::Stop;
use crate::workspace;

/// Every allowed edge: a crate and the crates of this workspace it may use. A crate that is not here may not be.
const ALLOWED: &[(&str, &[&str])] = &[
    ("memory", &[]),
    ("processor", &["memory"]),
    ("acpi", &["memory"]),
    ("pci", &["memory"]),
    ("paging", &["memory"]),
    ("policy", &["memory", "pci"]),
    ("instruction", &["memory"]),
    ("ept", &["memory", "paging"]),
    ("vmx", &[]),
    ("vtd", &["memory", "paging", "pci"]),
    ("viommu", &["memory", "paging", "pci", "vtd"]),
    ("bounce", &["memory"]),
    ("mediator", &["bounce", "memory"]),
    ("boot", &["acpi", "memory", "policy"]),
    (
        "hypervisor",
        &[
            "acpi",
            "boot",
            "bounce",
            "ept",
            "instruction",
            "mediator",
            "memory",
            "paging",
            "pci",
            "policy",
            "processor",
            "viommu",
            "vmx",
            "vtd",
        ],
    ),
    ("efi", &["boot", "memory", "policy", "processor"]),
    ("guest", &[]),
    ("kit", &["memory"]),
    ("drive", &["bounce", "kit", "mediator", "memory"]),
    ("machine", &["qemu"]),
    ("qemu", &[]),
    ("xtask", &["machine", "pci", "policy", "qemu"]),
];

/// What any crate may use in its tests, besides its own edges: fakes that know `memory` alone, and the emulator.
const IN_TESTS: [&str; 2] = ["kit", "qemu"];

/// An edge of the workspace's graph.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Edge {
    from: String,
    to: String,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Code,
    Tests,
}

/// Compares the workspace's edges with the list.
pub(super) fn check() -> Result<(), Stop> {
    let mut command = Command::new("cargo");
    command
        .args(["metadata", "--format-version=1", "--no-deps", "--offline"])
        .current_dir(workspace::root());
    let text = progress::command("dependency rules", &mut command)?;
    let metadata = serde_json::from_str(&text)
        .map_err(|error| Stop::failed(format!("cargo metadata: {error}")))?;
    let (members, edges) = read(&metadata);
    let complaints = complaints(&members, &edges);
    if complaints.is_empty() {
        Ok(())
    } else {
        Err(Stop::failed(complaints.join("\n")))
    }
}

/// The workspace's crates and the edges between them.
fn read(metadata: &Value) -> (BTreeSet<String>, Vec<Edge>) {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let name = |value: &Value| value["name"].as_str().unwrap_or_default().to_owned();
    let packages = list(&metadata["packages"]);
    let members: BTreeSet<_> = packages.iter().map(name).collect();
    let mut edges = Vec::new();
    for package in &packages {
        for dependency in list(&package["dependencies"]) {
            let to = name(&dependency);
            if members.contains(&to) {
                // An optional dependency is in no build that does not ask for it, and only tests ask.
                let kind = if dependency["kind"] == "dev" || dependency["optional"] == true {
                    Kind::Tests
                } else {
                    Kind::Code
                };
                edges.push(Edge {
                    from: name(package),
                    to,
                    kind,
                });
            }
        }
    }
    (members, edges)
}

fn complaints(members: &BTreeSet<String>, edges: &[Edge]) -> Vec<String> {
    let allowed: BTreeMap<_, _> = ALLOWED.iter().copied().collect();
    let strangers = members.iter().filter(|member| !allowed.contains_key(member.as_str())).map(|member| {
        format!("dependency rules: the crate {member} has no row in xtask/src/check/dependencies.rs: add one with the crates it may use")
    });
    let forbidden = edges
        .iter()
        .filter(|edge| !is_allowed(&allowed, edge))
        .map(|edge| {
            format!(
                "dependency rules: {} may not use {}: dependencies point one way only",
                edge.from, edge.to
            )
        });
    strangers.chain(forbidden).collect()
}

fn is_allowed(allowed: &BTreeMap<&str, &[&str]>, edge: &Edge) -> bool {
    let Some(uses) = allowed.get(edge.from.as_str()) else {
        return true;
    };
    uses.contains(&edge.to.as_str())
        || (edge.kind == Kind::Tests && IN_TESTS.contains(&edge.to.as_str()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn verdict(metadata: &Value) -> Vec<String> {
        let (members, edges) = read(metadata);
        complaints(&members, &edges)
    }

    #[test]
    fn edges_of_the_list_pass_and_others_do_not() {
        let package = |name: &str, uses: &[&str]| {
            let dependencies: Vec<_> = uses
                .iter()
                .map(|to| json!({ "name": to, "kind": null }))
                .collect();
            json!({ "name": name, "dependencies": dependencies })
        };
        let good =
            json!({ "packages": [package("memory", &["zerocopy"]), package("pci", &["memory"])] });
        assert_eq!(verdict(&good), [""; 0]);
        let bad = json!({ "packages": [package("memory", &["pci"]), package("pci", &["memory"])] });
        assert_eq!(
            verdict(&bad),
            ["dependency rules: memory may not use pci: dependencies point one way only"]
        );
    }

    #[test]
    fn tests_may_use_the_fakes_and_code_may_not() {
        let pci = |kind: Value| {
            let dependencies = [json!({ "name": "kit", "kind": kind })];
            json!({ "packages": [{ "name": "pci", "dependencies": dependencies }, { "name": "kit", "dependencies": [] }] })
        };
        assert_eq!(verdict(&pci(json!("dev"))).len(), 0);
        assert_eq!(verdict(&pci(json!(null))).len(), 1);
    }

    #[test]
    fn a_crate_without_a_row_is_told_of() {
        let complaints =
            verdict(&json!({ "packages": [{ "name": "common", "dependencies": [] }] }));
        assert!(
            complaints[0].contains("the crate common has no row"),
            "{complaints:?}"
        );
    }

    #[test]
    fn the_list_has_no_cycle() {
        let mut known = BTreeSet::new();
        for _ in ALLOWED {
            let ready = ALLOWED
                .iter()
                .filter(|(_, uses)| uses.iter().all(|to| known.contains(to)));
            known = ready.map(|(name, _)| *name).collect();
        }
        assert_eq!(known.len(), ALLOWED.len());
    }
}
