//! The TOML that a policy does without, by name.

/// TOML that a policy does without. Each is refused by name, so that it is never misread.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Construct {
    /// `a.b = 1`
    DottedKey,
    /// `"a" = 1`
    QuotedKey,
    /// `[a]`
    Table,
    /// `[1, 2]`
    Array,
    /// `"""a"""`
    MultiLineString,
    /// `"\n"`
    Escape,
    /// `1.5`
    Float,
    /// `1979-05-27`
    DateTime,
    /// `0o17`
    Octal,
    /// `0b11`
    Binary,
    /// A line break or a comment between `{` and `}`.
    BrokenTable,
    /// `{ a = 1, }`
    TrailingComma,
}

impl Construct {
    /// The construct as the subject of "not supported".
    pub(crate) const fn subject(self) -> &'static str {
        match self {
            Self::DottedKey => "dotted keys are",
            Self::QuotedKey => "keys in quotes are",
            Self::Table => "a table in single brackets is",
            Self::Array => "arrays are",
            Self::MultiLineString => "multi-line strings are",
            Self::Escape => "escapes in strings are",
            Self::Float => "fractions are",
            Self::DateTime => "dates and times are",
            Self::Octal => "octal numbers are",
            Self::Binary => "binary numbers are",
            Self::BrokenTable => "line breaks and comments between { and } are",
            Self::TrailingComma => "a comma before } is",
        }
    }

    /// What to write instead.
    pub(crate) const fn instead(self) -> &'static str {
        match self {
            Self::DottedKey => "write match = { path = ... } in full",
            Self::QuotedKey => "write the key without quotes",
            Self::Table => {
                "rules start with [[device]], their `match` and `storm` are { ... } in one line"
            }
            Self::Array => "write a [[device]] rule for each",
            Self::MultiLineString => "keep the text in one line",
            Self::Escape => "write the character itself, or '...' for a text with \" or \\ in it",
            Self::Float => "write a whole number, with a smaller unit if need be",
            Self::DateTime => "no key takes one",
            Self::Octal | Self::Binary => "write it in decimal, or as 0x... in hexadecimal",
            Self::BrokenTable => "keep { ... } in one line",
            Self::TrailingComma => "leave it out",
        }
    }
}
