-- The release before must not run on this: it would take a block of an issuer or of an account's members
-- for one of an identity that nobody has, and admit.

-- +goose Up
CREATE TABLE revocations_of_targets (
    id          TEXT PRIMARY KEY CHECK (length(id) BETWEEN 1 AND 128),
    kind        TEXT NOT NULL CHECK (kind IN ('block', 'logout', 'user_key', 'signing_key', 'activation', 'suspension')),
    target      BLOB NOT NULL CHECK (length(target) = 32), -- SHA-256 of the target: of issuer and subject for an identity
    issuer      TEXT NOT NULL,
    subject     TEXT NOT NULL,
    session_id  TEXT NOT NULL DEFAULT '',
    token_id    TEXT NOT NULL DEFAULT '',
    claim_match TEXT NOT NULL DEFAULT '',
    account     TEXT NOT NULL DEFAULT '',
    key         TEXT NOT NULL DEFAULT '',
    export      TEXT NOT NULL DEFAULT '',
    programs    INTEGER NOT NULL DEFAULT 0 CHECK (programs IN (0, 1)),
    at          INTEGER NOT NULL,
    until       INTEGER CHECK (until > at),
    reason      TEXT NOT NULL,
    actor       TEXT NOT NULL,
    lifted_at   INTEGER,
    lifted_by   TEXT NOT NULL DEFAULT '',
    lift_note   TEXT NOT NULL DEFAULT '',
    epoch       TEXT NOT NULL DEFAULT '', -- where the feed says that it was made
    seq         INTEGER NOT NULL DEFAULT 0,
    lift_epoch  TEXT, -- where the feed says that it was lifted
    lift_seq    INTEGER,
    done_at     INTEGER,
    progress    TEXT NOT NULL DEFAULT '', -- JSON
    CHECK (issuer <> '' OR account <> ''),
    CHECK (lifted_at IS NOT NULL OR (lifted_by = '' AND lift_note = ''))
) STRICT, WITHOUT ROWID;
INSERT INTO revocations_of_targets (id, kind, target, issuer, subject, at, until, reason, actor, lifted_at, lifted_by, lift_note)
    SELECT id, kind, principal, issuer, subject, at, until, reason, actor, lifted_at, lifted_by, lift_note FROM revocations;
DROP TABLE revocations;
ALTER TABLE revocations_of_targets RENAME TO revocations;
CREATE INDEX revocations_newest ON revocations (at, id);
CREATE INDEX revocations_in_force ON revocations (until) WHERE lifted_at IS NULL;
CREATE INDEX revocations_subject ON revocations (subject, at, id);
CREATE INDEX revocations_account ON revocations (account, at, id) WHERE account <> '';
CREATE INDEX revocations_unfinished ON revocations (at, id) WHERE lifted_at IS NULL AND done_at IS NULL;
-- A target has one revocation of a kind with the same end at a time; a logout is a point in time, of
-- which there may be many, unless it voids all that there is of a session or a token. No end is 0.
CREATE UNIQUE INDEX revocations_equal ON revocations (target, kind, programs, coalesce(until, 0))
    WHERE lifted_at IS NULL AND (kind <> 'logout' OR session_id <> '' OR token_id <> '');

ALTER TABLE audit ADD COLUMN session_id TEXT NOT NULL DEFAULT '';
ALTER TABLE audit ADD COLUMN issued INTEGER;
CREATE INDEX audit_session ON audit (session_id, at, id) WHERE session_id <> '';
CREATE INDEX audit_connection ON audit (server_id, cid, at, id) WHERE kind = 'login' AND outcome = 'allowed';

ALTER TABLE heartbeats ADD COLUMN epoch TEXT NOT NULL DEFAULT ''; -- up to where the feed was followed
ALTER TABLE heartbeats ADD COLUMN seq INTEGER NOT NULL DEFAULT 0;
ALTER TABLE heartbeats ADD COLUMN max_staleness INTEGER NOT NULL DEFAULT 300000000; -- microseconds

CREATE TABLE leases (
    name   TEXT PRIMARY KEY CHECK (length(name) BETWEEN 1 AND 256),
    holder TEXT NOT NULL CHECK (length(holder) BETWEEN 1 AND 256),
    until  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE identities (
    identity  BLOB PRIMARY KEY CHECK (length(identity) = 32), -- SHA-256 of issuer and subject
    issuer    TEXT NOT NULL,
    subject   TEXT NOT NULL,
    name      TEXT NOT NULL,
    display   TEXT CHECK (json_valid(display)),
    last_seen INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX identities_subject ON identities (subject, identity);
CREATE INDEX identities_name ON identities (name, identity);
CREATE INDEX identities_last_seen ON identities (last_seen);

CREATE TABLE identity_display (
    value    TEXT NOT NULL, -- of a display claim, folded and cut
    identity BLOB NOT NULL,
    PRIMARY KEY (value, identity)
) STRICT, WITHOUT ROWID;
CREATE INDEX identity_display_identity ON identity_display (identity);

CREATE TABLE user_keys (
    id         TEXT PRIMARY KEY CHECK (length(id) BETWEEN 1 AND 512), -- key and account id
    owner      BLOB NOT NULL CHECK (length(owner) = 32), -- SHA-256 of issuer and subject
    key        TEXT NOT NULL,
    account    TEXT NOT NULL,
    account_id TEXT NOT NULL,
    issuer     TEXT NOT NULL,
    subject    TEXT NOT NULL,
    name       TEXT NOT NULL,
    program    TEXT NOT NULL,
    issued     INTEGER NOT NULL,
    expires    INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX user_keys_newest ON user_keys (issued, id);
CREATE INDEX user_keys_owner ON user_keys (owner, issued, id);
CREATE INDEX user_keys_account ON user_keys (account_id, issued, id);
CREATE INDEX user_keys_key ON user_keys (key, issued, id);
CREATE INDEX user_keys_expires ON user_keys (expires);

CREATE TABLE account_claims (
    account  TEXT PRIMARY KEY CHECK (length(account) BETWEEN 1 AND 128),
    base     TEXT NOT NULL,
    desired  TEXT NOT NULL,
    revision INTEGER NOT NULL CHECK (revision > 0)
) STRICT, WITHOUT ROWID;

INSERT INTO schema_release (version, level, needs) VALUES (3, 2, '0.2.0');
