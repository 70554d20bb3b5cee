//! What each module of the boot loader's menu is for.
//!
//! The first word of a module's string says it: `kernel`, with the guest's command line behind
//! it, `initrd`, or `policy`.

use core::fmt;

use memory::{ByteRange, Hpa};

use crate::multiboot2::Module;
use crate::word::{Word, words};

/// What a module is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// The guest's Linux kernel.
    Kernel,
    /// The guest's initial RAM disk.
    Initrd,
    /// The policy text.
    Policy,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kernel => "kernel",
            Self::Initrd => "initrd",
            Self::Policy => "policy",
        })
    }
}

/// Why the modules make no sense together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ModulesError {
    /// A module without a word.
    Nameless {
        /// Where it lies.
        at: Hpa,
    },
    /// A first word that is no role.
    Unknown(Word),
    /// Words behind a role that takes none.
    Surplus(Role, Word),
    /// Two modules of one role.
    Again(Role),
    /// No kernel.
    NoKernel,
    /// Two modules share bytes.
    Overlap(Role, Role),
}

impl fmt::Display for ModulesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let example = "write module2 FILE kernel ..., module2 FILE initrd, module2 FILE policy";
        match self {
            Self::Nameless { at } => write!(
                f,
                "the module at {at} does not say what it is for; {example}"
            ),
            Self::Unknown(word) => write!(
                f,
                "a module says it is for {word}, which Bouncer does not know; {example}"
            ),
            Self::Surplus(role, word) => write!(
                f,
                "the {role} module has the word {word} behind it, where none may stand; {example}"
            ),
            Self::Again(role) => {
                write!(f, "there are two {role} modules; one is all Bouncer takes")
            }
            Self::NoKernel => write!(f, "there is no kernel module; {example}"),
            Self::Overlap(first, second) => write!(
                f,
                "the boot loader put the {first} and the {second} module in the same memory"
            ),
        }
    }
}

impl core::error::Error for ModulesError {}

/// The modules by what they are for; no two share a byte.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Modules<'i> {
    /// Where the guest's kernel lies.
    pub kernel: ByteRange<Hpa>,
    /// The guest's command line, without white space around it.
    pub command_line: &'i [u8],
    /// Where the guest's initial RAM disk lies.
    pub initrd: Option<ByteRange<Hpa>>,
    /// Where the policy text lies.
    pub policy: Option<ByteRange<Hpa>>,
}

