//! `/metrics` of a real server tells how the fleet is, though runs are other processes.

use std::time::Duration;

use larder_testkit::{Background, NixVersion};

use super::{
    FAIL, get,
    receiver::{Behaviour, Receiver},
    serving,
};
use crate::build_server::SmallFleet;

/// The value of a series; none if it is not there.
fn value(page: &str, series: &str) -> Option<f64> {
    let line = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.map(|value| value.parse().unwrap())
}

fn wait_for(
    serving: &mut Background,
    address: &str,
    series: &str,
    is: impl Fn(f64) -> bool,
) -> String {
    serving.wait_for(series, Duration::from_secs(60), |_| {
        let page = get(address, "/metrics").1;
        value(&page, series).is_some_and(&is).then_some(page)
    })
}

#[test]
fn the_age_of_each_hosts_last_good_revision_is_told_as_runs_come_and_go() {
    let (server, fleet) = SmallFleet::with_server(NixVersion::V2_34, "");
    let receiver = Receiver::that(Behaviour::Says("500 Oh"));
    server.also(&format!(
        "[[notify]]\nname = \"hook\"\nkind = \"webhook\"\nurl = {:?}\n",
        receiver.url("/")
    ));
    let (mut serving, address) = serving(&server);
    let _ = wait_for(&mut serving, &address, "larder_run_last_end_timestamp_seconds", |time| {
        time == 0.0
    });

    let _ = server.build(&[]).success();
    let good = |host: &str| format!("larder_host_last_good_timestamp_seconds{{host=\"{host}\"}}");
    let page = wait_for(&mut serving, &address, &good("alpha"), |time| time > 1e9);
    let first = value(&page, &good("alpha")).unwrap();
    let published = server.latest("alpha").unwrap().time.as_duration().as_secs_f64();
    assert!((first - published).abs() < 1.0, "{first} {published}");
    assert!(
        value(&page, "larder_run_last_good_timestamp_seconds").unwrap() >= published.floor(),
        "{page}"
    );
    assert_eq!(value(&page, "larder_host_failing{host=\"beta\"}"), Some(0.0));
    assert_eq!(value(&page, "larder_notices_waiting{receiver=\"hook\"}"), Some(0.0));
    assert_eq!(value(&page, "larder_inputs_held"), Some(0.0));

    let _ = fleet.set_hosts(&[("alpha", FAIL), ("beta", "")]);
    assert_eq!(server.build(&[]).code(), 3);
    let page =
        wait_for(&mut serving, &address, "larder_host_failing{host=\"alpha\"}", |it| it == 1.0);
    assert_eq!(value(&page, &good("alpha")), Some(first), "the last good one is as old as it was");
    assert!(value(&page, &good("beta")).unwrap() > first);
    assert_eq!(value(&page, "larder_run_failed"), Some(0.0), "the run came to its end");
    let _ = wait_for(&mut serving, &address, "larder_notices_waiting{receiver=\"hook\"}", |it| {
        it == 1.0
    });
    // A good run of one host says nothing of all.
    let whole = "larder_run_last_good_timestamp_seconds";
    let before = (value(&page, whole), value(&page, &good("beta")).unwrap());
    let _ = server.build(&["beta"]).success();
    let page = wait_for(&mut serving, &address, &good("beta"), |time| time > before.1);
    assert_eq!(value(&page, whole), before.0);
    assert_eq!(serving.stop(), 0);
}
