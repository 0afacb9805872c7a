-- Accounts to which nothing is sent until somebody says so.
CREATE TABLE pauses (
    account text PRIMARY KEY,
    reason  text NOT NULL,
    by_user boolean NOT NULL,
    since   bigint NOT NULL
);
