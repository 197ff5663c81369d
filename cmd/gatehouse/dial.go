package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/cmd/gatehouse/config"
)

// connect starts the connections to the servers; they go on trying by themselves.
func (d *daemon) connect(_ context.Context, cfg *config.Config) error {
	for i := range cfg.NATS.Callout.Connections {
		nc, err := d.dial(cfg, cfg.CalloutUser(), fmt.Sprintf("gatehouse callout %d", i+1))
		if err != nil {
			return err
		}
		d.conns = append(d.conns, nc)
	}
	if cfg.Lobby() != "" {
		nc, err := d.dial(cfg, cfg.CalloutUser(), "gatehouse operations")
		if err != nil {
			return err
		}
		d.operations = nc
	}
	user := cfg.SystemUser()
	if user == nil {
		d.log.Warn("there is no system user: servers, clocks and accounts are taken as they come", "configure", "nats.system.nkey")
		return nil
	}
	var err error
	d.system, err = d.dial(cfg, user, "gatehouse system")
	return err
}

func (d *daemon) dial(cfg *config.Config, user nats.Option, name string) (*nats.Conn, error) {
	log := d.log.With("connection", name)
	options := []nats.Option{
		nats.Name(name), user,
		nats.MaxReconnects(-1), nats.RetryOnFailedConnect(true), nats.IgnoreAuthErrorAbort(),
		nats.ReconnectWait(250 * time.Millisecond), nats.ReconnectJitter(500*time.Millisecond, 500*time.Millisecond),
		nats.PingInterval(10 * time.Second), nats.MaxPingsOutstanding(2),
		nats.ReconnectBufSize(-1), // an answer that could not be sent in time is worth nothing
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				log.Warn("disconnected from the server", "error", err)
			}
		}),
		nats.ConnectHandler(func(nc *nats.Conn) { log.Info("connected", "server", nc.ConnectedServerName()) }),
		nats.ReconnectHandler(func(nc *nats.Conn) {
			log.Info("connected again", "server", nc.ConnectedServerName())
		}),
		nats.ReconnectErrHandler(func(_ *nats.Conn, err error) { d.unreachable(log, err) }),
		nats.ErrorHandler(func(_ *nats.Conn, sub *nats.Subscription, err error) {
			subject := ""
			if sub != nil {
				subject = sub.Subject
			}
			if errors.Is(err, nats.ErrPermissionViolation) && strings.Contains(err.Error(), `"`+api.Subject("")) {
				if !d.lobbyDenied.Swap(true) {
					log.Warn(lobbyDenied, "error", err)
				}
				return
			}
			if d.group != nil && d.group.Refused(err) {
				return // status and the log warn of what it means
			}
			log.Warn("the connection reported an error", "subject", subject, "error", err)
		}),
	}
	if pool := cfg.NATS.TLS.CA.Pool(); pool != nil {
		options = append(options, nats.Secure(&tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}))
	}
	nc, err := nats.Connect(cfg.NATS.URL, options...)
	if err != nil {
		return nil, fmt.Errorf("nats.url: %w", err)
	}
	d.onClose(nc.Close)
	return nc, nil
}

// complainEvery is how often it is logged that no server can be reached: every connection tries
// a few times a second.
const complainEvery = 15 * time.Second

// unreachable logs that a connection could not be restored.
func (d *daemon) unreachable(log *slog.Logger, err error) {
	now, last := time.Now().UnixNano(), d.complained.Load()
	if now-last < int64(complainEvery) || !d.complained.CompareAndSwap(last, now) {
		return
	}
	log.Warn("no server can be reached; trying again", "error", err, "said_again_after", complainEvery)
}
