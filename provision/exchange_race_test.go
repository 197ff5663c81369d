package provision_test

import (
	"context"
	"encoding/json"
	"slices"
	"testing"

	"github.com/gatehouse-nats/gatehouse/account"
	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/store"
)

// interrupted is a store that does something else right before the next change of an account is saved.
type interrupted struct {
	store.Store
	first func()
}

func (s *interrupted) SaveAccount(ctx context.Context, c store.AccountChange) (json.RawMessage, error) {
	if first := s.first; first != nil {
		s.first = nil
		first()
	}
	return s.Store.SaveAccount(ctx, c)
}

// An export that ends while another account comes to import it, and an import of what ends meanwhile, are seen: whichever is stored
// later is checked again. So are two imports that make a cycle, and what is set by its revision.
func TestExportsAndImportsAtOnce(t *testing.T) {
	t.Parallel()
	ask := api.Export{Name: "ask", Subject: "ask.*", Type: "service"}
	begin := func(t *testing.T, exports ...string) (*accountBed, *interrupted) {
		t.Helper()
		b, _ := newTradeBed(t)
		for _, name := range exports {
			if _, err := b.ExportAdd(t.Context(), admin, api.ExportAddRequest{Account: name, Export: ask}); err != nil {
				t.Fatal(err)
			}
		}
		s := &interrupted{Store: b.Store}
		b.Store = s
		return b, s
	}
	imports := func(b *accountBed, importer, exporter string) error {
		_, err := b.ImportAdd(t.Context(), admin, api.ImportAddRequest{Account: importer, Import: api.Import{Name: "ask", Account: exporter, Subject: "ask.eu", Type: "service"}})
		return err
	}
	ends := func(b *accountBed, cut bool) error {
		_, err := b.ExportRemove(t.Context(), admin, api.ExchangeRemoveRequest{Account: "orders", Name: "ask", Cut: cut})
		return err
	}
	t.Run("the export ends first", func(t *testing.T) {
		t.Parallel()
		b, s := begin(t, "orders")
		s.first = func() {
			if err := ends(b, false); err != nil {
				t.Error(err)
			}
		}
		if err := imports(b, "shop", "orders"); reason(err) != api.ReasonExchangeInvalid || len(b.record(t, "shop").Imports) != 0 {
			t.Errorf("an import of nothing: %v", err)
		}
	})
	t.Run("the import comes first", func(t *testing.T) {
		t.Parallel()
		b, s := begin(t, "orders")
		s.first = func() {
			if err := imports(b, "shop", "orders"); err != nil {
				t.Error(err)
			}
		}
		if err := ends(b, false); reason(err) != api.ReasonCutsImports || len(b.record(t, "orders").Exports) != 1 {
			t.Errorf("the export ends under an import: %v", err)
		}
		if err := ends(b, true); err != nil {
			t.Errorf("meant so: %v", err)
		}
	})
	t.Run("a cycle", func(t *testing.T) {
		t.Parallel()
		b, s := begin(t, "orders", "shop")
		s.first = func() {
			if err := imports(b, "shop", "orders"); err != nil {
				t.Error(err)
			}
		}
		if err := imports(b, "orders", "shop"); reason(err) != api.ReasonExchangeInvalid {
			t.Errorf("the second half of a cycle: %v", err)
		}
	})
	t.Run("set by revision", func(t *testing.T) {
		t.Parallel()
		b, s := begin(t, "orders")
		set := api.ExchangeSetRequest{Account: "shop", Revision: b.record(t, "shop").Revision, Imports: []api.Import{{Name: "ask", Account: "orders", Subject: "ask.eu", Type: "service"}}}
		s.first = func() {
			if _, err := b.AccountUpdate(t.Context(), admin, api.AccountUpdateRequest{Account: "orders", Revision: b.record(t, "orders").Revision, Tags: new([]string{"busy"})}); err != nil {
				t.Error(err)
			}
		}
		if _, err := b.ExchangeSet(t.Context(), admin, set); err != nil {
			t.Errorf("of an account that changed in another way: %v", err)
		}
		s.first = func() {
			if _, err := b.AccountUpdate(t.Context(), admin, api.AccountUpdateRequest{Account: "shop", Revision: b.record(t, "shop").Revision, Tags: new([]string{"mine"})}); err != nil {
				t.Error(err)
			}
		}
		set.Revision, set.Imports = b.record(t, "shop").Revision, nil
		if _, err := b.ExchangeSet(t.Context(), admin, set); reason(err) != api.ReasonChanged {
			t.Errorf("over another change: %v", err)
		}
		if !slices.ContainsFunc(b.record(t, "shop").Imports, func(i account.Import) bool { return i.Name == "ask" }) {
			t.Error("the import is gone")
		}
	})
	t.Run("with a token made meanwhile", func(t *testing.T) {
		t.Parallel()
		b, _ := newTradeBed(t)
		if _, err := b.ExportAdd(t.Context(), admin, api.ExportAddRequest{Account: "orders", Export: private}); err != nil {
			t.Fatal(err)
		}
		if err := imports(b, "shop", "orders"); err != nil {
			t.Fatal(err)
		}
		if is := b.record(t, "orders"); len(is.Activations) != 1 || is.Imported != 1 {
			t.Errorf("%d tokens were made, %d imports", len(is.Activations), is.Imported)
		}
	})
}
