package gatehouse

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/gatehouse-nats/gatehouse/api"
)

// maxDiscovery bounds what a service says of itself, in bytes.
const maxDiscovery = 1 << 20

// Discover returns what the service at an HTTP address says that clients need to know: issuers, servers and the sentinel. The address
// must be an https one unless it is a loopback one. The client may be nil, which means [http.DefaultClient].
func Discover(ctx context.Context, address string, client *http.Client) (api.Discovery, error) {
	var d api.Discovery
	u, err := serviceURL(address)
	if err != nil {
		return d, err
	}
	if client == nil {
		client = http.DefaultClient
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, u.JoinPath(api.DiscoveryPath).String(), nil)
	if err != nil {
		return d, err
	}
	resp, err := client.Do(r)
	if err != nil {
		return d, fmt.Errorf("gatehouse: ask the service what clients need to know: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxDiscovery))
	if err != nil {
		return d, fmt.Errorf("gatehouse: read what the service says: %w", err)
	}
	if resp.StatusCode != http.StatusOK || json.Unmarshal(body, &d) != nil || len(d.Versions) == 0 {
		return d, fmt.Errorf("gatehouse: %s answered %s, which is not from Gatehouse: give the address that people log in with", r.URL, resp.Status)
	}
	return d, nil
}

// discovered returns the servers' URLs and the options for a service's HTTP address; anything else comes back as it is. What the
// caller's own options say counts.
func discovered(ctx context.Context, address string, opts []Option) (string, []Option, error) {
	if !strings.HasPrefix(address, "https://") && !strings.HasPrefix(address, "http://") {
		return address, opts, nil
	}
	cfg, err := newConfig(opts)
	if err != nil {
		return "", nil, err
	}
	d, err := Discover(ctx, address, cfg.httpClient)
	if err != nil {
		return "", nil, err
	}
	if len(d.NATS) == 0 {
		return "", nil, errors.New("gatehouse: the service does not say where its servers are: configure public.nats there, or connect to a server's URL")
	}
	found := []Option{WithWhoami(address)}
	if d.Sentinel != "" {
		found = append(found, WithSentinel([]byte(d.Sentinel)))
	}
	return strings.Join(d.NATS, ","), append(found, opts...), nil
}
