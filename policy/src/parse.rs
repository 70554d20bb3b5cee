//! Text to policy: which keys may stand where, and what they must not say together.
//!
//! Total: any bytes give a policy or the first error, in time linear in their number. Knows
//! nothing of how TOML is spelt; that is `syntax`. Knows nothing of how a value is spelt; that is
//! `value`.

use crate::error::{Error, Problem};
use crate::keys::{COUNT, Id, Key, Table};
use crate::syntax::{Reader, Statement, Word};
use crate::text::legible;
use crate::value::Given;
use crate::{Fallback, Path, Policy, Position, Rule, Topology, Trust, WholePages};

impl Policy {
    /// Reads a policy file.
    ///
    /// # Errors
    /// The first thing wrong with `text`; nothing is guessed and nothing is skipped.
    pub fn parse(text: &[u8]) -> Result<Self, Error<'_>> {
        Parser::new(legible(text)?).policy()
    }
}

/// The file up to where the reader is.
struct Parser<'t> {
    reader: Reader<'t>,
    /// The switches, and the rules that are complete.
    policy: Policy,
    /// The `[[device]]` of the rule being read, or `None` above the first.
    header: Option<Position>,
    /// The rule being read; above the first, one that says nothing.
    rule: Rule,
    /// The keys given in the rule being read, or above the first.
    seen: Seen,
}

impl<'t> Parser<'t> {
    fn new(text: &'t str) -> Self {
        Self {
            reader: Reader::new(text),
            policy: Policy::default(),
            header: None,
            rule: Rule::default(),
            seen: Seen::default(),
        }
    }

