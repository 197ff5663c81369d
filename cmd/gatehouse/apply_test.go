package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/gatehouse-nats/gatehouse/api"
)

// TestAccountsAsCodePage runs the commands of docs/accounts-as-code.md against a real server, with its file: each ends well, and
// prints what the page shows. What is got of the accounts then changes nothing.
func TestAccountsAsCodePage(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/accounts-as-code.md")
	if err != nil {
		t.Fatal(err)
	}
	file := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindSubmatch(page)
	if file == nil {
		t.Fatal("the page has no file")
	}
	w := newWorld(t, worldOptions{policy: exchangePolicy})
	w.edit(func(yaml string) string {
		return strings.NewReplacer("name: demo", "name: corp", "issuer: demo", "issuer: corp").Replace(yaml)
	})
	dir := filepath.Join(w.dir, "accounts")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	teams := filepath.Join(dir, "teams.yaml")
	put := func(path, text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put(teams, string(file[1]))
	s := &transcript{replica: w.serve(serveOptions{})}
	ran := 0
	for _, block := range regexp.MustCompile("(?s)```console\n(.*?)```").FindAllStringSubmatch(string(page), -1) {
		for step := range strings.SplitSeq(strings.TrimPrefix(block[1], "$ "), "\n$ ") {
			line, want, _ := strings.Cut(step, "\n")
			line, isCommand := strings.CutPrefix(strings.TrimSpace(line), "gatehouse ")
			if !isCommand {
				t.Fatalf("not a command of gatehouse: %s", step)
			}
			ran++
			out := s.must(words(strings.ReplaceAll(line, "-f accounts", "-f "+dir))...)
			shown, promised := strings.TrimSpace(s.same(out)), strings.TrimSpace(s.same(want))
			end, isEnd := strings.CutPrefix(promised, "...\n")
			if ok := shown == promised || isEnd && strings.HasSuffix(shown, "\n"+end); want != "" && !ok {
				t.Errorf("$ gatehouse %s\nprints\n%s\nand the page says\n%s", line, shown, promised)
			}
		}
	}
	if ran < 4 {
		t.Errorf("the page has %d commands", ran)
	}

	got := filepath.Join(w.dir, "got")
	if err := os.Mkdir(got, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"orders", "shop"} {
		put(filepath.Join(got, name+".yaml"), s.must("account", "get", name, "--manifest"))
	}
	token := filepath.Join(w.dir, "admin.jwt")
	put(token, w.adminToken("root", nil))
	if out := s.must("apply", "-f", got, "--url", s.http, "--token-file", token); !strings.HasPrefix(out, "2 accounts as they should be") {
		t.Errorf("what was got changes\n%s", out)
	}
	// One that fails does not keep the others back, and what was done is not done again.
	put(teams, strings.Replace(strings.Replace(string(file[1]), "description: all orders", "description: orders alone", 1), "limits: { connections: 5 }", "plan: other", 1))
	if twice := s.command("apply", "-f", dir); twice.code != exitFailed && twice.code != exitUsage || !strings.Contains(twice.err, "teams.yaml:") {
		t.Errorf("a key twice: %d %s", twice.code, twice.err)
	}
	put(teams, strings.Replace(strings.Replace(string(file[1]), "description: all orders", "description: orders alone", 1), "role: app, issuer: corp, match", "role: none, issuer: corp, match", 1))
	if part := s.command("apply", "-f", dir); part.code != exitPartial || !strings.Contains(part.err, "account shop:") {
		t.Errorf("in part: %d %s%s", part.code, part.out, part.err)
	}
	// What no file and no service has to import from is found before anything is changed; an account of the configuration is there.
	from := func(account string) string {
		return strings.NewReplacer("description: all orders", "description: of none", "from: orders, subject: orders.ask", "from: "+account+", subject: orders.ask").Replace(string(file[1]))
	}
	put(teams, from("nobody"))
	for _, args := range [][]string{{"apply", "-f", dir}, {"apply", "-f", dir, "--dry-run"}} {
		if lost := s.command(args...); lost.code != exitFailed || !strings.Contains(lost.err, "imports[1].from: there is no account \"nobody\" to import from") || !strings.Contains(lost.err, "teams.yaml:19:28") {
			t.Errorf("%v: %d %s%s", args, lost.code, lost.out, lost.err)
		}
	}
	put(teams, from("APP"))
	if out := s.must("apply", "-f", dir, "--dry-run"); !strings.Contains(out, "of APP") {
		t.Errorf("from an account of the configuration:\n%s", out)
	}
	orders := decodeOne[api.Account](t, s.must("account", "get", "orders", "--json"))
	if orders.Description != "orders alone" {
		t.Errorf("the description is %q", orders.Description)
	}
	put(teams, strings.Split(string(file[1]), "  - name: shop")[0])
	if out := s.must("apply", "-f", dir, "--prune"); !strings.Contains(out, "delete account shop") {
		t.Errorf("pruned:\n%s", out)
	}
	if shop := decodeOne[api.Account](t, s.must("account", "get", "shop", "--json")); shop.State != "deleting" {
		t.Errorf("shop is %s", shop.State)
	}
}
