-- A run of `larder build`. One without outcomes failed, or was stopped, before it came to any host.
create table runs (
  number  integer primary key autoincrement,
  started text not null, -- RFC 3339
  flake   text not null
) strict;

-- How a run ended for one host.
create table outcomes (
  id      integer primary key autoincrement,
  run     integer not null references runs (number),
  host    text not null,
  time    text not null, -- RFC 3339
  outcome text not null  -- JSON
) strict;
create index outcomes_by_host on outcomes (host, id);

-- What was published.
create table revisions (
  number   integer primary key,
  run      integer not null references runs (number),
  host     text not null,
  system   text not null, -- base name of the built system's store path
  revision text not null, -- JSON
  envelope text not null  -- the same, sealed: DSSE as JSON
) strict;
create index revisions_by_host on revisions (host, number);
create index revisions_by_system on revisions (host, system, number);

create trigger revisions_are_not_changed before update on revisions
  begin select raise(abort, 'the ledger is append-only'); end;
create trigger revisions_are_not_deleted before delete on revisions
  begin select raise(abort, 'the ledger is append-only'); end;
-- Without this one, `insert or replace` would pass the others by.
create trigger revisions_only_grow before insert on revisions
  when new.number <= (select coalesce(max(number), 0) from revisions)
  begin select raise(abort, 'the ledger is append-only'); end;
