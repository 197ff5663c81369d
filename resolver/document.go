package resolver

import (
	"bytes"
	"crypto/sha512"
	"encoding/base32"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"
)

// document is the payload of an account JWT, taken apart only as far as Gatehouse changes it. Whatever else is
// in it, known to this release or not, comes out of [document.sign] as it went in.
type document struct {
	claims  map[string]json.RawMessage // of the JWT, but nats
	body    map[string]json.RawMessage // nats, but what entries and the fields below hold
	limits  map[string]json.RawMessage
	exports []map[string]json.RawMessage
	entries map[place]json.RawMessage
	says    func() []byte // all of it, rendered once
}

// place is where in account claims an entry is that Gatehouse may change.
type place struct {
	part part
	of   string // of an activation: type and subject of the export
	name string // public key, "*", or the name of a limit
}

type part string

const (
	revocation part = "revocation" // of a user key: the second until which its user JWTs are void
	limit      part = "limit"      // one of limits
	signingKey part = "signing_key"
	activation part = "activation" // of an importing account: the second until which its tokens are void
)

// limits are those that Gatehouse may change, each a number.
var limits = []string{"conn", "leaf", "subs", "payload", "data", "imports", "exports", "mem_storage", "disk_storage", "streams", "consumer"}

// everybody stands for all keys in a list of revocations (jwt/v2, revocation_list.go).
const everybody = jwt.All

// parseDocument takes an account JWT apart. It does not verify the signature: what is parsed comes from servers,
// which have.
func parseDocument(token string) (*document, error) {
	parts := strings.Split(strings.TrimSpace(token), ".")
	if len(parts) != 3 {
		return nil, errors.New("not a JWT")
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return nil, fmt.Errorf("payload: %w", err)
	}
	return parsePayload(payload)
}

// parsePayload takes what an account JWT says apart.
func parsePayload(payload []byte) (*document, error) {
	d := &document{entries: map[place]json.RawMessage{}}
	d.says = sync.OnceValue(func() []byte { return d.render(d.content()) })
	if err := json.Unmarshal(payload, &d.claims); err != nil {
		return nil, fmt.Errorf("payload: %w", err)
	}
	if err := take(d.claims, "nats", &d.body); err != nil {
		return nil, err
	}
	if d.body == nil {
		return nil, errors.New("no claims of an account")
	}
	for _, read := range []func() error{d.readRevocations, d.readLimits, d.readSigningKeys, d.readExports} {
		if err := read(); err != nil {
			return nil, err
		}
	}
	return d, nil
}

// signedBy returns the key that an account JWT is signed with, once its signature has verified.
func signedBy(token string) (string, error) {
	d, err := parseDocument(token)
	if err != nil {
		return "", err
	}
	token = strings.TrimSpace(token)
	end := strings.LastIndex(token, ".")
	signature, err := base64.RawURLEncoding.DecodeString(token[end+1:])
	if err != nil {
		return "", fmt.Errorf("signature: %w", err)
	}
	key, err := nkeys.FromPublicKey(d.issuer())
	if err != nil {
		return "", fmt.Errorf("iss: %w", err)
	}
	return d.issuer(), key.Verify([]byte(token[:end]), signature)
}

