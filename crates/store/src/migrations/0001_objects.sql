CREATE TABLE @position (
    single BIGINT PRIMARY KEY CHECK (single = 1),
    version BIGINT NOT NULL,
    horizon BIGINT NOT NULL
);
INSERT INTO @position (single, version, horizon) VALUES (1, 0, 0);

CREATE TABLE @change (
    version BIGINT PRIMARY KEY,
    kind {text} NOT NULL,
    id {text} NOT NULL,
    owner {text} NOT NULL,
    deleted BIGINT NOT NULL
);

CREATE TABLE @object (
    kind {text} NOT NULL,
    id {text} NOT NULL,
    owner {text} NOT NULL,
    version BIGINT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (kind, id)
);
CREATE INDEX object_by_owner ON @object (kind, owner, id);

CREATE TABLE @object_key (
    kind {text} NOT NULL,
    id {text} NOT NULL,
    owner {text} NOT NULL,
    name {text} NOT NULL,
    value {text} NOT NULL,
    folded TEXT NOT NULL,
    PRIMARY KEY (kind, owner, name, value),
    FOREIGN KEY (kind, id) REFERENCES @object (kind, id) ON DELETE CASCADE
) {clustered};
CREATE INDEX object_key_by_value ON @object_key (kind, name, value, owner);
CREATE INDEX object_key_by_object ON @object_key (kind, id);

CREATE TABLE @object_reference (
    kind {text} NOT NULL,
    id {text} NOT NULL,
    field {text} NOT NULL,
    target_kind {text} NOT NULL,
    target_id {text} NOT NULL,
    cascades BIGINT NOT NULL,
    PRIMARY KEY (kind, field, target_id, id, target_kind),
    FOREIGN KEY (kind, id) REFERENCES @object (kind, id) ON DELETE CASCADE,
    FOREIGN KEY (target_kind, target_id) REFERENCES @object (kind, id) ON DELETE NO ACTION
) {clustered};
CREATE INDEX object_reference_by_object ON @object_reference (kind, id);
CREATE INDEX object_reference_by_target ON @object_reference (target_kind, target_id);

CREATE TABLE @object_tag (
    tag {text} NOT NULL,
    kind {text} NOT NULL,
    id {text} NOT NULL,
    PRIMARY KEY (tag, kind, id),
    FOREIGN KEY (kind, id) REFERENCES @object (kind, id) ON DELETE CASCADE
) {clustered};
CREATE INDEX object_tag_by_object ON @object_tag (kind, id);

CREATE TABLE @session (
    owner {text} NOT NULL,
    id {text} NOT NULL,
    expires_at_s BIGINT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (owner, id)
);
CREATE INDEX session_by_expiry ON @session (expires_at_s);
