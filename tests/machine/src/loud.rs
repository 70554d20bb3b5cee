//! Words on standard error, past the test runner's capturing, which would swallow them.

use std::io::Write;

/// Says on standard error that `test`, by the name of its function, tests nothing here, and why.
pub fn skip(test: &str, why: &str) {
    let _ = writeln!(std::io::stderr(), "SKIPPED {test}: {why}");
}

/// Says something worth knowing about a test that goes on, likewise.
pub fn tell(test: &str, what: &str) {
    let _ = writeln!(std::io::stderr(), "{test}: {what}");
}
