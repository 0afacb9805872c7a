CREATE TABLE runs (
    id        text COLLATE "C" PRIMARY KEY,
    sync      text NOT NULL,
    state     text NOT NULL,
    requested bigint NOT NULL,
    ended     bigint,
    requests  bigint NOT NULL DEFAULT 0,
    -- The run as a document: what is never searched for.
    document  text NOT NULL
);

-- Of one sync at most one run is under way, and at most one is queued.
CREATE UNIQUE INDEX runs_active ON runs (sync)
    WHERE state IN ('planning', 'held', 'delivering', 'interrupted', 'folding');
CREATE UNIQUE INDEX runs_queued ON runs (sync) WHERE state = 'queued';
CREATE INDEX runs_by_sync ON runs (sync, requested);
CREATE INDEX runs_by_end ON runs (ended);

CREATE TABLE chunks (
    run        text COLLATE "C" NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    number     bigint NOT NULL,
    change     text NOT NULL,
    operation  text NOT NULL,
    records    bigint NOT NULL,
    start      bigint NOT NULL,
    length     bigint NOT NULL,
    attempt    bigint NOT NULL,
    tries      bigint NOT NULL,
    not_before bigint NOT NULL,
    requests   bigint NOT NULL,
    parked     bytea,
    ended      bytea,
    merged     bytea NOT NULL,
    PRIMARY KEY (run, number)
-- Every chunk is written several times: its new version finds room on its own page.
) WITH (fillfactor = 70);

CREATE TABLE problems (
    run     text COLLATE "C" NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    number  bigint NOT NULL,
    problem text NOT NULL,
    PRIMARY KEY (run, number)
);

CREATE TABLE snapshots (
    sync text PRIMARY KEY,
    run  text NOT NULL,
    key  text NOT NULL
);

CREATE TABLE quotas (
    account text NOT NULL,
    day     bigint NOT NULL,
    used    bigint NOT NULL,
    PRIMARY KEY (account, day)
);
