package main

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"
)

// writeAccount signs the claims with the operator's key, in a later second than they were, and puts them into the file.
func (w *world) writeAccount(file string, claims *jwt.AccountClaims) {
	w.Helper()
	signer, err := nkeys.FromSeed([]byte(w.set.OperatorSigningKey.Reveal()))
	if err != nil {
		w.Fatal(err)
	}
	token, before := "", claims.IssuedAt
	eventually(w, func() (err error) {
		if token, err = claims.Encode(signer); err == nil && claims.IssuedAt <= before {
			return errors.New("it is the same second still")
		}
		return err
	})
	temp := filepath.Join(w.dir, "new.jwt")
	if err := os.WriteFile(temp, []byte(token), 0o600); err != nil {
		w.Fatal(err)
	}
	if err := os.Rename(temp, filepath.Join(w.dir, file)); err != nil {
		w.Fatal(err)
	}
}

// TestFilesAreServedWithRevocations: a newer file of an account is never served without what revocations ask, and takes effect though
// nobody pushes it.
func TestFilesAreServedWithRevocations(t *testing.T) {
	t.Parallel()
	r := newForgetful(t, worldOptions{resolver: "url"})
	key, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	user, err := key.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	r.must("revoke", "--account", r.set.App.Name, "--user-key", user, "--reason", "lost", "--wait")
	served := func(as string) (claims *jwt.AccountClaims) {
		eventually(t, func() error {
			code, token := r.fetched(r.set.App.ID)
			var err error
			if claims, err = jwt.DecodeAccountClaims(token); code != http.StatusOK || err != nil {
				return fmt.Errorf("answered %d: %w", code, err)
			}
			if _, revoked := claims.Revocations[user]; !revoked {
				t.Fatalf("served without the revocation: %s", claims)
			}
			if claims.Description != as {
				return fmt.Errorf("served as %q", claims.Description)
			}
			return nil
		})
		return claims
	}
	before := served("")
	file, err := jwt.DecodeAccountClaims(r.set.App.JWT)
	if err != nil {
		t.Fatal(err)
	}
	file.Description, file.IssuedAt = "changed in the file", before.IssuedAt
	r.writeAccount("accounts/app.jwt", file)
	served(file.Description)
	eventually(t, func() error {
		if claims := r.appliedOn(0, r.set.App.ID); claims == nil || claims.Description != file.Description || len(claims.Revocations) == 0 {
			return fmt.Errorf("the server has %v", claims)
		}
		return nil
	})
}

// TestDeletedAccountIsNotServedFromItsFile: an account that was taken over and deleted is gone for servers that start anew, though the
// configuration names its file still.
func TestDeletedAccountIsNotServedFromItsFile(t *testing.T) {
	t.Parallel()
	r := newForgetful(t, worldOptions{resolver: "url"})
	key, err := nkeys.CreateAccount()
	if err != nil {
		t.Fatal(err)
	}
	id, err := key.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	claims := jwt.NewAccountClaims(id)
	claims.Name = "legacy"
	r.writeAccount("accounts/legacy.jwt", claims)
	r.edit(func(yaml string) string {
		return strings.Replace(yaml, "- accounts/app.jwt", "- accounts/app.jwt\n      - accounts/legacy.jwt", 1)
	})
	eventually(t, func() error {
		if code, _ := r.fetched(id); code != http.StatusOK {
			return fmt.Errorf("the file is answered %d", code)
		}
		return nil
	})
	eventually(t, func() error {
		if got := r.command("account", "adopt", id, "--plan", "free", "--owner-issuer", "demo", "--owner-subject", "alice"); got.code != exitDone {
			return errors.New(got.err)
		}
		return nil
	})
	r.must("account", "delete", "legacy", "--yes", "--with-data", "--grace", "0s")
	eventually(t, func() error {
		if code, _ := r.fetched(id); code != http.StatusNotFound {
			return fmt.Errorf("a deleted account is answered %d", code)
		}
		return nil
	})
}
