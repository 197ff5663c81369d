package api

import "time"

// Member is who may log in to an account with a role of its plan, or whoever takes an invitation.
type Member struct {
	ID   string `json:"id"`
	Role string `json:"role"`
	// State is member, added (it has to accept) or invited.
	State   string `json:"state"`
	Issuer  string `json:"issuer,omitempty"` // exact iss
	Subject string `json:"subject,omitempty"`
	Name    string `json:"name,omitempty"` // principal name
	// Match means the identities of the issuer whose claims match, as in a binding's match.
	Match    map[string][]any `json:"match,omitempty"`
	Email    string           `json:"email,omitempty"` // whom it was meant for
	Until    time.Time        `json:"until,omitzero"`  // end of the invitation or the membership
	Accepted time.Time        `json:"accepted,omitzero"`
	By       string           `json:"by,omitempty"` // who added it
}

// MemberAddRequest gives an identity, somebody known by e-mail address, or whoever of an issuer has matching claims, a role.
type MemberAddRequest struct {
	Account string `json:"account"`
	Role    string `json:"role"`
	Issuer  string `json:"issuer"` // its configured name or exact URL
	// One of the three says who. Whoever is named by subject or email has to accept with [MemberAcceptRequest].
	Subject        string           `json:"subject,omitempty"`
	Email          string           `json:"email,omitempty"` // of an issuer with trust_email
	Match          map[string][]any `json:"match,omitempty"`
	Until          time.Time        `json:"until,omitzero"` // end of the membership; zero: none
	IdempotencyKey string           `json:"idempotency_key,omitempty"`
}

// MemberInviteRequest makes an invitation: whoever has its secret may take it, once.
type MemberInviteRequest struct {
	Account string `json:"account"`
	Role    string `json:"role"`
	// Email limits it to whom an issuer with trust_email says to have that address.
	Email string `json:"email,omitempty"`
	TTL   string `json:"ttl,omitempty"` // how long it may be taken, such as 24h, up to 720h; without it 168h
	// IdempotencyKey makes the call happen once. Sent again it is told what was made, and not the secret: that is kept nowhere.
	IdempotencyKey string `json:"idempotency_key,omitempty" max:"128"`
}

// MemberInvitation is an invitation. The secret is shown this once, and kept nowhere.
type MemberInvitation struct {
	Member  Member `json:"member"`
	Account string `json:"account"` // name
	Secret  string `json:"secret"`
}

// MemberAcceptRequest takes an invitation, or the membership that an owner gave the caller.
type MemberAcceptRequest struct {
	Account string `json:"account"`          // name or id
	Secret  string `json:"secret,omitempty"` // of an invitation
	// IdempotencyKey gives the first answer again when the same call is repeated.
	IdempotencyKey string `json:"idempotency_key,omitempty" max:"128"`
}

// Membership is what the caller is in an account.
type Membership struct {
	Name    string   `json:"name"`    // of the account
	Account string   `json:"account"` // id
	State   string   `json:"state"`   // of the account
	Members []Member `json:"members"` // that were accepted now
}

// MemberRemoveRequest removes a member or an invitation, and ends what it has opened.
type MemberRemoveRequest struct {
	Account string `json:"account"`
	ID      string `json:"id"`
	// IdempotencyKey gives the first answer again when the same call is repeated.
	IdempotencyKey string `json:"idempotency_key,omitempty" max:"128"`
}

// MemberRemoval says what was removed and closed.
type MemberRemoval struct {
	Member  Member `json:"member"`
	Closed  int    `json:"closed"`  // connections; those that come up meanwhile are closed a little later
	Revoked int    `json:"revoked"` // keys of direct users
	// Unanswered are the servers that did not answer: what is there ends with its credential.
	Unanswered []string `json:"unanswered,omitempty"`
}

// MemberListRequest lists the members of an account.
type MemberListRequest struct {
	Account string `json:"account"`
	Limit   int    `json:"limit,omitempty"`
	Cursor  string `json:"cursor,omitempty"`
}

// MembersPage is one page of members; an empty cursor means the last.
type MembersPage struct {
	Members []Member `json:"members"`
	Cursor  string   `json:"cursor,omitempty"`
}
