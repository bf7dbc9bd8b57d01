//! Collections in a bucket, where a listing tells times more finely than a look at one object.

use std::{
    fs::{self, File},
    path::Path,
    sync::Arc,
    time::Duration,
};

use jiff::SignedDuration;
use larder_cache::{
    gc::{
        apply::{Collector, Outcome, Pace},
        index::Index,
        plan::{Plan, Policy},
    },
    pin::Pins,
    storage::Storage,
};
use larder_formats::store_path::StoreDir;
use larder_testkit::S3Server;

use super::{
    days, hash,
    index::{put, put_path},
    nar, path,
};
use crate::{
    clock::Hand,
    storage::{all_keys, bucket, key},
};

/// The time by the server's clock.
async fn now(place: &dyn Storage) -> Hand {
    put(place, "nix-cache-info", "StoreDir: /nix/store\n").await;
    let written = place.stat(&key("nix-cache-info")).await.unwrap().unwrap().modified;
    let hand = Hand::new();
    hand.turn(written.duration_since(hand.now()));
    hand
}

/// Makes every file a hundred days older, and leaves its parts of a second.
fn age(folder: &Path) {
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            age(&entry.path());
        } else {
            let file = File::options().write(true).open(entry.path()).unwrap();
            let written = file.metadata().unwrap().modified().unwrap();
            file.set_modified(written - Duration::from_hours(2400)).unwrap();
        }
    }
}

async fn collect(
    place: &Arc<dyn Storage>,
    hand: &Hand,
    name: &str,
    grace: SignedDuration,
) -> (Plan, Outcome) {
    let index = Index::in_memory(&StoreDir::default()).unwrap();
    let name = name.parse().unwrap();
    let pace = Pace { length: SignedDuration::from_mins(2), ..Pace::default() };
    let mut collector = Collector::new(Arc::clone(place), index, name, hand.clock(), pace);
    let policy = Policy { max_age: Some(days(30)), max_size: None, grace };
    let plan = collector.plan(&policy).await.unwrap();
    let outcome = collector.apply(&plan, &|_| {}).await.unwrap();
    (plan, outcome)
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_that_nobody_needs_goes() {
    let server = S3Server::start();
    let place = bucket(&server.url("cache"));
    let hand = now(&*place).await;
    put_path(&*place, 1, &[]).await;
    put_path(&*place, 2, &[1]).await;
    let realisation = |number| format!("{{\"outPath\":\"{}\"}}", path(number));
    for (at, text) in [
        (format!("{}.ls", hash(1)), "{}".to_owned()),
        (format!("{}.ls", hash(2)), "{}".to_owned()),
        ("realisations/sha256:01!out.doi".to_owned(), realisation(1)),
        ("realisations/sha256:02!out.doi".to_owned(), realisation(2)),
        ("debuginfo/01".to_owned(), format!("{{\"archive\":\"../{}\"}}", nar(1).url())),
        ("debuginfo/08".to_owned(), format!("{{\"archive\":\"../{}\"}}", nar(8).url())),
        ("log/00000000000000000000000000000001-x.drv".to_owned(), "built".to_owned()),
        (".larder/drafts/draft-x".to_owned(), "half".to_owned()),
        // An upload that broke off.
        (nar(9).url(), "seven".to_owned()),
        (format!(".larder/staged/{}.json", nar(9)), "{}".to_owned()),
        (format!(".larder/staged/{}.ls", nar(9)), "{}".to_owned()),
    ] {
        put(&*place, &at, text).await;
    }
    age(&server.files());
    let pins = Pins::new(Arc::clone(&place), hand.clock());
    let _ = pins.add("keep".parse().unwrap(), vec![path(1)], None).await.unwrap();

    let (plan, outcome) = collect(&place, &hand, "one", days(1)).await;
    assert_eq!((plan.paths.len(), plan.objects.len()), (1, 7), "{plan:?}");
    assert_eq!((outcome.spared, outcome.objects), (0, 7), "{outcome:?}");
    // Their NARs have been noted, and no more is needed for them than time.
    hand.turn(SignedDuration::from_mins(3));
    let (plan, outcome) = collect(&place, &hand, "two", SignedDuration::ZERO).await;
    assert_eq!((plan.nars.len(), outcome.nars, outcome.spared), (2, 2, 0), "{outcome:?}");
    let mut left = [
        format!("{}.narinfo", hash(1)),
        format!("{}.ls", hash(1)),
        nar(1).url(),
        "realisations/sha256:01!out.doi".to_owned(),
        "debuginfo/01".to_owned(),
        "nix-cache-info".to_owned(),
    ];
    left.sort();
    assert_eq!(all_keys(&*place).await, left);
}
