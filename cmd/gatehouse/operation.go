package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"time"

	"github.com/spf13/cobra"

	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/cmd/gatehouse/config"
	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/provision"
)

// remoteTimeout bounds a call over the network: longer than the service works on one.
const remoteTimeout = 30 * time.Second

// maxAnswer bounds an answer of the service: a full page of audit entries fits.
const maxAnswer = 16 << 20

// post calls an operation over HTTP. A refusal comes back as *[api.Error].
func post[Resp any](ctx context.Context, client *http.Client, base, op, token string, req any) (Resp, error) {
	var out Resp
	body, err := json.Marshal(req)
	if err != nil {
		return out, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, base+api.Path(op), bytes.NewReader(body))
	if err != nil {
		return out, err
	}
	r.Header.Set("Content-Type", "application/json")
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := client.Do(r)
	if err != nil {
		return out, err
	}
	defer func() { _ = resp.Body.Close() }()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return out, fmt.Errorf("%s: read the answer: %w", op, err)
	}
	if resp.StatusCode != http.StatusOK {
		refused := &api.Error{Code: resp.StatusCode}
		if json.Unmarshal(data, refused) != nil || refused.Reason == "" {
			return out, fmt.Errorf("%s: %s answered %s, which is not from Gatehouse", op, base, resp.Status)
		}
		return out, refused
	}
	if err := json.Unmarshal(data, &out); err != nil {
		return out, fmt.Errorf("%s: the answer is not one of Gatehouse: %w", op, err)
	}
	return out, nil
}

// remote is the service that a command reaches over the network, as its flags say.
type remote struct {
	url       string
	tokenFile string
}

// reachable lets admin commands name a service that runs elsewhere.
func (c *cli) reachable(commands ...*cobra.Command) []*cobra.Command {
	for _, cmd := range commands {
		token := "token-file"
		if cmd.Flags().Lookup(token) != nil {
			token = "admin-token-file" // the command's own is the token that it is about
		}
		f := cmd.PersistentFlags()
		f.StringVar(&c.remote.url, "url", "", "address of the service, such as https://gatehouse.example.com (default: the one on this host, by its socket)")
		f.StringVar(&c.remote.tokenFile, token, "", "file with the token for administration that --url gets; - for standard input (default: $GATEHOUSE_TOKEN, then that of gatehouse login --admin)")
	}
	return commands
}

// remotely carries out an admin operation over the network, with a token for administration.
func remotely[Resp any](ctx context.Context, c *cli, op string, req any) (Resp, error) {
	var none Resp
	base, err := c.serviceURL(c.remote.url)
	if err != nil {
		return none, err
	}
	token, err := c.bearer(ctx, c.remote.tokenFile, loginFlags{admin: true, service: c.remote.url})
	if err != nil {
		return none, fmt.Errorf("%w\nFor administration: gatehouse login --admin, or give a token for it by --token-file F, - for standard input, or $GATEHOUSE_TOKEN", err)
	}
	resp, err := post[Resp](ctx, &http.Client{Timeout: remoteTimeout}, base, op, token, req)
	if refused, ok := errors.AsType[*api.Error](err); ok && refused.Reason == string(policy.TokenExpired) {
		return none, fmt.Errorf("%w\nFor administration: gatehouse login --admin", err)
	}
	return resp, err
}

// local carries out an admin operation: at the service that --url names, else through the socket of
// the running service, or, when nothing serves, on the store itself.
func local[Req, Resp any](ctx context.Context, c *cli, op string, req Req,
	direct func(*provision.Service) func(context.Context, provision.Caller, Req) (Resp, error)) (Resp, error) {
	var zero Resp
	if c.remote.url != "" {
		return remotely[Resp](ctx, c, op, req)
	}
	if c.remote.tokenFile != "" {
		return zero, fmt.Errorf("%w: the token is for a service elsewhere: name it with --url; on this host none is needed", errUsage)
	}
	socket := config.Socket(c.configPath(), c.env)
	resp, err := post[Resp](ctx, provision.Client(socket), "http://local", op, "", req)
	if err == nil || !provision.NobodyServes(err) {
		return resp, err
	}
	cfg, err := c.load()
	if err != nil {
		return zero, err
	}
	if direct == nil {
		return zero, fmt.Errorf("nothing serves %s: start the service with gatehouse serve", socket)
	}
	svc, caller, closeStore, err := c.openDirect(ctx, cfg)
	if err != nil {
		return zero, err
	}
	defer closeStore()
	return direct(svc)(ctx, caller, req)
}

// loopbackURL reports whether an http address stays on this host.
func loopbackURL(raw string) bool {
	u, err := url.Parse(raw)
	if err != nil {
		return false
	}
	if u.Hostname() == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(u.Hostname())
	return err == nil && ip.IsLoopback()
}
