//! What stands between the guest and its drive: every arrangement that is compared.

/// One arrangement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Setting {
    /// The word by which it is asked for, and its column's head.
    pub(crate) name: &'static str,
    /// What it is, for a person.
    pub(crate) title: &'static str,
    /// What the kernel is told.
    pub(crate) append: &'static str,
    /// Whether firmware says that the drive's port is external.
    pub(crate) is_external: bool,
    /// Bouncer's policy; without one Bouncer is not there.
    pub(crate) policy: Option<Policy>,
}

/// What Bouncer is told of the drive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Policy {
    /// Trusted, like everything else.
    Trusted,
    /// Untrusted: bounced.
    Untrusted {
        /// What becomes of pages that a request covers from end to end: `copy` or `map`.
        whole_pages: &'static str,
        /// Whether the guest is offered shadow doorbells.
        has_shadow_doorbells: bool,
    },
}

impl Policy {
    /// Its text. The drive is behind the port in slot 0x10.
    pub(crate) fn text(self) -> String {
        let (whole_pages, has_shadow_doorbells) = match self {
            Self::Trusted => return "version = 1\ndefault = \"trusted\"\n".into(),
            Self::Untrusted {
                whole_pages,
                has_shadow_doorbells,
            } => (whole_pages, has_shadow_doorbells),
        };
        let mut text = format!(
            "version = 1\nviommu = false\ndefault = \"trusted\"\n\n[[device]]\nname = \"{RULE}\"\nmatch = {{ path = \"0000:00:10.0/00.0\" }}\ntrust = \"untrusted\"\npool = \"16MiB\"\nwhole-pages = \"{whole_pages}\"\n"
        );
        if !has_shadow_doorbells {
            text.push_str("shadow-doorbells = false\n");
        }
        text
    }
}

/// The name of the drive's rule.
pub(crate) const RULE: &str = "drive";
/// The slot of the drive's port.
pub(crate) const SLOT: u8 = 0x10;

/// Whom all others are compared with.
pub(crate) const REFERENCE: &str = "native";

/// All of them, in the order in which they run and are shown.
pub(crate) const ALL: [Setting; 8] = [
    linux(REFERENCE, "no IOMMU", "intel_iommu=off", false),
    linux(
        "strict",
        "Linux, strict IOMMU",
        "intel_iommu=on iommu.strict=1",
        false,
    ),
    linux(
        "swiotlb",
        "Linux's own bounce of an untrusted device",
        "intel_iommu=on iommu.strict=1",
        true,
    ),
    bouncer("trusted", "Bouncer, drive trusted", Policy::Trusted),
    untrusted("copy", "Bouncer, drive untrusted, copied", "copy", true),
    untrusted(
        "map",
        "Bouncer, drive untrusted, whole pages mapped",
        "map",
        true,
    ),
    untrusted(
        "copy-mmio",
        "Bouncer, drive untrusted, copied, no shadow doorbells",
        "copy",
        false,
    ),
    untrusted(
        "map-mmio",
        "Bouncer, drive untrusted, whole pages mapped, no shadow doorbells",
        "map",
        false,
    ),
];

/// The arrangement of this name.
pub(crate) fn by_name(name: &str) -> Result<Setting, String> {
    let found = ALL.iter().find(|setting| setting.name == name);
    found.copied().ok_or_else(|| {
        let names: Vec<_> = ALL.iter().map(|setting| setting.name).collect();
        format!("one of {}", names.join(", "))
    })
}

const fn linux(
    name: &'static str,
    title: &'static str,
    append: &'static str,
    is_external: bool,
) -> Setting {
    Setting {
        name,
        title,
        append,
        is_external,
        policy: None,
    }
}

const fn bouncer(name: &'static str, title: &'static str, policy: Policy) -> Setting {
    Setting {
        name,
        title,
        append: "",
        is_external: false,
        policy: Some(policy),
    }
}

const fn untrusted(
    name: &'static str,
    title: &'static str,
    whole_pages: &'static str,
    has_shadow_doorbells: bool,
) -> Setting {
    let policy = Policy::Untrusted {
        whole_pages,
        has_shadow_doorbells,
    };
    bouncer(name, title, policy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_and_others_are_told_which_there_are() {
        assert_eq!(by_name("copy").map(|setting| setting.name), Ok("copy"));
        assert!(
            by_name("bounce")
                .unwrap_err()
                .contains("native, strict, swiotlb")
        );
    }

    #[test]
    fn a_policy_names_the_drives_place_and_what_differs() {
        let text = by_name("map").unwrap().policy.unwrap().text();
        assert!(text.contains("path = \"0000:00:10.0/00.0\""), "{text}");
        assert!(text.contains("whole-pages = \"map\""), "{text}");
        assert!(!text.contains("shadow-doorbells"), "{text}");
        let plain = by_name("map-mmio").unwrap().policy.unwrap().text();
        assert!(plain.contains("shadow-doorbells = false"), "{plain}");
    }

    #[test]
    fn the_policies_of_this_version_are_valid() {
        for name in ["trusted", "copy", "map", "copy-mmio", "map-mmio"] {
            let text = by_name(name).unwrap().policy.unwrap().text();
            assert!(policy::Policy::parse(text.as_bytes()).is_ok(), "{text}");
        }
    }
}
