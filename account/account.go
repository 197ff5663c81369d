// Package account is the domain of self-service accounts: what one is, what may become of it, and what its
// plan allows. It is pure: no I/O, no clock, no logger.
package account

import (
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-nats/gatehouse/policy"
)

// State is where an account is in its life. A suspension is no state: it is a revocation.
type State string

// The states.
const (
	Requested State = "requested" // waits for the approval of an admin; no server knows it
	Creating  State = "creating"  // stored, but not applied on every server yet: nobody is let in
	Active    State = "active"    // every server stores it and has applied it at least once
	Published State = "published" // as active, but servers store nothing: one that starts anew has to be given it again
	Deleting  State = "deleting"  // closed; until DeleteAt it can be had back
	Deleted   State = "deleted"   // gone; the record stays, so that the id is never made again
)

// Account is a self-service account. The store keeps it as one record that is replaced whole.
type Account struct {
	ID       string `json:"id"` // public identity key (A…)
	Name     string `json:"name"`
	State    State  `json:"state"`
	Plan     string `json:"plan"`
	Revision int64  `json:"revision"` // counts the changes of the record from 1
	// Applied is the newest revision that all servers were seen to have applied; 0 is none.
	Applied int64 `json:"applied,omitempty"`
	// Issued is the second in which the claims were signed that all servers were seen to have applied; 0 is none.
	Issued int64 `json:"issued,omitempty"`
	// Signer is the public operator key that signed those.
	Signer string `json:"signer,omitempty"`
	// Given are the limits of the plan in those, which hold on when the plan is taken out of the configuration; nil where they are not known.
	Given *Limits `json:"given,omitempty"`
	// Adopted says that others made the account: what Gatehouse does not own of its claims stays theirs.
	Adopted bool `json:"adopted,omitempty"`

	// Origin is what a first login made the account from; nil when somebody signed up for it.
	Origin *Origin `json:"origin,omitempty"`

	Owner       Person   `json:"owner"`
	Description string   `json:"description,omitempty"`
	Tags        []string `json:"tags,omitempty"`
	// Limits are what an admin gave in place of the plan's.
	Limits *LimitsPatch `json:"limits,omitempty"`
	// Members are the owner too; bounded by [MaxMembers].
	Members []Member     `json:"members,omitempty"`
	Keys    []SigningKey `json:"keys,omitempty"` // newest first
	Exports []Export     `json:"exports,omitempty"`
	Imports []Import     `json:"imports,omitempty"`
	// Activations are of private exports; bounded by [MaxActivations].
	Activations []Activation `json:"activations,omitempty"`

	// Imported counts how often other accounts have come to import from this one, which is no change of the record.
	Imported int64 `json:"imported,omitempty"`
	// Leaving are members whose membership has ended, until what they had open is closed; the newest [MaxLeaving].
	Leaving []Left `json:"leaving,omitempty"`

	Created  time.Time `json:"created"`
	Updated  time.Time `json:"updated"`
	DeleteAt time.Time `json:"delete_at,omitzero"`
	// Closing is the id of the suspension that keeps everybody out while the account is being deleted.
	Closing string `json:"closing,omitempty"`
}

// Origin is what a first login made an account from, and by which binding.
type Origin struct {
	policy.Origin
	Binding string `json:"binding"`
}

// MaxMembers bounds the members of an account, invitations included.
const MaxMembers = 1000

// Person is an identity as records name it.
type Person struct {
	policy.Principal
	Name string `json:"name,omitempty"` // principal name
}

