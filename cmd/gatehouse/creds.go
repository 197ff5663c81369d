package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"
	"github.com/spf13/cobra"

	"github.com/gatehouse-nats/gatehouse"
	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/policy"
)

// credsFlags say who signs up as a direct user, where, and into which file.
type credsFlags struct {
	loginFlags
	url, tokenFile   string
	keyFile          string
	account, program string
	out              string
	watch, force     bool
}

func (c *cli) credsCommand() *cobra.Command {
	var f credsFlags
	cmd := &cobra.Command{
		Use:   "creds --account NAME --out FILE",
		Short: "Get a creds file for programs that cannot present tokens",
		Long: `Makes a user key on this machine, signs up with your token as a direct user, and writes a creds
file (0600) with which every NATS client and the nats CLI log in without a token. The seed of
the key never leaves this machine. A binding with grant.direct has to permit it.

The file is valid until its user JWT ends. Run the command again to renew it, with the same key,
or leave it running with --watch: it renews well ahead of the end, with a token that is fresh
each time (from your login, or from --token-file, which is read anew). Connections take the new
user JWT when they connect the next time.

Where your token is bound to a key, --key-file names the file with its seed, as gatehouse login
--watch FILE writes FILE.nk: the user JWT is for that key then.

A file that is not the creds file of the same user in the same account is not replaced unless
--force is given.`,
		Example: `  gatehouse creds --account APP --out app.creds
  gatehouse creds --account APP --out nightly.creds --program nightly --watch
  nats --creds app.creds sub 'app.>'`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return c.creds(cmd.Context(), f) },
	}
	f.add(cmd)
	fl := cmd.Flags()
	fl.StringVar(&f.account, "account", "", "account to get creds for; needed where you are granted several")
	fl.StringVar(&f.out, "out", "", "file to write")
	fl.StringVar(&f.program, "program", "", "the creds are for this program of yours: 1 to 32 of a-z, 0-9, _ and -")
	fl.StringVar(&f.url, "url", "", "address of the service, such as https://gatehouse.example.com (default: http.url of the configuration)")
	fl.StringVar(&f.tokenFile, "token-file", "", "file with the token; - for standard input (default: $GATEHOUSE_TOKEN, then your login)")
	fl.StringVar(&f.keyFile, "key-file", "", "file with the seed (SU…) of the key to use, in place of one that is made here")
	fl.BoolVar(&f.watch, "watch", false, "stay, and renew the file ahead of its end")
	fl.BoolVar(&f.force, "force", false, "replace whatever the file is, with a new key")
	return cmd
}

func (c *cli) creds(ctx context.Context, f credsFlags) error {
	switch {
	case f.out == "":
		return fmt.Errorf("%w: say with --out which file to write", errUsage)
	case f.program != "" && !policy.IsProgram(f.program):
		return fmt.Errorf("%w: --program takes 1 to 32 of a-z, 0-9, _ and -", errUsage)
	case f.watch && f.tokenFile == "-":
		return fmt.Errorf("%w: --watch needs a fresh token each time, which standard input does not give: name a file that something keeps fresh", errUsage)
	}
	f.service = f.url
	base, err := c.signupURL(f.url)
	if err != nil {
		return err
	}
	path, err := filepath.Abs(f.out)
	if err != nil {
		return err
	}
	s := signup{
		service: base, account: f.account, program: f.program, path: path, keyFile: f.keyFile,
		token: func(ctx context.Context) (string, error) { return c.bearer(ctx, f.tokenFile, f.loginFlags) },
	}
	if err := s.prepare(ctx, f.force); err != nil {
		return err
	}
	answer, err := s.renew(ctx)
	if err != nil {
		return err
	}
	if err := c.printCreds(answer, path); err != nil || !f.watch {
		return err
	}
	return c.watchCreds(ctx, path, answer, s.renew)
}

// signupURL returns the service's address as the service itself knows it.
func (c *cli) signupURL(base string) (string, error) {
	if base != "" {
		return c.serviceURL(base)
	}
	cfg, err := c.load()
	if err != nil {
		return "", fmt.Errorf("%w: give --url, or a configuration: %w", errUsage, err)
	}
	return c.serviceURL(cfg.HTTP.Address())
}

// signup is a creds file and how it is renewed.
type signup struct {
	service          string
	account, program string
	path             string
	keyFile          string // of the key to use; empty for one of the file's own
	token            gatehouse.TokenFunc
	creds            credsFile
	replace          bool // the file may be something else
}

// prepare finds the key to sign up. A file that is another's stops it before any key is signed up.
func (s *signup) prepare(ctx context.Context, force bool) (err error) {
	if s.replace = force; !force {
		switch s.creds, err = readCreds(s.path); {
		case errors.Is(err, errNoFile):
		case err != nil:
			return s.another(err)
		default:
			if err := s.owned(ctx); err != nil {
				return err
			}
		}
	}
	switch {
	case s.keyFile != "":
		s.creds.key, err = readKey(s.keyFile)
	case s.creds.key == nil:
		s.creds.key, err = nkeys.CreateUser()
	default:
		err = nil
	}
	return err
}

func (s *signup) another(why error) error {
	return fmt.Errorf("%s is not replaced: %w: choose another --out, or --force to replace it", s.path, why)
}

