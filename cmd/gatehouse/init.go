package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/gatehouse-nats/gatehouse/cmd/gatehouse/config"
	"github.com/gatehouse-nats/gatehouse/internal/setup"
)

func (c *cli) initCommand() *cobra.Command {
	var o setup.Options
	var in setup.IntoOptions
	var into, signup bool
	var requestor, listener string
	var life time.Duration
	var issuer setup.Issuer
	var existing []string
	cmd := &cobra.Command{
		Use:   "init DIR",
		Short: "Make a new production set-up, enter an existing one, or add to one",
		Long: `Makes a new set-up in DIR: an operator, its accounts, a sentinel, creds, the configuration
of the nats-servers, and gatehouse.yaml. With --into it enters an existing operator set-up
instead: it makes the callout and lobby accounts and the sentinel, and tells what to add to
the servers and how to go back. With --config-mode the new servers have no operator: accounts
and users are in their own files. With --signup it adds to what it made in DIR: the creds of a
user who reaches the operations of sign-up and nothing else, for those who have no token
to connect with. With --events it adds the token by which one account may import the events of
accounts. Nothing is ever overwritten.`,
		Example: `  gatehouse init prod --issuer-name corp --issuer-url https://login.example.com --audience nats
  gatehouse init prod --servers 3 --tls-cert server.pem --tls-key server.key
  gatehouse init prod --config-mode
  gatehouse init --into gatehouse --store ~/.local/share/nats/nsc --system-creds sys.creds
  gatehouse init prod --signup --requestor portal
  gatehouse init prod --events ABVXTRL6NIEVEOJIFQCIDDUWCEXT6A5EAAN2S6SWJQRYKKR7D2S7Y5GF`,
		Args: exactArgs(1, "the folder to make"),
		RunE: func(_ *cobra.Command, args []string) error {
			dir, err := filepath.Abs(args[0])
			if err != nil {
				return err
			}
			if issuer.Name != "" || issuer.URL != "" {
				o.Issuer = &issuer
			}
			if into && o.ConfigMode {
				return fmt.Errorf("%w: --config-mode makes a new set-up, and --into enters one that has an operator: give one of them", errUsage)
			}
			if signup {
				return c.addRequestor(dir, requestor)
			}
			if listener != "" {
				return c.addListener(dir, listener, life)
			}
			var next string
			if into {
				in.Service, in.NoXKey, in.TLSCA = o.Service, o.NoXKey, o.TLSCA
				next, err = enter(dir, in, existing)
			} else {
				next, err = create(dir, o)
			}
			if errors.Is(err, setup.ErrOptions) {
				return fmt.Errorf("%w: %w", errUsage, err)
			}
			if err != nil {
				return err
			}
			if _, err = fmt.Fprintln(c.out, next); err != nil {
				return err
			}
			return c.warnOf(filepath.Join(dir, "gatehouse.yaml"))
		},
	}
	f := cmd.Flags()
	f.BoolVar(&into, "into", false, "enter an existing operator set-up")
	f.BoolVar(&signup, "signup", false, "add creds that reach the operations of sign-up alone to the set-up in DIR")
	f.StringVar(&requestor, "requestor", "signup", "with --signup: name of the creds")
	f.StringVar(&listener, "events", "", "public key of an account that may import the events of accounts: add its activation token to the set-up in DIR")
	f.DurationVar(&life, "events-ttl", 0, "with --events: how long the token is valid (default: for good)")
	f.StringVar(&o.Name, "name", "", "name of the operator and the cluster (default gatehouse)")
	f.StringVar(&o.Account, "account", "", "name of the first application account (default APP)")
	f.IntVar(&o.Servers, "servers", 1, "nats-servers: 1, or 3 and more as one cluster")
	f.StringVar(&o.Host, "host", "", "name or address under which clients reach the servers")
	f.StringVar(&o.Listen, "listen", "", "IP address that the servers listen on, without port (default: all with TLS, loopback without)")
	f.StringVar(&o.TLSCert, "tls-cert", "", "certificate of the servers")
	f.StringVar(&o.TLSKey, "tls-key", "", "key of the certificate")
	f.StringVar(&o.TLSCA, "tls-ca", "", "authority that the certificate is verified with (default: what this host trusts)")
	f.StringSliceVar(&o.Origins, "origin", nil, "web page that may open WebSocket connections, such as https://portal.example.com")
	f.BoolVar(&o.ConfigMode, "config-mode", false, "make servers without operator: accounts and users in their own files")
	f.StringVar(&o.Resolver, "resolver", "", "what the servers keep account claims in: full, url or memory (default full, the best)")
	f.BoolVar(&o.NoXKey, "no-xkey", false, "leave requests and answers of the callout unsealed")
	f.BoolVar(&o.NoJetStream, "no-jetstream", false, "leave JetStream off")
	f.StringVar(&o.Service.Store, "gatehouse-store", "", "store of Gatehouse (default sqlite:gatehouse.db)")
	f.StringVar(&o.HTTP, "http", "", "address of the HTTP API (default 127.0.0.1:8420)")
	f.StringVar(&o.Metrics, "metrics", "", "address of metrics and health (default 127.0.0.1:8421)")
	f.StringVar(&issuer.Name, "issuer-name", "", "short name of the first issuer, such as corp")
	f.StringVar(&issuer.URL, "issuer-url", "", "its URL, exactly as in its tokens' iss")
	f.StringSliceVar(&issuer.Audiences, "audience", nil, "what its tokens for NATS carry in aud")
	f.StringSliceVar(&issuer.Algorithms, "algorithm", nil, "signature algorithm to accept (default: what discovery names)")
	f.StringVar(&issuer.ClientID, "client-id", "", "public client for gatehouse login")
	f.StringVar(&in.Store, "store", "", "with --into: folder of nsc or nats auth")
	f.StringVar(&in.Operator, "operator", "", "with --into: name of the operator in the store")
	f.StringVar(&in.OperatorJWT, "operator-jwt", "", "with --into: file of the operator's JWT")
	f.StringVar(&in.OperatorKey, "operator-key", "", "with --into: file with the seed of an operator signing key")
	f.StringVar(&in.SystemCreds, "system-creds", "", "with --into: creds file of a user of the system account")
	f.StringSliceVar(&existing, "account-jwt", nil, "with --into: JWT=KEY, files of an account to place users in and of its signing key")
	f.BoolVar(&in.SelfService, "self-service", false, "with --into: prepare for accounts of sign-up, whose users the callout may place in every account")
	f.StringVar(&in.URL, "url", "", "with --into: where the servers listen (default nats://127.0.0.1:4222)")
	return cmd
}

