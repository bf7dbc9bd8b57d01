//! Why is this built or downloaded here?
//!
//! What is found out (caches asked, derivations read) and what it means are apart: `verdict.rs` and `difference.rs`
//! are pure. Nothing is built, fetched into the store, or written.

mod asking;
mod difference;
mod server;
mod verdict;
mod walk;

pub use self::{
    asking::{Asking, Source, Way, in_order, upstreams},
    difference::{Difference, Differences, between, make_the_same},
    server::{Comparison, Site, compare},
    verdict::{Answer, Asked, Circumstances, Offer, Remembered, Role, Trust, Verdict, judge},
    walk::{Subject, Walk, Walked},
};
