-- The order in which audit entries arrived, which is not that of their times: those of a replica that
-- could not reach the store come hours later. Entries are stored in batches; a batch takes its place
-- by the counter as the last statement of its transaction, so that a reader that is past a place has
-- seen all before it. Entries from before this migration are batch 0.

-- +goose Up
ALTER TABLE audit ADD COLUMN batch INTEGER NOT NULL DEFAULT 0;
CREATE INDEX audit_batch ON audit (batch, at, id);
CREATE INDEX audit_admin ON audit (at, id) WHERE kind = 'admin'; -- what is kept for how long goes by kind

CREATE TABLE audit_arrivals (
    seq   INTEGER PRIMARY KEY CHECK (seq > 0),
    batch INTEGER NOT NULL UNIQUE,
    at    INTEGER NOT NULL
) STRICT;
CREATE INDEX audit_arrivals_at ON audit_arrivals (at);

CREATE TABLE audit_arrived (
    one INTEGER PRIMARY KEY DEFAULT 1 CHECK (one = 1),
    seq INTEGER NOT NULL
) STRICT;
INSERT INTO audit_arrived (seq) VALUES (0);

-- How far copies of the audit trail are.
CREATE TABLE audit_copies (
    name   TEXT PRIMARY KEY CHECK (length(name) BETWEEN 1 AND 512),
    cursor TEXT NOT NULL,
    at     INTEGER NOT NULL
) STRICT;

INSERT INTO schema_release (version, level, needs) VALUES (4, 2, '0.2.0');
