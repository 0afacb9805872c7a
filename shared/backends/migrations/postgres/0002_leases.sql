-- Who executes what. A lease that was given back stays, and with it its epoch.
CREATE TABLE leases (
    name   text PRIMARY KEY,
    holder text NOT NULL,
    epoch  bigint NOT NULL,
    until  timestamptz NOT NULL
);

CREATE INDEX runs_unended ON runs (requested) WHERE ended IS NULL;