// addRequestor adds creds for sign-up to a set-up.
func (c *cli) addRequestor(dir, name string) error {
	cfg, err := config.Load(filepath.Join(dir, "gatehouse.yaml"), c.env)
	if err != nil {
		return err
	}
	if cfg.Lobby() == "" {
		return fmt.Errorf("%s has no nats.lobby, through which sign-up is called over NATS: sign-up over HTTP needs no creds", cfg.Path())
	}
	r, err := setup.NewRequestor(name, cfg.Lobby(), cfg.NATS.Lobby.SigningKey.Seed())
	if errors.Is(err, setup.ErrOptions) {
		return fmt.Errorf("%w: %w", errUsage, err)
	}
	if err != nil {
		return err
	}
	if err := r.Write(dir); err != nil {
		return err
	}
	_, err = fmt.Fprint(c.out, r.Instructions(dir))
	return err
}

// addListener adds the token by which an account may import the events of accounts to a set-up.
func (c *cli) addListener(dir, importer string, life time.Duration) error {
	cfg, err := config.Load(filepath.Join(dir, "gatehouse.yaml"), c.env)
	if err != nil {
		return err
	}
	if cfg.Lobby() == "" {
		return fmt.Errorf("%s has no nats.lobby, as set-ups with an operator have that init makes: let portals have events by webhooks", cfg.Path())
	}
	var until time.Time
	if life != 0 {
		until = time.Now().Add(life)
	}
	l, err := setup.NewListener(importer, cfg.CalloutAccount(), cfg.NATS.Callout.SigningKey.Seed(), until)
	if errors.Is(err, setup.ErrOptions) {
		return fmt.Errorf("%w: %w", errUsage, err)
	}
	if err != nil {
		return err
	}
	if slices.Contains(cfg.ClosedAccounts(), importer) || importer == cfg.Lobby() {
		return fmt.Errorf("%w: account %s is one of Gatehouse's own or the system's: give that of a portal", errUsage, importer)
	}
	if err := l.Write(dir); err != nil {
		return err
	}
	_, err = fmt.Fprint(c.out, l.Instructions(dir))
	return err
}

// warnOf prints what is worth a second look in a configuration that was just written.
func (c *cli) warnOf(path string) error {
	cfg, err := config.Load(path, nil)
	if err != nil {
		return err
	}
	c.printWarnings(cfg)
	return nil
}

func create(dir string, o setup.Options) (string, error) {
	set, err := setup.New(o)
	if err != nil {
		return "", err
	}
	return set.NextSteps(dir), set.Write(dir)
}

func enter(dir string, in setup.IntoOptions, existing []string) (string, error) {
	for _, e := range existing {
		token, key, _ := strings.Cut(e, "=")
		in.Accounts = append(in.Accounts, setup.ExistingAccount{JWT: token, SigningKey: key})
	}
	addition, err := setup.Into(in)
	if err != nil {
		return "", err
	}
	return addition.Instructions(dir), addition.Write(dir)
}
