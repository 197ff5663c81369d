package config

// File is what gatehouse.yaml says, with defaults filled in and paths made absolute.
//
// Tags: yaml names the key; default is its value when it is left out; required says what
// to give, since there is none; enum, min and max bound it; restart marks what a running
// service does not take over when the file changes, and within it, false, what it does; mode says which nats.callout.mode has
// the key, when it is not both. A field of type unbuilt is a key of the design that this
// release refuses; the tag unbuilt lists such values of an enum, and refused those that
// are refused with a reason of their own.
type File struct {
	// How Gatehouse reaches the NATS servers.
	NATS NATS `yaml:"nats" restart:"true"`
	// The operator that the servers trust, for changes of account claims.
	Operator Operator `yaml:"operator"`
	// Where blocks, logouts and the audit trail are kept: sqlite:PATH for one replica, or
	// postgres://USER@HOST/DATABASE for several. A password belongs into a .pgpass file,
	// PGPASSWORD or this variable, never into the file.
	Store Store `yaml:"store" default:"sqlite:gatehouse.db" restart:"true"`
	// Nobody is answered once the store has not confirmed the state for so long: a block could have been missed.
	MaxStaleness Duration `yaml:"max_staleness" default:"5m" min:"1s" max:"1d" restart:"true"`
	// The longest token that is read. The servers' max_control_line must be larger than it.
	MaxTokenSize Size `yaml:"max_token_size" default:"16KiB" min:"1KiB" max:"1MiB" restart:"true"`
	// The clock difference between issuers and this host that is forgiven.
	Leeway Duration `yaml:"leeway" default:"10s" min:"1s" max:"5m" restart:"true"`
	// The operations over HTTP, such as whoami.
	HTTP HTTP `yaml:"http"`
	// What clients are told at http.url/.well-known/gatehouse, besides the issuers and how to log in there.
	Public Public `yaml:"public"`
	// The Unix socket through which gatehouse commands on this host reach the service; made with mode 0600.
	Socket Path `yaml:"socket" default:"gatehouse.sock" restart:"true"`
	// Metrics and health: /metrics, /healthz and /readyz.
	Metrics Metrics `yaml:"metrics" restart:"true"`
	// The record of every decision.
	Audit Audit `yaml:"audit"`
	// What the service writes to standard error.
	Log Log `yaml:"log"`
	// The OIDC providers whose tokens are accepted. Without any, nobody can log in.
	Issuers []*Issuer `yaml:"issuers"`
	// The NATS accounts that a grant can lead to, by name. Clients choose one as user account:NAME.
	Accounts map[string]*Account `yaml:"accounts"`
	// Named sets of permissions. A deny wins; where nothing is allowed, nothing is. In subjects, {{name}}
	// stands for the principal name, {{account}} for the account's, {{claim.PATH}} for a claim of the
	// token, and {{inbox}} for the inbox prefix that only this identity may use. Each is a single
	// token of the subject, or the login is refused.
	Roles map[string]*Role `yaml:"roles"`
	// Who gets which role in which account. All that match count, in whatever order; who matches none is refused.
	Bindings []*Binding `yaml:"bindings"`

	// What encrypts the seeds of signing keys that Gatehouse makes, before they are stored.
	Seal Seal `yaml:"seal"`
	// What the accounts of sign-up may have, by name. Bindings say who may sign up for which: grant.sign_up.
	Plans map[string]*Plan `yaml:"plans"`

	// Who is told of what happens to the accounts of sign-up.
	Events Events `yaml:"events" restart:"true"`

	_ unbuilt `yaml:"portal"`
}

// Events are what happens to self-service accounts. They are also on NATS, in the callout account, at
// gatehouse.events.account.NAME.ACCOUNT.
type Events struct {
	// Addresses that each event is posted to, signed. One that is new gets what happens from then on.
	Webhooks []*Webhook `yaml:"webhooks"`
}

