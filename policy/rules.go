package policy

import (
	"crypto/sha256"
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// Rules are what the configuration says: validated, immutable, ready to decide with.
type Rules struct {
	// Version identifies the configuration that the rules came from; audit rows carry it.
	Version string
	// Leeway is the clock difference allowed between issuers and Gatehouse.
	Leeway time.Duration
	// Accounts by name: where a grant can lead.
	Accounts map[string]*Account
	// Issuers are the URLs of the configured issuers by name.
	Issuers map[string]string
	// Display are the claims that people are known by, by issuer name; audit rows carry them.
	Display map[string][]ClaimPath
	// Recorded are the claims that audit rows carry, by issuer name, so that a login can be decided
	// anew; none where they are not to be recorded.
	Recorded map[string]*ClaimSet
	// Bindings by issuer name, so that a decision never reads those of other issuers: those that give a
	// role in an account.
	Bindings map[string][]*Binding
	// Admins are the bindings that give rights of administration, by issuer name.
	Admins map[string][]*Binding
	// Lobby are the bindings into the lobby account, by issuer name: they count where no other binding gives
	// an account, and where the client names [LobbyName].
	Lobby map[string][]*Binding
	// SignUps are the bindings that let sign up for self-service accounts, by issuer name.
	SignUps map[string][]*Binding
	// Creates are the bindings that lead to accounts by claims, by issuer name: the first login makes one.
	Creates map[string][]*Binding
	// Plans of self-service accounts by name.
	Plans map[string]*Plan

	// indexes of the lists above, by where their first binding stands; see [Rules.Index].
	indexes map[**Binding]*bindingIndex
}

// LobbyName is what clients name the lobby account, in which users may only call operations.
const LobbyName = "LOBBY"

// Account is a NATS account that a grant can name.
type Account struct {
	Name string
	ID   string // what the servers know it by: its public key, or its name when ByName
	// ByName says that the servers have no operator: users are addressed to the account by name.
	ByName bool
	// SigningKeys are the public keys that Gatehouse may sign its users with, newest first.
	SigningKeys []string
}

// hash returns what stands for the account in acknowledgements (nats-server server/events.go, getHash).
func (a *Account) hash() string {
	const digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	sum := sha256.Sum256([]byte(a.ID))
	hash := make([]byte, 8)
	for i := range hash {
		hash[i] = digits[int(sum[i])%len(digits)]
	}
	return string(hash)
}

// Role is a named set of permissions.
type Role struct {
	Name      string
	Publish   PermissionRules
	Subscribe PermissionRules
	Respond   Respond
	// Scoped is set where a scoped signing key holds the permissions; the role has none of its own then.
	Scoped *ScopedKey
}

// PermissionRules are the subjects that a role allows and denies; deny wins.
type PermissionRules struct {
	Allow []Template
	Deny  []Template
}

// Respond lets a user publish to the reply subject of each message that it gets, whatever
// its publish rules say of that subject. The zero value lets it not.
type Respond struct {
	Max int           // replies to one message
	TTL time.Duration // from the message's arrival to the last of them
}

// unite returns the more generous of the two in each respect.
func (r Respond) unite(other Respond) Respond {
	return Respond{Max: max(r.Max, other.Max), TTL: max(r.TTL, other.TTL)}
}

// Binding gives identities of one issuer whose claims match a grant.
type Binding struct {
	Name            string
	Issuer          string
	Match           []Condition      // all must hold; none means every identity of the issuer
	When            Expression       // must hold too; nil means nothing more is asked
	Source          []netip.Prefix   // where the client may connect from; none means anywhere
	ConnectionTypes []ConnectionType // none means all but leaf nodes
	RequireKey      bool             // only for tokens that are bound to a key
	Grant           Grant            // of those in [Rules.Bindings]
	Direct          *Direct          // terms for direct users with the grant; nil permits none
	Rights          []Right          // of those in [Rules.Admins]
	SignUp          []string         // plans; of those in [Rules.SignUps], and of a backend that acts for others
	Create          *Create          // of those in [Rules.Creates]
	OnBehalf        bool             // acts for others, of those in [Rules.Admins]
	TTL             time.Duration    // longest life of a credential, over 0
	Until           time.Time        // when what it gives ends; zero: never
}

// gives says in words what the binding gives.
func (b *Binding) gives() string {
	if b.Grant.Role != nil {
		text := "gives role " + b.Grant.Role.Name + " in account " + b.Grant.Account.Name
		if d := b.Direct; d != nil {
			text += fmt.Sprintf(", to direct users too (%d keys, %s each)", d.Keys, d.TTL)
		}
		return text
	}
	switch {
	case len(b.Rights) > 0:
		return "gives tokens for administration the rights " + joined(b.Rights)
	case b.OnBehalf:
		return "lets tokens for administration act for others, under the plans " + strings.Join(b.SignUp, ", ")
	case b.Create != nil:
		return "leads to account " + b.Create.Name.String() + ", which the first login makes under plan " + b.Create.Plan
	case len(b.SignUp) > 0:
		return "lets sign up for an account under the plans " + strings.Join(b.SignUp, ", ")
	default:
		return "gives nothing but the lobby"
	}
}

// Expression is a condition on claims that says more than values of single ones: CEL in package
// policy/expr. It is a pure function of the claims, and two that are written alike are the same one.
type Expression interface {
	// Holds reports whether the claims meet it; an error means that they do not.
	Holds(claims map[string]any) (bool, error)
	// Reads returns the claims that it looks at, or says that it looks at claims as a whole.
	Reads() (paths []ClaimPath, whole bool)
	// String returns it as it was written.
	String() string
}

// Grant is what a binding gives: a role in an account.
type Grant struct {
	Account *Account
	Role    *Role
}

// ConnectionType is how a client reached nats-server.
type ConnectionType string

// The connection types that a server reports to the callout. It does not tell MQTT
// over WebSocket from MQTT, nor leaf nodes over WebSocket from leaf nodes
// (nats-server server/client.go, clientTypeString).
const (
	Standard  ConnectionType = "standard"
	WebSocket ConnectionType = "websocket"
	MQTT      ConnectionType = "mqtt"
	LeafNode  ConnectionType = "leafnode"
)

// ConnectionTypes lists the valid connection types.
func ConnectionTypes() []ConnectionType {
	return []ConnectionType{Standard, WebSocket, MQTT, LeafNode}
}

// Accepts reports whether the binding is meant for connections of type t. Leaf nodes
// must be named: one such login connects a whole foreign account.
func (b *Binding) Accepts(t ConnectionType) bool {
	if len(b.ConnectionTypes) == 0 {
		return t != LeafNode
	}
	for _, ct := range b.ConnectionTypes {
		if ct == t {
			return true
		}
	}
	return false
}

// Admits reports whether the binding is meant for clients at source. An address that is
// not known (the zero Addr) satisfies only a binding that asks for none.
func (b *Binding) Admits(source netip.Addr) bool {
	if len(b.Source) == 0 {
		return true
	}
	source = source.Unmap()
	for _, p := range b.Source {
		if p.Contains(source) {
			return true
		}
	}
	return false
}

// claims returns the paths that the role's subjects and tags are filled in from.
func (r *Role) claims() []ClaimPath {
	var paths []ClaimPath
	for _, list := range r.templates() {
		for _, t := range list {
			paths = append(paths, t.Claims()...)
		}
	}
	return paths
}

// templates returns the lists of what the role fills in.
func (r *Role) templates() [][]Template {
	lists := [][]Template{r.Publish.Allow, r.Publish.Deny, r.Subscribe.Allow, r.Subscribe.Deny}
	if r.Scoped != nil {
		lists = append(lists, r.Scoped.Tags)
	}
	return lists
}
