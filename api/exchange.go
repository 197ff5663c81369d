package api

import "time"

// Export is what an account shall offer to others.
type Export struct {
	Name    string `json:"name"`
	Subject string `json:"subject"` // may have wildcards; its first token is a name
	Type    string `json:"type"`    // stream or service
	// Private says that importers need an activation token: account.activate makes one.
	Private     bool   `json:"private,omitempty"`
	Response    string `json:"response,omitempty"` // of a service: Singleton (the default), Stream or Chunked
	Description string `json:"description,omitempty"`
}

// Import is what an account shall use of another's exports.
type Import struct {
	Name    string `json:"name"`
	Account string `json:"account"`         // that exports: name or id
	Subject string `json:"subject"`         // in that account
	Local   string `json:"local,omitempty"` // in this one, with $1 for what the first * stands for; empty: the same
	Type    string `json:"type"`            // stream or service
	Share   bool   `json:"share,omitempty"` // of a service: the exporter may learn who asks
	// Token is the activation token of a private export. Without it the one stays that there is, and where there is none, callers
	// who may make one in the account that exports have it made.
	Token string `json:"token,omitempty"`
}

// AccountExport is what an account offers to others.
type AccountExport struct {
	Name        string `json:"name"`
	Subject     string `json:"subject"`
	Type        string `json:"type"` // stream or service
	Private     bool   `json:"private"`
	Response    string `json:"response,omitempty"`
	Description string `json:"description,omitempty"`
}

// AccountImport is what an account uses of another's exports.
type AccountImport struct {
	Name      string `json:"name"`
	Account   string `json:"account"` // that exports: its name, or its id where nothing else is known of it
	AccountID string `json:"account_id"`
	Subject   string `json:"subject"` // in that account
	Local     string `json:"local,omitempty"`
	Type      string `json:"type"` // stream or service
	Share     bool   `json:"share"`
	// Private says that the import has an activation token; Until is the token's end, zero: for good.
	Private bool      `json:"private"`
	Until   time.Time `json:"until,omitzero"`
}

// AccountActivation says who was given an activation token.
type AccountActivation struct {
	Export  string    `json:"export"`         // name
	Account string    `json:"account"`        // that imports: name, or its id where nothing else is known
	At      time.Time `json:"at"`             // when the last one was made
	By      string    `json:"by"`             // actor
	Until   time.Time `json:"until,omitzero"` // zero: for good
}

// AccountExchange is what an account exports and imports.
type AccountExchange struct {
	Name     string          `json:"name"`
	Account  string          `json:"account"` // id
	Revision int64           `json:"revision"`
	Exports  []AccountExport `json:"exports"`
	Imports  []AccountImport `json:"imports"`
	// Activations are those of private exports that have not ended.
	Activations []AccountActivation `json:"activations,omitempty"`
	// Warnings say what servers do as they are told, though it may not be what was meant.
	Warnings []string `json:"warnings,omitempty"`
	// Cut are the imports of other accounts that end, or ended, with the change.
	Cut []ExchangeCut `json:"cut,omitempty"`
}

// ExchangeCut is an import of another account that ends.
type ExchangeCut struct {
	Account string `json:"account"` // name
	Import  string `json:"import"`  // name
	Why     string `json:"why"`
}

// ExchangeSetRequest replaces what an account exports and imports, all at once. Without a revision, whatever is there is replaced.
type ExchangeSetRequest struct {
	Account  string   `json:"account"`            // name or id
	Revision int64    `json:"revision,omitempty"` // that the caller has read
	Exports  []Export `json:"exports"`
	Imports  []Import `json:"imports"`
	// Cut says that imports of other accounts may end by it.
	Cut            bool   `json:"cut,omitempty"`
	DryRun         bool   `json:"dry_run,omitempty"` // only check, and show
	IdempotencyKey string `json:"idempotency_key,omitempty"`
}

// ExportAddRequest adds an export to an account, or replaces that of the same name.
type ExportAddRequest struct {
	Account        string `json:"account"` // name or id
	Export         Export `json:"export"`
	Cut            bool   `json:"cut,omitempty"` // imports of other accounts may end by it
	DryRun         bool   `json:"dry_run,omitempty"`
	IdempotencyKey string `json:"idempotency_key,omitempty"`
}

// ImportAddRequest adds an import to an account, or replaces that of the same name.
type ImportAddRequest struct {
	Account        string `json:"account"` // name or id
	Import         Import `json:"import"`
	DryRun         bool   `json:"dry_run,omitempty"`
	IdempotencyKey string `json:"idempotency_key,omitempty"`
}

// ExchangeRemoveRequest removes an export or an import.
type ExchangeRemoveRequest struct {
	Account        string `json:"account"` // name or id
	Name           string `json:"name"`    // of the export or import
	Cut            bool   `json:"cut,omitempty"`
	DryRun         bool   `json:"dry_run,omitempty"`
	IdempotencyKey string `json:"idempotency_key,omitempty"`
}

// ActivateRequest asks for a token by which another account may import a private export.
type ActivateRequest struct {
	Account  string `json:"account"`  // that exports: name or id
	Export   string `json:"export"`   // name
	Importer string `json:"importer"` // name or id
	// Until is the token's end; zero: for good. A revocation of kind activation ends it before.
	Until time.Time `json:"until,omitzero"`
	// IdempotencyKey gives the first answer again when the same call is repeated.
	IdempotencyKey string `json:"idempotency_key,omitempty" max:"128"`
}

// Activation is an activation token: it goes into the import of the account that it is for, and is of use in no other.
type Activation struct {
	Token    string    `json:"token"`
	Account  string    `json:"account"`  // id of the account that exports
	Importer string    `json:"importer"` // id
	Subject  string    `json:"subject"`
	Type     string    `json:"type"` // stream or service
	Until    time.Time `json:"until,omitzero"`
}

// AccountGraphRequest asks who imports what from whom: admins are told of all accounts, everybody else of those whose
// member they are.
type AccountGraphRequest struct{}

// AccountGraph is who imports what from whom.
type AccountGraph struct {
	Accounts []GraphAccount `json:"accounts"` // by name
	Links    []GraphLink    `json:"links"`
}

// GraphAccount is an account.
type GraphAccount struct {
	ID      string `json:"account"`
	Name    string `json:"name"`            // its id where nothing else is known of it
	State   string `json:"state,omitempty"` // empty: it is no account of sign-up
	Exports int    `json:"exports"`
}

// GraphLink is an import.
type GraphLink struct {
	Importer string `json:"importer"` // id
	Exporter string `json:"exporter"` // id
	Type     string `json:"type"`     // stream or service
	Subject  string `json:"subject"`  // in the account that exports
	Local    string `json:"local,omitempty"`
	Private  bool   `json:"private,omitempty"` // with an activation token
}