// Webhook is an address that events are posted to, as the Standard Webhooks specification says.
type Webhook struct {
	// The address: https, or http on loopback. Redirects are not followed. It tells one webhook from another.
	URL string `yaml:"url" required:"the address that events are posted to"`
	// File with the secret that requests are signed with, whsec_ and 24 to 64 random bytes in base64; or several, the newest
	// first: each signs, so that the receiver can go over from one to the next.
	Secret []WebhookSecret `yaml:"secret" required:"a file with whsec_ and 24 to 64 random bytes in base64"`
	// Names of the events that it gets; without any, all.
	Events []string `yaml:"events" enum:"created approved rejected active published changed suspended resumed deleting restored deleted member_added member_invited member_joined member_removed drift"`
}

// Seal is what encrypts secrets in the store.
type Seal struct {
	// File with the key: 32 random bytes in base64, as gatehouse keys seal-key makes one. All replicas have the same.
	// Without it nobody can sign up for an account. Lose it, and the signing keys of all such accounts are lost.
	Key SealKey `yaml:"key" mode:"operator"`
	// Files with keys that were used before, until gatehouse keys reseal has gone over all.
	Old []SealKey `yaml:"old" mode:"operator"`
}

// Plan is what accounts of sign-up may have. Without a number there is no limit, but for leaf nodes and JetStream.
type Plan struct {
	// Connections of clients at a time.
	Connections Quota `yaml:"connections" default:"unlimited"`
	// Subscriptions at a time.
	Subscriptions Quota `yaml:"subscriptions" default:"unlimited"`
	// Bytes of one message.
	Payload Quota `yaml:"payload" default:"unlimited"`
	// Bytes in all. nats-server writes it down and does not hold anybody to it.
	Data Quota `yaml:"data" default:"unlimited"`
	// Leaf nodes at a time. One brings in everybody who is connected to it.
	LeafNodes Quota `yaml:"leaf_nodes" default:"0"`
	// Imports from other accounts.
	Imports Quota `yaml:"imports" default:"unlimited"`
	// Exports to other accounts.
	Exports Quota `yaml:"exports" default:"unlimited"`
	// What may be stored, whatever the number of replicas. Without it and tiers, no JetStream.
	JetStream PlanJetStream `yaml:"jetstream"`
	// What may be stored by number of replicas: R1, R3 and so on.
	Tiers map[string]*PlanJetStream `yaml:"tiers"`
	// Names of the roles that members may have. owner is one too: whoever has it manages the account, and with a role
	// of that name can log in.
	Roles []string `yaml:"roles" required:"the names of the roles that members may have"`
	// The most accounts of the plan that somebody may own.
	PerSubject int `yaml:"per_subject" default:"1" min:"1" max:"10000"`
	// An admin must approve each account before it is made.
	Approval bool `yaml:"approval" default:"false"`
	// What names must look like, with * for any characters, such as team-*.
	Names string `yaml:"names"`
	// Longest life of a member's credential.
	TTL Duration `yaml:"ttl" default:"1h" min:"10s" max:"30d"`
	// Lets members hold user JWTs for keys of their own as well.
	Direct Direct `yaml:"direct"`
}

// PlanJetStream is what an account may store.
type PlanJetStream struct {
	// Bytes in memory.
	Memory Quota `yaml:"memory" default:"0"`
	// Bytes on disk.
	Disk Quota `yaml:"disk" default:"0"`
	// Streams.
	Streams Quota `yaml:"streams" default:"unlimited"`
	// Consumers.
	Consumers Quota `yaml:"consumers" default:"unlimited"`
}

// NATS says how Gatehouse reaches the servers.
type NATS struct {
	// The servers, as one URL or several joined by commas. Credentials do not belong here.
	URL string `yaml:"url" default:"nats://127.0.0.1:4222"`
	// How the servers' certificates are verified.
	TLS TLS `yaml:"tls"`
	// The account whose clients are sent through Gatehouse.
	Callout Callout `yaml:"callout"`
	// The connection to the system account.
	System System `yaml:"system"`
	// What the servers keep account claims in.
	Resolver Resolver `yaml:"resolver"`
	// The account in which users may only call Gatehouse's operations. Without it they are reached over HTTP alone.
	Lobby Lobby `yaml:"lobby"`
}

