//! Content-addressed derivations: what their outputs are is told, signed, and believed by real Nix.

use larder_formats::{
    realisation::RealisationKey,
    signature::{PublicKey, Signature},
};
use larder_testkit::{Nix, NixVersion, TestStore, nix::system};
use serde_json::{Value, json};

use crate::{
    http,
    support::{Key, Server, parse, signing},
};

const FEATURES: &str = "experimental-features = nix-command flakes ca-derivations";

/// Two content-addressed derivations, the second made from an output of the first.
fn expression(store: &TestStore) -> String {
    let tools = store.work_dir().join("../tools").canonicalize().unwrap();
    format!(
        "let make = name: dependency: derivation {{ inherit name dependency; system = \"{}\"; \
         builder = \"${{{}}}/busybox\"; __contentAddressed = true; outputHashMode = \"recursive\"; \
         outputHashAlgo = \"sha256\"; outputs = [ \"out\" \"dev\" ]; \
         args = [ \"sh\" \"-c\" \"echo $dependency > $out; echo $out > $dev\" ]; }}; \
         first = make \"first\" \"none\"; in make \"second\" first.dev // {{ inherit first; }}",
        system(),
        tools.display()
    )
}

struct Built {
    store: TestStore,
    path: String,
    key: Key,
    server: Server,
}

fn built(version: NixVersion) -> Built {
    let store = TestStore::with_config(version, FEATURES);
    let path = store.build_expr(&expression(&store)).pop().unwrap();
    let key = Key::new(&store.work_dir(), "cache-1", 1);
    let server = Server::with(&store, &signing(&[&key]));
    Built { store, path, key, server }
}

/// A store that builds nothing itself and substitutes from there.
fn client(version: NixVersion, server: &Server, trusted: &str) -> TestStore {
    let url = server.url();
    let lines = format!(
        "{FEATURES}\nmax-jobs = 0\nsubstituters = {url}\ntrusted-public-keys = {trusted}\nfallback = false"
    );
    TestStore::with_config(version, &lines)
}

fn is_substituted(from: NixVersion, by: NixVersion) {
    let Built { store, path, key, server } = built(from);
    let client = client(by, &server, &key.public);
    assert_eq!(client.build_expr(&expression(&client)), std::slice::from_ref(&path));
    assert_eq!(client.closure(&path), store.closure(&path));
}

#[test]
fn nix_2_26_substitutes_what_2_26_built() {
    is_substituted(NixVersion::V2_26, NixVersion::V2_26);
}

#[test]
fn nix_2_34_substitutes_what_2_34_built() {
    is_substituted(NixVersion::V2_34, NixVersion::V2_34);
}

#[test]
fn nix_2_34_substitutes_what_2_26_built() {
    is_substituted(NixVersion::V2_26, NixVersion::V2_34);
}

#[test]
fn nix_2_26_substitutes_what_2_34_built() {
    is_substituted(NixVersion::V2_34, NixVersion::V2_26);
}

/// `nix copy` checks the signatures of realisations, which substitution does not. (2.34's cannot be
/// had to copy these without writing into the cache.)
#[test]
fn nix_2_26_believes_the_signature_and_no_strangers() {
    let version = NixVersion::V2_26;
    let Built { store, path, key, server } = built(version);
    let stranger = Key::new(&store.work_dir(), "cache-1", 2);
    let copy = |trusted: &str| {
        let client = client(version, &server, trusted);
        let url = server.url();
        let words = ["nix", "copy", "--eval-store", "auto", "--from", &url, "--impure", "--expr"];
        let copied = client.nix(&[&words[..], &[&expression(&client)]].concat());
        (copied, client)
    };
    let (refused, _) = copy(&stranger.public);
    let refused = refused.failure();
    assert!(refused.stderr.contains("signature by a trusted key"), "{refused}");
    let (copied, client) = copy(&key.public);
    let _ = copied.success();
    assert!(client.is_valid(&path));
}

#[test]
fn our_signature_is_the_one_that_nix_makes_with_the_same_key() {
    for version in NixVersion::builders() {
        let store = TestStore::with_config(version, FEATURES);
        let key = Key::new(&store.work_dir(), "cache-1", 1);
        store.configure(&format!("{FEATURES}\nsecret-key-files = {}", key.file.display()));
        let first = format!("({}).first", expression(&store));
        let _ = store.build_expr(&first);
        let words = ["nix", "realisation", "info", "--json", "--impure", "--expr", &first];
        let told = store.nix(&words).success();
        let told: Value = serde_json::from_str(&told.stdout).unwrap();
        let id = told[0]["id"].as_str().unwrap();
        for server in [Server::of(&store), Server::with(&store, &signing(&[&key]))] {
            let answer = http::get(server.address(), &format!("/realisations/{id}.doi"));
            let ours: Value = serde_json::from_str(&answer.text()).unwrap();
            assert_eq!(ours["signatures"].as_array().unwrap().len(), 1, "{version}: {ours}");
            for field in ["id", "outPath", "dependentRealisations", "signatures"] {
                assert_eq!(ours[field], told[0][field], "{version} {field}: {told}");
            }
        }
    }
}

#[test]
fn the_resolved_derivation_has_a_build_trace_as_2_35_asks_for_it() {
    for version in NixVersion::builders() {
        let Built { store, path, key, server } = built(version);
        let deriver = store.nix(&["nix-store", "-q", "--deriver", &path]).success();
        let derivation = parse(deriver.text());
        let target = format!("/build-trace-v2/{derivation}/out.doi");
        let answer = http::get(server.address(), &target);
        assert_eq!(answer.status, 200, "{version}");
        assert_eq!(answer.header("content-type"), Some("application/json"));
        let value: Value = serde_json::from_str(&answer.text()).unwrap();
        let output = parse(&path).to_string();
        assert_eq!(value["outPath"], json!(output));
        assert_eq!(value.as_object().unwrap().len(), 2, "the value alone: {value}");
        let signature = &value["signatures"][0];
        assert_eq!(signature["keyName"], "cache-1");
        let text = format!("cache-1:{}", signature["sig"].as_str().unwrap());
        let signature: Signature = text.parse().unwrap();
        let signed = format!(
            "{{\"key\":{{\"drvPath\":\"{derivation}\",\"outputName\":\"out\"}},\
             \"value\":{{\"outPath\":\"{output}\"}}}}"
        );
        let public: PublicKey = key.public.parse().unwrap();
        assert!(public.verify(signed.as_bytes(), &signature), "{value}");
        let absent = target.replace("out.doi", "doc.doi");
        assert_eq!(http::get(server.address(), &absent).status, 404);
    }
}

#[test]
fn a_store_without_content_addressed_derivations_has_no_realisations() {
    let store = TestStore::new(NixVersion::V2_34);
    let chain = store.add_closure("chain", 1, 10);
    let server = Server::of(&store);
    let hash = "c058af0a9e36a7753a23c54d0b6685d3f001cc4e9e3532a7b7891024e77cd070";
    let output: RealisationKey =
        RealisationKey::Modulo(format!("sha256:{hash}!out").parse().unwrap());
    let deriver = store.nix(&["nix-store", "-q", "--deriver", &chain[0]]).success();
    for target in [
        format!("/realisations/{output}.doi"),
        format!("/build-trace-v2/{}/out.doi", parse(deriver.text())),
    ] {
        let answer = http::get(server.address(), &target);
        assert_eq!((answer.status, answer.text().as_str()), (404, "not found\n"), "{target}");
    }
}
