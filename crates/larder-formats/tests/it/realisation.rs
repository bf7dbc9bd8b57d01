//! Realisations as Nix 2.26 wrote them into a file cache, and as 2.35 documents them.

use larder_formats::{
    realisation::{
        DerivationOutput, DerivationOutputError, Realisation, RealisationError, RealisationKey,
    },
    signature::{SecretKey, Signature},
};

const HASH: &str = "c058af0a9e36a7753a23c54d0b6685d3f001cc4e9e3532a7b7891024e77cd070";
const PATH: &str = "xk13jbc1qzf1qpw0hqf13ad57bfgcyqm-one";

fn realisation(key: RealisationKey) -> Realisation {
    let path = PATH.parse().unwrap();
    Realisation { key, path, dependencies: [].into(), signatures: [].into() }
}

fn output(name: &str) -> DerivationOutput {
    format!("sha256:{HASH}!{name}").parse().unwrap()
}

#[test]
fn by_its_hash_a_realisation_is_one_flat_object() {
    let mut one = realisation(RealisationKey::Modulo(output("out")));
    one.dependencies.insert(output("dev"), PATH.parse().unwrap());
    let signature = Signature::new("cache-1", [0; 64]).unwrap();
    one.signatures.insert(signature.clone());
    let expected = format!(
        "{{\"dependentRealisations\":{{\"sha256:{HASH}!dev\":\"{PATH}\"}},\"id\":\"sha256:{HASH}!out\",\
         \"outPath\":\"{PATH}\",\"signatures\":[\"{signature}\"]}}"
    );
    assert_eq!(one.to_json(), expected);
}

#[test]
fn by_its_path_a_realisation_is_the_value_alone() {
    let derivation = "2px068k067sk3ch7qz9dcdb8dva83qsj-one.drv".parse().unwrap();
    let mut one = realisation(RealisationKey::Resolved(derivation, "out".parse().unwrap()));
    one.signatures.insert(Signature::new("cache-1", [0; 64]).unwrap());
    let bytes = format!("{}==", "A".repeat(86));
    let expected = format!(
        "{{\"outPath\":\"{PATH}\",\"signatures\":[{{\"keyName\":\"cache-1\",\"sig\":\"{bytes}\"}}]}}"
    );
    assert_eq!(one.to_json(), expected);
}

#[test]
fn what_has_dependencies_is_signed_with_them_and_without() {
    let mut one = realisation(RealisationKey::Modulo(output("out")));
    let without = format!(
        "{{\"dependentRealisations\":{{}},\"id\":\"sha256:{HASH}!out\",\"outPath\":\"{PATH}\"}}"
    );
    assert_eq!(one.fingerprints(), std::slice::from_ref(&without));
    one.dependencies.insert(output("dev"), PATH.parse().unwrap());
    assert_eq!(one.fingerprints()[1], without);
    let key = SecretKey::from_seed("cache-1", [1; 32]).unwrap();
    one.sign_with(&key);
    assert_eq!(one.signatures.len(), 2);
    for text in one.fingerprints() {
        let verifies = |signature| key.public().verify(text.as_bytes(), signature);
        assert!(one.signatures.iter().any(verifies), "{text}");
    }
}

#[test]
fn an_output_is_read_in_any_base_and_written_in_base_16() {
    let text = output("dev").to_string();
    assert_eq!(text, format!("sha256:{HASH}!dev"));
    let nix32 = format!("{}!dev", output("dev").derivation);
    assert_eq!(nix32.parse::<DerivationOutput>().unwrap().to_string(), text);
    for odd in ["", "!", "sha256:!out", &format!("sha256:{HASH}"), &format!("sha256:{HASH}!a/b")] {
        let refused: Result<DerivationOutput, DerivationOutputError> = odd.parse();
        assert!(refused.is_err(), "{odd}");
    }
}

#[test]
fn what_is_written_is_read_again_under_both_names() {
    let derivation = "2px068k067sk3ch7qz9dcdb8dva83qsj-one.drv".parse().unwrap();
    let mut by_hash = realisation(RealisationKey::Modulo(output("out")));
    by_hash.dependencies.insert(output("dev"), PATH.parse().unwrap());
    let by_path = realisation(RealisationKey::Resolved(derivation, "out".parse().unwrap()));
    for mut one in [by_hash, by_path] {
        one.sign_with(&SecretKey::from_seed("cache-1", [1; 32]).unwrap());
        assert_eq!(Realisation::parse(&one.key, &one.to_json()).unwrap(), one);
    }
}

#[test]
fn a_realisation_is_read_only_under_its_own_name() {
    let out = realisation(RealisationKey::Modulo(output("out"))).to_json();
    let dev = RealisationKey::Modulo(output("dev"));
    let error = Realisation::parse(&dev, &out).unwrap_err();
    assert!(matches!(error, RealisationError::OtherOutput(said) if said.ends_with("!out")));
    let nameless = format!("{{\"outPath\":\"{PATH}\",\"signatures\":[]}}");
    assert!(Realisation::parse(&dev, &nameless).is_err());
    for odd in ["", "{}", "[]", "{\"outPath\":\"/nix/store\"}", "{\"outPath\":7}"] {
        assert!(Realisation::parse(&dev, odd).is_err(), "{odd}");
    }
}
