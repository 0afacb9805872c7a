-- Which of a sync's runs is the newest: clocks may step back.
ALTER TABLE runs ADD COLUMN number bigint NOT NULL GENERATED ALWAYS AS IDENTITY;
DROP INDEX runs_by_sync;
CREATE INDEX runs_by_sync ON runs (sync, number);
