package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/lmittmann/tint"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/gatehouse-nats/gatehouse/cmd/gatehouse/config"
	"github.com/gatehouse-nats/gatehouse/internal/devstack"
	"github.com/gatehouse-nats/gatehouse/internal/setup"
)

// devIssuer is the name of the demo provider in gatehouse.yaml.
const devIssuer = "demo"

// devPolicy lets developers and admins in; carol, a contractor, shows what a refusal looks like.
const devPolicy = `roles:
  developer:
    publish:
      allow: ["app.>", "_INBOX.>", "$JS.API.>", "$JS.ACK.>", "$KV.>", "$O.>", "$SYS.REQ.USER.INFO"]
    subscribe:
      allow: ["app.>", "_INBOX.>", "{{inbox}}.>"]
  auditor:
    subscribe:
      allow: ["app.>", "_INBOX.>", "{{inbox}}.>"]
  owner: # of an account of sign-up
    publish: { allow: [">"] }
    subscribe: { allow: [">"] }

# What accounts of sign-up may have: gatehouse account signup --name team-blue
plans:
  free:
    connections: 20
    jetstream: { disk: 1GiB, streams: 5 }
    roles: [owner, developer, auditor]
    names: "team-*"

bindings:
  - name: newcomers
    issuer: demo
    match: { email_verified: true }
    grant: { sign_up: [free] }
  - name: developers
    issuer: demo
    match: { groups: [dev], email_verified: true }
    grant: { account: APP, role: developer }
    ttl: 1h
  - name: operators
    issuer: demo
    match: { groups: ops }
    grant: { account: APP, role: auditor }
    ttl: 15m
  - name: admins
    issuer: demo
    match: { groups: nats-admins }
    grant: { admin: [revoke, sessions, accounts, audit, explain] }
`

// startLimit bounds how long everything may take to be ready.
const startLimit = 60 * time.Second

// devOptions are the flags of gatehouse dev.
type devOptions struct {
	dir   string
	ports string
	quiet bool
}

