//! A key with the value given for it, read as what the key takes.

use heapless::String;

use crate::error::{Error, Kind, Problem};
use crate::keys::Key;
use crate::place::NoPath;
use crate::quantity::Misfit;
use crate::syntax::{self, Notation, Value};
use crate::{ClassPattern, MAX_NAME, Path, Period, PoolSize, Position, Storm, VERSION, words};

/// A key and what the file gives for it. Each reading says what is wrong if it cannot be done.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Given<'t> {
    pub(crate) key: &'static Key,
    pub(crate) value: Value<'t>,
    pub(crate) spelling: syntax::Word<'t>,
}

impl<'t> Given<'t> {
    /// Where the value stands.
    pub(crate) fn at(&self) -> Position {
        self.spelling.at
    }

    /// The value as `true` or `false`.
    pub(crate) fn boolean(&self) -> Result<bool, Error<'t>> {
        match self.value {
            Value::Boolean(value) => Ok(value),
            _ => self.wrong_kind(),
        }
    }

    /// The value as one of the words of `W`.
    pub(crate) fn word<W: words::Word>(&self) -> Result<W, Error<'t>> {
        let text = self.text()?;
        W::from_word(text).map_or_else(|| self.misspelt(text), Ok)
    }

    /// The value as a name.
    pub(crate) fn name(&self) -> Result<String<MAX_NAME, u8>, Error<'t>> {
        let text = self.text()?;
        match String::try_from(text) {
            Ok(name) if !text.is_empty() => Ok(name),
            _ => self.out_of_range(text),
        }
    }

    /// The value as a pool size.
    pub(crate) fn size(&self) -> Result<PoolSize, Error<'t>> {
        let text = self.text()?;
        PoolSize::parse(text).or_else(|misfit| self.misfits(misfit, text))
    }

    /// The value as a stretch of time.
    pub(crate) fn period(&self) -> Result<Period, Error<'t>> {
        let text = self.text()?;
        Period::parse(text).or_else(|misfit| self.misfits(misfit, text))
    }

    /// The value as a place.
    pub(crate) fn path(&self) -> Result<Path, Error<'t>> {
        let text = self.text()?;
        Path::parse(text).or_else(|refused| match refused {
            NoPath::Malformed => self.misspelt(text),
            NoPath::TooDeep => self.refused(Problem::TooDeep { key: self.key }),
        })
    }

    /// The value as a class.
    pub(crate) fn class(&self) -> Result<ClassPattern, Error<'t>> {
        let text = self.text()?;
        ClassPattern::parse(text).map_or_else(|| self.misspelt(text), Ok)
    }

    /// The value as a count of faults.
    pub(crate) fn faults(&self) -> Result<u32, Error<'t>> {
        let (number, _) = self.number()?;
        number
            .and_then(|number| u32::try_from(number).ok())
            .filter(|faults| (1..=Storm::MAX_FAULTS).contains(faults))
            .map_or_else(|| self.out_of_range(self.spelling.text), Ok)
    }

    /// The value as a vendor or device id.
    pub(crate) fn id(&self) -> Result<u16, Error<'t>> {
        let text = self.spelling.text;
        match self.number()? {
            (_, Notation::Decimal) => self.refused(Problem::NotHexadecimal {
                key: self.key,
                text,
            }),
            (number, Notation::Hexadecimal) => number
                .and_then(|number| u16::try_from(number).ok())
                .map_or_else(|| self.out_of_range(text), Ok),
        }
    }

    /// Checks that the value is the version of the format this crate reads.
    pub(crate) fn version(&self) -> Result<(), Error<'t>> {
        let text = self.spelling.text;
        match self.number()? {
            (Some(number), _) if number == u64::from(VERSION) => Ok(()),
            _ => self.refused(Problem::OtherVersion { text }),
        }
    }

    /// Checks that the value is a table.
    pub(crate) fn table(&self) -> Result<(), Error<'t>> {
        match self.value {
            Value::Table => Ok(()),
            _ => self.wrong_kind(),
        }
    }

    fn text(&self) -> Result<&'t str, Error<'t>> {
        match self.value {
            Value::Text(text) => Ok(text),
            _ => self.wrong_kind(),
        }
    }

    fn number(&self) -> Result<(Option<u64>, Notation), Error<'t>> {
        match self.value {
            Value::Number { number, notation } => Ok((number, notation)),
            _ => self.wrong_kind(),
        }
    }

    fn misfits<T>(&self, misfit: Misfit, text: &'t str) -> Result<T, Error<'t>> {
        match misfit {
            Misfit::Malformed => self.misspelt(text),
            Misfit::OutOfRange => self.out_of_range(text),
        }
    }

    fn misspelt<T>(&self, text: &'t str) -> Result<T, Error<'t>> {
        self.refused(Problem::Misspelt {
            key: self.key,
            text,
        })
    }

    fn out_of_range<T>(&self, text: &'t str) -> Result<T, Error<'t>> {
        self.refused(Problem::OutOfRange {
            key: self.key,
            text,
        })
    }

    fn wrong_kind<T>(&self) -> Result<T, Error<'t>> {
        let found = match self.value {
            Value::Text(_) => Kind::Text,
            Value::Number { .. } => Kind::Number,
            Value::Boolean(_) => Kind::Boolean,
            Value::Table => Kind::Table,
        };
        self.refused(Problem::WrongKind {
            key: self.key,
            found,
        })
    }

    fn refused<T>(&self, problem: Problem<'t>) -> Result<T, Error<'t>> {
        Err(Error::new(self.at(), problem))
    }
}
