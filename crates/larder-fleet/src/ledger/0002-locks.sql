-- The lock that a run's hosts were published with.
create table locks (
  run  integer primary key references runs (number),
  lock text not null, -- flake.lock
  base text not null, -- the repository's flake.lock, which it was made from
  held text not null  -- JSON: the inputs that were kept from moving
) strict;

-- A lock that went home to its repository.
create table pushed_locks (
  run       integer primary key references locks (run),
  branch    text not null,
  commit_id text not null,
  time      text not null -- RFC 3339
) strict;
create index pushed_locks_by_commit on pushed_locks (commit_id);
