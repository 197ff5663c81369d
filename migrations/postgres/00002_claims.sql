-- The release before goes on: what it inserts gets the defaults, and what it reads it names.

-- +goose Up
ALTER TABLE audit
    ADD COLUMN claims text NOT NULL DEFAULT '', -- a JSON object: jsonb would refuse some numbers that tokens may hold
    ADD COLUMN claims_cut boolean NOT NULL DEFAULT false,
    ADD COLUMN asked text NOT NULL DEFAULT '';

INSERT INTO schema_release (version, level, needs) VALUES (2, 1, '0.1.0');
