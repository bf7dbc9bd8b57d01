//! Derivations: the hash by which Nix records what their outputs are.

use larder_formats::{
    Sha256,
    derivation::{DerivationError, resolved_hash},
};
use proptest::prelude::*;

/// Made by Nix 2.34, which recorded its outputs under [`HASH`]; so did 2.26.
const RESOLVED: &str = "Derive([(\"dev\",\"\",\"r:sha256\",\"\"),(\"out\",\"\",\"r:sha256\",\"\")],[],\
    [\"/nix/store/8digwrcy1qxcqaiqg16dsf0z16ns0s8n-tools\"],\"x86_64-linux\",\
    \"/nix/store/8digwrcy1qxcqaiqg16dsf0z16ns0s8n-tools/busybox\",[\"sh\",\"-c\",\
    \"echo $dependency > $out; echo $out > $dev\"],[(\"builder\",\
    \"/nix/store/8digwrcy1qxcqaiqg16dsf0z16ns0s8n-tools/busybox\"),(\"dependency\",\"none\"),(\"dev\",\
    \"/02qcpld1y6xhs5gz9bchpxaw0xdhmsp5dv88lh25r2ss44kh8dxz\"),(\"name\",\"first\"),(\"out\",\
    \"/1rz4g4znpzjwh1xymhjpm42vipw92pr73vdgl6xs1hycac8kf2n9\"),(\"outputHashAlgo\",\"sha256\"),\
    (\"outputHashMode\",\"recursive\"),(\"outputs\",\"out dev\"),(\"system\",\"x86_64-linux\")])";

const HASH: &str = "cf1fcec382f302a87b547b876ba6a4ce2ab98c3b33dc13d40bccda8a6cee4155";

fn hash(text: &str) -> Result<Option<Sha256>, DerivationError> {
    resolved_hash(text.as_bytes())
}

#[test]
fn a_resolved_derivation_has_the_hash_that_nix_recorded() {
    assert_eq!(hash(RESOLVED).unwrap().unwrap().to_base16(), HASH);
}

#[test]
fn only_variables_that_stand_for_outputs_are_no_part_of_it() {
    let placeholder =
        RESOLVED.replace("/1rz4g4znpzjwh1xymhjpm42vipw92pr73vdgl6xs1hycac8kf2n9", "/x");
    assert_ne!(placeholder, RESOLVED);
    assert_eq!(hash(&placeholder), hash(RESOLVED));
    assert_ne!(hash(&RESOLVED.replace("none", "some")), hash(RESOLVED));
    let quoted = RESOLVED.replace("none", r#"\"),(\"out\",\"\\"#);
    assert!(hash(&quoted).unwrap().is_some_and(|found| found.to_base16() != HASH));
}

#[test]
fn a_derivation_that_is_not_resolved_or_not_content_addressed_has_none() {
    let input = "[(\"/nix/store/g5c1hzpls78ixf04gvpl1kwj5n1mzd1h-first.drv\",[\"dev\",\"out\"])]";
    let unresolved = RESOLVED.replacen("],[],[", &format!("],{input},["), 1);
    let path = "/nix/store/jxfdd2q5n5hkjk3w3lcfs1gb19gnrwf6-second";
    let known = RESOLVED.replacen("(\"out\",\"\"", &format!("(\"out\",\"{path}\""), 1);
    let fixed = RESOLVED.replacen("\"r:sha256\",\"\"", &format!("\"r:sha256\",\"{HASH}\""), 1);
    for other in [unresolved, known, fixed] {
        assert_ne!(other, RESOLVED);
        assert_eq!(hash(&other), Ok(None), "{other}");
    }
}

#[test]
fn every_beginning_of_a_derivation_is_refused_where_it_ends() {
    for end in 0..RESOLVED.len() {
        let DerivationError(at) = hash(&RESOLVED[..end]).unwrap_err();
        assert!(at <= end, "{at} of {end}");
    }
    assert_eq!(hash(&format!("{RESOLVED}x")), Err(DerivationError(RESOLVED.len())));
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(at in 0..RESOLVED.len(), bytes: Vec<u8>) {
        let _ = resolved_hash(&bytes);
        let mut damaged = RESOLVED.as_bytes().to_vec();
        damaged.splice(at..at, bytes);
        let _ = resolved_hash(&damaged);
    }
}