// Resolver is what the servers keep account claims in, as resolver says in their files.
type Resolver struct {
	// full stores claims, and is what accounts of sign-up are best with. url fetches those of an account once, from http.url/jwt/v1/accounts/.
	// memory has those of its file alone: gatehouse account preload prints them.
	Type string `yaml:"type" mode:"operator" default:"full" enum:"full url memory"`
	// Files with the JWTs of accounts that others make, such as the system account, for servers to be given with those of sign-up.
	// With type url all that the configuration names must be there: servers have them from nowhere else.
	Accounts []AccountJWT `yaml:"accounts" mode:"operator" restart:"false"`
}

// TLS says whom to trust besides the authorities that the host trusts.
type TLS struct {
	// File with the PEM certificates of the authorities to trust in place of the host's own.
	CA CAFile `yaml:"ca"`
}

// Callout is the account that auth callout runs in.
type Callout struct {
	// How the servers are set up: operator, with account claims that an operator signs; or config,
	// with accounts and users in the servers' own files.
	Mode string `yaml:"mode" default:"operator" enum:"operator config"`
	// Name of the callout account, as auth_callout.account says in the servers' files.
	Account string `yaml:"account" mode:"config" required:"the name that auth_callout.account has in the servers' files"`
	// Creds file of a user that the callout account's claims name in auth_users.
	Creds Creds `yaml:"creds" mode:"operator" required:"the creds file of a user named in the callout account's auth_users"`
	// Key file (SU…) of the user that auth_callout.auth_users names in the servers' files.
	Nkey KeyFile `yaml:"nkey" key:"user" mode:"config" required:"the key file (SU…) of a user of the callout account that auth_users names"`
	// Key file (SA…) that signs the answers: the callout account's own, or one of its signing keys;
	// with mode config the key whose public part is auth_callout.issuer, which signs the users too.
	SigningKey KeyFile `yaml:"signing_key" key:"account" required:"the key file (SA…) that signs the answers"`
	// Key file (SX…) that opens the requests, which the servers then seal. Once set, plain requests are not answered.
	XKey KeyFile `yaml:"xkey" key:"curve"`
	// Connections that requests are spread over: a server handles all the answers of one connection in turn, behind
	// thousands of clients that connect at once.
	Connections int `yaml:"connections" default:"16" min:"1" max:"64"`
}

// System is the connection to the system account.
type System struct {
	// Creds file of a user of the system account: through it Gatehouse knows the servers and what they hold of each account.
	Creds Creds `yaml:"creds" mode:"operator" required:"the creds file of a user of the system account"`
	// Key file (SU…) of a user of the system account that auth_users names. Without it Gatehouse cannot tell
	// which servers and accounts there are, and needs nats.callout.xkey.
	Nkey KeyFile `yaml:"nkey" key:"user" mode:"config"`
	// Name of the system account in the servers' files. Nobody is placed there.
	Account string `yaml:"account" mode:"config" default:"SYS"`
}

// Operator is what Gatehouse holds of the operator.
type Operator struct {
	// Key file (SO…) of a signing key of the operator, never its identity. Without it, and without one that was
	// imported into the store (docs/keys.md), Gatehouse changes no account's claims: what only they can end, such as
	// users with a user JWT of their own, answers not_managed.
	SigningKey KeyFile `yaml:"signing_key" key:"operator" mode:"operator"`
}

// Lobby is the account in which users may only call operations, at gatehouse.v1.NAME. It imports them from the
// callout account, and it alone; gatehouse init makes both.
type Lobby struct {
	// The account's public key (A…).
	Account string `yaml:"account" mode:"operator"`
	// Key file (SA…) of one of its signing keys.
	SigningKey KeyFile `yaml:"signing_key" key:"account" mode:"operator"`
}

