//! Why something is built here, judged: nothing is said that no answer said.

use larder_fleet::why::{
    Answer, Asked, Circumstances, Difference, Offer, Remembered, Role, Trust, Verdict, between,
    judge,
};
use larder_formats::{
    derivation::Derivation,
    store_path::{StoreDir, StorePath},
};
use proptest::{collection::vec, option, prelude::*};

fn path(n: u8, name: &str) -> StorePath {
    StorePath::new(larder_formats::store_path::StorePathHash::from_bytes([n; 20]), name).unwrap()
}

/// A derivation with these inputs, sources and variables.
fn derivation(inputs: &[StorePath], sources: &[StorePath], variables: &str) -> Derivation {
    let full = |it: &StorePath| StoreDir::default().display(it);
    let inputs: Vec<String> =
        inputs.iter().map(|it| format!("(\"{}\",[\"out\"])", full(it))).collect();
    let sources: Vec<String> = sources.iter().map(|it| format!("\"{}\"", full(it))).collect();
    let text = format!(
        "Derive([(\"out\",\"{}\",\"\",\"\")],[{}],[{}],\"x86_64-linux\",\"/bin/sh\",[],[{variables}])",
        full(&path(9, "it")),
        inputs.join(","),
        sources.join(",")
    );
    Derivation::parse(text.as_bytes(), &StoreDir::default()).unwrap()
}

fn trust() -> impl Strategy<Value = Trust> {
    let signers = vec!["stranger-1".to_owned()];
    prop_oneof![
        Just(Trust::Good),
        Just(Trust::Unsigned),
        Just(Trust::Strangers { signers }),
        Just(Trust::Forged { signer: "known-1".to_owned() }),
    ]
}

fn answer() -> impl Strategy<Value = Answer> {
    let said = || "so".to_owned();
    prop_oneof![
        trust().prop_map(|trust| {
            Answer::Has(Offer { bytes: None, unpacked_bytes: 1, trust, deriver: None })
        }),
        Just(Answer::Absent),
        Just(Answer::Broken { said: said() }),
        Just(Answer::Denied { said: said() }),
        Just(Answer::Unreachable { said: said() }),
        Just(Answer::NoCache { said: said() }),
        Just(Answer::NoScheme),
    ]
}

fn role() -> impl Strategy<Value = Role> {
    let down = option::of(Just("down".to_owned()));
    let upstream = down.prop_map(|down| {
        let (proxy, name) = ("proxy".to_owned(), "up".to_owned());
        Role::Upstream { proxy, name, down }
    });
    prop_oneof![3 => Just(Role::Substituter), 1 => Just(Role::Ignored), 1 => Just(Role::NotConfigured), 1 => upstream]
}

fn all_asked() -> impl Strategy<Value = Vec<Asked>> {
    let at = || "2026-11-20T02:14:07Z".parse().unwrap();
    let remembered = prop_oneof![
        3 => Just(None),
        1 => Just(Some(Remembered::Absent { until: at() })),
        1 => Just(Some(Remembered::Present { at: at() })),
    ];
    let one = (role(), answer(), remembered).prop_map(|(role, answer, remembered)| Asked {
        cache: String::new(),
        role,
        answer,
        remembered,
    });
    vec(one, 0..5).prop_map(|mut all| {
        for (n, asked) in all.iter_mut().enumerate() {
            asked.cache = format!("http://{n}");
        }
        all
    })
}

proptest! {
    #[test]
    fn it_is_downloaded_exactly_when_a_substituter_that_nix_asks_and_believes_has_it(
        asked in all_asked(), substitute: bool,
    ) {
        let here = Circumstances { substitute, ..Circumstances::default() };
        let verdicts = judge(None, &asked, &here);
        let good = |it: &&Asked| it.role == Role::Substituter
            && !matches!(it.remembered, Some(Remembered::Absent { .. }))
            && matches!(&it.answer, Answer::Has(Offer { trust: Trust::Good, .. }));
        let first = asked.iter().find(good).map(|it| it.cache.as_str());
        match &verdicts[..] {
            [Verdict::Downloaded { cache, .. }] => prop_assert_eq!(Some(&**cache), first.filter(|_| substitute)),
            others => {
                prop_assert!(first.is_none() || !substitute);
                prop_assert!(!others.iter().any(Verdict::is_well));
            }
        }
    }

    #[test]
    fn absent_is_said_of_those_that_said_so_alone(asked in all_asked()) {
        let here = Circumstances { substitute: true, ..Circumstances::default() };
        let verdicts = judge(None, &asked, &here);
        for verdict in &verdicts {
            if let Verdict::Absent { caches } = verdict {
                for cache in caches {
                    let said = asked.iter().find(|it| it.cache == *cache).map(|it| &it.answer);
                    prop_assert_eq!(said, Some(&Answer::Absent));
                }
            }
        }
        let substituters = || asked.iter().filter(|it| it.role == Role::Substituter);
        prop_assert!(!verdicts.is_empty(), "there is always a reason");
        let nobody = verdicts.iter().any(|it| matches!(it, Verdict::NoSubstituters));
        prop_assert_eq!(nobody, substituters().next().is_none());
    }

    #[test]
    fn a_derivation_is_no_other_than_itself(names in vec("[a-z]{1,8}", 0..5), value in "[a-z ]{0,90}") {
        let inputs: Vec<StorePath> =
            names.iter().zip(10..).map(|(name, n)| path(n, &format!("{name}.drv"))).collect();
        let one = derivation(&inputs, &[path(1, "source")], &format!("(\"a\",\"{value}\")"));
        let found = between(&one, &one);
        prop_assert!(found.own.is_empty() && found.inputs.is_empty(), "{:?}", found);
    }
}

#[test]
fn paths_in_texts_are_no_difference_where_what_they_lead_to_is_one() {
    let text =
        |n| format!("(\"dep\",\"{}/bin\")", StoreDir::default().display(&path(n, "dep-1.0")));
    let one = derivation(&[path(1, "dep-1.0.drv")], &[], &text(3));
    let other = derivation(&[path(2, "dep-1.0.drv")], &[], &text(4));
    let found = between(&one, &other);
    assert_eq!(found.own, []);
    assert_eq!(found.inputs, [(path(1, "dep-1.0.drv"), path(2, "dep-1.0.drv"))]);
    // And one, where nothing else is.
    let (one, other) = (derivation(&[], &[], &text(3)), derivation(&[], &[], &text(4)));
    assert!(
        matches!(&between(&one, &other).own[..], [Difference::Attribute { name, .. }] if name == "dep")
    );
}

#[test]
fn long_values_are_shown_where_they_differ() {
    let text =
        |end: &str| format!("(\"script\",\"{}{end}{}\")", "a ".repeat(200), "b ".repeat(200));
    let found =
        between(&derivation(&[], &[], &text("here")), &derivation(&[], &[], &text("there")));
    let [Difference::Attribute { here: Some(here), there: Some(there), .. }] = &found.own[..]
    else {
        panic!("{found:?}");
    };
    assert!(here.contains("here") && there.contains("there") && here.len() < 100, "{here} {there}");
}
