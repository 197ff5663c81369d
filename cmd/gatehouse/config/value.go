package config

import (
	"encoding"
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/gatehouse-nats/gatehouse/account"
	"github.com/gatehouse-nats/gatehouse/policy"
)

// form is how a scalar was written.
type form uint8

const (
	asText form = iota
	asNumber
	asBool
	asVariable // in the environment, which has no types
)

// scalar is a type that is written as one YAML scalar. An error says what is wrong and
// what to write, and holds the text only when it is no secret.
type scalar interface {
	parse(text string, f form) error
}

// wantText refuses what YAML read as something else than text.
func wantText(text string, f form) error {
	switch f {
	case asNumber:
		return fmt.Errorf("%s is a number to YAML: put it in quotes", text)
	case asBool:
		return fmt.Errorf("%s is a truth value to YAML: put it in quotes", text)
	default:
		return nil
	}
}

// Duration is a time span written with units, such as 90d, 1h30m or 10s.
type Duration time.Duration

const day = 24 * time.Hour

func (d *Duration) parse(text string, f form) error {
	v, err := parseDuration(text)
	switch {
	case err != nil && (f == asNumber || strings.Trim(text, "0123456789") == ""):
		return fmt.Errorf("%s has no unit: write %ss for seconds, or m, h, d", text, text)
	case err != nil:
		return fmt.Errorf("%s is not a duration: write one such as 10s, 5m, 1h30m or 90d", quoted(text))
	}
	*d = Duration(v)
	return nil
}

func parseDuration(text string) (time.Duration, error) {
	days, rest, found := strings.Cut(text, "d")
	if !found {
		return time.ParseDuration(text)
	}
	n, err := strconv.ParseUint(days, 10, 16)
	if err != nil {
		return 0, err
	}
	if rest == "" {
		return time.Duration(n) * day, nil
	}
	v, err := time.ParseDuration(rest)
	if err == nil && (v < 0 || v >= day) {
		err = errors.New("hours beside days are under 24")
	}
	return time.Duration(n)*day + v, err
}