    fn policy(mut self) -> Result<Policy, Error<'t>> {
        while let Some(statement) = self.reader.statement()? {
            match statement {
                Statement::Header(name) => self.begin_rule(name)?,
                Statement::Assignment(name) => self.assignment(name)?,
            }
            self.reader.end()?;
        }
        self.finish()?;
        Ok(self.policy)
    }

    fn begin_rule(&mut self, name: Word<'t>) -> Result<(), Error<'t>> {
        if name.text != "device" {
            return refuse(name.at, Problem::UnknownTable { name: name.text });
        }
        self.finish()?;
        self.header = Some(name.at);
        self.seen = Seen::default();
        Ok(())
    }

    /// Reads the value of `name`, and its members if it is a table.
    fn assignment(&mut self, name: Word<'t>) -> Result<(), Error<'t>> {
        let table = match self.header {
            None => Table::Top,
            Some(_) => Table::Device,
        };
        let given = self.given(table, name)?;
        let members = match given.key.id {
            Id::Match => Table::Match,
            Id::Storm => Table::Storm,
            _ => return self.assign(given),
        };
        given.table()?;
        let mut member = self.reader.first_member()?;
        while let Some(name) = member {
            let given = self.given(members, name)?;
            self.assign(given)?;
            member = self.reader.next_member()?;
        }
        Ok(())
    }

    /// The key called `name` with its value, or with the opening of its table.
    fn given(&mut self, table: Table, name: Word<'t>) -> Result<Given<'t>, Error<'t>> {
        let Word { text: name, at } = name;
        let Some(key) = Key::find(table, name) else {
            return refuse(at, Problem::UnknownKey { name, table });
        };
        if let Some(Position { line, .. }) = self.seen.at(key.id) {
            return refuse(at, Problem::Repeated { key, line });
        }
        let (value, spelling) = self.reader.value()?;
        self.seen.note(key.id, spelling.at);
        Ok(Given {
            key,
            value,
            spelling,
        })
    }

    /// Puts a value where it belongs.
    fn assign(&mut self, given: Given<'t>) -> Result<(), Error<'t>> {
        let (policy, rule) = (&mut self.policy, &mut self.rule);
        match given.key.id {
            Id::Version => given.version()?,
            Id::Enforcement => policy.enforcement = given.word()?,
            Id::Default => policy.default_trust = given.word()?,
            Id::RequireIommu => policy.require_iommu = given.boolean()?,
            Id::Viommu => policy.viommu = given.boolean()?,
            Id::BounceMemory => policy.bounce_memory = given.size()?,
            Id::Name => rule.name = Some(given.name()?),
            Id::Trust => rule.trust = given.word()?,
            Id::Pool => rule.pool = given.size()?,
            Id::WholePages => rule.whole_pages = given.word()?,
            Id::ShadowDoorbells => rule.shadow_doorbells = given.boolean()?,
            Id::Mediator => rule.mediator = given.word()?,
            Id::Fallback => rule.fallback = given.word()?,
            Id::Group => rule.group = Some(given.name()?),
            Id::Path => locate(rule, given, Topology::Path)?,
            Id::Port => locate(rule, given, Topology::Port)?,
            Id::Class => rule.matches.identity.class = Some(given.class()?),
            Id::Vendor => rule.matches.identity.vendor = Some(given.id()?),
            Id::Device => rule.matches.identity.device = Some(given.id()?),
            Id::Faults => rule.storm.faults = given.faults()?,
            Id::Per => rule.storm.per = given.period()?,
            Id::Then => rule.storm.then = given.word()?,
            // Tables have no value of their own; their members come here one by one.
            Id::Match | Id::Storm => {}
        }
        Ok(())
    }

    /// Ends what stands above the first rule, or the rule being read, and leaves an empty one.
    fn finish(&mut self) -> Result<(), Error<'t>> {
        match self.header {
            None => self.required(Id::Version, Position::START),
            Some(header) => self.finish_rule(header),
        }
    }

    fn finish_rule(&mut self, header: Position) -> Result<(), Error<'t>> {
        self.required(Id::Match, header)?;
        self.match_means_something()?;
        self.reach_rests_on_topology()?;
        self.group_is_one_domain()?;
        let (policy, rule) = (&mut self.policy, core::mem::take(&mut self.rule));
        let stored = policy.rules.push(rule).is_ok() && policy.lines.push(header.line).is_ok();
        if stored {
            Ok(())
        } else {
            refuse(header, Problem::TooManyRules)
        }
    }

    fn required(&self, id: Id, at: Position) -> Result<(), Error<'t>> {
        let key = Key::by_id(id);
        match self.seen.at(id) {
            Some(_) => Ok(()),
            None => refuse(at, Problem::Missing { key }),
        }
    }

    fn match_means_something(&self) -> Result<(), Error<'t>> {
        let matches = &self.rule.matches;
        if matches.topology.is_none() && matches.identity.is_any() {
            return self.refuse_at(Id::Match, Problem::EmptyMatch);
        }
        if matches.identity.device.is_some() && matches.identity.vendor.is_none() {
            return self.refuse_at(Id::Device, Problem::DeviceWithoutVendor);
        }
        Ok(())
    }

    /// A device can claim any class and any id. If a claim could give reach, every device had it:
    /// direct access, pages the guest mapped, or the bounce pages of a group.
    fn reach_rests_on_topology(&self) -> Result<(), Error<'t>> {
        let rule = &self.rule;
        let claims = [Id::Class, Id::Vendor, Id::Device];
        let Some(claim) = claims.into_iter().find(|id| self.seen.at(*id).is_some()) else {
            return Ok(());
        };
        let given = if rule.trust == Trust::Trusted {
            Id::Trust
        } else if rule.fallback == Fallback::Page {
            Id::Fallback
        } else if rule.whole_pages == WholePages::Map {
            Id::WholePages
        } else if rule.group.is_some() {
            Id::Group
        } else {
            return Ok(());
        };
        let (gives, claim) = (Key::by_id(given), Key::by_id(claim));
        self.refuse_at(given, Problem::ReachByClaim { gives, claim })
    }

    fn group_is_one_domain(&self) -> Result<(), Error<'t>> {
        let rule = &self.rule;
        if rule.group.is_none() {
            return Ok(());
        }
        if rule.trust == Trust::Trusted {
            return self.refuse_at(Id::Group, Problem::TrustedGroup);
        }
        let mut others = self.policy.lines();
        let Some((line, other)) = others.find(|(_, other)| other.group == rule.group) else {
            return Ok(());
        };
        let differs = if rule.pool != other.pool {
            Id::Pool
        } else if rule.whole_pages != other.whole_pages {
            Id::WholePages
        } else if rule.fallback != other.fallback {
            Id::Fallback
        } else {
            return Ok(());
        };
        // A key left out differs by its default; then the group is what can be pointed at.
        let place = self.seen.at(differs).map_or(Id::Group, |_| differs);
        let key = Key::by_id(differs);
        self.refuse_at(place, Problem::GroupDiffers { key, line })
    }

    /// Refuses what is given for `id` in the rule being read.
    fn refuse_at<T>(&self, id: Id, problem: Problem<'t>) -> Result<T, Error<'t>> {
        let at = self.seen.at(id).or(self.header);
        refuse(at.unwrap_or(Position::START), problem)
    }
}

fn refuse<'t, T>(at: Position, problem: Problem<'t>) -> Result<T, Error<'t>> {
    Err(Error::new(at, problem))
}

/// Notes where the devices of `rule` must sit, which can be said once.
fn locate<'t>(
    rule: &mut Rule,
    given: Given<'t>,
    kind: fn(Path) -> Topology,
) -> Result<(), Error<'t>> {
    if rule.matches.topology.is_some() {
        return refuse(given.at(), Problem::PathAndPort);
    }
    rule.matches.topology = Some(kind(given.path()?));
    Ok(())
}

/// Which keys have been given, and where their values stand.
#[derive(Default)]
struct Seen {
    at: [Option<Position>; COUNT],
}

impl Seen {
    fn at(&self, id: Id) -> Option<Position> {
        self.at[id as usize]
    }

    fn note(&mut self, id: Id, at: Position) {
        self.at[id as usize] = Some(at);
    }
}