func (c *cli) devCommand() *cobra.Command {
	var o devOptions
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Run everything in one process: nats-server, an OIDC provider with demo users, the service",
		Long: `Runs a nats-server (operator mode, JetStream, WebSocket), an OIDC provider with demo users,
and the service, all in this process and on loopback, and prints what to try next. What it
makes stays in the data folder for the next time; remove the folder to start afresh.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return c.dev(cmd.Context(), o) },
	}
	cmd.PersistentFlags().StringVar(&o.dir, "dir", "", "data folder (default "+filepath.Join("~", ".config", "gatehouse", "dev")+" or what this system has for it)")
	cmd.Flags().StringVar(&o.ports, "ports", "default", "default (4222, 8222, 9222, 8420, 8421, 5556), or random; counts when the folder is made")
	cmd.Flags().BoolVar(&o.quiet, "quiet", false, "log warnings and errors only")
	cmd.AddCommand(c.devTokenCommand(&o))
	return cmd
}

// folder returns the data folder, absolute.
func (o devOptions) folder() (string, error) {
	if o.dir != "" {
		return filepath.Abs(o.dir)
	}
	base, err := os.UserConfigDir()
	if err != nil {
		return "", fmt.Errorf("%w: name the data folder with --dir", err)
	}
	return filepath.Join(base, "gatehouse", "dev"), nil
}

// devReady is what gatehouse dev --json prints once it is ready.
type devReady struct {
	NatsURL       string          `json:"nats_url"`
	WSURL         string          `json:"ws_url"`
	MonitorURL    string          `json:"monitor_url"`
	HTTPURL       string          `json:"http_url"`
	Issuer        string          `json:"issuer"`
	ClientID      string          `json:"client_id"`
	SentinelCreds string          `json:"sentinel_creds"`
	SystemCreds   string          `json:"system_creds"`
	Config        string          `json:"config"`
	DataDir       string          `json:"data_dir"`
	Users         []devstack.User `json:"users"`
}

func (c *cli) dev(ctx context.Context, o devOptions) (err error) {
	if o.ports != "default" && o.ports != "random" {
		return fmt.Errorf("%w: --ports %s: use default or random", errUsage, o.ports)
	}
	dir, err := o.folder()
	if err != nil {
		return err
	}
	log, loud := c.devLogger(slog.LevelInfo), c.devLogger(slog.LevelWarn)
	if o.quiet {
		log = loud
	}
	// The provider's library logs to the default logger whatever it is told.
	slog.SetDefault(loud)

	provider, err := startDevProvider(dir, o.ports == "random", loud)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, provider.Close()) }()
	if err := makeDevSet(dir, provider.Issuer(), o.ports == "random"); err != nil {
		return err
	}
	start, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	servers, err := devstack.StartServers(start, loud.With("part", "nats-server"), filepath.Join(dir, "nats-server.conf"))
	if err != nil {
		return fmt.Errorf("%w\nIf another nats-server runs here, stop it, or use --ports random with a new --dir", err)
	}
	defer devstack.StopServers(servers)

	c.configFile = filepath.Join(dir, "gatehouse.yaml")
	cfg, err := c.load()
	if err != nil {
		return err
	}
	d, err := newDaemon(start, cfg, c.env, time.Now, log)
	if err != nil {
		return err
	}
	defer d.close()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return d.run(ctx) })
	g.Go(func() error {
		if err := d.awaitReady(ctx); err != nil {
			return err
		}
		return c.announce(devReadyOf(dir, cfg, provider, servers[0]))
	})
	return g.Wait()
}

func (c *cli) devLogger(level slog.Level) *slog.Logger {
	if terminal(c.err) {
		return slog.New(tint.NewTextHandler(c.err, &tint.Options{Level: level, TimeFormat: time.TimeOnly}))
	}
	return slog.New(slog.NewTextHandler(c.err, &slog.HandlerOptions{Level: level}))
}

// startDevProvider starts the demo provider where it was before, so that its issuer stays
// the one in gatehouse.yaml.
func startDevProvider(dir string, random bool, log *slog.Logger) (*devstack.Provider, error) {
	idp := filepath.Join(dir, "oidc")
	if err := os.MkdirAll(idp, 0o700); err != nil {
		return nil, err
	}
	o := devstack.ProviderOptions{Dir: idp, Listen: "127.0.0.1:5556", Log: log}
	if random {
		o.Listen = ""
	}
	keys, err := devstack.OpenKeys(idp)
	switch {
	case err == nil:
		u, err := url.Parse(keys.Issuer())
		if err != nil {
			return nil, err
		}
		o.Listen = u.Host
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	p, err := devstack.StartProvider(o)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("%w\nIs another gatehouse dev running? Stop it, or use --ports random with a new --dir", err)
	}
	return p, err
}

// makeDevSet writes what gatehouse init writes, unless it is there already.
func makeDevSet(dir, issuer string, random bool) error {
	if _, err := os.Stat(filepath.Join(dir, "gatehouse.yaml")); err == nil {
		return nil
	}
	o := setup.Options{
		Name: "gatehouse-dev",
		Service: setup.Service{
			Issuer: &setup.Issuer{Name: devIssuer, URL: issuer, Audiences: []string{devstack.Audience}, ClientID: devstack.ClientID, AdminClientID: devstack.AdminClientID, Display: []string{"email"}},
			Policy: devPolicy,
		},
		Origins: []string{"http://localhost:8080", "http://127.0.0.1:8080"},
	}
	if random {
		ports, err := devstack.ReservePorts(6)
		if err != nil {
			return err
		}
		o.Ports = []setup.Ports{{Client: ports[0], Cluster: ports[1], Monitor: ports[2], WebSocket: ports[3]}}
		o.HTTP, o.Metrics = fmt.Sprintf("127.0.0.1:%d", ports[4]), fmt.Sprintf("127.0.0.1:%d", ports[5])
	}
	set, err := setup.New(o)
	if err != nil {
		return err
	}
	return set.Write(dir)
}

// awaitReady returns once nothing keeps the replica from answering, or with what does when
// that takes too long.
func (d *daemon) awaitReady(ctx context.Context) error {
	limit := time.NewTimer(startLimit)
	defer limit.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		missing := notReady(d.readiness())
		if len(missing) == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-limit.C:
			return fmt.Errorf("not ready after %s:\n%s", startLimit, strings.Join(missing, "\n"))
		case <-tick.C:
		}
	}
}

func devReadyOf(dir string, cfg *config.Config, p *devstack.Provider, s *devstack.Server) devReady {
	ports := s.Ports()
	first := func(urls []string) string {
		if len(urls) == 0 {
			return ""
		}
		return urls[0]
	}
	return devReady{
		NatsURL: first(ports.Nats), WSURL: first(ports.WebSocket), MonitorURL: first(ports.Monitoring),
		HTTPURL: "http://" + string(cfg.HTTP.Listen), Issuer: p.Issuer(), ClientID: devstack.ClientID,
		SentinelCreds: filepath.Join(dir, "creds", "sentinel.creds"), SystemCreds: filepath.Join(dir, "creds", "system.creds"),
		Config: cfg.Path(), DataDir: dir, Users: p.Users(),
	}
}

// announce prints how to connect.
func (c *cli) announce(r devReady) error {
	if c.json {
		return printJSON(c.out, r)
	}
	token := os.Args[0] + " dev token"
	if usual, err := (devOptions{}).folder(); err != nil || usual != r.DataDir {
		token += " --dir " + r.DataDir
	}
	var users strings.Builder
	for _, u := range r.Users {
		fmt.Fprintf(&users, "  %-8s groups %s\n", u.Name, strings.Join(u.Groups, ", "))
	}
	_, err := fmt.Fprintf(c.out, `
Gatehouse is ready.

  NATS       %[1]s   (WebSocket %[2]s, monitoring %[3]s)
  Provider   %[4]s
  API        %[5]s
  Data       %[6]s

Demo users (the password is the name):
%[7]s
Try in another terminal:

  export GATEHOUSE_CONFIG=%[9]s

  # alice is a developer: she may publish below app.
  nats --server %[1]s --token "$(%[10]s --user alice)" pub app.hello world

  # carol is a contractor, whom no binding names: she is refused
  nats --server %[1]s --token "$(%[10]s --user carol)" pub app.hello world

  # why?
  %[10]s --user carol | %[8]s explain --token-file -

  # log in with the browser (over SSH: add --device), and give the nats CLI a context
  %[8]s connect --name demo

  # root is an admin: over the network with a token for administration, here without any
  %[10]s --user root --audience gatehouse-admin | %[8]s revocations --url %[5]s --token-file -

  # block alice, and see what was decided
  %[8]s revoke --issuer demo --subject alice --reason "trying it out"
  %[8]s audit

Ctrl-C ends it.
`, r.NatsURL, r.WSURL, r.MonitorURL, r.Issuer, r.HTTPURL, r.DataDir, users.String(), os.Args[0], r.Config, token)
	return err
}

func (c *cli) devTokenCommand(o *devOptions) *cobra.Command {
	var user, audience string
	var ttl time.Duration
	cmd := &cobra.Command{
		Use:   "token --user NAME",
		Short: "Print a token of a demo user",
		Args:  noArgs,
		RunE: func(*cobra.Command, []string) error {
			dir, err := o.folder()
			if err != nil {
				return err
			}
			keys, err := devstack.OpenKeys(filepath.Join(dir, "oidc"))
			if errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("%s holds no demo provider: start gatehouse dev first, with the same --dir", dir)
			}
			if err != nil {
				return err
			}
			u, err := devstack.FindUser(devstack.DemoUsers(), user)
			if err != nil {
				return fmt.Errorf("%w: %w", errUsage, err)
			}
			token, err := keys.MintToken(u, audience, ttl, nil)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(c.out, token)
			return err
		},
	}
	cmd.Flags().StringVar(&user, "user", "alice", "alice, bob, carol or root")
	cmd.Flags().StringVar(&audience, "audience", "", "audience of the token (default nats; for administration: gatehouse-admin)")
	cmd.Flags().DurationVar(&ttl, "ttl", time.Hour, "how long the token is valid")
	return cmd
}
