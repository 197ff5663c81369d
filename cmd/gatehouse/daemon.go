package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/callout"
	"github.com/gatehouse-nats/gatehouse/cmd/gatehouse/config"
	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/policy/mint"
	"github.com/gatehouse-nats/gatehouse/policy/oidc"
	"github.com/gatehouse-nats/gatehouse/provision"
	replicas "github.com/gatehouse-nats/gatehouse/replica"
	"github.com/gatehouse-nats/gatehouse/resolver"
	"github.com/gatehouse-nats/gatehouse/store"
	"github.com/gatehouse-nats/gatehouse/store/spool"
	"github.com/gatehouse-nats/gatehouse/store/stream"
)

// pruneEvery is how often old audit entries and feed entries are deleted.
const (
	pruneEvery = 10 * time.Minute
	pruneBatch = 1000
	feedLife   = 24 * time.Hour
)

// daemon is one replica of the service.
type daemon struct {
	log     *slog.Logger
	watcher *config.Watcher
	cfg     atomic.Pointer[config.Config]
	keyring atomic.Pointer[mint.Keyring]
	keys    sync.Mutex // held while another keyring is put in force
	replica string
	now     func() time.Time // this host's clock
	leeway  time.Duration
	loading sync.Mutex // held while a configuration is put in force

	registry    *prometheus.Registry
	storeErrors *storeMetrics
	store       store.Store
	spool       *spool.Spool
	vault       *vault // nil: servers without an operator know no accounts of sign-up
	mirror      *store.Mirror
	tokens      *oidc.Verifier
	resolver    *resolver.Resolver
	claims      *resolver.Claims
	callout     *callout.Service
	copier      *stream.Copier // nil: the audit trail is copied nowhere
	tellers     []teller
	drifts      drifts
	planless    planlessWatch
	provision   *provision.Service
	group       *replicas.Group
	talking     atomic.Pointer[replicas.Group] // group, for connections that were there before it
	sweeper     *resolver.Sweeper
	conns       []*nats.Conn // to the callout account
	lobbyDenied atomic.Bool  // the servers do not let the operations be served in the lobby
	complained  atomic.Int64 // when it was last logged that no server can be reached
	system      *nats.Conn
	operations  *nats.Conn // to the callout account, for calls from the lobby; nil without one

	public, metrics, local net.Listener
	closers                []func()
}

// newDaemon makes a replica of a valid configuration: it opens the store, the spool and the
// listeners, and starts to connect to the servers. The variables of env belong to the
// configuration whenever it is read anew; now is the host's clock, as [time.Now].
func newDaemon(ctx context.Context, cfg *config.Config, env []string, now func() time.Time, log *slog.Logger) (*daemon, error) {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	// Containers may share their host's name and all be process 1.
	replica := fmt.Sprintf("%s-%d-%s", host, os.Getpid(), strings.ToLower(rand.Text()[:6]))
	d := &daemon{log: log, replica: replica, now: now, registry: newRegistry()}
	d.cfg.Store(cfg)
	d.putKeys()
	d.leeway = time.Duration(cfg.Leeway)
	if d.watcher, err = config.NewWatcher(cfg, env); err != nil {
		return nil, err
	}
	d.onClose(d.watcher.Close)
	for _, open := range []func(context.Context, *config.Config) error{
		d.openStore, d.openVault, d.openSpool, d.listen, d.openTokens, d.connect, d.build, d.openStream, d.openEvents,
	} {
		if err := open(ctx, cfg); err != nil {
			d.close()
			return nil, err
		}
	}
	return d, nil
}

func (d *daemon) onClose(f func()) { d.closers = append(d.closers, f) }

// close releases what newDaemon opened, in reverse order.
func (d *daemon) close() {
	for i := len(d.closers) - 1; i >= 0; i-- {
		d.closers[i]()
	}
	d.closers = nil
}

