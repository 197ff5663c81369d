package setup

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// ErrOptions marks options that no set-up can be made from. The error holds one line
// for each of them.
var ErrOptions = errors.New("no set-up can be made from these options")

// MaxServers bounds Options.Servers: more servers than this are written by tools of
// their own, not by init.
const MaxServers = 9

// Options chooses what [New] makes. The zero value is a good set-up for one server on
// this machine.
type Options struct {
	Name    string // of the operator and the cluster; default "gatehouse"
	Account string // name of the first application account; default "APP"
	Servers int    // 1 (default), or 3 to MaxServers as one cluster

	// Host is the name or address under which clients and Gatehouse reach the servers;
	// default: 127.0.0.1, or what TLSCert is made out to.
	Host string
	// Listen is the address that the servers listen on for clients; default: all of them
	// with TLS, loopback without, because tokens must not cross a network in the clear.
	Listen string
	Ports  []Ports // one for each server; default: 4222, 6222, 8222, 9222 and up

	TLSCert, TLSKey string   // files, for clients and WebSocket
	TLSCA           string   // file that verifies TLSCert; default: what this machine trusts
	Origins         []string // web pages that may open WebSocket connections; default: same origin only

	ConfigMode bool // no operator: accounts and users are in the servers' files
	// Resolver is what the servers keep account claims in: full (default), url or memory.
	Resolver    string
	NoXKey      bool // leave requests and answers of the callout unsealed
	NoJetStream bool

	Service
}

// Service chooses what gatehouse.yaml says, for [New] and [Into] alike.
type Service struct {
	Store   string  // default sqlite:gatehouse.db
	HTTP    string  // address of http.listen; default 127.0.0.1:8420
	Metrics string  // address of metrics.listen; default 127.0.0.1:8421
	Issuer  *Issuer // whose tokens are let in; nil writes an example that is commented out
	Policy  string  // YAML of roles and bindings in place of the ones that New would write
}

// Issuer is an OIDC provider whose tokens are to be accepted.
type Issuer struct {
	Name       string   // 1 to 16 of a-z and 0-9
	URL        string   // exactly as the tokens' iss claim has it
	Audiences  []string // at least one
	Algorithms []string // default: the asymmetric ones that discovery names
	ClientID   string   // for gatehouse login; may be empty
	// AdminClientID is for gatehouse login --admin, and what the tokens carry in aud that it gets; may be empty.
	AdminClientID string
	Display       []string // claims that people are known by in the audit trail; may be empty
}

// Ports are the TCP ports of one server.
type Ports struct {
	Client, Cluster, Monitor, WebSocket int
}

