-- Times are microseconds since 1970, UTC. Free text is stored with a backslash, NUL and bytes
-- that are not UTF-8 written as \\, \x00 and \xHH, as in PostgreSQL.

-- +goose Up
CREATE TABLE schema_release (
    version INTEGER PRIMARY KEY CHECK (version > 0),
    level   INTEGER NOT NULL CHECK (level > 0),
    needs   TEXT NOT NULL CHECK (needs <> '')
) STRICT;

CREATE TABLE revocations (
    id        TEXT PRIMARY KEY CHECK (length(id) BETWEEN 1 AND 128),
    kind      TEXT NOT NULL CHECK (kind IN ('block', 'logout')),
    principal BLOB NOT NULL CHECK (length(principal) = 32), -- SHA-256 of issuer and subject
    issuer    TEXT NOT NULL CHECK (issuer <> ''),
    subject   TEXT NOT NULL CHECK (subject <> ''),
    at        INTEGER NOT NULL,
    until     INTEGER CHECK (until > at),
    reason    TEXT NOT NULL,
    actor     TEXT NOT NULL,
    lifted_at INTEGER,
    lifted_by TEXT NOT NULL DEFAULT '',
    lift_note TEXT NOT NULL DEFAULT '',
    CHECK (lifted_at IS NOT NULL OR (lifted_by = '' AND lift_note = ''))
) STRICT, WITHOUT ROWID;
CREATE INDEX revocations_newest ON revocations (at, id);
CREATE INDEX revocations_principal ON revocations (principal, at, id);
CREATE INDEX revocations_in_force ON revocations (until) WHERE lifted_at IS NULL;
-- An identity has one block with the same end at a time. No end is 0, which no block can have.
CREATE UNIQUE INDEX revocations_equal_block ON revocations (principal, coalesce(until, 0))
    WHERE kind = 'block' AND lifted_at IS NULL;

CREATE TABLE idempotency (
    key        BLOB PRIMARY KEY CHECK (length(key) = 32),  -- SHA-256 of the key
    call       BLOB NOT NULL CHECK (length(call) = 32),    -- SHA-256 of what was asked
    revocation TEXT NOT NULL,                              -- the first answer
    existing   INTEGER NOT NULL CHECK (existing IN (0, 1)),
    at         INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX idempotency_at ON idempotency (at);

CREATE TABLE audit (
    id              TEXT NOT NULL PRIMARY KEY CHECK (length(id) BETWEEN 1 AND 128),
    at              INTEGER NOT NULL,
    kind            TEXT NOT NULL CHECK (kind IN ('login', 'admin')),
    outcome         TEXT NOT NULL,
    reason          TEXT NOT NULL,
    detail          TEXT NOT NULL,
    issuer          TEXT NOT NULL,
    subject         TEXT NOT NULL,
    name            TEXT NOT NULL,
    display         TEXT CHECK (json_valid(display)),
    token_id        TEXT NOT NULL,
    account         TEXT NOT NULL,
    roles           TEXT CHECK (json_valid(roles)),
    bindings        TEXT CHECK (json_valid(bindings)),
    expires         INTEGER,
    server_id       TEXT NOT NULL,
    server_name     TEXT NOT NULL,
    cid             INTEGER NOT NULL, -- unsigned 64 bits, as the two's complement
    user_key        TEXT NOT NULL,
    source          TEXT NOT NULL,
    connection_type TEXT NOT NULL,
    client          TEXT NOT NULL,
    actor           TEXT NOT NULL,
    op              TEXT NOT NULL,
    target          TEXT NOT NULL,
    replica         TEXT NOT NULL,
    rules           TEXT NOT NULL,
    count           INTEGER NOT NULL
) STRICT;
CREATE INDEX audit_newest ON audit (at, id);
CREATE INDEX audit_subject ON audit (subject, at, id);
CREATE INDEX audit_outcome ON audit (subject, outcome, at, id);
CREATE INDEX audit_name ON audit (name, at, id);
CREATE INDEX audit_reason ON audit (reason, at, id);
CREATE INDEX audit_actor ON audit (actor, at, id);

CREATE TABLE feed (
    seq  INTEGER PRIMARY KEY CHECK (seq > 0),
    at   INTEGER NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('revoke', 'lift')),
    item TEXT NOT NULL -- the id of the revocation
) STRICT;
CREATE INDEX feed_at ON feed (at);

CREATE TABLE feed_counter (
    one    INTEGER PRIMARY KEY DEFAULT 1 CHECK (one = 1),
    epoch  TEXT NOT NULL CHECK (epoch <> ''),
    seq    INTEGER NOT NULL,
    pruned INTEGER NOT NULL CHECK (pruned >= 0), -- entries up to here are gone
    CHECK (seq >= pruned)
) STRICT;
INSERT INTO feed_counter (epoch, seq, pruned) VALUES (lower(hex(randomblob(16))), 0, 0);

CREATE TABLE heartbeats (
    replica TEXT PRIMARY KEY CHECK (length(replica) BETWEEN 1 AND 128),
    at      INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

INSERT INTO schema_release (version, level, needs) VALUES (1, 1, '0.1.0');
