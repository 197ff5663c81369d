package postgres

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gatehouse-nats/gatehouse/store"
	"github.com/gatehouse-nats/gatehouse/store/internal/row"
)

// answered returns what the call with this key was answered, nil when there was none.
func answered(ctx context.Context, db interface {
	QueryRow(ctx context.Context, query string, args ...any) pgx.Row
}, key string, call []byte) (json.RawMessage, error) {
	if err := row.AnswerHash(call); err != nil {
		return nil, err
	}
	var before []byte
	var answer string
	err := db.QueryRow(ctx, `SELECT call, answer FROM answers WHERE key = $1`, row.KeyHash(key)).Scan(&before, &answer)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return nil, nil
	case err != nil:
		return nil, err
	case !bytes.Equal(before, call):
		return nil, store.ErrConflict
	}
	return json.RawMessage(answer), nil
}

// Answer implements [store.Store].
func (s *Store) Answer(ctx context.Context, key string, call []byte) (json.RawMessage, error) {
	bound, cancel := s.bound(ctx, callTimeout)
	defer cancel()
	answer, err := answered(bound, s.pool, key, call)
	return answer, s.failure(ctx, "look an answer up", err)
}

// Remember implements [store.Store].
func (s *Store) Remember(ctx context.Context, o store.Once, before json.RawMessage) (first json.RawMessage, err error) {
	if err := row.AnswerHash(o.Call); err != nil {
		return nil, err
	}
	key := row.KeyHash(o.Key)
	// Another call with this key that is under way is waited for by each.
	query, args := `UPDATE answers SET answer = $4 WHERE key = $1 AND call = $2 AND answer = $3`, []any{key, o.Call, string(before), string(o.Answer)}
	switch {
	case before == nil:
		query, args = `INSERT INTO answers (key, call, answer, at) VALUES ($1, $2, $3, $4) ON CONFLICT (key) DO NOTHING`, []any{key, o.Call, string(o.Answer), timestamp(time.Now())}
	case o.Answer == nil:
		query, args = `DELETE FROM answers WHERE key = $1 AND call = $2 AND answer = $3`, args[:3]
	}
	err = s.write(ctx, callTimeout, "keep an answer", func(ctx context.Context, tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, query, args...)
		if err != nil || tag.RowsAffected() > 0 {
			return err
		}
		first, err = answered(ctx, tx, o.Key, o.Call)
		if err == nil && first == nil {
			err = store.ErrChanged
		}
		return err
	})
	return first, err
}