// HTTP is where operations are served over HTTP.
type HTTP struct {
	// Address to listen on. Tokens pass here: beyond loopback, give tls, or put a proxy that speaks TLS in front.
	Listen Address `yaml:"listen" default:"127.0.0.1:8420" restart:"true"`
	// The address at which clients reach the service, when it is not http:// and listen: that of the proxy, or the
	// name in the certificate of tls, such as https://gatehouse.example.com. Clients that sign up name it in their proofs.
	URL string `yaml:"url" restart:"true"`
	// The certificate of the service. Without it, it speaks plain HTTP.
	TLS ServerTLS `yaml:"tls"`
	// Origins of web pages whose scripts may call operations, such as https://portal.example.com. Browsers are told to
	// let no other page read answers, and a change that another page asks for is refused.
	Origins []Origin `yaml:"origins"`
	// Addresses or networks of proxies in front of the service, which say in X-Forwarded-For where a call comes from:
	// each must add the address that it was called from at the end of the header. Nobody else's is looked at.
	Proxies []Network `yaml:"proxies"`
}

// ServerTLS is the certificate that the service shows. Both files are read again when they change.
type ServerTLS struct {
	// File with the PEM certificate of the service, and those of authorities between it and the ones that clients trust.
	Cert CertFile `yaml:"cert"`
	// File with its PEM private key, readable for the service alone.
	Key CertKey `yaml:"key"`
}

// Public is what everybody may know who reaches the service over HTTP, so that its address is all that a client needs.
type Public struct {
	// The servers as clients reach them, each a URL such as tls://nats.example.com.
	NATS []string `yaml:"nats"`
	// The servers' WebSocket listeners as browsers reach them, each a URL such as wss://nats.example.com.
	WebSocket []string `yaml:"websocket"`
	// Creds file of the sentinel, where the servers have no default one. Everybody gets it: it must be of a bearer user of the
	// callout account that may do nothing, as gatehouse init makes it.
	Sentinel Sentinel `yaml:"sentinel" mode:"operator"`
}

// Metrics is where metrics and health are served.
type Metrics struct {
	// Address to listen on. Nothing here asks who reads it.
	Listen Address `yaml:"listen" default:"127.0.0.1:8421"`
	// Serves Go's profiles below /debug/pprof/ as well.
	Pprof bool `yaml:"pprof" default:"false"`
}

// Audit is how decisions are recorded.
type Audit struct {
	// How sure a record must be before the client gets its answer: spool means written to the local spool.
	Mode string `yaml:"mode" default:"spool" enum:"spool" unbuilt:"strict" restart:"true"`
	// The most that waits for the store. When it is full, nobody is answered until the store takes records again.
	Spool Size `yaml:"spool" default:"1GiB" min:"4MiB" max:"1TiB" restart:"true"`
	// Folder of the spool, on a local disk, for this replica alone.
	Directory Path `yaml:"directory" default:"gatehouse.spool" restart:"true"`
	// How long the store keeps records.
	Retention Duration `yaml:"retention" default:"90d" min:"1h" max:"36500d"`
	// How long it keeps those of administration: who revoked, lifted and looked; without it, as long as the others.
	RetentionAdmin Duration `yaml:"retention_admin" min:"1h" max:"36500d"`
	// Which claims of a token its record keeps besides those of display: policy means those that the issuer's
	// bindings read, up to 4 KiB, so that gatehouse explain --subject and policy diff --recorded can decide
	// anew; none keeps none of them.
	Claims string `yaml:"claims" default:"policy" enum:"policy none"`
	// A copy of all records in a JetStream stream.
	Stream AuditStream `yaml:"stream" restart:"true"`
}

