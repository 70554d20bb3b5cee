//! The kernel command line, as far as checks ask it.
//!
//! Owns the splitting into words; knows no key's meaning.

/// The words of a kernel command line.
#[derive(Debug, Clone)]
pub(crate) struct Cmdline(String);

/// Reads the running kernel's command line; an unreadable one has no words.
pub(crate) fn read() -> Cmdline {
    Cmdline::new(&std::fs::read_to_string("/proc/cmdline").unwrap_or_default())
}

impl Cmdline {
    /// Takes a command line as text.
    pub(crate) fn new(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// The value of the last `key=value`, as the kernel, too, lets the last one win.
    pub(crate) fn value(&self, key: &str) -> Option<&str> {
        self.0
            .split_whitespace()
            .filter_map(|word| word.split_once('='))
            .rfind(|(name, _)| *name == key)
            .map(|(_, value)| value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_value_of_a_key_counts() {
        let cmdline = Cmdline::new("quiet bouncer.cpus=1 bouncer.cpus=4 bouncer.cpusx=9\n");
        assert_eq!(cmdline.value("bouncer.cpus"), Some("4"));
    }

    #[test]
    fn a_word_without_a_value_is_not_a_value() {
        assert_eq!(Cmdline::new("bouncer.checks").value("bouncer.checks"), None);
    }
}
