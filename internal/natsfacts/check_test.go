package natsfacts

import (
	"encoding/json"
	"testing"
)

// check ends the test on an error.
func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// encode makes a request body: text as it is, nil empty, all else JSON.
func encode(t *testing.T, body any) []byte {
	t.Helper()
	switch body := body.(type) {
	case nil:
		return nil
	case string:
		return []byte(body)
	}
	data, err := json.Marshal(body)
	check(t, err)
	return data
}

// decode reads JSON that has to be valid.
func decode(t *testing.T, data []byte, v any) {
	t.Helper()
	if err := json.Unmarshal(data, v); err != nil {
		t.Fatalf("%v in %s", err, data)
	}
}
