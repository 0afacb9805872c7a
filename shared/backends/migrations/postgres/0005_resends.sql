-- Syncs whose rows are all to be sent again: what was sent is not known any more.
CREATE TABLE resends (
    sync text PRIMARY KEY
);
-- A lease's epoch counts as a part of its key: who writes under a lease holds up who takes it over, not who renews it.
CREATE UNIQUE INDEX leases_epoch ON leases (name, epoch);
