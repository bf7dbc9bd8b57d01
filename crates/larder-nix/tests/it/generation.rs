//! What was answered under a generation may be remembered: so no commit goes unseen.

use std::collections::BTreeSet;

use larder_nix::{database::Database, layout::StoreLayout};
use larder_testkit::{NixVersion, TestStore, Tree};
use rusqlite::Connection;

use crate::support::layout;

/// A store, and a connection that writes to its database as another process would.
fn store_and_writer() -> (TestStore, StoreLayout, Connection) {
    let store = TestStore::new(NixVersion::V2_34);
    let _ = store.add_source("source", &Tree::new());
    let layout = layout(&store);
    let writer = Connection::open(layout.database()).unwrap();
    (store, layout, writer)
}

fn commit(writer: &Connection, number: i64) {
    writer.execute("update ValidPaths set registrationTime = ?1", [number]).unwrap();
}

/// Everything that SQLite itself does with the log between commits.
const BETWEEN: [&str; 4] = [
    "select 1",
    "pragma wal_checkpoint(passive)",
    "pragma wal_checkpoint(restart)",
    "pragma wal_checkpoint(truncate)",
];

#[test]
fn every_commit_is_another_generation_whatever_becomes_of_the_log() {
    let (_store, layout, writer) = store_and_writer();
    let mode: String = writer.query_row("pragma journal_mode", [], |row| row.get(0)).unwrap();
    assert_eq!(mode, "wal", "this is how Nix keeps it");
    let database = Database::open(&layout).unwrap();
    let mut seen = BTreeSet::from([database.generation().unwrap().unwrap()]);
    for number in 0..200 {
        commit(&writer, number);
        let generation = database.generation().unwrap().unwrap();
        assert!(seen.insert(generation), "commit {number} went unseen");
        assert_eq!(database.generation().unwrap(), Some(generation), "nothing happened");
        let _ = writer.query_row(BETWEEN[number as usize % BETWEEN.len()], [], |_| Ok(()));
    }
}

#[test]
fn writers_that_come_and_go_are_seen() {
    let (_store, layout, writer) = store_and_writer();
    drop(writer);
    let database = Database::open(&layout).unwrap();
    let mut seen = BTreeSet::from([database.generation().unwrap().unwrap()]);
    for number in 0..20 {
        // As a Nix without daemon does: the log is folded back when it leaves.
        commit(&Connection::open(layout.database()).unwrap(), number);
        assert!(
            seen.insert(database.generation().unwrap().unwrap()),
            "commit {number} went unseen"
        );
    }
}

#[test]
fn a_database_without_a_log_is_watched_as_well() {
    let (_store, layout, writer) = store_and_writer();
    let mode: String =
        writer.query_row("pragma journal_mode = delete", [], |row| row.get(0)).unwrap();
    assert_eq!(mode, "delete");
    let database = Database::open(&layout).unwrap();
    let mut seen = BTreeSet::from([database.generation().unwrap().unwrap()]);
    for number in 0..20 {
        commit(&writer, number);
        let generation = database.generation().unwrap().unwrap();
        assert!(seen.insert(generation), "commit {number} went unseen");
        assert_eq!(database.generation().unwrap(), Some(generation), "nothing happened");
    }
}
