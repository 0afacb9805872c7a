-- Syncs whose rows are all to be sent again: what was sent is not known any more.
CREATE TABLE resends (
    sync TEXT PRIMARY KEY
) STRICT;
