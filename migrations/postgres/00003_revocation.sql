-- The release before must not run on this: it would take a block of an issuer or of an account's members
-- for one of an identity that nobody has, and admit. One that runs already is stopped by its heartbeats,
-- which say no max_staleness and are refused, so that it answers nobody once its own has passed.

-- +goose Up
ALTER TABLE revocations RENAME COLUMN principal TO target; -- SHA-256 of the target: of issuer and subject for an identity
ALTER TABLE revocations
    DROP CONSTRAINT revocations_kind_check,
    DROP CONSTRAINT revocations_issuer_check,
    DROP CONSTRAINT revocations_subject_check,
    ADD COLUMN session_id  text NOT NULL DEFAULT '',
    ADD COLUMN token_id    text NOT NULL DEFAULT '',
    ADD COLUMN claim_match text NOT NULL DEFAULT '',
    ADD COLUMN account     text NOT NULL DEFAULT '',
    ADD COLUMN key         text NOT NULL DEFAULT '',
    ADD COLUMN export      text NOT NULL DEFAULT '',
    ADD COLUMN programs    boolean NOT NULL DEFAULT false,
    ADD COLUMN epoch       text NOT NULL DEFAULT '', -- where the feed says that it was made
    ADD COLUMN seq         bigint NOT NULL DEFAULT 0,
    ADD COLUMN lift_epoch  text, -- where the feed says that it was lifted
    ADD COLUMN lift_seq    bigint,
    ADD COLUMN done_at     timestamptz,
    ADD COLUMN progress    text NOT NULL DEFAULT '', -- JSON
    ADD CHECK (kind IN ('block', 'logout', 'user_key', 'signing_key', 'activation', 'suspension')),
    ADD CHECK (issuer <> '' OR account <> '');
DROP INDEX revocations_principal;
DROP INDEX revocations_equal_block;
CREATE INDEX revocations_subject ON revocations (left(subject, 128), at, id);
CREATE INDEX revocations_account ON revocations (left(account, 128), at, id) WHERE account <> '';
CREATE INDEX revocations_unfinished ON revocations (at, id) WHERE lifted_at IS NULL AND done_at IS NULL;
-- A target has one revocation of a kind with the same end at a time; a logout is a point in time, of
-- which there may be many, unless it voids all that there is of a session or a token.
CREATE UNIQUE INDEX revocations_equal ON revocations (target, kind, programs, coalesce(until, 'infinity'))
    WHERE lifted_at IS NULL AND (kind <> 'logout' OR session_id <> '' OR token_id <> '');

ALTER TABLE audit
    ADD COLUMN session_id text NOT NULL DEFAULT '',
    ADD COLUMN issued     timestamptz;
CREATE INDEX audit_session ON audit (left(session_id, 128), at, id) WHERE session_id <> '';
CREATE INDEX audit_connection ON audit (left(server_id, 128), cid, at, id) WHERE kind = 'login' AND outcome = 'allowed';

ALTER TABLE heartbeats
    ADD COLUMN epoch text NOT NULL DEFAULT '', -- up to where the feed was followed
    ADD COLUMN seq   bigint NOT NULL DEFAULT 0,
    ADD COLUMN max_staleness bigint NOT NULL DEFAULT 300000000; -- microseconds
ALTER TABLE heartbeats ALTER COLUMN max_staleness DROP DEFAULT;

CREATE TABLE leases (
    name   text COLLATE "C" PRIMARY KEY CHECK (length(name) BETWEEN 1 AND 256),
    holder text NOT NULL CHECK (length(holder) BETWEEN 1 AND 256),
    until  timestamptz NOT NULL
);

CREATE TABLE identities (
    identity  bytea PRIMARY KEY CHECK (octet_length(identity) = 32), -- SHA-256 of issuer and subject
    issuer    text NOT NULL,
    subject   text NOT NULL,
    name      text NOT NULL,
    display   jsonb,
    last_seen timestamptz NOT NULL
);
CREATE INDEX identities_subject ON identities (left(subject, 128), identity);
CREATE INDEX identities_name ON identities (left(name, 128), identity);
CREATE INDEX identities_last_seen ON identities (last_seen);

CREATE TABLE identity_display (
    value    text COLLATE "C" NOT NULL, -- of a display claim, folded and cut
    identity bytea NOT NULL,
    PRIMARY KEY (value, identity)
);
CREATE INDEX identity_display_identity ON identity_display (identity);

CREATE TABLE user_keys (
    id         text COLLATE "C" PRIMARY KEY CHECK (length(id) BETWEEN 1 AND 512), -- key and account id
    owner      bytea NOT NULL CHECK (octet_length(owner) = 32), -- SHA-256 of issuer and subject
    key        text NOT NULL,
    account    text NOT NULL,
    account_id text NOT NULL,
    issuer     text NOT NULL,
    subject    text NOT NULL,
    name       text NOT NULL,
    program    text NOT NULL,
    issued     timestamptz NOT NULL,
    expires    timestamptz
);
CREATE INDEX user_keys_newest ON user_keys (issued, id);
CREATE INDEX user_keys_owner ON user_keys (owner, issued, id);
CREATE INDEX user_keys_account ON user_keys (account_id, issued, id);
CREATE INDEX user_keys_key ON user_keys (key, issued, id);
CREATE INDEX user_keys_expires ON user_keys (expires);

CREATE TABLE account_claims (
    account  text COLLATE "C" PRIMARY KEY CHECK (length(account) BETWEEN 1 AND 128),
    base     text NOT NULL,
    desired  text NOT NULL,
    revision bigint NOT NULL CHECK (revision > 0)
);

INSERT INTO schema_release (version, level, needs) VALUES (3, 2, '0.2.0');
