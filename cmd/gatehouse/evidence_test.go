package main

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"sync"
	"testing"
)

// evidence is what services and commands wrote in the whole run: logs, answers, metrics,
// errors. There must be no secret in it.
var evidence notebook

// notebook keeps what was written, by where it came from, and passwords that must not be in it.
// Tokens and seeds are known by their form.
type notebook struct {
	mu        sync.Mutex
	records   []*record
	passwords map[string]bool
}

// open returns a record whose writings count as evidence.
func (n *notebook) open(source string) *record {
	n.mu.Lock()
	defer n.mu.Unlock()
	r := &record{source: source}
	n.records = append(n.records, r)
	return r
}

// guard notes a text that must not be written anywhere.
func (n *notebook) guard(password string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.passwords == nil {
		n.passwords = map[string]bool{}
	}
	n.passwords[password] = true
}

// secretForms match what no log, metric or error may hold: a token, or a part of one from its
// beginning; a seed of any kind.
var secretForms = regexp.MustCompile(`eyJ[A-Za-z0-9_-]{16}|\bS[ANOUXC][A-Z2-7]{56}\b`)

// accountLines match what account preload prints: the claims of accounts, which are for whoever asks.
var accountLines = regexp.MustCompile(`(?m)^  A[A-Z2-7]{55}: "\S+"$`)

// check returns an error for every secret, and for every data race that a service reported.
func (n *notebook) check() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	var errs []error
	for _, r := range n.records {
		text := accountLines.ReplaceAll([]byte(r.String()), nil)
		for _, at := range secretForms.FindAllIndex(text, 3) {
			errs = append(errs, fmt.Errorf("%s holds a token or a seed:\n%s", r.source, around(text, at[0])))
		}
		for p := range n.passwords {
			if i := bytes.Index(text, []byte(p)); i >= 0 {
				errs = append(errs, fmt.Errorf("%s holds a password:\n%s", r.source, around(text, i)))
			}
		}
		if i := bytes.Index(text, []byte("DATA RACE")); i >= 0 {
			errs = append(errs, fmt.Errorf("%s reports a data race:\n%s", r.source, text[i:]))
		}
	}
	return errors.Join(errs...)
}

// around returns the text before a secret and enough of it to find it by.
func around(text []byte, at int) []byte { return text[max(0, at-300):min(len(text), at+12)] }

// record is a writer for several goroutines that can be read meanwhile.
type record struct {
	source string
	mu     sync.Mutex
	buf    bytes.Buffer
}

func (r *record) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.buf.Write(p)
}

func (r *record) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.buf.String()
}

func TestEvidenceFindsSecrets(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"token":            `level=INFO msg=login token=eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJodHRwOi8v.sig`,
		"start of a token": `"the client sent \"eyJhbGciOiJFUzI1NiIsImtpZCI6"`,
		"seed":             "key SAAG6ZLVLJSVJ3RVQZ6EMRHHBFNMCVZRJVLHWWWTKU3OLTKRNCBSLBSAOU is wrong",
		"password":         "postgres://gatehouse:hunter2@host",
		"token as account": `  AAG6ZLVLJSVJ3RVQZ6EMRHHBFNMCVZRJVLHWWWTKU3OLTKRNCBSLBSA: "eyJhbGciOiJFUzI1NiIsImtpZCI6`,
		"race":             "WARNING: DATA RACE\nRead at 0x00",
	} {
		var n notebook
		n.guard("hunter2")
		if _, err := n.open(name).Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
		if n.check() == nil {
			t.Errorf("%s was not found in %s", name, text)
		}
	}
	var clean notebook
	clean.guard("hunter2")
	if _, err := clean.open("log").Write([]byte("server_id=NDJ2XKZ4VXK7ZMKQ account=ACC7 eyJ SALSA request_id=0197b3c0-8a55-7c3e")); err != nil {
		t.Fatal(err)
	}
	if err := clean.check(); err != nil {
		t.Error(err)
	}
}
