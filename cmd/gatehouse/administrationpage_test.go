package main

import (
	"errors"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/gatehouse-nats/gatehouse/provision"
)

// TestAdministrationPage runs the commands of docs/administration.md, with its bindings: each ends well, and the lines
// below it are in what it prints.
func TestAdministrationPage(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/administration.md")
	if err != nil {
		t.Fatal(err)
	}
	_, bindings, _ := strings.Cut(string(page), "```yaml\nbindings:\n")
	bindings, _, found := strings.Cut(bindings, "```")
	if !found {
		t.Fatal("the page has no bindings")
	}
	w := newWorld(t, worldOptions{policy: worldPolicy + bindings})
	w.edit(func(yaml string) string {
		return strings.ReplaceAll(strings.ReplaceAll(yaml, "name: demo", "name: corp"), "issuer: demo", "issuer: corp")
	})
	r := w.serve(serveOptions{})
	nobody := provision.LocalActor(os.Getuid())
	line := strings.NewReplacer("https://gatehouse.example.com", r.http, "local:root", nobody)
	away := r.away(w.adminToken("root", nil))
	ran := 0
	for _, block := range regexp.MustCompile("(?s)```console\n(.*?)```").FindAllStringSubmatch(string(page), -1) {
		for _, step := range strings.Split(strings.TrimPrefix(block[1], "$ "), "\n$ ") {
			command, want, _ := strings.Cut(line.Replace(step), "\n")
			if !strings.HasPrefix(command, "gatehouse ") {
				continue
			}
			ran++
			eventually(t, func() error { return r.shows(away, command, want) })
		}
	}
	if ran < 7 {
		t.Errorf("the page has %d commands", ran)
	}
}

// shows runs a command, from elsewhere where it names the service, and returns an error unless it ends well and its
// output holds those lines.
func (r *replica) shows(away []string, line, want string) error {
	args := words(strings.TrimPrefix(line, "gatehouse "))
	env := r.env
	if strings.Contains(line, "--url") {
		env = away
	}
	var out, errs record // it may be a token, which is no evidence
	if code := run(r.Context(), args, stdio{in: strings.NewReader(""), out: &out, err: &errs, env: env}); code != exitDone {
		return errors.New(line + ": " + out.String() + errs.String())
	}
	for text := range strings.Lines(want) {
		if !strings.Contains(out.String(), strings.TrimSpace(text)) {
			return errors.New(line + " prints " + out.String())
		}
	}
	return nil
}
