//! Which checks run in this boot and how it ends.
//!
//! Owns the meaning of a list of names: the command line's list beats the file's, an empty list
//! means the default set, names of sets expand, names of endings end. Does not know what a
//! check does; names that no check has are kept so that they are reported as failures.

use crate::checks;
use crate::ending::Ending;

/// The checks to run, in order, and the ending.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Selection {
    checks: Vec<String>,
    ending: Ending,
}

impl Selection {
    /// Reads the command line's comma-separated list if there is one, else the file's lines.
    pub(crate) fn of(cmdline: Option<&str>, file: &str) -> Self {
        let from_cmdline: Vec<&str> = cmdline
            .unwrap_or_default()
            .split(',')
            .filter(|name| !name.is_empty())
            .collect();
        let from_file = file.lines().map(str::trim).filter(|name| is_name(name));
        let asked = if from_cmdline.is_empty() {
            from_file.collect()
        } else {
            from_cmdline
        };
        let asked = if asked.is_empty() {
            vec!["default"]
        } else {
            asked
        };

        let mut selection = Self {
            checks: Vec::new(),
            ending: Ending::PowerOff,
        };
        for name in asked {
            if let Some(ending) = Ending::by_name(name) {
                selection.ending = ending;
            } else if let Some(set) = checks::set_by_name(name) {
                selection.checks.extend(set.into_iter().map(str::to_owned));
            } else {
                selection.checks.push(name.to_owned());
            }
        }
        selection
    }

    /// The names of the checks, in the order to run them.
    pub(crate) fn checks(&self) -> &[String] {
        &self.checks
    }

    /// How the machine ends after them.
    pub(crate) fn ending(&self) -> Ending {
        self.ending
    }
}

/// Whether a line of the file names something: blank lines and `#` comments do not.
fn is_name(line: &str) -> bool {
    !line.is_empty() && !line.starts_with('#')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_beats_the_file() {
        let selection = Selection::of(Some("hash,fork"), "fpu\n");
        assert_eq!(selection.checks(), ["hash", "fork"]);
    }

    #[test]
    fn the_file_names_one_check_a_line_and_may_comment() {
        let selection = Selection::of(None, "# quick\n\n fpu \nhash\n");
        assert_eq!(selection.checks(), ["fpu", "hash"]);
    }

    #[test]
    fn nothing_asked_means_the_default_set() {
        let names = checks::set_by_name("default").expect("the default set exists");
        assert_eq!(Selection::of(Some(""), "").checks(), names);
        assert_eq!(Selection::of(None, "\n# nothing\n").checks(), names);
    }

    #[test]
    fn an_ending_is_no_check() {
        let selection = Selection::of(Some("hash,reboot"), "");
        assert_eq!(selection.checks(), ["hash"]);
        assert_eq!(selection.ending(), Ending::Reboot);
        assert_eq!(Selection::of(Some("poweroff-only"), "").checks(), [""; 0]);
    }

    #[test]
    fn an_unknown_name_is_kept_so_that_it_fails() {
        assert_eq!(Selection::of(Some("hahs"), "").checks(), ["hahs"]);
    }
}
