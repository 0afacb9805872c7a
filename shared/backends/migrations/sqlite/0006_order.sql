-- A sync's runs in the order in which they were asked for, which their row ids have: clocks may step back.
DROP INDEX runs_by_sync;
CREATE INDEX runs_by_sync ON runs (sync);
