package provision_test

import (
	"encoding/base64"
	"net/http"
	"strings"
	"testing"

	"github.com/gatehouse-nats/gatehouse/api"
)

// Whatever is put in the place of an admin token's parts, only the token that was made opens anything.
func FuzzAdminToken(f *testing.F) {
	b, _, _ := newAdminBed(f, withoutIssuers(newKey(f)))
	h := b.Handler()
	good := b.adminToken(f, breakGlass).Token
	part := strings.Split(good, ".")
	f.Add(part[0], part[1], part[2])
	f.Add(part[0], base64.RawURLEncoding.EncodeToString([]byte(`{"iss":"gatehouse:admin-token"}`)), part[2])
	f.Add(base64.RawURLEncoding.EncodeToString([]byte(`{"typ":"gatehouse-admin+jwt","alg":"none"}`)), part[1], "")
	f.Add(part[0], part[1]+"=", part[2]+"A")
	f.Fuzz(func(t *testing.T, header, payload, signature string) {
		token := header + "." + payload + "." + signature
		a := call(t, h, http.MethodPost, api.Path(api.OpRevocations), token, "")
		if a.Code == http.StatusOK && token != good {
			t.Fatalf("%q is taken", token)
		}
	})
}
