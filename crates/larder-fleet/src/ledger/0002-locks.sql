-- The lock that a run's hosts were published with.
create table locks (
  run  integer primary key references runs (number),
  lock text not null, -- flake.lock
  base text not null, -- the repository's flake.lock, which it was made from
  held text not null  -- JSON: the inputs that were kept from moving
) strict;

-- A commit by which a lock was sent home to its repository. Whether it got there, the repository knows.
create table sent_locks (
  commit_id text primary key,
  run       integer not null references locks (run),
  branch    text not null,
  time      text not null -- RFC 3339
) strict;