impl<'i> Modules<'i> {
    /// Gives each module its role.
    ///
    /// # Errors
    /// [`ModulesError`] if a role is unknown, given twice, or the kernel's is missing.
    pub fn assign(modules: &[Module<'i>]) -> Result<Self, ModulesError> {
        let mut kernel = None;
        let mut initrd = None;
        let mut policy = None;
        for module in modules {
            let (role, rest) = role(module)?;
            let slot = match role {
                Role::Kernel => &mut kernel,
                Role::Initrd => &mut initrd,
                Role::Policy => &mut policy,
            };
            if role != Role::Kernel
                && let Some(word) = words(rest).next()
            {
                return Err(ModulesError::Surplus(role, Word::new(word)));
            }
            if slot.replace((module.range, rest)).is_some() {
                return Err(ModulesError::Again(role));
            }
        }
        let (kernel, command_line) = kernel.ok_or(ModulesError::NoKernel)?;
        let assigned = Self {
            kernel,
            command_line,
            initrd: initrd.map(|(range, _)| range),
            policy: policy.map(|(range, _)| range),
        };
        assigned.check_disjoint()?;
        Ok(assigned)
    }

    /// The memory of all modules.
    pub fn ranges(&self) -> impl Iterator<Item = ByteRange<Hpa>> + Clone + use<> {
        [Some(self.kernel), self.initrd, self.policy]
            .into_iter()
            .flatten()
    }

    fn check_disjoint(&self) -> Result<(), ModulesError> {
        let kernel = (Role::Kernel, Some(self.kernel));
        let initrd = (Role::Initrd, self.initrd);
        let policy = (Role::Policy, self.policy);
        for (first, second) in [(kernel, initrd), (kernel, policy), (initrd, policy)] {
            if let (Some(one), Some(other)) = (first.1, second.1)
                && one.overlaps(&other)
            {
                return Err(ModulesError::Overlap(first.0, second.0));
            }
        }
        Ok(())
    }
}

/// The role a module's first word names, and the rest of its string.
fn role<'i>(module: &Module<'i>) -> Result<(Role, &'i [u8]), ModulesError> {
    let string = module.string.trim_ascii();
    let end = string
        .iter()
        .position(u8::is_ascii_whitespace)
        .unwrap_or(string.len());
    let (word, rest) = string.split_at_checked(end).unwrap_or((string, &[]));
    let role = match word {
        b"kernel" => Role::Kernel,
        b"initrd" => Role::Initrd,
        b"policy" => Role::Policy,
        b"" => {
            return Err(ModulesError::Nameless {
                at: module.range.start(),
            });
        }
        _ => return Err(ModulesError::Unknown(Word::new(word))),
    };
    Ok((role, rest.trim_ascii()))
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::string::ToString;
    use std::vec::Vec;

    use super::*;

    /// Modules of these strings, a page each.
    fn modules<'s>(strings: &[&'s str]) -> Vec<Module<'s>> {
        (1..)
            .zip(strings)
            .map(|(page, string)| Module {
                range: ByteRange::new(Hpa::new(page * 0x1000), 0x1000).unwrap(),
                string: string.as_bytes(),
            })
            .collect()
    }

    fn refusal(strings: &[&str]) -> ModulesError {
        Modules::assign(&modules(strings)).unwrap_err()
    }

    #[test]
    fn the_first_word_is_the_role_in_any_order() {
        let modules = modules(&["policy", " initrd ", "kernel console=ttyS0  ro "]);
        let assigned = Modules::assign(&modules).unwrap();
        assert_eq!(assigned.kernel.start(), Hpa::new(0x3000));
        assert_eq!(assigned.command_line, b"console=ttyS0  ro");
        assert_eq!(assigned.initrd, Some(modules[1].range));
        assert_eq!(assigned.policy, Some(modules[0].range));
        assert_eq!(assigned.ranges().count(), 3);
    }

    #[test]
    fn a_kernel_is_enough() {
        let modules = modules(&["kernel"]);
        let assigned = Modules::assign(&modules).unwrap();
        assert_eq!(assigned.command_line, b"");
        assert_eq!((assigned.initrd, assigned.policy), (None, None));
    }

    #[test]
    fn no_kernel_is_refused() {
        assert_eq!(refusal(&["initrd"]), ModulesError::NoKernel);
    }

    #[test]
    fn an_unknown_role_is_named() {
        assert!(
            refusal(&["kernel", "ramdisk"])
                .to_string()
                .starts_with("a module says it is for 'ramdisk', which Bouncer does not know")
        );
    }

    #[test]
    fn a_module_without_a_word_is_refused() {
        assert_eq!(
            refusal(&["kernel", "  "]),
            ModulesError::Nameless {
                at: Hpa::new(0x2000)
            }
        );
    }

    #[test]
    fn a_role_given_twice_is_refused() {
        assert_eq!(
            refusal(&["kernel", "kernel"]),
            ModulesError::Again(Role::Kernel)
        );
    }

    #[test]
    fn words_where_none_may_stand_are_refused() {
        assert_eq!(
            refusal(&["kernel", "policy now"]),
            ModulesError::Surplus(Role::Policy, Word::new(b"now"))
        );
    }

    #[test]
    fn modules_in_the_same_memory_are_refused() {
        let mut modules = modules(&["kernel", "initrd", "policy"]);
        modules[2].range = modules[1].range;
        assert_eq!(
            Modules::assign(&modules).unwrap_err(),
            ModulesError::Overlap(Role::Initrd, Role::Policy)
        );
    }
}
