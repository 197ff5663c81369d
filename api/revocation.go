package api

import "time"

// Target is whom or what a revocation concerns. Which fields are set says what sort of thing that is:
// issuer and subject an identity, the issuer alone all of its identities, account alone an account.
type Target struct {
	Issuer  string `json:"issuer,omitempty"`  // its configured name or exact URL; in answers the URL
	Subject string `json:"subject,omitempty"` // the raw sub
	Session string `json:"session,omitempty"` // sid of a login session of the issuer
	Token   string `json:"token,omitempty"`   // jti of a token of the issuer
	// Match means the identities of the issuer whose claims match, as in a binding's match: all claims
	// must hold, each with one of its values, * in a text stands for any characters.
	Match   map[string][]any `json:"match,omitempty"`
	Account string           `json:"account,omitempty"` // its configured name or id; in answers the id
	Key     string           `json:"key,omitempty"`     // public key of a user, a signing key, or the account that imports
	Export  string           `json:"export,omitempty"`  // subject of the export that the account imports
}

// Progress says how far a revocation has been carried out. It is done when every replica denies by it
// and every server has shown, after that, that no connection is left which it ends.
type Progress struct {
	Done            bool     `json:"done"`
	Replicas        int      `json:"replicas"`                   // that deny by it
	ReplicasKnown   int      `json:"replicas_known"`             // that there are
	ReplicasMissing []string `json:"replicas_missing,omitempty"` // that have not confirmed and may still admit
	ServersAnswered int      `json:"servers_answered"`           // that have shown that nothing is left
	ServersKnown    int      `json:"servers_known"`
	ServersMissing  []string `json:"servers_missing,omitempty"`
	Closed          int      `json:"closed"`           // connections
	Left            int      `json:"left"`             // connections seen last that are still to be closed
	Claims          string   `json:"claims,omitempty"` // what the account claims wait for
	TookMS          int64    `json:"took_ms"`          // since it was stored
}

// RevocationProgressRequest asks how far a revocation is.
type RevocationProgressRequest struct {
	ID string `json:"id"`
	// Wait is for how many seconds to wait for its end, at most 8; 0 answers at once.
	Wait int `json:"wait,omitempty"`
}

// IdentitiesRequest lists who has logged in, by what people are known by.
type IdentitiesRequest struct {
	// Display is the value of a display claim, such as an e-mail address; upper and lower case are one.
	Display string `json:"display,omitempty"`
	Issuer  string `json:"issuer,omitempty"`
	Subject string `json:"subject,omitempty"`
	Limit   int    `json:"limit,omitempty"`
	Cursor  string `json:"cursor,omitempty"`
}

// IdentitiesPage is one page of identities; an empty cursor means the last.
type IdentitiesPage struct {
	Identities []KnownIdentity `json:"identities"`
	Cursor     string          `json:"cursor,omitempty"`
}

// KnownIdentity is somebody who has logged in.
type KnownIdentity struct {
	Issuer   string            `json:"issuer"` // exact iss
	Subject  string            `json:"subject"`
	Name     string            `json:"name"`              // principal name
	Display  map[string]string `json:"display,omitempty"` // display claims of the last login
	LastSeen time.Time         `json:"last_seen"`         // to about an hour
}
