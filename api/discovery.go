package api

// DiscoveryPath is where a service says what clients need to know before they log in. It is read by GET, without a token.
const DiscoveryPath = "/.well-known/gatehouse"

// Discovery is what clients need to know before they log in, so that the service's address is all that they are given.
type Discovery struct {
	Versions  []string      `json:"versions"` // of the contract that the service speaks
	URL       string        `json:"url"`      // of the service, which proofs of sign-up name
	Issuers   []LoginIssuer `json:"issuers"`
	NATS      []string      `json:"nats"`      // URLs of the servers; none where the service does not tell
	WebSocket []string      `json:"websocket"` // URLs of their WebSocket listeners
	// Sentinel is a creds file to connect with beside the token, where the servers have no default sentinel.
	Sentinel string `json:"sentinel,omitempty"`
	// Lobby is the account to name for calls of operations over NATS, where that can be done.
	Lobby string `json:"lobby,omitempty"`
}

// LoginIssuer is an OIDC provider whose tokens the service accepts, and how people get one.
type LoginIssuer struct {
	Name      string   `json:"name"`
	URL       string   `json:"url"`       // exact iss
	Audiences []string `json:"audiences"` // one of which a token must be for
	// ClientID is the public client to log in as; none where people cannot log in by themselves.
	ClientID      string   `json:"client_id,omitempty"`
	AdminClientID string   `json:"admin_client_id,omitempty"` // for tokens for administration
	Scopes        []string `json:"scopes,omitempty"`          // to ask for besides openid
	BindKey       bool     `json:"bind_key,omitempty"`        // tokens are to be bound to a key of the client
}
