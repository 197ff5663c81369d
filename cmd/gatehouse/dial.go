package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"golang.org/x/sync/errgroup"

	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/cmd/gatehouse/config"
)

// connect starts the connections to the servers; they go on trying by themselves. All begin at once: each waits for two seconds
// for a server that does not answer, and nothing is served meanwhile.
func (d *daemon) connect(_ context.Context, cfg *config.Config) error {
	var dials errgroup.Group
	dial := func(to **nats.Conn, user nats.Option, name string) {
		dials.Go(func() (err error) {
			*to, err = d.dial(cfg, user, name)
			return err
		})
	}
	d.conns = make([]*nats.Conn, cfg.NATS.Callout.Connections)
	for i := range d.conns {
		dial(&d.conns[i], cfg.CalloutUser(), fmt.Sprintf("gatehouse callout %d", i+1))
	}
	if cfg.Lobby() != "" {
		dial(&d.operations, cfg.CalloutUser(), "gatehouse operations")
	}
	if user := cfg.SystemUser(); user != nil {
		dial(&d.system, user, "gatehouse system")
	} else {
		d.log.Warn("there is no system user: servers, clocks and accounts are taken as they come", "configure", "nats.system.nkey")
	}
	err := dials.Wait()
	for _, nc := range slices.Concat(d.conns, []*nats.Conn{d.operations, d.system}) {
		if nc != nil {
			d.onClose(nc.Close)
		}
	}
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
			if group := d.talking.Load(); group != nil && group.Refused(err) {
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
