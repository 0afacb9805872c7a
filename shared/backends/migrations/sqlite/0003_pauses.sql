-- Accounts to which nothing is sent until somebody says so.
CREATE TABLE pauses (
    account TEXT PRIMARY KEY,
    reason  TEXT NOT NULL,
    by_user INTEGER NOT NULL,
    since   INTEGER NOT NULL
) STRICT;
