CREATE TABLE about (
    cache TEXT NOT NULL,
    store_dir TEXT NOT NULL
) STRICT;

-- One row a narinfo. `settled` is 0 while a later change could bear the same time.
-- `refs` is the hash parts of the references, 20 bytes each.
-- By number and not by hash: hashes come in no order, so that each would be written to another page.
CREATE TABLE paths (
    id INTEGER PRIMARY KEY,
    hash BLOB NOT NULL,
    size INTEGER NOT NULL,
    modified INTEGER NOT NULL,
    settled INTEGER NOT NULL,
    path TEXT,
    nar TEXT,
    file_size INTEGER,
    deriver BLOB,
    refs BLOB NOT NULL,
    problem TEXT
) STRICT;

-- One row for each other object that has to be read. `kind` and `target` are those of `ObjectKind`.
CREATE TABLE objects (
    id INTEGER PRIMARY KEY,
    key TEXT NOT NULL,
    size INTEGER NOT NULL,
    modified INTEGER NOT NULL,
    settled INTEGER NOT NULL,
    kind TEXT NOT NULL,
    target TEXT
) STRICT;
