-- The most memory that something took in a run: a package's build, or the evaluation of a host.
create table peaks (
  id    integer primary key autoincrement,
  run   integer not null references runs (number),
  name  text    not null, -- a package's name without its version, `evaluation of HOST`, or the whole run
  bytes integer not null,
  how   text    not null  -- `sampled` from its processes; `died`: the same, of one that died of memory; `counted` by the kernel
) strict;
create index peaks_by_name on peaks (name, id);

create trigger peaks_are_not_changed before update on peaks
  begin select raise(abort, 'the ledger is append-only'); end;
create trigger peaks_are_not_deleted before delete on peaks
  begin select raise(abort, 'the ledger is append-only'); end;