// AuditStream is the JetStream stream that audit entries are copied to, each at least once, with its id as
// the message id. No login waits for it; while it is not there, entries wait in the store, as long as the retention.
type AuditStream struct {
	// Name of the stream. Without it nothing is copied.
	Name string `yaml:"name"`
	// What subjects begin with: SUBJECT.KIND.OUTCOME, such as gatehouse.audit.login.refused.
	Subject string `yaml:"subject" default:"gatehouse.audit"`
	// Creds file of a user in the stream's account, who may publish SUBJECT.>, $JS.API.STREAM.INFO.NAME and, to make
	// it, $JS.API.STREAM.CREATE.NAME, and subscribe to _INBOX.>.
	Creds Creds `yaml:"creds" mode:"operator"`
	// Key file (SU…) of such a user, named in auth_users.
	Nkey KeyFile `yaml:"nkey" key:"user" mode:"config"`
	// Makes the stream when it is not there: on disk, without limits, one replica.
	Create bool `yaml:"create" default:"false"`
}

// Log is what the service writes to standard error.
type Log struct {
	// The least severe events that are written.
	Level string `yaml:"level" default:"info" enum:"debug info warn error"`
	// For people, or one JSON object a line.
	Format string `yaml:"format" default:"text" enum:"text json" restart:"true"`
}

// Issuer is an OIDC provider.
type Issuer struct {
	// Short name for bindings and principal names: 1 to 16 of a-z and 0-9. It is part of every
	// principal name, so do not change it later.
	Name string `yaml:"name" required:"a short name, such as corp"`
	// Exactly the iss claim of its tokens, to the last slash. Discovery is at
	// URL/.well-known/openid-configuration. https, or http on loopback, or either where jwks
	// says where the keys are.
	URL string `yaml:"url" required:"exactly the iss claim of its tokens"`
	// Where its keys are, in place of discovery: file:PATH of a JWKS, which is read again when
	// it changes, or the https URL of one. Without algorithms, those that the keys name are
	// accepted: alg, the curve's, and RS256 for RSA.
	JWKS JWKS `yaml:"jwks"`
	// How the provider's certificate is verified.
	TLS TLS `yaml:"tls"`
	// File with a token that is sent to the provider with each fetch of its discovery document
	// and keys, and read anew for each: Kubernetes may ask for one.
	TokenFile TokenFile `yaml:"token_file"`
	// A token must name one of them in aud: a token for something else is refused.
	Audiences []string `yaml:"audiences" required:"what its tokens for NATS carry in aud"`
	// What tokens for administration carry in aud, beside none of audiences: no token that could be used to log
	// in is taken to administer. Without it nobody of this issuer can, whatever bindings say.
	AdminAudiences []string `yaml:"admin_audiences"`
	// Signature algorithms to accept; without it, the asymmetric ones that discovery or jwks names.
	Algorithms []string `yaml:"algorithms"`
	// Longest time since a token was issued, however long it is valid; without it, unbounded, or 30d where
	// logout.audiences is given.
	MaxAge Duration `yaml:"max_age" min:"1m" max:"365d"`
	// Claims that people are known by, for the audit trail and the log. They are stored there.
	Display []string `yaml:"display"`
	// How gatehouse login gets a token here.
	Login Login `yaml:"login"`
	// How the provider logs people out (OpenID Connect Back-Channel Logout 1.0): it sends logout tokens to
	// /backchannel-logout/NAME at http.listen, NAME being the issuer's.
	Logout Logout `yaml:"logout"`

	// Whether its word on e-mail addresses counts, where it says email_verified: members of accounts can then be
	// invited by e-mail.
	TrustEmail bool `yaml:"trust_email" default:"false"`
}

