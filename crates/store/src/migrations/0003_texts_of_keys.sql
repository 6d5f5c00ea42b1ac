-- What bodies have in `find`, beside the keys that lists are searched along. NULL where an older release
-- wrote the key: it is looked up in the body then.
ALTER TABLE @object_key ADD COLUMN texts TEXT;
UPDATE @object_key AS k SET texts = COALESCE((
    SELECT CAST(CAST(o.body AS {json}) -> 'find' AS TEXT) FROM @object o WHERE o.kind = k.kind AND o.id = k.id
), 'null') WHERE k.kind = 'user' AND k.name = 'person';
