-- What was said of a run when it had ended. A run without one was killed, or is under way.
create table reports (
  run    integer primary key references runs (number),
  time   text not null, -- RFC 3339: when it was written
  report text not null  -- JSON
) strict;

create trigger reports_are_not_changed before update on reports
  begin select raise(abort, 'the ledger is append-only'); end;
-- Without this one, `insert or replace` would pass the other by.
create trigger reports_are_not_replaced before insert on reports
  when exists (select 1 from reports where run = new.run)
  begin select raise(abort, 'the ledger is append-only'); end;
