-- When a change was made, in seconds since the Unix epoch; those of an older release count as old.
ALTER TABLE @change ADD COLUMN at_s BIGINT NOT NULL DEFAULT 0;
