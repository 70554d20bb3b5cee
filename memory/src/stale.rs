//! What caches may still believe, and the only way to be rid of it.

/// A flush that hardware did not finish in its time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TimedOut;

/// Whoever can make every cache forget what `Scope` names.
pub trait Flush<Scope> {
    /// Returns once no cache holds anything of `scope`, or an error after a bounded wait.
    fn flush(&mut self, scope: &Scope) -> Result<(), TimedOut>;
}

/// Caches may still hold what `Scope` names. The debt cannot be dropped silently: it is settled
/// by a flush, or merged into a larger one.
#[must_use = "hardware may still use the old mapping until this is settled"]
#[derive(PartialEq, Eq, Debug)]
pub struct Stale<Scope>(Scope);

/// Proof that a flush succeeded after the change it belongs to. Has no public constructor.
#[derive(PartialEq, Eq, Debug)]
pub struct Flushed(());

impl Flushed {
    /// For pages no walker was shown: no cache can lead to them.
    pub(crate) const NEVER_SHOWN: Self = Self(());
}

impl<Scope> Stale<Scope> {
    /// Records that caches may hold what `scope` names.
    pub fn new(scope: Scope) -> Self {
        Self(scope)
    }

    /// What must be flushed.
    pub fn scope(&self) -> &Scope {
        &self.0
    }

    /// Flushes. On a time-out the debt is handed back with the error.
    pub fn settle(self, by: &mut impl Flush<Scope>) -> Result<Flushed, (Self, TimedOut)> {
        match by.flush(&self.0) {
            Ok(()) => Ok(Flushed(())),
            Err(error) => Err((self, error)),
        }
    }

    /// Widens the debt, for changes that are settled together.
    pub fn map<Wider>(self, widen: impl FnOnce(Scope) -> Wider) -> Stale<Wider> {
        Stale(widen(self.0))
    }
}
