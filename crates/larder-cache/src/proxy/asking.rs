//! All upstreams asked at once, and whose answer counts.
//!
//! The highest that has the path wins. One further up that has not answered yet is waited for as long as its grace
//! time; one further down, not at all. Without anybody who has the path, all are waited for, until time is up. So
//! there is always an answer within that time.

use std::{sync::Arc, time::Duration};

use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use larder_formats::store_path::StorePathHash;
use tokio::time::{Instant, timeout_at};

use super::tier::{Source, Tier, Verdict};

/// What all of them together say of a path.
#[derive(Clone)]
pub(super) enum Answer {
    /// There it is.
    Found(Source),
    /// Nobody has it.
    Absent,
    /// Nobody is known to have it, and somebody did not tell.
    Unknown,
}

/// One that is asked.
pub(super) struct Question<T> {
    pub(super) grace: Duration,
    pub(super) answer: BoxFuture<'static, T>,
}

/// What of the answers so far is to be done.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// This one's answer is taken.
    Take(usize),
    /// More may come until then.
    WaitUntil(Instant),
    /// All have answered or time is up, and none is known to have it.
    None,
}

/// Asks these for a path.
pub(super) async fn ask(tiers: &[Arc<Tier>], hash: StorePathHash, within: Duration) -> Answer {
    let questions = tiers.iter().map(|tier| {
        let (tier, grace) = (Arc::clone(tier), tier.grace);
        let answer = async move { tier.narinfo(hash, within).await };
        Question { grace, answer: answer.boxed() }
    });
    let (found, others) =
        first(questions.collect(), within, |verdict| matches!(verdict, Verdict::Found(_))).await;
    if let Some(Verdict::Found(source)) = found {
        return Answer::Found(source);
    }
    let told =
        |verdict: &Option<Verdict>| matches!(verdict, Some(Verdict::Absent | Verdict::Untrusted));
    if others.iter().all(told) { Answer::Absent } else { Answer::Unknown }
}

/// The answer that counts among those that are good, and, where there is none, what was answered.
pub(super) async fn first<T>(
    questions: Vec<Question<T>>,
    within: Duration,
    is_good: impl Fn(&T) -> bool,
) -> (Option<T>, Vec<Option<T>>) {
    let begun = Instant::now();
    let end = begun + within;
    let graces: Vec<_> = questions.iter().map(|it| begun + it.grace.min(within)).collect();
    let mut answers: Vec<Option<T>> = questions.iter().map(|_| None).collect();
    let mut coming: FuturesUnordered<_> = (0..)
        .zip(questions)
        .map(|(number, question)| question.answer.map(move |answer| (number, answer)))
        .collect();
    loop {
        let good: Vec<_> = answers.iter().map(|it| it.as_ref().map(&is_good)).collect();
        match step(&good, &graces, end, Instant::now()) {
            Step::None => return (None, answers),
            Step::Take(number) => return (answers.swap_remove(number), answers),
            Step::WaitUntil(then) => match timeout_at(then, coming.next()).await {
                Ok(Some((number, answer))) => answers[number] = Some(answer),
                Ok(None) => return (None, answers),
                Err(_) => {}
            },
        }
    }
}

/// What to do when these have answered well, badly or not yet, and each may be waited for until then.
fn step(good: &[Option<bool>], graces: &[Instant], end: Instant, now: Instant) -> Step {
    let Some(best) = good.iter().position(|it| *it == Some(true)) else {
        let over = now >= end || good.iter().all(Option::is_some);
        return if over { Step::None } else { Step::WaitUntil(end) };
    };
    let above = good.iter().zip(graces).take(best);
    let pending = above.filter(|(answer, grace)| answer.is_none() && **grace > now);
    match pending.map(|(_, grace)| *grace).max() {
        Some(grace) => Step::WaitUntil(grace),
        None => Step::Take(best),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::FutureExt;
    use proptest::prelude::*;
    use tokio::time::{Instant, sleep};

    use super::{Question, first};

    const WITHIN: Duration = Duration::from_secs(2);

    /// One that answers after so many milliseconds, if at all, whether it has the path.
    #[derive(Clone, Copy, Debug)]
    struct One {
        after: Option<u64>,
        has: bool,
        grace: u64,
    }

    fn one() -> impl Strategy<Value = One> {
        let after = prop_oneof![Just(None), (0..3000_u64).prop_map(Some)];
        (after, any::<bool>(), 0..3000_u64).prop_map(|(after, has, grace)| One {
            after,
            has,
            grace,
        })
    }

    fn asked(ones: &[One]) -> (Option<usize>, Duration) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            let begun = Instant::now();
            let questions = ones.iter().enumerate().map(|(number, one)| {
                let one = *one;
                let answer = async move {
                    match one.after {
                        Some(after) => sleep(Duration::from_millis(after)).await,
                        None => std::future::pending().await,
                    }
                    (number, one.has)
                };
                Question { grace: Duration::from_millis(one.grace), answer: answer.boxed() }
            });
            let (found, _) = first(questions.collect(), WITHIN, |(_, has)| *has).await;
            (found.map(|(number, _)| number), begun.elapsed())
        })
    }

    proptest! {
        #[test]
        fn there_is_an_answer_in_time_and_it_is_the_best_there_was(
            ones in prop::collection::vec(one(), 0..6)
        ) {
            let (found, took) = asked(&ones);
            prop_assert!(took <= WITHIN, "{took:?}");
            let in_time = |one: &One| one.after.is_some_and(|after| u128::from(after) < WITHIN.as_millis());
            let any = ones.iter().any(|one| one.has && in_time(one));
            prop_assert!(found.is_some() || !any, "somebody had it in time");
            let Some(found) = found else { return Ok(()) };
            prop_assert!(ones[found].has);
            for better in &ones[..found] {
                let answered = better.after.map(Duration::from_millis).unwrap_or(Duration::MAX);
                prop_assert!(!better.has || answered >= took, "it was known to have it");
                let grace = Duration::from_millis(better.grace).min(WITHIN);
                prop_assert!(answered <= took || took >= grace, "it was not waited for");
            }
        }
    }

    #[test]
    fn nobody_waits_for_a_lower_one_or_beyond_the_grace_time() {
        let fast = One { after: Some(5), has: true, grace: 500 };
        let dead = One { after: None, has: false, grace: 500 };
        assert_eq!(asked(&[fast, dead]), (Some(0), Duration::from_millis(5)));
        assert_eq!(asked(&[dead, fast]), (Some(1), Duration::from_millis(500)));
        assert_eq!(asked(&[dead, dead]), (None, WITHIN));
    }

    #[test]
    fn a_slow_one_that_has_it_is_waited_for_when_nobody_else_has_it() {
        let slow = One { after: Some(1500), has: true, grace: 100 };
        let without = One { after: Some(1), has: false, grace: 100 };
        assert_eq!(asked(&[slow, without]), (Some(0), Duration::from_millis(1500)));
        assert_eq!(asked(&[without, slow]), (Some(1), Duration::from_millis(1500)));
    }
}