// String returns the duration as it would be written.
func (d Duration) String() string {
	v := time.Duration(d)
	if v >= day && v%day == 0 {
		return strconv.Itoa(int(v/day)) + "d"
	}
	s := v.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// MarshalText returns the duration as it would be written.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// Size is a number of bytes, written plainly or with a unit, such as 16KiB or 1GiB.
type Size int64

var sizeUnits = []struct {
	name  string
	bytes int64
}{
	{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10},
	{"TB", 1e12}, {"GB", 1e9}, {"MB", 1e6}, {"kB", 1e3}, {"B", 1},
}

func (s *Size) parse(text string, _ form) error {
	number, factor := text, int64(1)
	for _, u := range sizeUnits {
		if n, ok := strings.CutSuffix(text, u.name); ok {
			number, factor = strings.TrimSpace(n), u.bytes
			break
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n < 0 || n > math.MaxInt64/factor {
		return fmt.Errorf("%s is not a size: write bytes, or one such as 16KiB, 500MB or 1GiB", quoted(text))
	}
	*s = Size(n * factor)
	return nil
}

// String returns the size as it would be written.
func (s Size) String() string {
	for _, u := range sizeUnits[:4] {
		if int64(s) >= u.bytes && int64(s)%u.bytes == 0 {
			return strconv.FormatInt(int64(s)/u.bytes, 10) + u.name
		}
	}
	return strconv.FormatInt(int64(s), 10)
}

// MarshalText returns the size as it would be written.
func (s Size) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Address is where to listen: a host name or IP address, and a port; port 0 takes a free one.
type Address string

func (a *Address) parse(text string, _ form) error {
	_, port, err := net.SplitHostPort(text)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		return fmt.Errorf("%s is not an address to listen on: write one such as 127.0.0.1:8420", quoted(text))
	}
	*a = Address(text)
	return nil
}

// Loopback reports whether only this host can reach the address.
func (a Address) Loopback() bool {
	host, _, _ := net.SplitHostPort(string(a))
	return loopback(host)
}

func loopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

// Network is an address or a network that clients come from.
type Network struct{ netip.Prefix }

func (n *Network) parse(text string, _ form) error {
	p, err := netip.ParsePrefix(text)
	if err != nil {
		var a netip.Addr
		if a, err = netip.ParseAddr(text); err == nil && a.Zone() == "" {
			p = netip.PrefixFrom(a, a.BitLen())
		}
	}
	switch {
	case !p.IsValid():
		return fmt.Errorf("%s is not an address or network: write one such as 10.0.0.0/8 or 2001:db8::1", quoted(text))
	case p.Addr().Is4In6():
		return fmt.Errorf("%s is an IPv4 address in IPv6 clothes: write it as IPv4", quoted(text))
	case p != p.Masked():
		return fmt.Errorf("%s names a host inside a network: write %s for the network or %s for the host", quoted(text), p.Masked(), p.Addr())
	}
	n.Prefix = p
	return nil
}

// Store is where state is kept. It prints without its password.
type Store struct{ url string }

// Drivers of a [Store].
const (
	SQLite   = "sqlite"
	Postgres = "postgres"
)

func (s *Store) parse(text string, f form) error {
	*s = Store{url: text}
	if path, ok := strings.CutPrefix(text, "sqlite:"); ok {
		if path == "" || strings.HasPrefix(path, "//") || strings.ContainsAny(path, "?#") {
			return errors.New("not a store: write sqlite: and the path of a file, such as sqlite:gatehouse.db")
		}
		return nil
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme != Postgres && u.Scheme != "postgresql" || u.Opaque != "" {
		// The text may hold a password, and so may what url.Parse says.
		return errors.New("not a store: write sqlite:PATH or postgres://USER@HOST/DATABASE")
	}
	if _, has := u.User.Password(); f != asVariable && (has || u.Query().Has("password") || u.Query().Has("sslpassword")) {
		return errors.New("there is a password in the file: put it into a .pgpass file, PGPASSWORD or GATEHOUSE_STORE")
	}
	return nil
}

func (s *Store) load(l *loader, _ string, _ tags) error {
	if path, ok := strings.CutPrefix(s.url, "sqlite:"); ok {
		s.url = "sqlite:" + l.path(path)
	}
	return nil
}

// Driver returns [SQLite] or [Postgres].
func (s Store) Driver() string {
	if strings.HasPrefix(s.url, "sqlite:") {
		return SQLite
	}
	return Postgres
}

// Source returns the path of an SQLite file, or the URL of a PostgreSQL database, which may
// hold a password.
func (s Store) Source() string { return strings.TrimPrefix(s.url, "sqlite:") }

// String returns the store without its password.
func (s Store) String() string {
	u, err := url.Parse(s.url)
	if err != nil || s.Driver() == SQLite {
		return s.url
	}
	u.RawQuery = ""
	return u.Redacted()
}

// GoString keeps the password out of %#v.
func (s Store) GoString() string { return s.String() }

// MarshalText returns the store without its password.
func (s Store) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// MatchValue is one value that a claim may have.
type MatchValue struct {
	policy.Value
	text string
}

func (m *MatchValue) parse(text string, f form) error {
	m.text = text
	switch f {
	case asBool:
		yes := text == "true"
		m.Bool = &yes
	case asNumber:
		n, ok := policy.ParseNumber(strings.TrimPrefix(text, "+"))
		if !ok {
			return fmt.Errorf("%s is not a number that claims can be compared with: write it as in JSON, with at most 40 digits, or as text in quotes", quoted(text))
		}
		m.Number = n
	default:
		g, err := policy.ParseGlob(text)
		if err != nil {
			return err
		}
		m.Text = &g
	}
	return nil
}

// MarshalText returns the value as it was written, after its kind.
func (m MatchValue) MarshalText() ([]byte, error) {
	switch {
	case m.Bool != nil:
		return []byte("bool " + m.text), nil
	case m.Number != nil:
		return []byte("number " + m.Number.RatString()), nil
	default:
		return []byte("text " + m.text), nil
	}
}

var (
	_ scalar                 = (*Duration)(nil)
	_ scalar                 = (*Size)(nil)
	_ scalar                 = (*Address)(nil)
	_ scalar                 = (*Network)(nil)
	_ scalar                 = (*Store)(nil)
	_ scalar                 = (*MatchValue)(nil)
	_ encoding.TextMarshaler = MatchValue{}
)

// Quota is a limit: a number, bytes with or without a unit, or unlimited.
type Quota int64

const unlimited = "unlimited"

func (q *Quota) parse(text string, f form) error {
	if text == unlimited {
		*q = Quota(account.NoLimit)
		return nil
	}
	var s Size
	if err := s.parse(text, f); err != nil {
		return fmt.Errorf("%s is not a limit: write a number, a size such as 1GiB, or unlimited", quoted(text))
	}
	*q = Quota(s)
	return nil
}

// String returns the limit as it would be written.
func (q Quota) String() string {
	if q == Quota(account.NoLimit) {
		return unlimited
	}
	return Size(q).String()
}

// MarshalText returns the limit as it would be written.
func (q Quota) MarshalText() ([]byte, error) { return []byte(q.String()), nil }
