//! The record of Nix 2.35, as its schema has it, since no such Nix is among those we test with.

use larder_formats::realisation::RealisationKey;
use larder_testkit::{NixVersion, TestStore, Tree};

use crate::support::{database, layout, parse};

#[test]
fn a_build_trace_is_read_and_only_of_valid_outputs() {
    let store = TestStore::new(NixVersion::V2_34);
    let path = store.add_source("one", &Tree::new());
    let derivation = parse("/nix/store/2px068k067sk3ch7qz9dcdb8dva83qsj-one.drv");
    let key = |output: &str| RealisationKey::Resolved(derivation.clone(), output.parse().unwrap());
    let database = database(&store);
    assert_eq!(database.realisation(&key("out")).unwrap(), None);
    let signature = format!("cache-1:{}==", "A".repeat(86));
    let absent = "/nix/store/00000000000000000000000000000000-absent";
    let writer = rusqlite::Connection::open(layout(&store).database()).unwrap();
    writer
        .execute_batch(&format!(
            "create table BuildTraceV3 (id integer primary key autoincrement not null,
               drvPath text not null, outputName text not null, outputPath text not null,
               signatures text);
             insert into BuildTraceV3 values (1, '{derivation}', 'out', '{path}', '{signature}');
             insert into BuildTraceV3 values (2, '{derivation}', 'gone', '{absent}', '');"
        ))
        .unwrap();
    let found = database.realisation(&key("out")).unwrap().unwrap();
    assert_eq!(found.path, parse(&path));
    let signatures: Vec<String> = found.signatures.iter().map(ToString::to_string).collect();
    assert_eq!(signatures, [signature]);
    assert_eq!(database.realisation(&key("gone")).unwrap(), None);
    assert_eq!(database.realisation(&key("dev")).unwrap(), None);
    writer.execute("update BuildTraceV3 set signatures = 'no-colon'", []).unwrap();
    assert!(database.realisation(&key("out")).is_err());
}
