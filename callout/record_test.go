package callout

import "testing"

func TestRejectionKind(t *testing.T) {
	for reason, want := range map[string]string{
		"": timedOut,
		"Auth callout service returned an error: refused, see request 1":                    refusedByUs,
		"Could not register auth callout user: maximum account active connections exceeded": overLimit,
		`User JWT issuer "A" is not known`:                                                  rejected,
	} {
		if got := rejectionKind(reason); got != want {
			t.Errorf("%q is %s, want %s", reason, got, want)
		}
	}
}
