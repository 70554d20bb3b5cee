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

    /// The value of `key` as a number, or `default` if it has none.
    pub(crate) fn number(&self, key: &str, default: u64) -> u64 {
        let value = self.value(key).and_then(|value| value.parse().ok());
        value.unwrap_or(default)
    }

    /// What the command line says to the kernel module `module`, as the module wants to hear it: `key=value …` of each
    /// word `module.key=value`. The kernel takes dashes and underscores in a module's name as the same.
    pub(crate) fn parameters(&self, module: &str) -> String {
        let plain = |name: &str| name.replace('-', "_");
        let words = self.0.split_whitespace().filter_map(|word| {
            let (name, parameter) = word.split_once('.')?;
            (plain(name) == plain(module)).then_some(parameter)
        });
        words.collect::<Vec<_>>().join(" ")
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
    fn what_is_no_number_leaves_the_default() {
        let cmdline = Cmdline::new("bouncer.files=48 bouncer.fio=many");
        assert_eq!(cmdline.number("bouncer.files", 200), 48);
        assert_eq!(cmdline.number("bouncer.fio", 24), 24);
        assert_eq!(cmdline.number("bouncer.seconds", 5), 5);
    }

    #[test]
    fn a_module_hears_what_is_said_to_it_and_nothing_else() {
        let cmdline = Cmdline::new("nvme.poll_queues=1 nvme_core.x=2 nvme.y quiet");
        assert_eq!(cmdline.parameters("nvme"), "poll_queues=1 y");
        assert_eq!(cmdline.parameters("nvme-core"), "x=2");
        assert_eq!(cmdline.parameters("ext4"), "");
    }

    #[test]
    fn a_word_without_a_value_is_not_a_value() {
        assert_eq!(Cmdline::new("bouncer.checks").value("bouncer.checks"), None);
    }
}
