package api

import "time"

// SessionsRequest asks who is connected. Empty fields do not filter.
type SessionsRequest struct {
	Display string `json:"display,omitempty"` // value of a display claim of an identity, or else a subject
	Issuer  string `json:"issuer,omitempty"`  // name or URL
	Subject string `json:"subject,omitempty"`
	Name    string `json:"name,omitempty"`    // as servers show it: a principal name, or a direct user's public key
	Account string `json:"account,omitempty"` // name or id
	Source  string `json:"source,omitempty"`  // an address or a network
	Binding string `json:"binding,omitempty"` // that gave the grant
	Kind    string `json:"kind,omitempty" enum:"callout direct"`
	Server  string `json:"server,omitempty"`                    // name or id
	CID     uint64 `json:"cid,omitempty"`                       // with the server
	Limit   int    `json:"limit,omitempty" min:"0" max:"10000"` // most sessions of an answer; 0 means 10000
}

// SessionsPage is who is connected, as all servers that answered show it, the oldest connections first.
type SessionsPage struct {
	Sessions []Session `json:"sessions"`
	// Total is how many there are, which may be more than are listed.
	Total int `json:"total"`
	// Unanswered are the servers that did not answer, by name: who is connected there is not known.
	Unanswered []string `json:"unanswered,omitempty"`
}

// Session is a live connection of a user.
type Session struct {
	Name      string    `json:"name"` // as the server shows it
	Kind      string    `json:"kind" enum:"callout direct"`
	Account   string    `json:"account,omitempty"` // configured name, or id
	AccountID string    `json:"account_id,omitempty"`
	Server    string    `json:"server"`
	ServerID  string    `json:"server_id"`
	CID       uint64    `json:"cid"`
	Source    string    `json:"source,omitempty"`
	Type      string    `json:"connection_type,omitempty"`
	Client    string    `json:"client,omitempty"` // library and version
	Since     time.Time `json:"since"`
	// The rest is what is recorded of the login, or of how a direct user's key was obtained.
	Expires   time.Time         `json:"expires,omitzero"`
	Binding   string            `json:"binding,omitempty"` // several with commas
	Issuer    string            `json:"issuer,omitempty"`  // exact iss
	Subject   string            `json:"subject,omitempty"`
	Display   map[string]string `json:"display,omitempty"`
	Program   string            `json:"program,omitempty"`
	RequestID string            `json:"request_id,omitempty"`
}

// KickRequest closes connections without revoking anything: whoever may come back does.
type KickRequest struct {
	SessionsRequest
	// All must be set to close every connection that Gatehouse knows of.
	All    bool   `json:"all,omitempty"`
	Reason string `json:"reason" max:"1024"`
	// DryRun closes nothing, and says what would be closed.
	DryRun bool `json:"dry_run,omitempty"`
	// IdempotencyKey gives the first answer again when the same call is repeated.
	IdempotencyKey string `json:"idempotency_key,omitempty" max:"128"`
}

// KickResult says what was closed.
type KickResult struct {
	Found  int `json:"found"`
	Closed int `json:"closed"` // others of those found had gone by themselves
	// Unanswered are the servers that did not answer: what is there was not closed.
	Unanswered []string `json:"unanswered,omitempty"`
}
