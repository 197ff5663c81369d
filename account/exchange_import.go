package account

import (
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"
)

// maxToken bounds an activation token in bytes; one of a subject of [MaxSubject] has about 1,200.
const maxToken = 4096

func (c *exchange) imported(n int) {
	i := &c.account.Imports[n]
	at := func(field string) Problem { return Problem{List: "imports", Index: n, Name: i.Name, Field: field} }
	if err := checkLabel(i.Name); err != "" {
		c.add(at("name"), "%s", err)
	}
	c.kind(at("type"), i.Type)
	if i.Share && i.Type == StreamType {
		c.add(at("share"), "only with services can it be shared who asks: leave it out")
	}
	if err := checkSubject(i.Subject); err != "" {
		c.add(at("subject"), "%s", err)
		return
	}
	if err := checkOwnSubject(i.Subject); i.Local == "" && err != "" {
		c.add(at("local"), "%s: give a local subject", err)
		return
	}
	if i.Local != "" {
		if err := checkLocal(i.Local, i.Subject); err != "" {
			c.add(at("local"), "%s", err)
			return
		}
	}
	c.beside(n, at)
	switch exporter, known := c.known(i.Account); {
	case !nkeys.IsValidPublicAccountKey(i.Account):
		c.add(at("account"), "%q is not the id of an account (A…)", i.Account)
	case i.Account == c.account.ID:
		c.add(at("account"), "an account cannot import from itself")
	case !known || exporter.State == Deleted:
		c.add(at("account"), "there is no account %s", i.Account)
	case exporter.State == Deleting:
		c.add(at("account"), "account %s is being deleted", exporter.Name)
	default:
		c.authorized(i, exporter, at)
	}
}

// beside compares an import with those before it and with the account's exports.
func (c *exchange) beside(n int, at func(string) Problem) {
	i := &c.account.Imports[n]
	mine := split(i.At())
	warning := at("local")
	warning.Warning = true
	for m := range n {
		other := &c.account.Imports[m]
		if other.Name == i.Name {
			c.add(at("name"), "another import has the same name")
		}
		switch overlaps := collide(mine, split(other.At())); {
		case i.Type == StreamType && other.Type == StreamType && i.Account == other.Account && i.Subject == other.Subject:
			c.add(at("subject"), "import %q has the same stream; servers take it once", other.Name)
		case overlaps && i.Type == ServiceType && other.Type == ServiceType && i.Account == other.Account:
			c.add(at("local"), "%s overlaps %s of import %q from the same account", i.At(), other.At(), other.Name)
		case overlaps && i.Type == ServiceType && other.Type == ServiceType:
			c.add(warning, "%s overlaps %s of import %q: a request there goes to both accounts", i.At(), other.At(), other.Name)
		case overlaps:
			c.add(warning, "%s overlaps %s of import %q: their messages cannot be told apart", i.At(), other.At(), other.Name)
		}
	}
	for _, e := range c.account.Exports {
		if collide(mine, split(e.Subject)) {
			c.add(warning, "%s overlaps export %q: what is imported is passed on to other accounts", i.At(), e.Name)
		}
	}
}

// authorized checks what the exporter thinks of the import.
func (c *exchange) authorized(i *Import, exporter *Account, at func(string) Problem) {
	e := exporter.Exported(i.Type, i.Subject)
	if e == nil {
		other := StreamType
		if i.Type == StreamType {
			other = ServiceType
		}
		if exporter.Exported(other, i.Subject) != nil {
			c.add(at("type"), "account %s exports %s as a %s", exporter.Name, i.Subject, other)
		} else {
			c.add(at("subject"), "account %s exports no %s that holds all of %s", exporter.Name, i.Type, i.Subject)
		}
		return
	}
	warning := at("token")
	warning.Warning = true
	switch {
	case exporter.State == Requested:
		warning.Field = "account"
		c.add(warning, "account %s is not approved yet; until then nothing comes of the import", exporter.Name)
	case !e.Private && i.Token != "":
		c.add(warning, "export %q is public: no token is needed", e.Name)
	}
	if e.Private && i.Token == "" {
		c.add(at("token"), "export %q of account %s is private: ask an owner there for an activation token", e.Name, exporter.Name)
	}
	if i.Token != "" {
		if err := checkToken(i, c.account.ID, exporter, c.now); err != "" {
			c.add(at("token"), "%s", err)
		}
	}
}

// TokenHolds reports whether the activation token of an import gives the account what it imports, unless it was revoked.
func TokenHolds(i *Import, importer string, exporter *Account, now time.Time) bool {
	return checkToken(i, importer, exporter, now) == ""
}

// checkToken says what is wrong with an activation token, by what the library wants of it when claims are pushed
// and servers when they apply them.
func checkToken(i *Import, importer string, exporter *Account, now time.Time) string {
	if len(i.Token) > maxToken {
		return "the activation token is too long to be one"
	}
	act, err := jwt.DecodeActivationClaims(i.Token)
	if err != nil {
		return "the activation token cannot be read, or its signature is wrong"
	}
	signer := act.Issuer == exporter.ID && (act.IssuerAccount == "" || act.IssuerAccount == exporter.ID)
	for _, k := range exporter.Keys {
		signer = signer || k.Public == act.Issuer && act.IssuerAccount == exporter.ID
	}
	switch {
	case !signer:
		return "the activation token is not signed by a key that account " + exporter.Name + " has: ask an owner there for a new one"
	case act.Subject != importer:
		return "the activation token is for another account"
	case act.ImportType != i.Type.jwt():
		return "the activation token is for a " + act.ImportType.String()
	case !holds(split(string(act.ImportSubject)), split(i.Subject)):
		return "the activation token is for " + string(act.ImportSubject)
	case act.Expires != 0 && !now.Before(time.Unix(act.Expires, 0)):
		return "the activation token has expired: ask an owner of account " + exporter.Name + " for a new one"
	case act.NotBefore != 0 && now.Before(time.Unix(act.NotBefore, 0)):
		return "the activation token is not valid yet"
	}
	return ""
}
