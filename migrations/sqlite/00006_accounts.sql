-- The release before must not run on this: it would take a change of an account for one of a revocation.

-- +goose Up
CREATE TABLE accounts (
    id       TEXT PRIMARY KEY CHECK (length(id) BETWEEN 1 AND 128), -- public key
    name_key TEXT NOT NULL CHECK (length(name_key) BETWEEN 1 AND 128), -- the name in lower case
    owner    BLOB NOT NULL CHECK (length(owner) = 32), -- SHA-256 of issuer and subject
    plan     TEXT NOT NULL,
    state    TEXT NOT NULL CHECK (state IN ('requested', 'creating', 'active', 'published', 'deleting', 'deleted')),
    revision INTEGER NOT NULL CHECK (revision > 0),
    applied  INTEGER NOT NULL DEFAULT 0 CHECK (applied BETWEEN 0 AND revision),
    maker    TEXT NOT NULL DEFAULT '', -- name of the binding whose login made it
    record   TEXT NOT NULL CHECK (json_valid(record)) -- all of it; the columns are to find it by
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX accounts_name ON accounts (name_key) WHERE state <> 'deleted';
CREATE INDEX accounts_order ON accounts (name_key, id);
CREATE INDEX accounts_owner ON accounts (owner, plan) WHERE state <> 'deleted';
CREATE INDEX accounts_maker ON accounts (maker, state) WHERE state <> 'deleted' AND maker <> '';
CREATE INDEX accounts_unapplied ON accounts (name_key, id) WHERE applied < revision AND state NOT IN ('requested', 'deleted');

CREATE TABLE served_claims (
    account  TEXT PRIMARY KEY CHECK (length(account) BETWEEN 1 AND 128),
    revision INTEGER NOT NULL CHECK (revision > 0), -- of the account's record
    token    TEXT NOT NULL CHECK (length(token) > 0)
) STRICT;

CREATE TABLE sealed_keys (
    public  TEXT PRIMARY KEY CHECK (length(public) BETWEEN 1 AND 128),
    account TEXT NOT NULL,
    box     BLOB NOT NULL CHECK (length(box) > 0)
) STRICT, WITHOUT ROWID;
CREATE INDEX sealed_keys_account ON sealed_keys (account);

CREATE TABLE answers (
    key    BLOB PRIMARY KEY CHECK (length(key) = 32),  -- SHA-256 of the key
    call   BLOB NOT NULL CHECK (length(call) = 32),    -- SHA-256 of what was asked
    answer TEXT NOT NULL CHECK (json_valid(answer)),
    at     INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX answers_at ON answers (at);

CREATE TABLE feed_of_items (
    seq  INTEGER PRIMARY KEY CHECK (seq > 0),
    at   INTEGER NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('revoke', 'lift', 'account')),
    item TEXT NOT NULL -- the id of the revocation or the account
) STRICT;
INSERT INTO feed_of_items SELECT seq, at, kind, item FROM feed;
DROP TABLE feed;
ALTER TABLE feed_of_items RENAME TO feed;
CREATE INDEX feed_at ON feed (at);

ALTER TABLE audit ADD COLUMN revision INTEGER NOT NULL DEFAULT 0; -- of an account's record
ALTER TABLE audit ADD COLUMN state TEXT NOT NULL DEFAULT '';      -- of the account since then

ALTER TABLE user_keys ADD COLUMN obtained TEXT NOT NULL DEFAULT '[]'; -- JSON: the sign-ups, oldest first

INSERT INTO schema_release (version, level, needs) VALUES (6, 3, '0.3.0');