// owned returns nil when the file is of the user that signs up.
func (s *signup) owned(ctx context.Context) error {
	token, err := s.token(ctx)
	if err != nil {
		return err
	}
	who, err := post[api.Whoami](ctx, &http.Client{Timeout: whoamiTimeout}, s.service, api.OpWhoami, token, api.WhoamiRequest{Account: s.account})
	if err != nil {
		return err
	}
	name := who.Name
	if s.program != "" {
		name = policy.ProgramName(s.program, who.IssuerURL, who.Subject)
	}
	if s.creds.name != name {
		return s.another(fmt.Errorf("it holds the creds of %s, and you sign up as %s", printable(s.creds.name), printable(name)))
	}
	return nil
}

// renew signs up and writes the file.
func (s *signup) renew(ctx context.Context) (*api.UserSignup, error) {
	answer, err := gatehouse.SignUp(ctx, s.token, gatehouse.DirectUser{
		Service: s.service, Key: s.creds.key, Account: s.account, Program: s.program,
	})
	if err != nil {
		return nil, err
	}
	if was := s.creds.account; was != "" && was != answer.AccountID {
		return nil, s.another(fmt.Errorf("it is for account %s, and this would be for %s (%s)", was, answer.AccountID, printable(answer.Account)))
	}
	if s.creds.jwt == "" && !s.replace {
		// Another program may have written it meanwhile.
		if _, err := readCreds(s.path); !errors.Is(err, errNoFile) {
			return nil, s.another(errors.New("something has made it meanwhile"))
		}
	}
	s.creds.jwt, s.creds.account, s.creds.name = answer.JWT, answer.AccountID, answer.Name
	return answer, s.creds.write(s.path)
}

func (c *cli) printCreds(answer *api.UserSignup, path string) error {
	inbox := privateInbox(answer.JWT)
	if c.json {
		return printJSON(c.out, struct {
			File      string    `json:"file"`
			Name      string    `json:"name"`
			UserKey   string    `json:"user_key"`
			Account   string    `json:"account"`
			AccountID string    `json:"account_id"`
			Expires   time.Time `json:"expires"`
			Inbox     string    `json:"inbox_prefix,omitempty"`
		}{path, answer.Name, answer.UserKey, answer.Account, answer.AccountID, answer.Expires, inbox})
	}
	fmt.Fprintf(c.out, "Wrote %s: %s in account %s, until %s.\n", path, printable(answer.Name), printable(answer.Account), when(answer.Expires))
	fmt.Fprintf(c.out, "  %-12s %s\n", "user key", answer.UserKey)
	if inbox != "" {
		fmt.Fprintf(c.out, "  %-12s %s, for replies: nats --inbox-prefix, or what the client has for it\n", "inbox prefix", inbox)
	}
	_, err := fmt.Fprintln(c.out, "Whoever has the file is that user: keep it where only its program can read it.")
	return err
}

// privateInbox returns the private inbox prefix that a user JWT lets subscribe below; empty when it names none.
func privateInbox(userJWT string) string {
	claims, err := jwt.DecodeUserClaims(userJWT)
	if err != nil {
		return "" // the servers will say so
	}
	for _, subject := range claims.Sub.Allow {
		if prefix, ok := strings.CutSuffix(subject, ".>"); ok && strings.HasPrefix(prefix, "_INBOX_") {
			return prefix
		}
	}
	return ""
}

// Bounds of how often a creds file is looked after.
const (
	watchEvery = 10 * time.Second
	mostPause  = time.Minute
)

// watchCreds renews the file when two thirds of its life are over, until ctx ends or nothing can be done without
// a person; a service that is away is asked on and on, past the file's end too. It looks at the clock each time, since a machine that slept has missed its timers.
func (c *cli) watchCreds(ctx context.Context, path string, answer *api.UserSignup, renew func(context.Context) (*api.UserSignup, error)) error {
	fmt.Fprintf(c.err, "Keeping %s fresh; Ctrl-C ends it.\n", path)
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	due, pause := renewal(answer.Issued, answer.Expires, rand.Float64()), watchEvery
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		now := time.Now()
		if now.Before(due) {
			continue
		}
		renewed, err := renew(ctx)
		switch {
		case err == nil:
			answer, pause = renewed, watchEvery
			due = renewal(answer.Issued, answer.Expires, rand.Float64())
			fmt.Fprintf(c.err, "Renewed %s until %s.\n", path, when(answer.Expires))
		case ctx.Err() != nil:
			return nil
		case hopeless(err):
			return fmt.Errorf("%s is not renewed any more and ends %s: %w", path, when(answer.Expires), err)
		default:
			fmt.Fprintf(c.err, "gatehouse: %v; trying again in %s\n", err, pause)
			due, pause = now.Add(pause), min(2*pause, mostPause)
		}
	}
}

// renewal returns when a user JWT is renewed: when two thirds of its life are over, and up to a tenth of it earlier
// by random in [0,1), so that those who began together do not come together.
func renewal(issued, expires time.Time, random float64) time.Time {
	life := expires.Sub(issued)
	return issued.Add(time.Duration((2.0/3 - random/10) * float64(life)))
}

// hopeless reports whether trying again does not help without a person: the service refuses, for something else than
// a token that may have been renewed meanwhile.
func hopeless(err error) bool {
	var refused *api.Error
	if !errors.As(err, &refused) {
		return false
	}
	return refused.Code >= 400 && refused.Code < 500 && refused.Code != http.StatusUnauthorized && refused.RetryAfter == 0
}
