package policy

import "strings"

// ScopedKey is a signing key with a template: the permissions of the users that it signs are
// in the account's claims, and nats-server takes them from there.
type ScopedKey struct {
	Key     string   // the public key (A…)
	Account *Account // the only account that the role can be granted in
	// Tags are what {{tag(NAME)}} in the key's template stands for, each NAME:VALUE. nats-server
	// folds them to small letters.
	Tags []Template
}

// chooseScope returns the scoped signing key that the grants to one account lead to, nil when they
// lead to none. A user signed with such a key has the permissions of its template and no others, so
// that grants of another role beside it cannot be united with them.
func chooseScope(account *Account, grants []*Binding) (*ScopedKey, *Refusal) {
	first := grants[0].Grant.Role
	for _, b := range grants[1:] {
		role := b.Grant.Role
		if role != first && (role.Scoped != nil || first.Scoped != nil) {
			return nil, Refuse(RoleAmbiguous, "the bindings grant the roles %q and %q in account %s, of which one has a scoped signing key: its permissions cannot be united with others",
				first.Name, role.Name, account.Name)
		}
	}
	return first.Scoped, nil
}

// tags returns the rendered tags of a user. One with a capital letter is refused, because
// nats-server folds it to a small one, so that two values would become the same; and so is one with
// a brace, which it could take for a function of the template.
func (s *ScopedKey) tags(id *Identity, account *Account) ([]string, *Refusal) {
	var tags []string
	for _, t := range s.Tags {
		tag, r := t.render(id, account)
		if r != nil {
			return nil, r
		}
		if strings.ToLower(tag) != tag || strings.ContainsAny(tag, "{}") {
			return nil, Refuse(ClaimUnsafe, "tag %q: its value holds a capital letter or a brace, which nats-server would change", t.raw)
		}
		tags = append(tags, tag)
	}
	return tags, nil
}
