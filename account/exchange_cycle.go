package account

import "slices"

// maxChain bounds how many accounts a chain of imports is followed through; servers give up after 1,024.
const maxChain = 256

// cycles finds imports that come back to where they began.
func (c *exchange) cycles() {
	for n := range c.account.Imports {
		i := &c.account.Imports[n]
		at := Problem{List: "imports", Index: n, Name: i.Name, Field: "account"}
		if chain := c.loop(i); chain != nil {
			c.add(at, "the import comes back to this account, by way of %s", accountNames(chain))
		} else if c.refused(c.account, i) {
			c.add(at, "servers take the import for a cycle and drop it: have another local subject, here or in the account that imports from this one")
		}
	}
	for _, b := range c.reached() {
		for n := range b.Imports {
			if i := &b.Imports[n]; i.Account == c.account.ID && c.refused(b, i) {
				c.add(Problem{List: "imports", Index: -1}, "with them, servers take import %q of account %s for a cycle and drop it: have another local subject", i.Name, b.Name)
			}
		}
	}
}

// loop follows an import to where what it brings comes from, or where what it is asked goes to, through imports whose
// subjects at home collide; it returns the accounts on the way when that comes back to the import.
func (c *exchange) loop(start *Import) []*Account {
	type place struct{ account, subject string }
	seen := map[place]bool{}
	var follow func(i *Import, chain []*Account) []*Account
	follow = func(i *Import, chain []*Account) []*Account {
		next, known := c.known(i.Account)
		here := place{i.Account, i.Subject}
		if !known || seen[here] || len(seen) == maxChain {
			return nil
		}
		seen[here] = true
		if next == c.account {
			if collide(split(i.Subject), split(start.At())) {
				return chain
			}
		} else {
			chain = append(slices.Clip(chain), next)
		}
		for n := range next.Imports {
			j := &next.Imports[n]
			if j.Type == start.Type && collide(split(i.Subject), split(j.At())) {
				if found := follow(j, chain); found != nil {
					return found
				}
			}
		}
		return nil
	}
	return follow(start, nil)
}

// refused reports whether servers drop an import of an account as a cycle. They compare
// subjects that are not all in one account, so that they also drop some that are none
// (server/accounts.go, checkServiceImportsForCycles and checkStreamImportsForCycles).
func (c *exchange) refused(b *Account, i *Import) bool {
	exporter, known := c.known(i.Account)
	if !known || i.Account == b.ID {
		return false
	}
	self := func() map[string]bool { return map[string]bool{b.ID: true} }
	if i.Type == ServiceType {
		return c.serviceCycle(exporter, i.At(), self())
	}
	return c.streamCycle(exporter, i.At(), self()) || c.streamCycle(exporter, i.Subject, self())
}

func (c *exchange) serviceCycle(a *Account, from string, visited map[string]bool) bool {
	for n := range a.Imports {
		i := &a.Imports[n]
		if i.Type != ServiceType || !collide(split(from), split(i.Subject)) {
			continue
		}
		if visited[i.Account] {
			return true
		}
		visited[a.ID] = true
		if next, known := c.known(i.Account); known && len(visited) < maxChain && c.serviceCycle(next, narrower(from, i.At()), visited) {
			return true
		}
	}
	return false
}

func (c *exchange) streamCycle(a *Account, to string, visited map[string]bool) bool {
	if a.Exported(StreamType, to) == nil {
		return false
	}
	for n := range a.Imports {
		i := &a.Imports[n]
		if i.Type != StreamType || !collide(split(to), split(i.At())) {
			continue
		}
		if visited[i.Account] {
			return true
		}
		visited[a.ID] = true
		if next, known := c.known(i.Account); known && len(visited) < maxChain && c.streamCycle(next, narrower(to, i.At()), visited) {
			return true
		}
	}
	return false
}

// narrower returns at where subject holds all of it, and subject otherwise.
func narrower(subject, at string) string {
	if holds(split(subject), split(at)) {
		return at
	}
	return subject
}

// reached returns the accounts that imports lead to, from one to the next, without the account itself.
func (c *exchange) reached() []*Account {
	var found []*Account
	seen := map[string]bool{c.account.ID: true}
	for queue := []*Account{c.account}; len(queue) > 0 && len(found) < maxChain; queue = queue[1:] {
		for _, i := range queue[0].Imports {
			if next, known := c.known(i.Account); known && !seen[i.Account] {
				seen[i.Account] = true
				found, queue = append(found, next), append(queue, next)
			}
		}
	}
	return found
}

func accountNames(accounts []*Account) string {
	var text string
	for i, a := range accounts {
		if i > 0 {
			text += ", "
		}
		text += a.Name
	}
	return text
}
