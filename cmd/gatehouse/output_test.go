package main

import (
	"strings"
	"testing"
)

func TestPrintList(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("a", lineLength-len("  b c"))
	for _, c := range []struct {
		list []string
		want string
	}{
		{[]string{"app.>"}, "  publish    app.>\n"},
		{[]string{"jobs workers", "app.\x1b>"}, "  publish    jobs workers  app.�>\n"},
		{[]string{long, "b c"}, "  publish    " + long + "  b c\n"},
		{[]string{long + "a", "b c", "d\n"}, "  publish    " + long + "a\n             b c\n             d�\n"},
	} {
		var out strings.Builder
		if printList(&out, "publish", c.list); out.String() != c.want {
			t.Errorf("%q:\n%s", c.list, out.String())
		}
	}
}

func TestCount(t *testing.T) {
	t.Parallel()
	for n, want := range map[int]string{0: "0 roles", 1: "1 role", 2: "2 roles"} {
		if got := count(n, "role"); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
