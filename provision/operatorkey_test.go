package provision_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/nats-io/nkeys"

	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/provision"
	"github.com/gatehouse-nats/gatehouse/seal"
	"github.com/gatehouse-nats/gatehouse/store"
)

// operatorSeed returns a new operator key: its seed and its public key.
func operatorSeed(t testing.TB) (seed, public string) {
	t.Helper()
	key, err := nkeys.CreateOperator()
	if err != nil {
		t.Fatal(err)
	}
	text, err := key.Seed()
	if err != nil {
		t.Fatal(err)
	}
	public, err = key.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	return string(text), public
}

// An operator key is kept sealed once servers trust it, in place of the one before, and neither the audit trail nor the log nor an
// error says anything of its seed.
func TestOperatorKeyIsKept(t *testing.T) {
	t.Parallel()
	onBothStores(t, testOperatorKeyIsKept)
}

func testOperatorKeyIsKept(t *testing.T, b *keyBed) {
	file, renewed := "", 0
	var trust []provision.OperatorTrust
	var deaf error
	b.Keys.Operator = func() string { return file }
	b.Keys.Running = &provision.OperatorKeys{
		Trust:  func(context.Context) ([]provision.OperatorTrust, error) { return trust, deaf },
		Signed: func(context.Context) ([]api.OperatorSigned, error) { return nil, errors.New("n3 is silent") },
		Renew:  func(context.Context) error { renewed++; return nil },
	}
	first, public := operatorSeed(t)
	second, next := operatorSeed(t)
	identity, id := operatorSeed(t)
	account, err := nkeys.CreateAccount()
	if err != nil {
		t.Fatal(err)
	}
	wrong, err := account.Seed()
	if err != nil {
		t.Fatal(err)
	}
	add := func(seed string) (api.OperatorKey, error) {
		return b.OperatorKeyImport(t.Context(), admin, api.OperatorKeyImport{Seed: seed})
	}
	trust = []provision.OperatorTrust{{Server: "n1", Keys: []string{id, public}, Identity: []string{id}}, {Server: "n2"}}
	for _, seed := range []string{"", "SO", string(wrong), first[:57], identity} {
		_, err := add(seed)
		if m := wantError(t, err, http.StatusBadRequest, api.ReasonBadRequest); seed != "" && strings.Contains(m, seed) && len(seed) > 2 {
			t.Errorf("the error quotes the seed: %s", m)
		}
	}
	_, err = add(second)
	if m := wantError(t, err, http.StatusConflict, api.ReasonKeyUntrusted); !strings.Contains(m, "n1") || !strings.Contains(m, next) {
		t.Error(m)
	}
	deaf = errors.New("no server answers")
	_, err = add(first)
	wantError(t, err, http.StatusServiceUnavailable, api.ReasonUnavailable)
	deaf = nil
	got, err := add(first)
	if err != nil || got.Key != public || got.From != "store" || got.Sealed != public || got.SealedWith != b.ring.Current() || renewed != 1 {
		t.Fatalf("got %+v, %v", got, err)
	}
	if page, err := b.KeysList(t.Context(), admin, api.KeysRequest{}); err != nil || page.Operator != public || page.OperatorFrom != "store" {
		t.Errorf("listed %+v, %v", page, err)
	}
	if got, err := b.OperatorKey(t.Context(), admin, api.OperatorKeyRequest{}); err != nil || got.Incomplete != "n3 is silent" || len(got.Servers) != 2 ||
		got.Servers[0].Trusts != "yes" || got.Servers[1].Trusts != "unknown" {
		t.Errorf("got %+v, %v", got, err)
	}

	trust[0].Keys = append(trust[0].Keys, next)
	b.ring = seal.NewRing(b.newer, b.older)
	if got, err := add(second); err != nil || got.Key != next || got.SealedWith != b.newer.ID() {
		t.Fatalf("got %+v, %v", got, err)
	}
	rows, _, err := b.Store.SealedKeys(t.Context(), store.SealedKeyFilter{})
	if err != nil || len(rows) != 1 {
		t.Fatalf("kept %v, %v", rows, err)
	}
	if seed, err := b.ring.Open(rows[0].Box, rows[0].Row()); err != nil || string(seed) != second {
		t.Errorf("it does not open to the seed that it was: %v", err)
	}
	third := sealKey(t)
	b.ring = seal.NewRing(third, b.newer)
	if got := b.resealAll(t); got.Resealed != 1 {
		t.Errorf("sealed anew: %+v", got)
	}
	b.ring = seal.NewRing(b.newer)
	if got, err := b.OperatorKey(t.Context(), admin, api.OperatorKeyRequest{}); err != nil || !strings.Contains(got.Problem, third.ID()) {
		t.Errorf("without its sealing key: %+v, %v", got, err)
	}
	file = "OFILE"
	if got, err := b.OperatorKey(t.Context(), admin, api.OperatorKeyRequest{}); err != nil || got.Key != "OFILE" || got.From != "operator.signing_key" || got.Sealed != next || got.Problem == "" {
		t.Errorf("with one in a file: %+v, %v", got, err)
	}
	file = ""
	_, err = b.OperatorKeyRemove(t.Context(), admin, api.OperatorKeyRemove{})
	wantError(t, err, http.StatusBadRequest, api.ReasonBadRequest)
	if got, err := b.OperatorKeyRemove(t.Context(), admin, api.OperatorKeyRemove{Reason: "in a file"}); err != nil || got.Key != "" || got.Sealed != "" {
		t.Errorf("got %+v, %v", got, err)
	}
	_, err = b.OperatorKeyRemove(t.Context(), admin, api.OperatorKeyRemove{Reason: "again"})
	wantError(t, err, http.StatusNotFound, api.ReasonNotFound)
	b.Keys.Seal = func() *seal.Ring { return nil }
	_, err = add(first)
	wantError(t, err, http.StatusConflict, api.ReasonSealMissing)

	entries, _, err := b.Store.Audit(t.Context(), store.AuditFilter{Kind: store.AdminEntry})
	if err != nil {
		t.Fatal(err)
	}
	acts := map[string]string{}
	for _, e := range entries {
		acts[e.Op+" "+e.Target] = e.Detail
	}
	if d := acts[api.OpOperatorKeyImport+" "+next]; d != "in place of "+public {
		t.Errorf("audit: %q of %v", d, acts)
	}
	if _, ok := acts[api.OpOperatorKeyRemove+" "+next]; !ok {
		t.Errorf("audit: %v", acts)
	}
	for _, seed := range []string{first, second, identity} {
		if strings.Contains(b.log.String(), seed) {
			t.Error("a seed is in the log")
		}
	}
}

// A seed is taken from who is on the host alone.
func TestOperatorKeyComesFromTheHost(t *testing.T) {
	t.Parallel()
	tokenless := 0
	for _, op := range provision.Describe().Operations {
		if op.Name == api.OpOperatorKeyImport || op.Name == api.OpOperatorKeyRemove {
			if tokenless++; op.Token {
				t.Errorf("%s takes a token", op.Name)
			}
		}
	}
	if tokenless != 2 {
		t.Errorf("%d operations", tokenless)
	}
}