// take moves a field out of an object.
func take(from map[string]json.RawMessage, name string, to any) error {
	raw, ok := from[name]
	if !ok {
		return nil
	}
	delete(from, name)
	if err := json.Unmarshal(raw, to); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

func (d *document) readRevocations() error {
	var list map[string]json.RawMessage
	err := take(d.body, "revocations", &list)
	for key, at := range list {
		d.entries[place{part: revocation, name: key}] = at
	}
	return err
}

func (d *document) readLimits() error {
	err := take(d.body, "limits", &d.limits)
	for _, name := range limits {
		if value, ok := d.limits[name]; ok {
			d.entries[place{part: limit, name: name}] = value
			delete(d.limits, name)
		}
	}
	return err
}

// readSigningKeys reads the signing keys, each a public key or, with a scope, an object that has it as key.
func (d *document) readSigningKeys() error {
	var list []json.RawMessage
	if err := take(d.body, "signing_keys", &list); err != nil {
		return err
	}
	for _, raw := range list {
		var name string
		if json.Unmarshal(raw, &name) != nil {
			var scoped struct {
				Key string `json:"key"`
			}
			if err := json.Unmarshal(raw, &scoped); err != nil {
				return fmt.Errorf("signing_keys: %w", err)
			}
			name = scoped.Key
		}
		var compact bytes.Buffer
		if err := json.Compact(&compact, raw); err != nil {
			return fmt.Errorf("signing_keys: %w", err)
		}
		d.entries[place{part: signingKey, name: name}] = compact.Bytes()
	}
	return nil
}

func (d *document) readExports() error {
	err := take(d.body, "exports", &d.exports)
	for _, export := range d.exports {
		var list map[string]json.RawMessage
		if err := take(export, "revocations", &list); err != nil {
			return fmt.Errorf("exports: %w", err)
		}
		for importer, at := range list {
			d.entries[place{activation, exportName(export), importer}] = at
		}
	}
	return err
}

// exportName returns type and subject of an export, which nats-server tells exports apart by.
func exportName(export map[string]json.RawMessage) string {
	return text(export["type"]) + " " + text(export["subject"])
}

// exportsOf returns the names of the exports with a subject, of whichever type.
func (d *document) exportsOf(subject string) []string {
	var names []string
	for _, export := range d.exports {
		if text(export["subject"]) == subject {
			names = append(names, exportName(export))
		}
	}
	return names
}

// text returns a JSON text; "" for what is none.
func text(raw json.RawMessage) (s string) {
	_ = json.Unmarshal(raw, &s)
	return s
}

// number returns a JSON number; 0 for what is none.
func number(raw json.RawMessage) (n int64) {
	_ = json.Unmarshal(raw, &n)
	return n
}

// with returns the document with other entries; what the entries are not is shared.
func (d *document) with(entries map[place]json.RawMessage) *document {
	next := *d
	next.entries = entries
	next.says = sync.OnceValue(func() []byte { return next.render(next.content()) })
	return &next
}

// same reports whether both documents say the same of the account, whoever signed them and when.
func (d *document) same(other *document) bool {
	return bytes.Equal(d.says(), other.says())
}

// content returns the claims but for those that each signature makes anew.
func (d *document) content() map[string]json.RawMessage {
	content := maps.Clone(d.claims)
	for _, name := range []string{"iss", "iat", "jti", "aud"} {
		delete(content, name)
	}
	return content
}

// render returns the payload, in one order, with these claims in the place of its own.
func (d *document) render(claims map[string]json.RawMessage) []byte {
	body := maps.Clone(d.body)
	lists := map[part]map[string]json.RawMessage{}
	ofExport := map[string]map[string]json.RawMessage{}
	for p, value := range d.entries {
		if p.part == activation {
			put(ofExport, p.of, p.name, value)
		} else {
			put(lists, p.part, p.name, value)
		}
	}
	if list := lists[revocation]; list != nil {
		body["revocations"] = encoded(list)
	}
	if limits := maps.Clone(d.limits); limits != nil || lists[limit] != nil {
		if limits == nil {
			limits = map[string]json.RawMessage{}
		}
		maps.Copy(limits, lists[limit])
		body["limits"] = encoded(limits)
	}
	if keys := lists[signingKey]; keys != nil {
		var list []json.RawMessage
		for _, name := range slices.Sorted(maps.Keys(keys)) {
			list = append(list, keys[name])
		}
		body["signing_keys"] = encoded(list)
	}
	if d.exports != nil {
		exports := make([]map[string]json.RawMessage, len(d.exports))
		for i, export := range d.exports {
			exports[i] = maps.Clone(export)
			if list := ofExport[exportName(export)]; list != nil {
				exports[i]["revocations"] = encoded(list)
			}
		}
		body["exports"] = encoded(exports)
	}
	whole := maps.Clone(claims)
	whole["nats"] = encoded(body)
	return encoded(whole)
}

func put[K comparable](lists map[K]map[string]json.RawMessage, key K, name string, value json.RawMessage) {
	if lists[key] == nil {
		lists[key] = map[string]json.RawMessage{}
	}
	lists[key][name] = value
}

// encoded returns v, which is made of JSON alone, with the keys of objects sorted and without blanks.
func encoded(v any) json.RawMessage {
	data, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Errorf("JSON that was read does not encode: %w", err))
	}
	return data
}

// issued returns the second in which the document was signed.
func (d *document) issued() int64 { return number(d.claims["iat"]) }

// issuer returns the operator key that signed the document.
func (d *document) issuer() string { return text(d.claims["iss"]) }

// audience heads the aud of what [document.sign] signs; servers do not look at an account's.
const audience = "gatehouse-"

// ours returns the revision of a document that [document.sign] signed; false for one that another signed, also
// when it was made from ours: the library gives that another jti.
func (d *document) ours() (revision int64, ok bool) {
	tail, ok := strings.CutPrefix(text(d.claims["aud"]), audience)
	if !ok || text(d.claims["jti"]) != d.identifier() {
		return 0, false
	}
	revision, err := strconv.ParseInt(tail, 10, 64)
	return revision, err == nil
}

// identifier returns the hash of all that the document says. The library's jti leaves out what is in nats, so
// that servers take two claims of one second for the same (nats-server server/dirstore.go).
func (d *document) identifier() string {
	claims := maps.Clone(d.claims)
	delete(claims, "jti")
	hash := sha512.Sum512_256(d.render(claims))
	return base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(hash[:])
}

// sign returns the JWT of the document by an operator key, issued at a second that the caller chooses: servers
// give each other the claims with the latest, so it must grow with each.
func (d *document) sign(key nkeys.KeyPair, issued, revision int64) (string, error) {
	public, err := key.PublicKey()
	if err != nil {
		return "", fmt.Errorf("operator signing key: %w", err)
	}
	signed := *d
	signed.claims = d.content()
	signed.claims["iss"], signed.claims["iat"] = encoded(public), encoded(issued)
	signed.claims["aud"] = encoded(audience + strconv.FormatInt(revision, 10))
	signed.claims["jti"] = encoded(signed.identifier())
	head := base64.RawURLEncoding.EncodeToString(encoded(jwt.Header{Type: jwt.TokenTypeJwt, Algorithm: jwt.AlgorithmNkey}))
	token := head + "." + base64.RawURLEncoding.EncodeToString(signed.render(signed.claims))
	signature, err := key.Sign([]byte(token))
	if err != nil {
		return "", fmt.Errorf("operator signing key: %w", err)
	}
	return token + "." + base64.RawURLEncoding.EncodeToString(signature), nil
}
