package filelock

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gatehouse-nats/gatehouse/store"
)

func TestTake(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "lock")
	// What an earlier holder has left says nothing.
	if err := os.WriteFile(path, []byte("4194304999 and more text than a number has\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	first, err := Take(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Take(path); !errors.Is(err, store.ErrInUse) || !strings.Contains(err.Error(), "this process") || !strings.Contains(err.Error(), path) {
		t.Errorf("taken twice: %v", err)
	}
	if err := os.WriteFile(path, []byte("?"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Take(path); !errors.Is(err, store.ErrInUse) || !strings.Contains(err.Error(), "another process") {
		t.Errorf("taken twice: %v", err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	second, err := Take(path)
	if err != nil {
		t.Fatalf("it was not given back: %v", err)
	}
	_ = second.Close()
}
