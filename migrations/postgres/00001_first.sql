-- Free text is stored with a backslash, NUL and bytes that are not UTF-8 written as \\, \x00
-- and \xHH, since text can hold neither of the latter.
-- Index keys have at most 2704 bytes: values that may be longer are indexed by a prefix or a hash.

-- +goose Up
CREATE TABLE schema_release (
    version integer PRIMARY KEY CHECK (version > 0),
    level   integer NOT NULL CHECK (level > 0),
    needs   text NOT NULL CHECK (needs <> '')
);

CREATE TABLE revocations (
    id        text COLLATE "C" PRIMARY KEY CHECK (length(id) BETWEEN 1 AND 128),
    kind      text NOT NULL CHECK (kind IN ('block', 'logout')),
    principal bytea NOT NULL CHECK (octet_length(principal) = 32), -- SHA-256 of issuer and subject
    issuer    text NOT NULL CHECK (issuer <> ''),
    subject   text NOT NULL CHECK (subject <> ''),
    at        timestamptz NOT NULL,
    until     timestamptz CHECK (until > at),
    reason    text NOT NULL,
    actor     text NOT NULL,
    lifted_at timestamptz,
    lifted_by text NOT NULL DEFAULT '',
    lift_note text NOT NULL DEFAULT '',
    CHECK (lifted_at IS NOT NULL OR (lifted_by = '' AND lift_note = ''))
);
CREATE INDEX revocations_newest ON revocations (at, id);
CREATE INDEX revocations_principal ON revocations (principal, at, id);
CREATE INDEX revocations_in_force ON revocations (until) WHERE lifted_at IS NULL;
-- An identity has one block with the same end at a time.
CREATE UNIQUE INDEX revocations_equal_block ON revocations (principal, coalesce(until, 'infinity'))
    WHERE kind = 'block' AND lifted_at IS NULL;

CREATE TABLE idempotency (
    key        bytea PRIMARY KEY CHECK (octet_length(key) = 32),  -- SHA-256 of the key
    call       bytea NOT NULL CHECK (octet_length(call) = 32),    -- SHA-256 of what was asked
    revocation text NOT NULL,                                     -- the first answer
    existing   boolean NOT NULL,
    at         timestamptz NOT NULL
);
CREATE INDEX idempotency_at ON idempotency (at);

CREATE TABLE audit (
    id              text COLLATE "C" PRIMARY KEY CHECK (length(id) BETWEEN 1 AND 128),
    at              timestamptz NOT NULL,
    kind            text NOT NULL CHECK (kind IN ('login', 'admin')),
    outcome         text NOT NULL,
    reason          text NOT NULL,
    detail          text NOT NULL,
    issuer          text NOT NULL,
    subject         text NOT NULL,
    name            text NOT NULL,
    display         jsonb,
    token_id        text NOT NULL,
    account         text NOT NULL,
    roles           jsonb,
    bindings        jsonb,
    expires         timestamptz,
    server_id       text NOT NULL,
    server_name     text NOT NULL,
    cid             bigint NOT NULL, -- unsigned 64 bits, as the two's complement
    user_key        text NOT NULL,
    source          text NOT NULL,
    connection_type text NOT NULL,
    client          text NOT NULL,
    actor           text NOT NULL,
    op              text NOT NULL,
    target          text NOT NULL,
    replica         text NOT NULL,
    rules           text NOT NULL,
    count           bigint NOT NULL
);
CREATE INDEX audit_newest ON audit (at, id);
CREATE INDEX audit_subject ON audit (left(subject, 128), at, id);
CREATE INDEX audit_outcome ON audit (left(subject, 128), outcome, at, id);
CREATE INDEX audit_name ON audit (left(name, 128), at, id);
CREATE INDEX audit_reason ON audit (left(reason, 128), at, id);
CREATE INDEX audit_actor ON audit (left(actor, 128), at, id);

CREATE TABLE feed (
    seq  bigint PRIMARY KEY CHECK (seq > 0),
    at   timestamptz NOT NULL,
    kind text NOT NULL CHECK (kind IN ('revoke', 'lift')),
    item text COLLATE "C" NOT NULL -- the id of the revocation
);
CREATE INDEX feed_at ON feed (at);

-- One row. Taking seq from it, rather than from a sequence, makes entries visible in order.
CREATE TABLE feed_counter (
    one    boolean PRIMARY KEY DEFAULT true CHECK (one),
    epoch  text NOT NULL CHECK (epoch <> ''),
    seq    bigint NOT NULL,
    pruned bigint NOT NULL CHECK (pruned >= 0), -- entries up to here are gone
    CHECK (seq >= pruned)
);
INSERT INTO feed_counter (epoch, seq, pruned) VALUES (gen_random_uuid()::text, 0, 0);

CREATE TABLE heartbeats (
    replica text PRIMARY KEY CHECK (length(replica) BETWEEN 1 AND 128),
    at      timestamptz NOT NULL
);

INSERT INTO schema_release (version, level, needs) VALUES (1, 1, '0.1.0');
