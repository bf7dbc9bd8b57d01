//! A host's name is safe wherever it is put.

use larder_fleet::host::HostName;
use proptest::prelude::*;

#[test]
fn names_that_hosts_have_are_taken() {
    for name in ["pc", "nuc-2", "web_1", "a", "fleet.example.org", "x@y", "C3PO", "a+b"] {
        assert_eq!(name.parse::<HostName>().unwrap().as_str(), name);
    }
    assert!("h".repeat(128).parse::<HostName>().is_ok());
}

#[test]
fn names_that_would_be_taken_for_something_else_are_refused() {
    let long = "h".repeat(129);
    let hostile = [
        "", ".", "..", ".hidden", "-x", "--store", "a/b", "../a", "a b", "a\nb", "a\0b", "a\"b",
        "${x}", "$(x)", "a;b", "a'b", "a`b", "a\\b", "höst", "a%2fb", "a#b", "a?b", "a:b", "*",
        "~", &long,
    ];
    for name in hostile {
        let error = name.parse::<HostName>().unwrap_err();
        assert!(error.to_string().contains("cannot be a host's name"), "{name:?}");
        assert!(serde_json::from_value::<HostName>(name.into()).is_err(), "{name:?}");
    }
}

proptest! {
    #[test]
    fn what_is_taken_is_one_plain_file_name(name in ".{0,20}|[a-zA-Z0-9_+@.-]{1,8}") {
        if let Ok(host) = name.parse::<HostName>() {
            let path = std::path::Path::new("/top").join(format!("{host}.rev"));
            prop_assert_eq!(path.parent().unwrap(), std::path::Path::new("/top"));
            prop_assert_eq!(path.components().count(), 3);
            prop_assert!(!host.as_str().starts_with('-'));
            prop_assert_eq!(&serde_json::to_value(&host).unwrap(), &serde_json::Value::from(name));
        }
    }
}
