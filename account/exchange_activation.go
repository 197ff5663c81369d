package account

import (
	"slices"
	"strings"
	"time"

	"github.com/nats-io/jwt/v2"
)

// MaxActivations bounds the activations of an account that have not ended.
const MaxActivations = 1000

// Activation says that another account was given a token for a private export. It is a note: what holds is the token, until
// it ends or is revoked.
type Activation struct {
	Subject  string     `json:"subject"` // of the export
	Type     ExportType `json:"type"`
	Importer string     `json:"importer"` // id
	At       time.Time  `json:"at"`
	Until    time.Time  `json:"until,omitzero"`
	By       string     `json:"by"` // actor
}

// Activate notes an activation in place of one before for the same importer, and forgets those that have ended; false when there
// are too many others.
func (a *Account) Activate(n Activation) bool {
	kept := make([]Activation, 0, len(a.Activations)+1)
	for _, o := range a.Activations {
		same := o.Subject == n.Subject && o.Type == n.Type && o.Importer == n.Importer
		if !same && (o.Until.IsZero() || n.At.Before(o.Until)) {
			kept = append(kept, o)
		}
	}
	if len(kept) >= MaxActivations {
		return false
	}
	a.Activations = append(kept, n)
	return true
}

// ActivationClaims returns what a signing key of the exporter signs so that an account may import a private export until
// then; the zero time is for good.
func ActivationClaims(exporter *Account, e *Export, importer string, until time.Time) *jwt.ActivationClaims {
	c := jwt.NewActivationClaims(importer)
	c.Name, c.IssuerAccount = e.Name, exporter.ID
	c.ImportSubject, c.ImportType = jwt.Subject(e.Subject), e.Type.jwt()
	if !until.IsZero() {
		c.Expires = until.Unix()
	}
	return c
}

// FromClaims returns what checks of exchanges need of an account that has no record, from its claims, as the account
// that imports sees it: an export that wants the importer's id in a token has it there.
func FromClaims(c *jwt.AccountClaims, importer string) *Account {
	a := &Account{ID: c.Subject, Name: c.Name, State: Active}
	if a.Name == "" {
		a.Name = a.ID
	}
	for _, key := range slices.Sorted(slices.Values(c.SigningKeys.Keys())) {
		a.Keys = append(a.Keys, SigningKey{Public: key, Stage: Current})
	}
	for _, e := range c.Exports {
		tokens := strings.Split(string(e.Subject), ".")
		if p := e.AccountTokenPosition; p > 0 && p <= uint(len(tokens)) {
			tokens[p-1] = importer
		}
		a.Exports = append(a.Exports, Export{
			Name: e.Name, Subject: strings.Join(tokens, "."), Type: typeOf(e.Type), Private: e.TokenReq,
			Response: string(e.ResponseType), Description: e.Description,
		})
	}
	for _, i := range c.Imports {
		local := string(i.LocalSubject)
		a.Imports = append(a.Imports, Import{
			Name: i.Name, Account: i.Account, Subject: string(i.Subject), Local: local, Type: typeOf(i.Type), Share: i.Share, Token: i.Token,
		})
	}
	return a
}

func typeOf(t jwt.ExportType) ExportType {
	if t == jwt.Service {
		return ServiceType
	}
	return StreamType
}

// Cut is an import that ends when an export changes.
type Cut struct {
	Account *Account // that imports
	Import  Import
	Why     string
}

// Cuts returns which imports of other accounts work with the account as it was before and do not after: what removing or
// changing exports does to others.
func Cuts(before, after *Account, importers []*Account, now time.Time) []Cut {
	var cuts []Cut
	for _, b := range importers {
		for n := range b.Imports {
			i := &b.Imports[n]
			if i.Account != after.ID || b.ID == after.ID {
				continue
			}
			why := wrong(b, i, after, now)
			if why != "" && wrong(b, i, before, now) == "" {
				cuts = append(cuts, Cut{Account: b, Import: *i, Why: why})
			}
		}
	}
	return cuts
}

// wrong says why an exporter does not let an account have an import; empty: it does.
func wrong(b *Account, i *Import, exporter *Account, now time.Time) string {
	c := &exchange{account: b, now: now}
	c.authorized(i, exporter, func(string) Problem { return Problem{} })
	for _, p := range c.problems {
		if !p.Warning {
			return p.Text
		}
	}
	return ""
}
