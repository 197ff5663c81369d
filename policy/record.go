package policy

import "encoding/json"

// maxRecorded bounds the claims of an audit entry, as JSON.
const maxRecorded = 4 << 10

// Record returns the claims of the identity that bindings of its issuer read, as a JSON object for its
// audit entry, none when they are not to be recorded, and whether there are too many to keep.
func (r *Rules) Record(id *Identity) (claims json.RawMessage, cut bool) {
	set, ok := r.Recorded[id.Issuer]
	if !ok {
		return nil, false
	}
	claims, err := json.Marshal(set.Pick(id.Claims))
	if err != nil || len(claims) > maxRecorded {
		return nil, true
	}
	return claims, false
}

// Shown returns the claims that the identity is known by, as configured for its issuer.
func (r *Rules) Shown(id *Identity) map[string]string {
	var shown map[string]string
	for _, path := range r.Display[id.Issuer] {
		v, ok := path.Lookup(id.Claims)
		if !ok {
			continue
		}
		var text string
		switch v := v.(type) {
		case string:
			text = v
		case json.Number:
			text = v.String()
		default:
			continue
		}
		if shown == nil {
			shown = map[string]string{}
		}
		shown[path.String()] = text
	}
	return shown
}
