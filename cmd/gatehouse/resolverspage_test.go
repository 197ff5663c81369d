package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestResolversPage runs the commands of docs/resolvers.md: what init makes is what the page shows, servers start with it, and the
// preload is what they take.
func TestResolversPage(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/resolvers.md")
	if err != nil {
		t.Fatal(err)
	}
	page := string(text)
	w := newForgetful(t, worldOptions{resolver: "memory"})
	w.signUpFor("orders", w.personFile("alice"), "creating")
	dir := shortDir(t)
	ran := 0
	for _, block := range regexp.MustCompile("(?s)```console\n(.*?)```").FindAllStringSubmatch(page, -1) {
		for line := range strings.SplitSeq(strings.TrimSpace(block[1]), "\n") {
			ran++
			switch line = strings.TrimPrefix(line, "$ "); {
			case line == "nats-server --signal reload":
				w.servers[0].Restart() // what runs in this process has no signals; see TestAccountsOfForgetfulServers
			case strings.HasPrefix(line, "gatehouse init "):
				args := words(strings.TrimPrefix(line, "gatehouse "))
				args[1] = filepath.Join(dir, args[1])
				if got := command(t, nil, "", args...); got.code != exitDone {
					t.Fatalf("$ %s\n%s%s", line, got.out, got.err)
				}
			case line == "gatehouse account preload > preload.conf":
				if err := os.WriteFile(filepath.Join(w.dir, "preload.conf"), []byte(w.must("account", "preload")), 0o600); err != nil {
					t.Fatal(err)
				}
			default:
				t.Fatalf("not a command of the page's test: %s", line)
			}
		}
	}
	if ran != 4 {
		t.Errorf("the page has %d commands", ran)
	}
	w.signUpFor("orders", w.personFile("alice"), "published")
	w.mustEnterAccount(0, "orders", w.personFile("alice"))

	for _, file := range []string{"prod/gatehouse.yaml", "prod/nats-server.conf", "staging/nats-server.conf"} {
		content, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(file)))
		if err != nil {
			t.Fatal(err)
		}
		found := false
		for _, block := range regexp.MustCompile("(?s)```[a-z]*\n(.*?)```").FindAllStringSubmatch(page, -1) {
			found = found || strings.Contains(string(content), block[1])
		}
		if !found {
			t.Errorf("no block of the page is in %s", file)
		}
	}
	if got := command(t, []string{"GATEHOUSE_CONFIG=" + filepath.Join(dir, "prod", "gatehouse.yaml")}, "", "check"); got.code != exitDone || !strings.Contains(got.out, "servers store no claims (nats.resolver.type: url)") {
		t.Errorf("check says %s%s", got.out, got.err)
	}
	if !strings.Contains(page, "write what gatehouse account preload prints into their resolver_preload, and reload them") {
		t.Error("the page does not word what the status says")
	}
}
