-- What each account has used of its rate limits, so that they hold from one process to the next.
CREATE TABLE windows (
    account TEXT PRIMARY KEY,
    used TEXT NOT NULL
) WITHOUT ROWID;