// listen opens the addresses once the store is open: an address that is open and not served
// would keep probes and commands waiting.
func (d *daemon) listen(_ context.Context, cfg *config.Config) error {
	var err error
	if d.local, err = provision.Listen(string(cfg.Socket)); err != nil {
		return err
	}
	d.onClose(func() { _ = d.local.Close() })
	for _, l := range []struct {
		to   *net.Listener
		key  string
		addr string
	}{
		{&d.public, "http.listen", string(cfg.HTTP.Listen)},
		{&d.metrics, "metrics.listen", string(cfg.Metrics.Listen)},
	} {
		opened, err := net.Listen("tcp", l.addr)
		if err != nil {
			return fmt.Errorf("%s: %w: choose another address in the configuration, or stop what uses it", l.key, err)
		}
		*l.to = opened
		d.onClose(func() { _ = opened.Close() })
	}
	return nil
}

func (d *daemon) openStore(ctx context.Context, cfg *config.Config) error {
	return d.waiting(ctx, cfg, func() error {
		s, err := openStore(ctx, cfg, true, d.log)
		if err == nil {
			d.store = s
			d.onClose(func() { _ = s.Close() })
		}
		return err
	})
}

// inUseLimit is for how long a service that starts waits for who has its store open.
const inUseLimit = 3 * time.Second

// waiting calls open until it succeeds while a database server does not answer, and for [inUseLimit] while another
// process has the store open; anything else that is wrong with a store needs a hand.
func (d *daemon) waiting(ctx context.Context, cfg *config.Config, open func() error) error {
	began := time.Now()
	for wait := time.Second; ; wait = min(2*wait, 10*time.Second) {
		err := open()
		if err == nil {
			return nil
		}
		// A command that found nothing serving has the file open itself for a moment, such as audit --follow.
		if errors.Is(err, store.ErrInUse) && time.Since(began) < inUseLimit {
			wait = 100 * time.Millisecond
		} else if !errors.Is(err, store.ErrUnavailable) || cfg.Store.Driver() == config.SQLite {
			return err
		} else {
			d.log.Warn("the store does not answer; trying again", "error", err, "in", wait)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(wait):
		}
	}
}

func (d *daemon) openTokens(_ context.Context, cfg *config.Config) error {
	fetches := newFetchMetrics(d.registry)
	tokens, err := oidc.New(oidc.Config{
		Leeway: time.Duration(cfg.Leeway), MaxTokenSize: int(cfg.MaxTokenSize), Observe: fetches.observe, Now: d.now, Logger: d.log,
	}, cfg.TokenIssuers())
	d.tokens = tokens
	return err
}

// build puts the parts together.
func (d *daemon) build(_ context.Context, cfg *config.Config) error {
	var sealer *callout.Sealer
	if cfg.NATS.Callout.XKey.Given() {
		var err error
		if sealer, err = callout.NewSealer(cfg.NATS.Callout.XKey.Seed()); err != nil {
			return err
		}
	}
	d.storeErrors = newStoreMetrics(d.registry)
	d.mirror = store.NewMirror(d.store, store.MirrorOptions{
		Replica: d.replica, MaxStaleness: time.Duration(cfg.MaxStaleness), Logger: d.log, OnError: d.storeErrors.observe("read"),
		OnChange: func() { d.claims.Wake() }, OnAccounts: d.onAccounts,
	})
	d.mirror.SetRules(d.rules(cfg))
	d.resolver = resolver.New(resolver.Options{Conn: d.system, Blind: d.system == nil, Kind: kindOf(cfg), Now: d.now, Logger: d.log})
	d.resolver.SetAccounts(requirements(cfg))
	d.claims = d.newClaims()
	d.callout = callout.New(callout.Options{
		Conns: d.conns, Account: cfg.Addressee(), Closed: cfg.ClosedAccounts(), Signer: cfg.NATS.Callout.SigningKey.Key(), Sealer: sealer,
		Servers: d.resolver, Tokens: d.tokens, Records: d.spool, Metrics: callout.NewMetrics(d.registry),
		State: d.mirror.Snapshot, Keys: d.keyring.Load, Found: d.found, OnRejected: d.resolver.Suspect,
		MaxToken: int(cfg.MaxTokenSize), Version: semantic(version), Replica: d.replica, Now: d.now, Logger: d.log,
	})
	d.group = d.newGroup(cfg)
	d.talking.Store(d.group)
	d.sweeper = d.newSweeper()
	d.provision = provision.New(provision.Options{
		Store: d.store, Tokens: d.tokens, Logouts: d.tokens, Records: d.spool, Signer: cfg.NATS.Callout.SigningKey.Key(), Replica: d.replica, State: d.mirror.Snapshot, Issuers: d.issuers,
		Enforce: d.enforce, Servers: d.connections(), Closed: cfg.ClosedAccounts(), Unmanaged: func() (string, string) { return unmanaged(d.cfg.Load(), d.unmanaged()) },
		Refresh: d.mirror.Refresh, Reload: d.reload, Status: d.status, Template: d.resolver.Template, Direct: d.direct(cfg), Accounts: d.accounts(cfg), Served: d.served(cfg), Keys: d.keysOf(), Web: d.web, Discovery: d.discovery, Now: d.now, Logger: d.log,
	})
	watchDaemon(d.registry, d)
	return nil
}

