//! The TOML a policy is written in: statements and values, one at a time.
//!
//! The lexer and the scalar decoder are `toml_parser`'s, so that what is a string, a comment or a
//! number here is so everywhere. The grammar is ours, because the subset is three productions and
//! pulling them needs neither a buffer of tokens nor recursion:
//!
//! ```text
//! file       = { [ "[[device]]" | assignment ] newline }
//! assignment = key "=" value
//! value      = string | integer | boolean | "{" [ assignment { "," assignment } ] "}"
//! ```
//!
//! Knows no key by name. Every other construct of TOML is refused by name.

use toml_parser::decoder::{IntegerRadix, ScalarKind, StringBuilder};
use toml_parser::lexer::{Lexer, TokenKind};
use toml_parser::{ParseError, Raw, Source, Span};

use crate::construct::Construct;
use crate::error::{Error, Problem};
use crate::text::Position;

/// One line that says something.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Statement<'t> {
    /// `[[name]]`
    Header(Word<'t>),
    /// `key =`, whose value is to be read next.
    Assignment(Word<'t>),
}

/// A piece of the text and where it stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Word<'t> {
    pub(crate) text: &'t str,
    pub(crate) at: Position,
}

impl<'t> Word<'t> {
    fn refused<T>(self, construct: Construct) -> Result<T, Error<'t>> {
        Err(Error::new(self.at, Problem::Unsupported(construct)))
    }

    fn instead_of<T>(self, what: &'static str) -> Result<T, Error<'t>> {
        let found = self.text;
        Err(Error::new(self.at, Problem::Expected { what, found }))
    }
}

/// A value as the file spells it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Value<'t> {
    /// A string without escapes.
    Text(&'t str),
    /// A whole number from 0 to 2^64 - 1.
    Number {
        /// The number, or `None` if it is negative or larger.
        number: Option<u64>,
        /// In what base it is spelt.
        notation: Notation,
    },
    /// `true` or `false`.
    Boolean(bool),
    /// `{`, whose members are to be read next.
    Table,
}

/// In what base a number is spelt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Notation {
    /// `32902`
    Decimal,
    /// `0x8086`
    Hexadecimal,
}

/// Reads a text from front to back.
pub(crate) struct Reader<'t> {
    text: &'t str,
    tokens: Lexer<'t>,
    /// The next token that is not a space, if somebody looked.
    peeked: Option<Lexeme<'t>>,
    /// The first `counted` bytes of `text` end here.
    here: Position,
    counted: usize,
}

/// A token that is not a space.
#[derive(Clone, Copy, Debug)]
struct Lexeme<'t> {
    kind: TokenKind,
    span: Span,
    word: Word<'t>,
}

impl<'t> Lexeme<'t> {
    /// What the decoder makes of it, or `None` if it is not a scalar.
    fn decoded(self, text: &mut dyn StringBuilder<'t>) -> Option<ScalarKind> {
        let mut error: Option<ParseError> = None;
        let raw = Raw::new_unchecked(self.word.text, self.kind.encoding(), self.span);
        let kind = raw.decode_scalar(text, &mut error);
        error.is_none().then_some(kind)
    }
}

impl<'t> Reader<'t> {
    /// A reader at the start of `text`, which is free of characters that [`legible`] refuses.
    ///
    /// [`legible`]: crate::text::legible
    pub(crate) fn new(text: &'t str) -> Self {
        Self {
            text,
            tokens: Source::new(text).lex(),
            peeked: None,
            here: Position::START,
            counted: 0,
        }
    }

    /// The next statement, or `None` at the end of the file.
    ///
    /// After an assignment comes [`Reader::value`]; after every statement, [`Reader::end`].
    pub(crate) fn statement(&mut self) -> Result<Option<Statement<'t>>, Error<'t>> {
        loop {
            let lexeme = self.next();
            match lexeme.kind {
                TokenKind::Newline | TokenKind::Comment => {}
                TokenKind::Eof => return Ok(None),
                TokenKind::LeftSquareBracket => {
                    return self.header(lexeme).map(Statement::Header).map(Some);
                }
                _ => return self.key(lexeme).map(Statement::Assignment).map(Some),
            }
        }
    }

