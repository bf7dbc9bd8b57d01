//! A store with as many paths as a build server has, made in seconds.
//!
//! Schema and a handful of paths are the real Nix's own; the rest are rows like those that Nix would have
//! written, put into its database in one transaction. Their files are not there. So whatever only asks the
//! database works on them, the real Nix included; what reads files, checks them (`nix-store --verify`) or
//! collects garbage does not.

use rusqlite::{Connection, Transaction, params};

use crate::nix::NixVersion;
use crate::store::TestStore;
use crate::tree::random_bytes;

/// References of each path, as far as there are paths before it. An output refers to itself as well.
const REFERENCES: usize = 4;

const NIX32: &[u8; 32] = b"0123456789abcdfghijklmnpqrsvwxyz";
const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// A store of many registered paths: half of them derivations, half what those have built.
#[derive(Debug)]
pub struct LargeStore {
    store: TestStore,
    whole: Vec<String>,
    registered: usize,
}

impl LargeStore {
    /// A store with `paths` more paths than its few whole ones. They are the same in every store.
    ///
    /// # Panics
    /// When Nix makes no store, or not one with the tables that are known here.
    #[must_use]
    pub fn new(version: NixVersion, paths: usize) -> Self {
        let store = TestStore::new(version);
        let whole = store.add_closure("whole", 3, 1000);
        let file = store.state_dir().join("db/db.sqlite");
        let mut database = Connection::open(file).expect("Nix has made a database");
        // All of it is written once, at the end, and nothing that a crash loses is missed: whoever made the
        // store is gone then, too.
        database
            .execute_batch("pragma synchronous = off; pragma cache_size = -262144")
            .expect("SQLite can be told");
        let transaction = database.transaction().expect("nobody else writes");
        register(&transaction, paths).expect("these are the tables of Nix's version 10");
        transaction.commit().expect("there is room for the database");
        Self { store, whole, registered: paths }
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> &TestStore {
        &self.store
    }

    /// The paths whose files are there, each referring to the one before.
    #[must_use]
    pub fn whole(&self) -> &[String] {
        &self.whole
    }

    /// The paths that are registered without files: derivations at even places, and behind each its output,
    /// which refers to itself and to outputs before it.
    pub fn registered(&self) -> impl ExactSizeIterator<Item = String> + use<> {
        (0..self.registered).map(path)
    }
}

/// The full store path at a place.
fn path(n: usize) -> String {
    let hash = characters(seed(n, 0), 32, NIX32);
    let ending = if n.is_multiple_of(2) { ".drv" } else { "" };
    format!("/nix/store/{hash}-package-{}-1.0{ending}", n / 2)
}

/// The SHA-256 of its NAR, as the database spells it.
fn nar_hash(n: usize) -> String {
    format!("sha256:{}", characters(seed(n, 1), 64, b"0123456789abcdef"))
}

/// Two signatures, well formed and nobody's.
fn signatures(n: usize) -> String {
    let signature = |seed| {
        // 64 bytes are 85 characters and two bits more.
        format!("{}A==", characters(seed, 85, BASE64))
    };
    format!("builder-1:{} archive-1:{}", signature(seed(n, 2)), signature(seed(n, 3)))
}

fn seed(n: usize, use_: u64) -> u64 {
    (n as u64 + 1) * 4 + use_
}

fn characters(seed: u64, count: usize, alphabet: &[u8]) -> String {
    let bytes = random_bytes(seed, count);
    bytes.iter().map(|byte| char::from(alphabet[usize::from(*byte) % alphabet.len()])).collect()
}

fn register(transaction: &Transaction<'_>, paths: usize) -> rusqlite::Result<()> {
    let mut valid = transaction.prepare(
        "insert into ValidPaths (path, hash, registrationTime, deriver, narSize, ultimate, sigs)
         values (?, ?, 1700000000, ?, ?, ?, ?)",
    )?;
    let mut refers = transaction.prepare("insert into Refs (referrer, reference) values (?, ?)")?;
    let mut builds = transaction
        .prepare("insert into DerivationOutputs (drv, id, path) values (?, 'out', ?)")?;
    let mut ids: Vec<i64> = Vec::with_capacity(paths);
    for n in 0..paths {
        let path_here = path(n);
        let is_output = n % 2 == 1;
        let deriver = is_output.then(|| path(n - 1));
        let signatures = is_output.then(|| signatures(n));
        let size = 1000 + 8 * n as u64;
        let row =
            params![path_here, nar_hash(n), deriver, size.cast_signed(), is_output, signatures];
        let id = valid.insert(row)?;
        ids.push(id);
        // The same kind of path, each time twice as far back: most are shared by many, as libraries are.
        let before = (0..REFERENCES).map_while(|k| n.checked_sub(2 << k));
        let itself = is_output.then_some(n);
        for reference in before.chain(itself) {
            refers.execute([id, ids[reference]])?;
        }
        if is_output {
            builds.execute(params![ids[n - 1], path_here])?;
        }
    }
    Ok(())
}
