-- The least version of the program that can work with this schema. A step that only adds leaves it; one that takes away what
-- older programs use raises it.
ALTER TABLE outflow_version ADD COLUMN least bigint NOT NULL DEFAULT 1;
