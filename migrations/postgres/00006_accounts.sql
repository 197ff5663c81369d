-- The release before must not run on this: it would take a change of an account for one of a revocation.

-- +goose Up
CREATE TABLE accounts (
    id       text COLLATE "C" PRIMARY KEY CHECK (length(id) BETWEEN 1 AND 128), -- public key
    name_key text COLLATE "C" NOT NULL CHECK (length(name_key) BETWEEN 1 AND 128), -- the name in lower case
    owner    bytea NOT NULL CHECK (length(owner) = 32), -- SHA-256 of issuer and subject
    plan     text COLLATE "C" NOT NULL,
    state    text COLLATE "C" NOT NULL CHECK (state IN ('requested', 'creating', 'active', 'published', 'deleting', 'deleted')),
    revision bigint NOT NULL CHECK (revision > 0),
    applied  bigint NOT NULL DEFAULT 0 CHECK (applied BETWEEN 0 AND revision),
    maker    text COLLATE "C" NOT NULL DEFAULT '', -- name of the binding whose login made it
    record   text NOT NULL -- JSON, all of it; the columns are to find it by
);
CREATE UNIQUE INDEX accounts_name ON accounts (name_key) WHERE state <> 'deleted';
CREATE INDEX accounts_order ON accounts (name_key, id);
CREATE INDEX accounts_owner ON accounts (owner, plan) WHERE state <> 'deleted';
CREATE INDEX accounts_maker ON accounts (maker, state) WHERE state <> 'deleted' AND maker <> '';
CREATE INDEX accounts_unapplied ON accounts (name_key, id) WHERE applied < revision AND state NOT IN ('requested', 'deleted');

CREATE TABLE served_claims (
    account  text COLLATE "C" PRIMARY KEY CHECK (length(account) BETWEEN 1 AND 128),
    revision bigint NOT NULL CHECK (revision > 0), -- of the account's record
    token    text NOT NULL CHECK (length(token) > 0)
);

CREATE TABLE sealed_keys (
    public  text COLLATE "C" PRIMARY KEY CHECK (length(public) BETWEEN 1 AND 128),
    account text COLLATE "C" NOT NULL,
    box     bytea NOT NULL CHECK (length(box) > 0)
);
CREATE INDEX sealed_keys_account ON sealed_keys (account);

CREATE TABLE answers (
    key    bytea PRIMARY KEY CHECK (length(key) = 32),  -- SHA-256 of the key
    call   bytea NOT NULL CHECK (length(call) = 32),    -- SHA-256 of what was asked
    answer text NOT NULL, -- JSON
    at     timestamptz NOT NULL
);
CREATE INDEX answers_at ON answers (at);

ALTER TABLE feed DROP CONSTRAINT feed_kind_check;
ALTER TABLE feed ADD CONSTRAINT feed_kind_check CHECK (kind IN ('revoke', 'lift', 'account'));

ALTER TABLE audit ADD COLUMN revision bigint NOT NULL DEFAULT 0; -- of an account's record
ALTER TABLE audit ADD COLUMN state text COLLATE "C" NOT NULL DEFAULT ''; -- of the account since then

ALTER TABLE user_keys ADD COLUMN obtained text NOT NULL DEFAULT '[]'; -- JSON: the sign-ups, oldest first

INSERT INTO schema_release (version, level, needs) VALUES (6, 3, '0.3.0');
