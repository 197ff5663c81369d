package sqlite

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"time"

	"github.com/gatehouse-nats/gatehouse/store"
	"github.com/gatehouse-nats/gatehouse/store/internal/row"
)

// answered returns what the call with this key was answered, nil when there was none.
func answered(ctx context.Context, db interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}, key string, call []byte) (json.RawMessage, error) {
	if err := row.AnswerHash(call); err != nil {
		return nil, err
	}
	var before []byte
	var answer string
	err := db.QueryRowContext(ctx, `SELECT call, answer FROM answers WHERE key = ?`, row.KeyHash(key)).Scan(&before, &answer)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return nil, nil
	case err != nil:
		return nil, err
	case !bytes.Equal(before, call):
		return nil, store.ErrConflict
	}
	return json.RawMessage(answer), nil
}

// Answer implements [store.Store].
func (s *Store) Answer(ctx context.Context, key string, call []byte) (answer json.RawMessage, err error) {
	err = s.write(ctx, "look an answer up", func(ctx context.Context, tx *tx) error {
		answer, err = answered(ctx, tx, key, call)
		return err
	})
	return answer, err
}

// Remember implements [store.Store].
func (s *Store) Remember(ctx context.Context, o store.Once, before json.RawMessage) (first json.RawMessage, err error) {
	err = s.write(ctx, "keep an answer", func(ctx context.Context, tx *tx) error {
		there, err := answered(ctx, tx, o.Key, o.Call)
		switch {
		case err != nil:
			return err
		case !bytes.Equal(there, before) && there == nil:
			return store.ErrChanged
		case !bytes.Equal(there, before):
			first = there
			return nil
		case o.Answer == nil:
			_, err = tx.ExecContext(ctx, `DELETE FROM answers WHERE key = ?`, row.KeyHash(o.Key))
		default:
			_, err = tx.ExecContext(ctx, `INSERT INTO answers (key, call, answer, at) VALUES (?, ?, ?, ?)
				ON CONFLICT (key) DO UPDATE SET answer = excluded.answer`, row.KeyHash(o.Key), o.Call, string(o.Answer), micros(time.Now()))
		}
		return err
	})
	return first, err
}
