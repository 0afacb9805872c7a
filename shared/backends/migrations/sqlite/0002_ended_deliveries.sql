-- What a chunk's deliveries sent, and how the newest that ended did so: whoever owns the run reads it here.
ALTER TABLE chunks ADD COLUMN requests INTEGER NOT NULL DEFAULT 0;
ALTER TABLE chunks ADD COLUMN ended BLOB;