    /// The value of the assignment just begun, and where it stands.
    pub(crate) fn value(&mut self) -> Result<(Value<'t>, Word<'t>), Error<'t>> {
        let lexeme = self.next();
        let word = lexeme.word;
        let value = match lexeme.kind {
            TokenKind::LeftCurlyBracket => Value::Table,
            TokenKind::BasicString | TokenKind::LiteralString => Self::string(lexeme)?,
            TokenKind::Atom => self.atom(lexeme)?,
            TokenKind::MlBasicString | TokenKind::MlLiteralString => {
                return word.refused(Construct::MultiLineString);
            }
            TokenKind::LeftSquareBracket => return word.refused(Construct::Array),
            _ => return word.instead_of("a value"),
        };
        Ok((value, word))
    }

    /// The key of the first member of the table just begun, or `None` if it is empty.
    pub(crate) fn first_member(&mut self) -> Result<Option<Word<'t>>, Error<'t>> {
        let lexeme = self.next();
        match lexeme.kind {
            TokenKind::RightCurlyBracket => Ok(None),
            _ => self.member(lexeme).map(Some),
        }
    }

    /// The key of the next member of the table, or `None` if that was the last.
    pub(crate) fn next_member(&mut self) -> Result<Option<Word<'t>>, Error<'t>> {
        let lexeme = self.next();
        match lexeme.kind {
            TokenKind::RightCurlyBracket => return Ok(None),
            TokenKind::Comma => {}
            TokenKind::Newline | TokenKind::Comment => {
                return lexeme.word.refused(Construct::BrokenTable);
            }
            _ => return lexeme.word.instead_of("`,` or `}`"),
        }
        let after = self.next();
        match after.kind {
            TokenKind::RightCurlyBracket => lexeme.word.refused(Construct::TrailingComma),
            _ => self.member(after).map(Some),
        }
    }

    /// Checks that the statement ends here.
    pub(crate) fn end(&mut self) -> Result<(), Error<'t>> {
        let lexeme = self.next();
        match lexeme.kind {
            TokenKind::Newline | TokenKind::Comment | TokenKind::Eof => Ok(()),
            _ => lexeme.word.instead_of("the end of the line"),
        }
    }

    /// The name in `[[name]]`, whose first bracket is `open`.
    fn header(&mut self, open: Lexeme<'t>) -> Result<Word<'t>, Error<'t>> {
        if !self.doubles(open) {
            return open.word.refused(Construct::Table);
        }
        let name = self.next();
        match name.kind {
            TokenKind::Atom => {}
            kind if is_string(kind) => return name.word.refused(Construct::QuotedKey),
            _ => return name.word.instead_of("`device`"),
        }
        let close = self.next();
        match close.kind {
            TokenKind::RightSquareBracket if self.doubles(close) => Ok(name.word),
            TokenKind::Dot => close.word.refused(Construct::DottedKey),
            _ => close.word.instead_of("`]]`"),
        }
    }

    /// Whether `bracket` is followed by another of its kind at once; if so, passes it.
    fn doubles(&mut self, bracket: Lexeme<'t>) -> bool {
        let next = self.peek();
        let is_double = next.kind == bracket.kind && next.span.start() == bracket.span.end();
        if is_double {
            self.next();
        }
        is_double
    }

    /// The member's key that starts with `lexeme`.
    fn member(&mut self, lexeme: Lexeme<'t>) -> Result<Word<'t>, Error<'t>> {
        match lexeme.kind {
            TokenKind::Newline | TokenKind::Comment => lexeme.word.refused(Construct::BrokenTable),
            _ => self.key(lexeme),
        }
    }

    /// The key that starts with `lexeme`; its `=` is passed.
    fn key(&mut self, lexeme: Lexeme<'t>) -> Result<Word<'t>, Error<'t>> {
        match lexeme.kind {
            TokenKind::Atom => {}
            kind if is_string(kind) => return lexeme.word.refused(Construct::QuotedKey),
            _ => return lexeme.word.instead_of("a key"),
        }
        let equals = self.next();
        match equals.kind {
            TokenKind::Equals => Ok(lexeme.word),
            TokenKind::Dot => equals.word.refused(Construct::DottedKey),
            _ => equals.word.instead_of("`=`"),
        }
    }

    /// The string `lexeme` spells.
    fn string(lexeme: Lexeme<'t>) -> Result<Value<'t>, Error<'t>> {
        let word = lexeme.word;
        if lexeme.kind == TokenKind::BasicString && word.text.contains('\\') {
            return word.refused(Construct::Escape);
        }
        let mut text = "";
        match lexeme.decoded(&mut text) {
            Some(ScalarKind::String) => Ok(Value::Text(text)),
            _ => word.instead_of("a text that ends with a quote"),
        }
    }

    /// The number or boolean that starts with `lexeme`.
    fn atom(&mut self, lexeme: Lexeme<'t>) -> Result<Value<'t>, Error<'t>> {
        let word = lexeme.word;
        let Some(kind) = lexeme.decoded(&mut ()) else {
            return word.instead_of("a value (texts need quotes)");
        };
        // The lexer ends a token at every dot.
        if matches!(kind, ScalarKind::Integer(_)) && self.peek().kind == TokenKind::Dot {
            return word.refused(Construct::Float);
        }
        match kind {
            ScalarKind::Boolean(value) => Ok(Value::Boolean(value)),
            ScalarKind::Integer(IntegerRadix::Dec) => Ok(Value::Number {
                number: number(word.text, 10),
                notation: Notation::Decimal,
            }),
            ScalarKind::Integer(IntegerRadix::Hex) => Ok(Value::Number {
                number: number(word.text.strip_prefix("0x").unwrap_or_default(), 16),
                notation: Notation::Hexadecimal,
            }),
            ScalarKind::Integer(IntegerRadix::Oct) => word.refused(Construct::Octal),
            ScalarKind::Integer(IntegerRadix::Bin) => word.refused(Construct::Binary),
            ScalarKind::Float => word.refused(Construct::Float),
            ScalarKind::DateTime => word.refused(Construct::DateTime),
            ScalarKind::String => word.instead_of("a value (texts need quotes)"),
        }
    }

    /// Looks at the next token that is not a space.
    fn peek(&mut self) -> Lexeme<'t> {
        let lexeme = self.next();
        self.peeked = Some(lexeme);
        lexeme
    }

    /// Passes the next token that is not a space; at the end of the file, its end for ever.
    fn next(&mut self) -> Lexeme<'t> {
        if let Some(lexeme) = self.peeked.take() {
            return lexeme;
        }
        loop {
            let (kind, span) = match self.tokens.next() {
                Some(token) => (token.kind(), token.span()),
                None => {
                    let end = self.text.len();
                    (TokenKind::Eof, Span::new_unchecked(end, end))
                }
            };
            if kind != TokenKind::Whitespace {
                return self.lexeme(kind, span);
            }
        }
    }

    /// The token with the line and column where it stands.
    fn lexeme(&mut self, kind: TokenKind, span: Span) -> Lexeme<'t> {
        let text = self.text.get(span.start()..span.end()).unwrap_or_default();
        let mut at = self.count_to(span.start());
        at.width = characters(text);
        let word = Word { text, at };
        Lexeme { kind, span, word }
    }

    /// The position of the character at `offset`, which is never before that of the last call.
    // Counting on from the last call keeps a file that is one long line linear.
    fn count_to(&mut self, offset: usize) -> Position {
        for piece in self
            .text
            .get(self.counted..offset)
            .unwrap_or_default()
            .split_inclusive('\n')
        {
            if piece.ends_with('\n') {
                self.here.line = self.here.line.saturating_add(1);
                self.here.column = 1;
            } else {
                self.here.column = self.here.column.saturating_add(characters(piece));
            }
        }
        self.counted = offset;
        self.here
    }
}

fn is_string(kind: TokenKind) -> bool {
    kind.encoding().is_some()
}

fn characters(text: &str) -> u32 {
    u32::try_from(text.chars().count()).unwrap_or(u32::MAX)
}

/// The number that `digits`, already found well-formed, spell; `None` below 0 or beyond 64 bits.
fn number(digits: &str, radix: u32) -> Option<u64> {
    let (digits, is_negative) = match digits.strip_prefix('-') {
        Some(rest) => (rest, true),
        None => (digits.strip_prefix('+').unwrap_or(digits), false),
    };
    let mut digits = digits.chars().filter(|digit| *digit != '_');
    let number = digits.try_fold(0u64, |sum, digit| {
        sum.checked_mul(radix.into())?
            .checked_add(digit.to_digit(radix)?.into())
    })?;
    (!is_negative || number == 0).then_some(number)
}
