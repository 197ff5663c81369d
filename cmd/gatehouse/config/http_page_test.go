package config

import (
	"os"
	"regexp"
	"testing"
)

// TestHTTPPage loads the configurations of docs/http.md, none of which is warned of.
func TestHTTPPage(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../../docs/http.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(string(page), -1)
	if len(blocks) < 3 {
		t.Fatalf("the page has %d configurations", len(blocks))
	}
	f := newFixture(t)
	for _, block := range blocks {
		if c := f.mustLoad(small + block[1]); len(c.Warnings) > 0 {
			t.Errorf("%s%v", block[1], c.Warnings)
		}
	}
}
