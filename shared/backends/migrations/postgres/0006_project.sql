-- The project that the ledger belongs to: another one that came to it by mistake would run this one's syncs.
CREATE TABLE project (
    place int PRIMARY KEY DEFAULT 1 CHECK (place = 1),
    name text NOT NULL
);