// Login is how gatehouse login gets a token of an issuer.
type Login struct {
	// The public client (authorization code with PKCE, redirect to loopback) that gatehouse login presents itself as.
	ClientID string `yaml:"client_id"`
	// Another public client, for gatehouse login --admin: the aud of its ID tokens is one of admin_audiences, and
	// never one of audiences.
	AdminClientID string `yaml:"admin_client_id"`
	// Scopes that gatehouse login asks for besides openid.
	Scopes []string `yaml:"scopes"`
	// Has gatehouse login bind its tokens to a key that stays on the person's machine, for bindings with
	// require_key. Not with a login by device code; and most issuers' renewed tokens are not bound, so that
	// people log in again when the first one ends.
	BindKey bool `yaml:"bind_key" default:"false"`
}

// Logout is how an issuer logs people out.
type Logout struct {
	// Client ids of the applications at the provider that name this service for back-channel logout: a logout
	// token must be for one of them. Without any, none is accepted.
	Audiences []string `yaml:"audiences"`
	// What a logout token ends: session means the login session that it names, and the identity where it
	// names none; identity means all sessions of the identity, for a provider whose tokens for NATS carry
	// no sid, so that nothing tells of which session they are.
	Ends string `yaml:"ends" default:"session" enum:"session identity"`
}

// Account is a NATS account that a grant can lead to. With mode config its name is all: {}.
type Account struct {
	// The account's public key (A…).
	ID string `yaml:"id" mode:"operator" required:"the account's public key (A…)"`
	// Key file (SA…) of one of its signing keys, or several, the newest first: Gatehouse
	// signs with the first that the asking server knows. It can be left out where every role
	// granted in the account has a scoped_key.
	SigningKey []KeyFile `yaml:"signing_key" key:"account" mode:"operator"`
}

// Role is a named set of permissions.
type Role struct {
	// Where the role may publish.
	Publish Permission `yaml:"publish"`
	// What the role may subscribe to. A blank and a name after the subject limit it to that queue group.
	Subscribe Permission `yaml:"subscribe"`
	// Answers to the messages that the role gets.
	Respond Respond `yaml:"respond"`
	// private lets the role subscribe below {{inbox}}, which is what requests need, those to JetStream too.
	Inbox string `yaml:"inbox" enum:"private"`
	// What concerns all of the account's JetStream.
	JetStream JetStream `yaml:"jetstream"`
	// Streams that the role may use. A name may hold placeholders, each a single token.
	Streams []*StreamUse `yaml:"streams"`
	// Consumers with lasting names that the role may use.
	Consumers []*ConsumerUse `yaml:"consumers"`
	// Key-value buckets that the role may use.
	KV []*KVUse `yaml:"kv"`
	// Object stores that the role may use.
	Objects []*ObjectUse `yaml:"objects"`
	// Key file (SA…) of a scoped signing key, in place of publish and subscribe: the permissions are
	// those of the key's template in the account's claims. Nothing can be united with them, so that
	// nobody may be granted another role in the account beside it.
	ScopedKey KeyFile `yaml:"scoped_key" key:"account" mode:"operator"`
	// Name of the account that the scoped signing key belongs to, the only one that the role can be granted in.
	Account string `yaml:"account" mode:"operator"`
	// What {{tag(NAME)}} in the scoped signing key's template stands for, each as NAME:VALUE with placeholders
	// in the value. A value with a capital letter refuses the login, because nats-server folds tags.
	Tags []string `yaml:"tags" mode:"operator"`
}

// Permission lists subjects.
type Permission struct {
	// Subjects that are allowed.
	Allow []string `yaml:"allow"`
	// Subjects that are denied, whatever allows them.
	Deny []string `yaml:"deny"`
}

// Respond lets a role publish to the reply subjects of the messages that it gets.
type Respond struct {
	// The most replies to one message; without it, none. They need no publish.allow, and publish.deny does
	// not stop them: the permission is for exactly the subject that the message names.
	Max int `yaml:"max" min:"1" max:"1000"`
	// How long after a message replies to it may be published.
	TTL Duration `yaml:"ttl" default:"2m" min:"1s" max:"1h"`
}

