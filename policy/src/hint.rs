//! What to do about what is wrong with a policy file.

use core::fmt;

use crate::error::{Clipped, Problem};
use crate::keys::{Id, Key, Table, Takes};
use crate::near::nearest;
use crate::{ClassPattern, MAX_NAME, Period, PoolSize, Storm, VERSION};

/// What to do about a problem.
#[derive(Clone, Copy)]
pub(crate) struct Hint<'t>(pub(crate) Problem<'t>);

impl Hint<'_> {
    /// Whether there is more to say than what is wrong.
    pub(crate) fn is_any(&self) -> bool {
        // `Expected` says what should stand there; nothing but silence is left to add.
        !matches!(self.0, Problem::Expected { .. })
    }
}

impl fmt::Display for Hint<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Problem::TooLong { .. } => f.write_str("is this the right file?"),
            Problem::NotUtf8 { .. } => f.write_str("save the file as UTF-8"),
            Problem::Unseen { .. } => f.write_str("remove it"),
            Problem::Unsupported(construct) => f.write_str(construct.instead()),
            Problem::Expected { .. } => Ok(()),
            Problem::UnknownTable { .. } => f.write_str("every table is a rule: [[device]]"),
            Problem::UnknownKey { name, table } => unknown_key(f, name, table),
            Problem::Repeated { .. } => f.write_str("keep one of them"),
            Problem::Missing { key } => missing(f, key),
            Problem::WrongKind { key, .. } | Problem::OutOfRange { key, .. } => expected(f, key),
            Problem::Misspelt { key, text } => misspelt(f, key, text),
            Problem::OtherVersion { .. } => write!(f, "this program reads version {VERSION}"),
            Problem::NotHexadecimal { text, .. } => {
                write!(
                    f,
                    "ids are hexadecimal: did you mean `0x{}`?",
                    Clipped(text)
                )
            }
            Problem::EmptyMatch => f.write_str("for devices that no rule names there is `default`"),
            Problem::PathAndPort => {
                f.write_str("`path` is one function, `port` also everything behind it")
            }
            Problem::DeviceWithoutVendor => f.write_str("device ids are each vendor's own"),
            Problem::ReachByClaim { .. } => f.write_str(
                "a device can claim to be anything; say where it sits, with `path` or `port` alone",
            ),
            Problem::TrustedGroup => f.write_str("trusted devices share one domain anyway"),
            Problem::GroupDiffers { .. } => f.write_str(
                "a group is one domain with one pool; say the same in each of its rules",
            ),
            Problem::TooManyRules => f.write_str("name a `port` instead of each device behind it"),
            Problem::TooDeep { .. } => f.write_str("name a `port` further up"),
        }
    }
}

fn unknown_key(f: &mut fmt::Formatter<'_>, name: &str, table: Table) -> fmt::Result {
    if let Some(near) = nearest(name, Key::of(table).map(|key| key.name)) {
        return write!(f, "did you mean `{near}`?");
    }
    if let Some(key) = crate::defaults().iter().find(|key| key.name == name) {
        return write!(f, "`{name}` belongs {}", key.table.whereabouts());
    }
    write!(f, "{} takes ", table.description())?;
    listed(f, Key::of(table).map(|key| key.name))
}

fn missing(f: &mut fmt::Formatter<'_>, key: &Key) -> fmt::Result {
    match key.id {
        Id::Version => write!(f, "start the file with `version = {VERSION}`"),
        _ => write!(f, "{} needs one", key.table.description()),
    }
}

fn misspelt(f: &mut fmt::Formatter<'_>, key: &Key, text: &str) -> fmt::Result {
    let near = match key.takes {
        Takes::Word(words) => nearest(text, words.iter().copied()),
        Takes::Class => nearest(text, ClassPattern::names()),
        _ => None,
    };
    match near {
        Some(near) => write!(f, "did you mean `{near}`?"),
        None => expected(f, key),
    }
}

/// What `key` takes, as a request.
fn expected(f: &mut fmt::Formatter<'_>, key: &Key) -> fmt::Result {
    match key.takes {
        Takes::Version => write!(f, "write {VERSION}"),
        Takes::Boolean => f.write_str("write true or false, without quotes"),
        Takes::Word(words) => {
            f.write_str("must be one of ")?;
            for (index, word) in words.iter().enumerate() {
                write!(f, "{}\"{word}\"", if index == 0 { "" } else { ", " })?;
            }
            Ok(())
        }
        Takes::Text => write!(f, "write a text of 1 to {MAX_NAME} bytes, in quotes"),
        Takes::Size => write!(
            f,
            "write a size such as \"32MiB\", from {} to {} in steps of 4KiB",
            PoolSize::MIN,
            PoolSize::MAX
        ),
        Takes::Period => write!(
            f,
            "write a time such as \"500ms\", \"1s\" or \"2min\", from {} to {}",
            Period::MIN,
            Period::MAX
        ),
        Takes::Faults => write!(f, "write a number from 1 to {}", Storm::MAX_FAULTS),
        Takes::Id => f.write_str("write four hexadecimal digits such as 0x8086, without quotes"),
        Takes::Path => f.write_str(
            "write segment, root bus and device.function hops such as \"0000:00:1d.0/00.0\"; \
             `lspci -D -P` prints them",
        ),
        Takes::Class => {
            f.write_str("write 2, 4 or 6 hexadecimal digits such as \"0c03\", or one of ")?;
            listed(f, ClassPattern::names())
        }
        Takes::Table(table) => {
            f.write_str("write { ... } with ")?;
            listed(f, Key::of(table).map(|key| key.name))
        }
    }
}

fn listed(f: &mut fmt::Formatter<'_>, names: impl Iterator<Item = &'static str>) -> fmt::Result {
    for (index, name) in names.enumerate() {
        write!(f, "{}{name}", if index == 0 { "" } else { ", " })?;
    }
    Ok(())
}