// direct returns what the sign-up of direct users needs; nil on servers without an operator, which know none.
func (d *daemon) direct(cfg *config.Config) *provision.Direct {
	if cfg.NATS.Callout.Mode == config.ConfigMode {
		return nil
	}
	return &provision.Direct{
		Audience: cfg.HTTP.Address(), Closed: cfg.ClosedAccounts(), Servers: d.resolver, Keys: d.keyring.Load, UserKeys: d.store,
	}
}

// requirements lists what the servers must have applied for this configuration to work.
func requirements(cfg *config.Config) map[string]resolver.Requirement {
	need := map[string]resolver.Requirement{}
	if cfg.NATS.Callout.Mode == config.ConfigMode {
		need[cfg.CalloutAccount()] = resolver.Requirement{Name: "the callout account", ByName: true}
		for name, a := range cfg.Rules().Accounts {
			need[a.ID] = resolver.Requirement{Name: name, ByName: true}
		}
		return need
	}
	own := resolver.Requirement{
		Name: "the callout account", SigningKeys: []string{cfg.NATS.Callout.SigningKey.Public()},
		Callout: &resolver.CalloutRequirement{XKey: cfg.NATS.Callout.XKey.Public()},
	}
	scoped := cfg.ScopedKeys()
	for name, a := range cfg.Rules().Accounts {
		need[a.ID] = resolver.Requirement{Name: name, SigningKeys: a.SigningKeys, Scoped: scoped[a.ID]}
		own.Callout.AllowedAccounts = append(own.Callout.AllowedAccounts, a.ID)
	}
	if lobby := cfg.Lobby(); lobby != "" {
		need[lobby] = resolver.Requirement{Name: "the lobby account", SigningKeys: []string{cfg.NATS.Lobby.SigningKey.Public()}}
		own.Callout.AllowedAccounts = append(own.Callout.AllowedAccounts, lobby)
	}
	if len(cfg.Plans()) > 0 {
		own.Callout.AllowedAccounts = []string{jwt.AnyAccount} // of accounts that are made later there is no list
	}
	need[cfg.CalloutAccount()] = own
	return need
}

func (d *daemon) issuers() map[string]string {
	list := map[string]string{}
	for _, i := range d.cfg.Load().Issuers {
		list[i.Name] = i.URL
	}
	return list
}

// run serves until ctx ends; the first part that fails ends the others.
func (d *daemon) run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, task := range []func(context.Context) error{
		d.serveLobby,
		d.keepVault, d.followOperator, d.mirror.Run, d.tokens.Run, d.resolver.Run, d.claims.Run, d.group.Run, d.sweeper.Run, d.callout.Run, d.provision.Run, d.provision.Tend,
		d.ship, d.prune, d.copyTrail, d.tell, d.keepTime, d.follow, d.watchReadiness,
		d.serve(d.public, d.publicServer(d.provision.Handler())),
		d.serve(d.metrics, metricsServer(healthHandler(d.registry, d.readiness(), d.cfg.Load().Metrics.Pprof))),
		d.serve(d.local, localServer(d.provision.LocalHandler())),
	} {
		g.Go(func() error { return task(ctx) })
	}
	err := g.Wait()
	d.group.Leave()
	d.drain()
	return err
}

// lobbyDenied says what is wrong with a service user from before there was a lobby.
const lobbyDenied = "the user of nats.callout.creds may not serve the lobby: allow it to subscribe to gatehouse.> and to publish to _R_.>, or leave nats.lobby out"

