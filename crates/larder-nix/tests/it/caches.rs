//! What Nix answers about caches, in its versions' own words. (`larder upgrade` asks all three on whole machines.)

use larder_formats::store_path::StoreDir;
use larder_nix::caches::Known;

const PATH: &str = "/nix/store/p643c3ln3aan7xzmnhr501zwdxcppaq0-pkg-2.0";
const ABSENT: &str = "/nix/store/2gspykgilvdvidkp48pd2p79l7wp1nj4-conf";

fn known(answer: &str) -> Option<Vec<(String, Known)>> {
    let known = Known::parse(answer, &StoreDir::default())?;
    Some(known.into_iter().map(|(path, known)| (path.to_string(), known)).collect())
}

#[test]
fn a_path_is_known_or_not_in_every_versions_words() {
    let entry = r#""deriver":"/nix/store/i4ij0vyrrvqg65p4kisgabv0z6j0kv9y-pkg-2.0.drv","downloadSize":100,
        "narHash":"sha256-qkH8ZxXeehOKQP056kkOIqz8vEPzXus2gt3j+NP9gfs=","narSize":168,"references":[],
        "signatures":["cache-1:c2lnbmF0dXJl","other:c2lnbmF0dXJl"],"url":"nar/x.nar""#;
    let by_2_8 =
        format!("[{{\"path\":\"{ABSENT}\",\"valid\":false}},{{\"path\":\"{PATH}\",{entry}}}]");
    let by_2_26 = format!("{{\"{ABSENT}\":null,\"{PATH}\":{{\"ca\":null,{entry}}}}}");
    let by_2_34 = format!(
        "{{\"{ABSENT}\":null,\"{PATH}\":{{\"ca\":null,{entry},\"storeDir\":\"/nix/store\",\"version\":1}}}}"
    );
    let expected = Known {
        nar_size: 168,
        download_size: Some(100),
        signers: ["cache-1", "other"].map(str::to_owned).into(),
        content_addressed: false,
    };
    let expected = [("p643c3ln3aan7xzmnhr501zwdxcppaq0-pkg-2.0".to_owned(), expected)];
    for answer in [by_2_8, by_2_26, by_2_34] {
        assert_eq!(known(&answer).as_deref(), Some(&expected[..]), "{answer}");
    }
    let local = format!("{{\"{PATH}\":{{\"ca\":\"fixed:sha256:1\",\"narSize\":5}}}}");
    let local = known(&local).unwrap();
    assert!(local[0].1.content_addressed && local[0].1.download_size.is_none());
}

#[test]
fn an_answer_that_cannot_be_understood_is_none() {
    for answer in [
        "",
        "7",
        "[{}]",
        "[{\"path\":\"/etc/passwd\",\"narSize\":1}]",
        "{\"/nix/store/x\":{\"narSize\":1}}",
        &format!("{{\"{PATH}\":{{}}}}"),
        &format!("{{\"{PATH}\":{{\"narSize\":-1}}}}"),
    ] {
        assert_eq!(known(answer), None, "{answer}");
    }
}
