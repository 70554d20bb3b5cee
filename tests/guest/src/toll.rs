//! What requests cost in exits: Bouncer's counters before and after, by reason.

use crate::bouncer::{self, Counter};
use crate::verdict::Figures;

/// The counters at one moment.
#[derive(Debug)]
pub(crate) struct Toll(Vec<Counter>);

impl Toll {
    /// Begins to count.
    pub(crate) fn begin() -> Self {
        Self(bouncer::exit_counters())
    }

    /// Tells how many exits of each reason there were for each of `requests`, as
    /// `PREFIX.exits.REASON`.
    pub(crate) fn tell(&self, figures: &mut Figures, prefix: &str, requests: u64) {
        for counter in &bouncer::exit_counters() {
            let exits = counter.count.saturating_sub(self.earlier(counter));
            figures.tell(
                &format!("{prefix}.exits.{}", counter.reason),
                format!("{:.4}", exits as f64 / requests as f64),
            );
        }
    }

    fn earlier(&self, of: &Counter) -> u64 {
        let earlier = self.0.iter().find(|counter| counter.reason == of.reason);
        earlier.map_or(0, |counter| counter.count)
    }
}