// serveLobby answers calls from the lobby account, where there is one.
func (d *daemon) serveLobby(ctx context.Context) error {
	if d.operations == nil {
		return nil
	}
	return d.provision.ServeNATS(ctx, provision.NATSOptions{Conn: d.operations, Lobby: d.cfg.Load().Lobby(), Version: semantic(version)})
}

// profileTime is enough for the profiles and traces that operators ask pprof for.
const profileTime = 5 * time.Minute

func metricsServer(h http.Handler) *http.Server {
	s := provision.NewServer(h)
	s.WriteTimeout = profileTime
	return s
}

func localServer(h http.Handler) *http.Server {
	s := provision.NewServer(h)
	s.ConnContext = provision.ConnContext
	return s
}

// serve returns the task of an HTTP server. It ends once the calls under way have, or two seconds after it was told to: what they
// need is closed then.
func (d *daemon) serve(l net.Listener, s *http.Server) func(context.Context) error {
	return func(ctx context.Context) error {
		s.ErrorLog = slog.NewLogLogger(d.log.Handler(), slog.LevelDebug)
		ended := make(chan struct{})
		stop := context.AfterFunc(ctx, func() {
			defer close(ended)
			grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
			defer cancel()
			if s.Shutdown(grace) != nil {
				_ = s.Close()
			}
		})
		defer stop()
		begin := s.Serve
		if s.TLSConfig != nil {
			begin = func(l net.Listener) error { return s.ServeTLS(l, "", "") }
		}
		if err := begin(l); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		<-ended // it was told to, and returned at once
		return nil
	}
}

// reload reads the configuration and puts it in force when it is valid.
// Keys come before the rules that need them. It is read and put in force under one lock, so
// that an older reading never overtakes a newer one.
func (d *daemon) reload(ctx context.Context) (api.Reloaded, error) {
	d.loading.Lock()
	defer d.loading.Unlock()
	u := d.watcher.Reload()
	if u.Err != nil {
		return api.Reloaded{}, u.Err
	}
	if was, is := d.cfg.Load().NATS.Callout.Mode, u.Config.NATS.Callout.Mode; was != is {
		return api.Reloaded{}, fmt.Errorf("nats.callout.mode was %s and is %s now, which leads to other accounts: restart the service", was, is)
	}
	if was, is := d.cfg.Load().HTTP.TLS.Given(), u.Config.HTTP.TLS.Given(); was != is {
		return api.Reloaded{}, fmt.Errorf("http.tls was given or taken away, and the listener speaks what it began with: restart the service")
	}
	if err := d.checkSeal(ctx, u.Config); err != nil {
		return api.Reloaded{}, err
	}
	if err := d.tokens.SetIssuers(u.Config.TokenIssuers()); err != nil {
		return api.Reloaded{}, err
	}
	before := d.cfg.Swap(u.Config)
	d.useSeal(u.Config)
	d.reloadOperator(ctx)
	d.resolver.SetAccounts(requirements(u.Config))
	d.claims.Wake()
	d.mirror.SetRules(d.rules(u.Config))
	warnings := d.missPlans(before, u.Config)
	return api.Reloaded{
		Version: u.Config.Rules().Version, Changed: u.Config.Rules().Version != before.Rules().Version,
		NeedRestart: u.Restart, Warnings: warnings,
	}, nil
}

// rules returns those of a configuration, with the leeway that the service started with: the
// one by which tokens are verified and the one by which a logout voids them must be the same.
func (d *daemon) rules(cfg *config.Config) *policy.Rules {
	rules := *cfg.Rules()
	rules.Leeway = d.leeway
	return &rules
}

// follow puts changes of the configuration's files in force, and reads them on SIGHUP.
func (d *daemon) follow(ctx context.Context) error {
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-hup:
		case <-d.watcher.Updates():
		}
		out, err := d.reload(ctx)
		if err != nil {
			d.log.Error("the new configuration was refused; the one before stays in force", "error", err)
			continue
		}
		d.log.Info("configuration reloaded", "rules", out.Version, "changed", out.Changed)
		if len(out.NeedRestart) > 0 {
			d.log.Warn("changes that take effect at the next start only", "keys", out.NeedRestart)
		}
	}
}
