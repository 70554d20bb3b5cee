//! How processors are stopped and started by one another.

use core::sync::atomic::{AtomicU32, Ordering};

const INIT: u32 = 1 << 8;
const STARTUP: u32 = 1 << 9;
const VECTOR: u32 = 0xff;

/// What a processor has been told since it last looked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Order {
    /// Nothing to be done.
    None,
    /// Become as after INIT and wait for a start-up message.
    Wait,
    /// Start in real mode at `vector << 12`, as after INIT.
    Start {
        /// Page number of the first instruction.
        vector: u8,
    },
}

/// INIT and start-up messages for one processor. Any processor posts, the owner takes.
///
/// SDM vol. 3A, section 9.4.4: a start-up message is acted upon only by a processor that waits
/// for one; INIT makes it wait, whatever it was doing, and forgets earlier start-up messages.
#[derive(Debug)]
pub struct Mailbox(AtomicU32);

impl Mailbox {
    /// An empty one.
    pub const fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    /// Tells the owner to wait.
    pub fn post_init(&self) {
        self.0.store(INIT, Ordering::Release);
    }

    /// Tells the owner to start, if it waits when it looks. A second message before it looks is
    /// lost, as with a processor that has left wait-for-SIPI.
    pub fn post_startup(&self, vector: u8) {
        let message = STARTUP | u32::from(vector);
        let _ = self
            .0
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |now| {
                (now & STARTUP == 0).then_some(now | message)
            });
    }

    /// Whether there is something to take.
    pub fn is_empty(&self) -> bool {
        self.0.load(Ordering::Acquire) == 0
    }

    /// Takes what was posted. `is_waiting`: whether the owner waits for a start-up message now.
    pub fn take(&self, is_waiting: bool) -> Order {
        let posted = self.0.swap(0, Ordering::AcqRel);
        let waits = is_waiting || posted & INIT != 0;
        match (waits, posted & STARTUP != 0, posted & INIT != 0) {
            (true, true, _) => Order::Start {
                vector: (posted & VECTOR) as u8,
            },
            (_, _, true) => Order::Wait,
            _ => Order::None,
        }
    }
}

impl Default for Mailbox {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    #[test]
    fn a_running_processor_ignores_startup() {
        let mailbox = Mailbox::new();
        mailbox.post_startup(0x10);
        assert_eq!(mailbox.take(false), Order::None);
        assert_eq!(
            mailbox.take(true),
            Order::None,
            "an ignored message does not come back"
        );
    }

    #[test]
    fn init_then_startup_starts_even_when_both_are_found_at_once() {
        let mailbox = Mailbox::new();
        mailbox.post_init();
        mailbox.post_startup(0x99);
        mailbox.post_startup(0x9a);
        assert_eq!(mailbox.take(false), Order::Start { vector: 0x99 });
    }

    #[test]
    fn init_forgets_an_earlier_startup() {
        let mailbox = Mailbox::new();
        mailbox.post_startup(0x10);
        mailbox.post_init();
        assert_eq!(mailbox.take(true), Order::Wait);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Init,
        Startup(u8),
        Look,
    }

    proptest! {
        /// Looking after every message or only now and then ends in the same state, as long as
        /// the processor has looked at the end.
        #[test]
        fn looking_late_loses_nothing_but_repeated_startups(
            steps in prop::collection::vec(
                prop_oneof![
                    Just(Step::Init),
                    any::<u8>().prop_map(Step::Startup),
                    Just(Step::Look),
                ],
                0..40,
            )
        ) {
            // (waiting, started at) of a processor that looks at once, and of one that does not.
            let run = |eager: bool| {
                let mailbox = Mailbox::new();
                let (mut waits, mut starts) = (true, Vec::new());
                let look = |waits: &mut bool, starts: &mut Vec<u8>| match mailbox.take(*waits) {
                    Order::None => {}
                    Order::Wait => *waits = true,
                    Order::Start { vector } => {
                        *waits = false;
                        starts.push(vector);
                    }
                };
                for step in &steps {
                    match step {
                        Step::Init => mailbox.post_init(),
                        Step::Startup(vector) => mailbox.post_startup(*vector),
                        Step::Look => {}
                    }
                    if eager || matches!(step, Step::Look) {
                        look(&mut waits, &mut starts);
                    }
                }
                look(&mut waits, &mut starts);
                (waits, starts.last().copied())
            };
            let (eager, lazy) = (run(true), run(false));
            prop_assert_eq!(eager.0, lazy.0);
            if !eager.0 {
                prop_assert_eq!(eager.1, lazy.1);
            }
        }
    }
}
