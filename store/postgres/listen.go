package postgres

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	// pingInterval bounds how long a peer that is gone looks like one that is quiet.
	pingInterval = 5 * time.Second
	firstBackoff = 100 * time.Millisecond
	mostBackoff  = 10 * time.Second
)

// Hints implements [store.Store]. The first call starts the one connection that listens.
func (s *Store) Hints(ctx context.Context) <-chan struct{} {
	s.listen.Do(func() { s.wg.Go(s.listenForever) })
	return s.hints.Subscribe(ctx)
}

// listenForever passes notifications on until the store is closed, on a new connection
// whenever the last one failed.
func (s *Store) listenForever() {
	backoff := firstBackoff
	for {
		listening := func() {
			backoff = firstBackoff
			s.hints.Give() // whatever came while nobody listened
		}
		err := s.listenOnce(listening)
		if s.ctx.Err() != nil {
			return
		}
		s.logger.Warn("connection for hints lost, polling goes on", "error", interpretError(err), "retry_in", backoff)
		select {
		case <-s.ctx.Done():
			return
		case <-time.After(backoff/2 + rand.N(backoff/2)):
		}
		backoff = min(2*backoff, mostBackoff)
	}
}

// listenOnce passes notifications on until the connection fails.
func (s *Store) listenOnce(listening func()) error {
	ctx, cancel := context.WithTimeout(s.ctx, connectTimeout)
	defer cancel()
	conn, err := pgx.ConnectConfig(ctx, s.pool.Config().ConnConfig)
	if err != nil {
		return err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = conn.Close(ctx)
	}()
	if _, err := conn.Exec(ctx, "LISTEN "+channel); err != nil {
		return err
	}
	listening()
	for {
		if err := s.waitOrPing(conn); err != nil {
			return err
		}
	}
}

// waitOrPing gives a hint when one comes; when none comes for a while it asks whether the server
// is still there.
func (s *Store) waitOrPing(conn *pgx.Conn) error {
	ctx, cancel := context.WithTimeout(s.ctx, pingInterval)
	defer cancel()
	_, err := conn.WaitForNotification(ctx)
	switch {
	case err == nil:
		s.hints.Give()
		return nil
	case ctx.Err() == nil || s.ctx.Err() != nil || conn.IsClosed():
		return err
	}
	ctx, cancel = context.WithTimeout(s.ctx, pingInterval)
	defer cancel()
	return conn.Ping(ctx)
}
