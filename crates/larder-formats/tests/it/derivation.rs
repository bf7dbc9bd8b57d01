//! Derivations: what they say, and the hash by which Nix records what their outputs are.

use std::fs;

use larder_formats::{
    Sha256, StoreDir,
    derivation::{Derivation, DerivationError, resolved_hash},
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

fn golden(name: &str) -> Vec<u8> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/all");
    fs::read(format!("{folder}/{name}.drv")).unwrap()
}

fn parse(bytes: &[u8]) -> Result<Derivation, DerivationError> {
    Derivation::parse(bytes, &StoreDir::default())
}

#[test]
fn a_derivation_says_what_nix_wrote_into_it() {
    let hello = parse(&golden("package")).unwrap();
    let outputs: Vec<&str> = hello.outputs.keys().map(String::as_str).collect();
    assert_eq!(outputs, ["dev", "man", "out"]);
    let dev = hello.outputs["dev"].path.as_ref().unwrap();
    assert_eq!(dev.to_string(), "v5f73ahvhwhyqcl7laabvfxrkd49qrrv-hello-2.12.1-dev");
    let inputs: Vec<&str> = hello.input_derivations.keys().map(|path| path.name()).collect();
    assert_eq!(inputs, ["bash-5.2p37.drv", "hello-2.12.1.tar.gz.drv", "stdenv-linux.drv"]);
    assert!(hello.input_derivations.values().all(|names| names.iter().eq(["out"])));
    let sources: Vec<&str> = hello.input_sources.iter().map(|path| path.name()).collect();
    assert_eq!(sources, ["source-stdenv.sh", "default-builder.sh"]);
    assert_eq!(hello.system, "x86_64-linux");
    assert!(hello.builder.ends_with("-bash-5.2p37/bin/bash"));
    assert_eq!((hello.arguments.len(), &*hello.arguments[0]), (3, "-e"));
    assert_eq!(hello.variables["postPatch"], "quotes \" and \\ and\ttabs\r\n");
    assert!(!hello.is_fixed_output());

    let source = parse(&golden("fetchurl")).unwrap();
    assert!(source.is_fixed_output());
    assert_eq!(source.outputs["out"].algorithm, "sha256");
    assert_eq!(source.outputs["out"].hash.len(), 64);
    assert!(parse(RESOLVED.as_bytes()).unwrap().outputs.values().all(|out| out.path.is_none()));
    let impure = RESOLVED.replacen("\"r:sha256\",\"\"", "\"r:sha256\",\"impure\"", 2);
    assert!(!parse(impure.as_bytes()).unwrap().is_fixed_output());
}

#[test]
fn attributes_are_the_same_as_variables_and_as_json() {
    for name in ["config-environment", "config-environment-structured"] {
        let derivation = parse(&golden(name)).unwrap();
        let attributes = derivation.attributes();
        assert_eq!(attributes.flag("preferLocalBuild"), Some(true), "{name}");
        assert_eq!(attributes.flag("allowSubstitutes"), Some(false), "{name}");
        assert_eq!(attributes.flag("ignored"), None, "{name}");
        assert_eq!(attributes.words("pathsToLink"), ["/bin"], "{name}");
        assert_eq!(attributes.words("src"), [""; 0], "{name}");
    }
    let structured = parse(&golden("package-structured")).unwrap();
    assert!(structured.attributes().words("srcs")[0].ends_with("-hello-2.12.1.tar.gz"));
}

#[test]
fn what_nix_would_not_write_is_refused() {
    let text = String::from_utf8(golden("config-text")).unwrap();
    let refused = |from: &str, to: &str| {
        let changed = text.replacen(from, to, 1);
        assert_ne!(changed, text, "{from}");
        assert!(parse(changed.as_bytes()).is_err(), "{changed}");
    };
    assert!(parse(text.as_bytes()).is_ok());
    refused("Derive(", "DrvWithVersion(\"xp-dyn-drv\",");
    refused("(\"allowSubstitutes\",\"\")", "(\"name\",\"\")");
    refused("-stdenv-linux.drv", "-stdenv linux.drv");
    refused("[\"out\"]", "[\"out\",\"out\"]");
    let not_utf8 = |word: &str| {
        let mut bytes = text.clone().into_bytes();
        bytes[text.find(word).unwrap()] = 0xff;
        parse(&bytes)
    };
    assert!(not_utf8("x86_64-linux").is_err());
    assert_eq!(not_utf8("NixOS").unwrap().variables["text"], "NAME=\"\u{fffd}ixOS\"\n");
    for end in 0..text.len() {
        let DerivationError(at) = parse(&text.as_bytes()[..end]).unwrap_err();
        assert!(at <= end, "{at} of {end}");
    }
}

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
        let _ = parse(&damaged);
    }
}