// Member is who may log in to an account with a role of its plan: an identity, whoever of an issuer has matching
// claims, or, while nobody has taken it, whoever has the secret of an invitation.
type Member struct {
	ID   string `json:"id"`
	Role string `json:"role"`
	Person
	// Match is what [policy.FormatMatch] makes of claims; the issuer is set beside it.
	Match string `json:"match,omitempty"`
	// Invitation is the SHA-256 in hexadecimal of the one-time secret, until somebody takes it.
	Invitation string    `json:"invitation,omitempty"`
	Email      string    `json:"email,omitempty"` // that the invitation is for; empty: whoever has the secret
	Until      time.Time `json:"until,omitzero"`  // end of the invitation or the membership
	Accepted   time.Time `json:"accepted,omitzero"`
	By         string    `json:"by,omitempty"` // actor who added it
	// From is the identity that added it, or on whose behalf it was; nobody in the case of an admin.
	From policy.Principal `json:"from,omitzero"`
}

// OwnerRole is the role of who may manage the account. It can be had beside any role of the plan.
const OwnerRole = "owner"

// Stage is how far a signing key is in its life.
type Stage string

// The stages. A key is signed with only while it is current.
const (
	Added   Stage = "added"   // in the claims, not confirmed on every server yet
	Current Stage = "current" // signs
	Leaving Stage = "leaving" // signs no more; in the claims until the last credential of it has ended
)

// SigningKey is the public part of a signing key; its sealed seed is a record of its own.
type SigningKey struct {
	Public string    `json:"public"`
	Stage  Stage     `json:"stage"`
	Since  time.Time `json:"since"`
	// Until is when the last credential that it signed ends, once it is leaving.
	Until time.Time `json:"until,omitzero"`
}

// ExportType tells streams from services, as account claims word it.
type ExportType string

// The types of exports and imports.
const (
	StreamType  ExportType = "stream"
	ServiceType ExportType = "service"
)

// Export is what an account offers to others.
type Export struct {
	Name        string     `json:"name"`
	Subject     string     `json:"subject"`
	Type        ExportType `json:"type"`
	Private     bool       `json:"private,omitempty"` // importers need an activation token
	Response    string     `json:"response,omitempty"`
	Description string     `json:"description,omitempty"`
}

// Import is what an account uses of another's exports.
type Import struct {
	Name    string     `json:"name"`
	Account string     `json:"account"` // id of the account that exports
	Subject string     `json:"subject"` // in that account
	Local   string     `json:"local,omitempty"`
	Type    ExportType `json:"type"`
	Share   bool       `json:"share,omitempty"`
	Token   string     `json:"token,omitempty"` // activation token, of a private export
}

// InUse reports whether members are let in.
func (s State) InUse() bool { return s == Active || s == Published }

// Lives reports whether servers should hold the account.
func (a *Account) Lives() bool {
	return a.State == Creating || a.State.InUse() || a.State == Deleting
}

// Current returns the public keys that may sign users of the account, newest first.
func (a *Account) Current() []string {
	var keys []string
	for _, k := range a.Keys {
		if k.Stage == Current {
			keys = append(keys, k.Public)
		}
	}
	return keys
}

// IsOwner reports whether the identity is an owner who has accepted.
func (a *Account) IsOwner(p policy.Principal) bool {
	return slices.ContainsFunc(a.Members, func(m Member) bool {
		return m.Role == OwnerRole && m.Principal == p && !m.Accepted.IsZero()
	})
}

// Entry returns what decisions know of the account.
func (a *Account) Entry() policy.Entry {
	e := policy.Entry{
		Account: policy.Account{Name: a.Name, ID: a.ID, SigningKeys: a.Current()},
		Plan:    a.Plan, State: string(a.State), Open: a.State.InUse() && a.Applied > 0, Coming: a.State == Creating,
	}
	if a.Origin != nil {
		e.Origin = &a.Origin.Origin
	}
	for _, m := range a.Members {
		if m.Invitation != "" || m.Accepted.IsZero() {
			continue
		}
		if entry, err := policy.NewMembership(m.ID, m.Role, m.Principal, m.Match, m.Until); err == nil {
			e.Members = append(e.Members, entry) // one whose claims cannot be read lets nobody in
		}
	}
	return e
}

// Key returns the name as names are compared: in lower case.
func Key(name string) string { return strings.ToLower(name) }