// JetStream is what a role may do with all of an account's JetStream, and where that is.
type JetStream struct {
	// The domain to use in place of the one that the client is connected to. Clients must name it too.
	Domain string `yaml:"domain"`
	// list: the names and configurations of all streams, and the account's limits. manage: make, change and delete
	// streams, consumers and buckets, and so read and write everything in the account.
	Allow []string `yaml:"allow" enum:"list manage"`
}

// StreamUse lets a role use one stream.
type StreamUse struct {
	// Name of the stream.
	Name string `yaml:"name" required:"the name of the stream"`
	// read: get single messages. consume: read by ordered consumers, which have no lasting name and acknowledge
	// nothing. write: publish to subjects. purge: remove messages.
	Allow []string `yaml:"allow" enum:"read consume write purge" refused:"manage" required:"what is allowed: read, consume, write or purge"`
	// Subjects of the stream that write may publish to, and that read is limited to.
	Subjects []string `yaml:"subjects"`
	// Consumers of others: consume would let the role change, delete and fetch from them.
	Protect []string `yaml:"protect"`
}

// ConsumerUse lets a role use one consumer with a lasting name.
type ConsumerUse struct {
	// Name of its stream.
	Stream string `yaml:"stream" required:"the name of the consumer's stream"`
	// Name of the consumer.
	Name string `yaml:"name" required:"the name of the consumer"`
	// consume: fetch and acknowledge. manage: create, change and delete it.
	Allow []string `yaml:"allow" enum:"consume manage" required:"what is allowed: consume or manage"`
	// The filter that manage must create it with, or one of several; without it, any.
	Filter []string `yaml:"filter"`
}

// KVUse lets a role use one key-value bucket.
type KVUse struct {
	// Name of the bucket.
	Bucket string `yaml:"bucket" required:"the name of the bucket"`
	// read: get, watch, keys and history. write: put, create, update, delete and purge.
	Allow []string `yaml:"allow" enum:"read write" refused:"manage" required:"what is allowed: read or write"`
	// Keys that both are limited to: whole ones, or with > for all that follows.
	Keys []string `yaml:"keys"`
	// Says that the bucket's stream has allow_rollup_hdrs false, without which writing to some keys is refused.
	NoRollup bool `yaml:"no_rollup" default:"false"`
}

// ObjectUse lets a role use one object store.
type ObjectUse struct {
	// Name of the store.
	Bucket string `yaml:"bucket" required:"the name of the object store"`
	// read: get, list and watch. write: put, change and delete.
	Allow []string `yaml:"allow" enum:"read write" refused:"manage" required:"what is allowed: read or write"`
}

// Binding gives identities of one issuer whose claims match a role in an account, or rights of administration.
type Binding struct {
	// Name for the audit trail and explain.
	Name string `yaml:"name" required:"a name for the audit trail"`
	// Name of the issuer whose identities it is for.
	Issuer string `yaml:"issuer" required:"the name of an issuer"`
	// Claims and the values they may have; all must hold, without any every identity of the
	// issuer matches. A claim of an inner object is written with dots; an inner name that
	// holds dots itself in double quotes, as in 'resource_access."my.client".roles'. A list
	// matches when it holds one of the values; * in a text stands for any characters.
	Match map[string][]MatchValue `yaml:"match"`
	// An expression over the claims that must be true as well, in CEL: claims.NAME for a claim, in quotes where YAML
	// would take it for something else. It sees nothing but the claims; where it has no answer, such as for a claim
	// that is not there, the binding does not apply. docs/policy.md shows what it can say.
	When string `yaml:"when"`
	// Addresses or networks that the client may connect from; without any, from everywhere.
	Source []Network `yaml:"source"`
	// Ways to connect that it is for; without any, all but leafnode.
	ConnectionTypes []string `yaml:"connection_types" enum:"standard websocket mqtt leafnode"`
	// Only for tokens that are bound to a key: their nonce is a NATS user public key (U…), or their cnf.jkt
	// the thumbprint of one, and the client signs the server's nonce with it, so that a stolen token is of no
	// use. MQTT clients cannot sign. Refreshed tokens and those of a device login are seldom bound.
	RequireKey bool `yaml:"require_key" default:"false"`
	// What it gives.
	Grant Grant `yaml:"grant"`
	// Longest life of a credential, which also ends with its token (and the leeway); up to a tenth is taken off
	// so that clients do not come back all at once.
	TTL Duration `yaml:"ttl" default:"1h" min:"10s" max:"30d"`
}

