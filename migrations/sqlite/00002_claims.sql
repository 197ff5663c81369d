-- The release before goes on: what it inserts gets the defaults, and what it reads it names.

-- +goose Up
ALTER TABLE audit ADD COLUMN claims TEXT NOT NULL DEFAULT ''; -- a JSON object
ALTER TABLE audit ADD COLUMN claims_cut INTEGER NOT NULL DEFAULT 0 CHECK (claims_cut IN (0, 1));
ALTER TABLE audit ADD COLUMN asked TEXT NOT NULL DEFAULT '';

INSERT INTO schema_release (version, level, needs) VALUES (2, 1, '0.1.0');
