CREATE TABLE about (
    cache TEXT NOT NULL,
    store_dir TEXT NOT NULL,
    round INTEGER NOT NULL
) STRICT;

-- One row a narinfo. `settled` is 0 while a later change could bear the same time.
-- `refs` is the hash parts of the references, 20 bytes each.
CREATE TABLE paths (
    hash BLOB PRIMARY KEY,
    path TEXT,
    nar TEXT,
    file_size INTEGER,
    deriver BLOB,
    refs BLOB NOT NULL,
    problem TEXT,
    size INTEGER NOT NULL,
    modified INTEGER NOT NULL,
    settled INTEGER NOT NULL,
    seen INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE nars (
    file TEXT PRIMARY KEY,
    size INTEGER NOT NULL,
    modified INTEGER NOT NULL,
    accessed INTEGER,
    seen INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- `kind` and `target` are those of `ObjectKind`.
CREATE TABLE objects (
    key TEXT PRIMARY KEY,
    kind TEXT NOT NULL,
    target TEXT,
    size INTEGER NOT NULL,
    modified INTEGER NOT NULL,
    settled INTEGER NOT NULL,
    seen INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
