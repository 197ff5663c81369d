package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/lmittmann/tint"
	"github.com/spf13/cobra"

	"github.com/gatehouse-nats/gatehouse/cmd/gatehouse/config"
	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/provision"
	"github.com/gatehouse-nats/gatehouse/store"
	"github.com/gatehouse-nats/gatehouse/store/postgres"
	"github.com/gatehouse-nats/gatehouse/store/sqlite"
)

func (c *cli) serveCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "serve",
		Short: "Run the service",
		Long: `Answers logins until it is told to stop (SIGINT, SIGTERM). A changed configuration file
is put in force by itself, on SIGHUP, or by gatehouse reload; one that is not valid is
refused and the one before stays in force.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := c.load()
			if err != nil {
				return err
			}
			lines := newLogWriter(c.err)
			defer func() { _ = lines.Flush() }()
			log := newLogger(c.err, lines, cfg)
			for _, w := range cfg.Warnings {
				log.Warn("the configuration allows what is seldom meant", "at", w.String())
			}
			return c.serve(cmd.Context(), cfg, log)
		},
	}
}

// serve runs a replica until ctx ends.
func (c *cli) serve(ctx context.Context, cfg *config.Config, log *slog.Logger) error {
	d, err := newDaemon(ctx, cfg, c.env, time.Now, log)
	if ctx.Err() != nil && errors.Is(err, context.Cause(ctx)) {
		return nil // told to stop before the store answered
	}
	if err != nil {
		return err
	}
	defer d.close()
	log.Info("serving", "version", version, "replica", d.replica, "rules", cfg.Rules().Version,
		"http", d.public.Addr(), "metrics", d.metrics.Addr(), "socket", cfg.Socket)
	defer context.AfterFunc(ctx, func() { log.Info("stopping") })()
	err = d.run(ctx)
	log.Info("stopped", "audit_entries_left_in_the_spool", d.spool.Pending().Entries)
	return err
}

// load reads the configuration.
func (c *cli) load() (*config.Config, error) { return config.Load(c.configPath(), c.env) }

// newLogger returns the logger that the configuration asks for. Whoever looks on at a terminal sees each line at once,
// everybody else through lines.
func newLogger(w io.Writer, lines *logWriter, cfg *config.Config) *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(cfg.Log.Level)) // checked when it was loaded
	switch {
	case cfg.Log.Format == "json":
		return slog.New(urgent{slog.NewJSONHandler(lines, &slog.HandlerOptions{Level: level}), lines})
	case terminal(w):
		return slog.New(tint.NewTextHandler(w, &tint.Options{Level: level, TimeFormat: time.TimeOnly}))
	default:
		return slog.New(urgent{slog.NewTextHandler(lines, &slog.HandlerOptions{Level: level}), lines})
	}
}

// openStore opens the store that the configuration names.
func openStore(ctx context.Context, cfg *config.Config, migrate bool, log *slog.Logger) (store.Store, error) {
	if cfg.Store.Driver() == config.SQLite {
		return sqlite.Open(ctx, sqlite.Options{Path: cfg.Store.Source(), Migrate: migrate})
	}
	return postgres.Open(ctx, postgres.Options{DSN: cfg.Store.Source(), Migrate: migrate, Logger: log})
}

// openDirect returns the operations on the store itself, for when no service runs, with the
// caller that this user of the host is.
func (c *cli) openDirect(ctx context.Context, cfg *config.Config) (*provision.Service, provision.Caller, func(), error) {
	caller := provision.Caller{Actor: provision.LocalActor(os.Getuid())}
	s, err := openStore(ctx, cfg, false, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, caller, nil, fmt.Errorf("no service answers on %s, and the store cannot be opened by itself: %w", cfg.Socket, err)
	}
	svc := provision.New(provision.Options{Store: s, Keys: keysOf(func() *config.Config { return cfg }), Signer: cfg.NATS.Callout.SigningKey.Key(), Closed: cfg.ClosedAccounts(), Unmanaged: func() (string, string) {
		return storedUnmanaged(ctx, cfg, s)
	}, Issuers: func() map[string]string {
		list := map[string]string{}
		for _, i := range cfg.Issuers {
			list[i.Name] = i.URL
		}
		return list
	}, State: func() *policy.Snapshot {
		state, err := s.Load(ctx)
		if err != nil {
			return nil
		}
		return &policy.Snapshot{Rules: cfg.Rules(), Revocations: policy.NewRevocations(state.Revocations)}
	}})
	return svc, caller, func() { _ = s.Close() }, nil
}

var semver = regexp.MustCompile(`^\d+\.\d+\.\d+([-+][0-9A-Za-z.+-]*)?$`)

// semantic returns the version in the form that NATS services must have.
func semantic(v string) string {
	if v = strings.TrimPrefix(v, "v"); semver.MatchString(v) {
		return v
	}
	return "0.0.0-dev"
}