// Grant is what a binding gives: a role in an account, rights of administration, or the lobby.
type Grant struct {
	// Name of the account.
	Account string `yaml:"account"`
	// Name of the role.
	Role string `yaml:"role"`
	// Lets those who get the grant hold user JWTs for keys of their own as well, which servers admit without
	// asking Gatehouse, for programs and tools that cannot present tokens. Every binding that gives somebody
	// something in the account must permit it. docs/direct.md says what that costs.
	Direct Direct `yaml:"direct"`
	// Rights to administer with a token whose aud is in the issuer's admin_audiences, in place of an account and
	// a role. revoke: block, log out, lift and list that, and kick. sessions: see who is connected. accounts: the
	// accounts of sign-up. audit: read the audit trail. explain: ask what anybody gets. docs/administration.md
	// says how.
	Admin []string `yaml:"admin" enum:"revoke sessions accounts audit explain"`
	// true lets into the lobby account (nats.lobby), in place of an account and a role, whom no other binding gives an
	// account, and whoever connects as account:LOBBY. Admins are let in without it.
	Lobby bool `yaml:"lobby" default:"false"`

	// Names of the plans that they may sign up for an account under: alone, beside an account and a role, or beside lobby.
	SignUp []string `yaml:"sign_up" mode:"operator"`
	// An account by the claims of who logs in, in place of an account and a role. The first login makes it.
	Create Create `yaml:"create"`
	// true lets a portal's backend act for identities that it names, with a token for administration: sign them up under
	// the plans in sign_up, and do in their accounts what they could. Beside sign_up, and beside admin if it has rights too.
	OnBehalfOf bool `yaml:"on_behalf_of" default:"false" mode:"operator"`
}

// Create leads logins to an account that is named by claims. docs/accounts.md says how.
type Create struct {
	// Name of the plan of the accounts, one without approval.
	Plan string `yaml:"plan" mode:"operator"`
	// Name of the role that it gives there, one of the plan's.
	Role string `yaml:"role" mode:"operator"`
	// What the accounts are named: fixed text with {{claim.PATH}} for claims and {{name}} for the principal name. Where
	// a claim is not there, or makes no name, the binding gives nothing.
	Name string `yaml:"name" mode:"operator"`
	// Whose an account is: person, its own whose login made it, or team, of all whom the binding is for and who have exactly
	// the same values in the claims of its name.
	For string `yaml:"for" enum:"person team" mode:"operator"`
	// The most accounts that the binding makes in a minute, on each replica.
	PerMinute int `yaml:"per_minute" default:"600" min:"1" max:"60000" mode:"operator"`
	// The most accounts that there may be by the binding, deleted ones not counted. Who would make one more is refused; who is led
	// to one that is there is not. A binding of another name begins to count anew.
	Max int `yaml:"max" default:"10000" min:"1" max:"1000000" mode:"operator"`
}

// Direct are the terms on which somebody may hold user JWTs for own keys.
type Direct struct {
	// Longest life of such a user JWT, whenever the token ends that it was obtained with: only a revocation
	// ends it sooner.
	TTL Duration `yaml:"ttl" default:"24h" min:"1m" max:"30d" mode:"operator"`
	// The most keys that an identity may have in the account at a time, those of its programs among them.
	// A revocation has to name each.
	Keys int `yaml:"keys" default:"3" min:"1" max:"100" mode:"operator"`
}

// unbuilt marks a key whose feature this release does not have.
type unbuilt struct{}
