CREATE TABLE runs (
    id        TEXT PRIMARY KEY,
    sync      TEXT NOT NULL,
    state     TEXT NOT NULL,
    requested INTEGER NOT NULL,
    ended     INTEGER,
    requests  INTEGER NOT NULL DEFAULT 0,
    -- The run as a document: what is never searched for.
    document  TEXT NOT NULL
) STRICT;

-- Of one sync at most one run is under way, and at most one is queued.
CREATE UNIQUE INDEX runs_active ON runs (sync)
    WHERE state IN ('planning', 'held', 'delivering', 'interrupted', 'folding');
CREATE UNIQUE INDEX runs_queued ON runs (sync) WHERE state = 'queued';
CREATE INDEX runs_by_sync ON runs (sync, requested);

CREATE TABLE chunks (
    run        TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    number     INTEGER NOT NULL,
    change     TEXT NOT NULL,
    operation  TEXT NOT NULL,
    records    INTEGER NOT NULL,
    start      INTEGER NOT NULL,
    length     INTEGER NOT NULL,
    attempt    INTEGER NOT NULL,
    tries      INTEGER NOT NULL,
    not_before INTEGER NOT NULL,
    parked     BLOB,
    merged     BLOB NOT NULL,
    PRIMARY KEY (run, number)
) STRICT, WITHOUT ROWID;

CREATE TABLE problems (
    run     TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    number  INTEGER NOT NULL,
    problem TEXT NOT NULL,
    PRIMARY KEY (run, number)
) STRICT, WITHOUT ROWID;

CREATE TABLE snapshots (
    sync TEXT PRIMARY KEY,
    run  TEXT NOT NULL,
    key  TEXT NOT NULL
) STRICT;

CREATE TABLE quotas (
    account TEXT NOT NULL,
    day     INTEGER NOT NULL,
    used    INTEGER NOT NULL,
    PRIMARY KEY (account, day)
) STRICT, WITHOUT ROWID;
