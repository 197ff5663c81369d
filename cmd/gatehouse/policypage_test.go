package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/gatehouse-nats/gatehouse/store"
)

// TestPolicyPageSessions runs what docs/policy.md shows of the tools, on the files that it shows.
func TestPolicyPageSessions(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/policy.md")
	if err != nil {
		t.Fatal(err)
	}
	text := ""
	for _, title := range []string{"Test it", "See what a change does", "Who is not there"} {
		_, section, found := strings.Cut(string(page), "\n## "+title+"\n")
		if !found {
			t.Fatalf("the page has no section %s", title)
		}
		section, _, _ = strings.Cut(section, "\n## ")
		text += section
	}
	s := newTranscript(t)
	s.edit(func(yaml string) string { return strings.Replace(yaml, "name: demo", "name: corp", 1) })
	head, err := os.ReadFile(s.config())
	if err != nil {
		t.Fatal(err)
	}
	before, _, _ := strings.Cut(string(head), "\nroles:")
	blocks := regexp.MustCompile("(?s)```(yaml|console)( \\S+)?\n(.*?)```").FindAllStringSubmatch(text, -1)
	var sessions []string
	for _, block := range blocks {
		kind, name, content := block[1], strings.TrimSpace(block[2]), block[3]
		switch {
		case kind == "console":
			sessions = append(sessions, content)
			continue
		case name == "":
			name, content = "gatehouse.yaml", before+"\n"+content
		case name == "new.yaml":
			content = before + "\n" + content
		}
		if err := os.WriteFile(filepath.Join(s.dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if len(sessions) != 4 {
		t.Fatalf("the page shows %d sessions, want 4", len(sessions))
	}
	email := func(address string) map[string]string { return map[string]string{"email": address} }
	s.record(
		store.AuditEntry{Subject: "alice", Source: "10.0.0.1", Claims: json.RawMessage(`{"groups":["dev"],"team":"red"}`), Display: email("alice@example.com")},
		store.AuditEntry{Subject: "nightly", Source: "10.0.0.2", Claims: json.RawMessage(`{"azp":"nightly","team":"ops"}`)},
		store.AuditEntry{Subject: "dave", Source: "10.0.0.3", Claims: json.RawMessage(`{"groups":["test"]}`), Display: email("dave@example.com")},
	)
	for _, session := range sessions {
		line, want, _ := strings.Cut(strings.TrimPrefix(session, "$ gatehouse "), "\n")
		args := words(line)
		for i, a := range args {
			if strings.HasSuffix(a, ".yaml") {
				args[i] = filepath.Join(s.dir, a)
			}
		}
		got := s.command(args...)
		if shown, promised := s.same(got.out+got.err), s.same(want); shown != promised {
			t.Errorf("$ gatehouse %s\nprints\n%s\nand the page says\n%s", line, shown, promised)
		}
	}
}

// same makes equal what differs from run to run, and the page's issuer.
func (s *transcript) same(text string) string {
	text = strings.NewReplacer(s.dir+"/", "", "https://login.example.com", s.provider.Issuer()).Replace(text)
	for _, v := range vary {
		text = v.match.ReplaceAllString(text, v.show)
	}
	return text
}