var (
	plainName  = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_-]{0,62}$`)
	issuerName = regexp.MustCompile(`^[a-z0-9]{1,16}$`)
)

// Names of the accounts that every set-up has, and of key files that an application
// account's own file must not collide with.
const (
	systemName  = "SYS"
	calloutName = "AUTH"
	lobbyName   = "LOBBY"
)

// What Options.Resolver may be.
const (
	fullResolver   = "full"
	urlResolver    = "url"
	memoryResolver = "memory"
)

var reservedNames = []string{systemName, calloutName, lobbyName, "CALLOUT", "SYSTEM", "OPERATOR", "OPERATOR-SIGNING"}

// problems collects what is wrong with options, so that all of it is said at once.
type problems []error

func (p *problems) addf(format string, args ...any) { *p = append(*p, fmt.Errorf(format, args...)) }

func (p problems) err() error {
	if len(p) == 0 {
		return nil
	}
	return fmt.Errorf("%w:\n%w", ErrOptions, errors.Join(p...))
}

// complete returns o with its defaults filled in, or an error that wraps [ErrOptions].
// It reads the certificate, to know what it is made out to.
func (o Options) complete() (Options, error) {
	var bad problems
	o.Name = cmp.Or(o.Name, "gatehouse")
	o.Account = cmp.Or(o.Account, "APP")
	o.Servers = cmp.Or(o.Servers, 1)
	o.Resolver = cmp.Or(o.Resolver, fullResolver)
	switch {
	case o.Resolver != fullResolver && o.Resolver != urlResolver && o.Resolver != memoryResolver:
		bad.addf("resolver %q: use full, url or memory", o.Resolver)
	case o.Resolver != fullResolver && o.ConfigMode:
		bad.addf("resolver %q: servers without an operator have none", o.Resolver)
	}
	if !plainName.MatchString(o.Name) {
		bad.addf("name %q: use a letter, then up to 62 letters, digits, - and _", o.Name)
	}
	if !plainName.MatchString(o.Account) {
		bad.addf("account %q: use a letter, then up to 62 letters, digits, - and _", o.Account)
	} else if slices.Contains(reservedNames, strings.ToUpper(o.Account)) {
		bad.addf("account %q: the name is taken by an account or key of the set-up itself: choose another", o.Account)
	}
	if o.Servers < 1 || o.Servers == 2 || o.Servers > MaxServers {
		bad.addf("servers %d: make 1, or 3 to %d (two cannot elect a JetStream leader when one is down)", o.Servers, MaxServers)
	} else {
		o.completePorts(&bad)
	}
	for _, origin := range o.Origins {
		if u, err := url.Parse(origin); err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.Path != "" || u.RawQuery != "" {
			bad.addf("origin %q: write scheme and host only, such as https://portal.example.com", origin)
		}
	}
	o.completeTLS(&bad)
	o.Host = cmp.Or(o.Host, "127.0.0.1")
	if strings.ContainsAny(o.Host, " ,/@\"\\") {
		bad.addf("host %q: write one name or address, without port", o.Host)
	}
	if _, err := netip.ParseAddr(o.Listen); err != nil {
		bad.addf("listen %q: write one IP address, without port", o.Listen)
	}
	o.Service = o.Service.complete(&bad)
	return o, bad.err()
}

func (o *Options) completePorts(bad *problems) {
	if len(o.Ports) == 0 {
		for i := range o.Servers {
			o.Ports = append(o.Ports, Ports{Client: 4222 + i, Cluster: 6222 + i, Monitor: 8222 + i, WebSocket: 9222 + i})
		}
		return
	}
	if len(o.Ports) != o.Servers {
		bad.addf("ports: %d sets for %d servers: give one for each", len(o.Ports), o.Servers)
		return
	}
	seen := map[int]bool{}
	for i, p := range o.Ports {
		all := []int{p.Client, p.Monitor, p.WebSocket}
		if o.Servers > 1 {
			all = append(all, p.Cluster)
		}
		for _, port := range all {
			if port < 1 || port > 65535 {
				bad.addf("ports of server %d: %d is not a TCP port", i+1, port)
			} else if seen[port] {
				bad.addf("ports of server %d: %d is given twice", i+1, port)
			}
			seen[port] = true
		}
	}
}

func (o *Options) completeTLS(bad *problems) {
	if (o.TLSCert == "") != (o.TLSKey == "") {
		bad.addf("TLS: give the certificate and its key together")
		return
	}
	if o.TLSCert == "" {
		if o.TLSCA != "" {
			bad.addf("TLS: a certificate authority is of no use without certificate and key")
		}
		o.Listen = cmp.Or(o.Listen, "127.0.0.1")
		return
	}
	o.Listen = cmp.Or(o.Listen, "0.0.0.0")
	for _, file := range []*string{&o.TLSCert, &o.TLSKey, &o.TLSCA} {
		if *file == "" {
			continue
		}
		path, err := filepath.Abs(*file)
		if err != nil {
			bad.addf("TLS: %w", err)
			return
		}
		*file = path
	}
	pair, err := tls.LoadX509KeyPair(o.TLSCert, o.TLSKey)
	if err != nil {
		bad.addf("TLS certificate %s with key %s: %w", o.TLSCert, o.TLSKey, err)
		return
	}
	if o.Host == "" {
		o.Host = certificateHost(pair.Leaf)
		return
	}
	if err := pair.Leaf.VerifyHostname(o.Host); err != nil {
		bad.addf("host %q: clients will not accept the certificate %s: %w", o.Host, o.TLSCert, err)
	}
}

// certificateHost returns a host that cert is made out to, loopback when it is among
// them and the empty string when there is none without a wildcard.
func certificateHost(cert *x509.Certificate) string {
	for _, host := range []string{"127.0.0.1", "localhost"} {
		if cert.VerifyHostname(host) == nil {
			return host
		}
	}
	for _, name := range cert.DNSNames {
		if !strings.Contains(name, "*") {
			return name
		}
	}
	for _, ip := range cert.IPAddresses {
		return ip.String()
	}
	return ""
}

func (s Service) complete(bad *problems) Service {
	s.Store = cmp.Or(s.Store, "sqlite:gatehouse.db")
	s.HTTP = cmp.Or(s.HTTP, "127.0.0.1:8420")
	s.Metrics = cmp.Or(s.Metrics, "127.0.0.1:8421")
	for _, listen := range []string{s.HTTP, s.Metrics} {
		if _, _, err := net.SplitHostPort(listen); err != nil {
			bad.addf("listen address %q: write host:port", listen)
		}
	}
	if s.Issuer != nil {
		s.Issuer.check(bad)
	}
	return s
}

func (i *Issuer) check(bad *problems) {
	if !issuerName.MatchString(i.Name) {
		bad.addf("issuer name %q: use 1 to 16 of a-z and 0-9", i.Name)
	} else if i.Name == "prog" {
		bad.addf("issuer name %q: it is reserved for programs: choose another", i.Name)
	}
	if u, err := url.Parse(i.URL); err != nil || u.Host == "" || (u.Scheme != "https" && (u.Scheme != "http" || !loopback(u.Hostname()))) {
		bad.addf("issuer URL %q: write it exactly as the iss claim of its tokens, such as https://login.example.com (http on loopback only)", i.URL)
	}
	if len(i.Audiences) == 0 || slices.Contains(i.Audiences, "") {
		bad.addf("issuer %s: name the audience that its tokens for NATS carry", i.Name)
	}
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// clientURL returns the comma-separated URLs under which clients reach all servers.
func (o Options) clientURL() string {
	scheme := "nats"
	if o.TLSCert != "" {
		scheme = "tls"
	}
	urls := make([]string, len(o.Ports))
	for i, p := range o.Ports {
		urls[i] = scheme + "://" + net.JoinHostPort(o.Host, strconv.Itoa(p.Client))
	}
	return strings.Join(urls, ",")
}
