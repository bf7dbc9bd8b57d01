//! Pushers, uploads through several servers, pins, readers and collectors at work on one cache at once, some of
//! which die in the middle: what a pin or a lease reaches is there, and whoever was told of a NAR gets it.
//!
//! Everything runs on one thread in a random order that a seed decides, request by request, and so does the
//! clock. A day passes between rounds; whoever was put to sleep before wakes up after it.

mod actors;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use proptest::prelude::*;

use self::world::World;
use super::cases;

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 0, ..cases(50) })]

    #[test]
    fn whatever_the_order_nothing_is_lost_that_somebody_holds(seed in any::<u64>()) {
        run(seed, 3);
    }
}

/// Several rounds of actors on one cache. What they asked is shown if it ends badly: the threads that pack NARs have
/// an order of their own, so a seed alone may not bring it back.
#[expect(clippy::print_stderr, reason = "what led to a failure has to be seen")]
fn run(seed: u64, rounds: usize) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    let world = runtime.block_on(World::new(seed));
    let story = async {
        for round in 0..rounds {
            actors::round(&world, round).await;
            world.check_all();
        }
        world.check_drafts().await;
    };
    let ended = catch_unwind(AssertUnwindSafe(|| runtime.block_on(story)));
    if let Err(panic) = ended {
        eprintln!("{}\nseed {seed}", world.trace().join("\n"));
        resume_unwind(panic);
    }
}
