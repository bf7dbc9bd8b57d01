//! No question reads a whole table: SQLite's own plans, on the schemas that real Nix makes.

use larder_testkit::{NixVersion, TestStore, Tree};
use rusqlite::Connection;

use crate::support::{layout, with_every_version};

/// Every file that asks Nix's database.
const SOURCES: [&str; 4] = [
    include_str!("../../src/database.rs"),
    include_str!("../../src/database/build_closure.rs"),
    include_str!("../../src/database/generation.rs"),
    include_str!("../../src/database/realisations.rs"),
];

/// The table that Nix makes from 2.35 on, with its index.
const BUILD_TRACE: &str = "create table BuildTraceV3 (
       id integer primary key autoincrement not null, drvPath text not null,
       outputName text not null, outputPath text not null, signatures text);
     create index IndexBuildTraceV3 on BuildTraceV3(drvPath, outputName);";

with_every_version!(every_question_is_answered_by_an_index);

fn every_question_is_answered_by_an_index(version: NixVersion) {
    let features = "experimental-features = nix-command flakes ca-derivations";
    let store = TestStore::with_config(version, features);
    let _ = store.add_source("one", &Tree::new());
    let database = Connection::open(layout(&store).database()).unwrap();
    database.execute_batch(BUILD_TRACE).unwrap();
    for question in questions() {
        for step in plan(&database, &question) {
            // `c` is what was found of a closure so far; the schema has some twenty rows in any store.
            // `json_each` is what was asked for.
            let fixed = ["SCAN c", "SCAN json_each", "SCAN sqlite_master"];
            let fixed = fixed.iter().any(|scan| step.starts_with(scan));
            assert!(!step.contains("SCAN") || fixed, "{step}: {question}");
            assert!(!step.contains("AUTOMATIC"), "an index made for this one question: {question}");
        }
    }
}

#[test]
fn a_question_without_an_index_would_be_noticed() {
    let store = TestStore::new(NixVersion::V2_34);
    let _ = store.add_source("one", &Tree::new());
    let database = Connection::open(layout(&store).database()).unwrap();
    let steps = plan(&database, "select path from ValidPaths where deriver = ?1");
    assert!(steps.iter().any(|step| step.contains("SCAN ValidPaths")), "{steps:?}");
}

#[test]
fn every_statement_in_the_source_is_looked_at() {
    let prepared: usize = SOURCES
        .iter()
        .map(|source| {
            let prepared = source.matches(".prepare_cached(").count();
            prepared + source.matches(".query_row(\"").count()
        })
        .sum();
    let pragmas = SOURCES.iter().map(|source| source.matches("\"pragma ").count()).sum::<usize>();
    assert_eq!(questions().len(), prepared - pragmas);
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/database");
    let files = std::fs::read_dir(folder).unwrap().count();
    assert_eq!(1 + files, SOURCES.len(), "files that ask the database");
}

/// The statements as they are written in the source: string literals that begin like one.
fn questions() -> Vec<String> {
    let columns = SOURCES[0].split("const COLUMNS: &str = \"").nth(1).unwrap();
    let columns = columns.split('"').next().unwrap();
    let literals = SOURCES.iter().flat_map(|source| source.split('"').skip(1).step_by(2));
    literals
        .filter(|text| text.starts_with("select ") || text.starts_with("with recursive "))
        .map(|text| text.replace("{COLUMNS}", columns))
        .collect()
}

fn plan(database: &Connection, question: &str) -> Vec<String> {
    let mut explain = database.prepare(&format!("explain query plan {question}")).unwrap();
    let steps = explain.raw_query().mapped(|row| row.get::<_, String>("detail"));
    steps.collect::<Result<Vec<_>, _>>().unwrap()
}
