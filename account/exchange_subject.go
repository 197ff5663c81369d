package account

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/nats-io/jwt/v2"
)

// MaxSubject bounds a subject of an export or an import in bytes.
const MaxSubject = 256

func split(subject string) []string { return strings.Split(subject, ".") }

// checkSubject says what is wrong with a subject, which may have wildcards.
func checkSubject(subject string) string {
	switch {
	case subject == "":
		return "the subject is missing"
	case len(subject) > MaxSubject:
		return fmt.Sprintf("the subject has %d bytes, use at most %d", len(subject), MaxSubject)
	case !utf8.ValidString(subject) || strings.ContainsFunc(subject, func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsPrint(r) }):
		return "the subject has spaces or characters that cannot be seen"
	case strings.Contains(subject, "{{"):
		return "the subject has {{, which servers would replace" // server/accounts.go, expandSubjectPlaceholders
	}
	tokens := split(subject)
	for i, t := range tokens {
		switch {
		case t == "":
			return fmt.Sprintf("subject %s has an empty token", subject)
		case t == ">" && i < len(tokens)-1:
			return fmt.Sprintf("subject %s has a > that is not its last token", subject)
		case len(t) > 1 && strings.ContainsAny(t, "*>"):
			return fmt.Sprintf("subject %s has the token %s: a wildcard is a token of its own", subject, t)
		}
	}
	return ""
}

// checkOwnSubject says what is wrong with a subject on which an account offers or is given something. The first token keeps
// apart what NATS itself uses: replies (_INBOX), JetStream ($JS, $KV, $O), the system ($SYS).
func checkOwnSubject(subject string) string {
	if err := checkSubject(subject); err != "" {
		return err
	}
	switch first := split(subject)[0]; {
	case first == "*" || first == ">":
		return fmt.Sprintf("subject %s begins with a wildcard, and so holds replies and JetStream's subjects: begin with a name", subject)
	case first[0] == '$' || first[0] == '_':
		return fmt.Sprintf("subject %s begins with %s: what begins with $ or _ is for NATS itself", subject, first)
	}
	return ""
}

// checkLocal says what is wrong with the subject that an import has at home in place of the exporter's.
func checkLocal(local, subject string) string {
	if err := checkSubject(local); err != "" {
		return err
	}
	vr := jwt.CreateValidationResults()
	jwt.RenamingSubject(local).Validate(jwt.Subject(subject), vr)
	for _, issue := range vr.Issues {
		return fmt.Sprintf("%s in place of %s: %s", local, subject, issue.Description)
	}
	for _, t := range split(local) {
		// What the library takes for no reference, servers take for one, and the other way round.
		if _, err := strconv.Atoi(strings.TrimPrefix(t, "$")); strings.HasPrefix(t, "$") && (err != nil || t[1] < '1' || t[1] > '9') {
			return fmt.Sprintf("%s has the token %s: after a $ comes the number of a wildcard, from 1", local, t)
		}
	}
	return checkOwnSubject(wild(local))
}

// wild returns a renaming subject with wildcards in place of references to them ($1).
func wild(local string) string { return string(jwt.RenamingSubject(local).ToSubject()) }

// At returns the subject on which the account has what it imports; wildcards stand where the import moves them.
func (i *Import) At() string {
	if i.Local == "" {
		return i.Subject
	}
	return wild(i.Local)
}

// collide reports whether some subject matches both patterns.
func collide(a, b []string) bool {
	for i := range min(len(a), len(b)) {
		switch {
		case a[i] == ">" || b[i] == ">":
			return true
		case a[i] != b[i] && a[i] != "*" && b[i] != "*":
			return false
		}
	}
	return len(a) == len(b)
}

// holds reports whether the pattern matches every subject that inner matches.
func holds(pattern, inner []string) bool {
	for i, t := range pattern {
		switch {
		case i == len(inner):
			return false
		case t == ">":
			return true
		case inner[i] == ">" || t != "*" && t != inner[i]:
			return false
		}
	}
	return len(pattern) == len(inner)
}

// Exported returns the account's export of the type that holds the subject, or nil.
func (a *Account) Exported(t ExportType, subject string) *Export {
	i := slices.IndexFunc(a.Exports, func(e Export) bool { return e.Type == t && holds(split(e.Subject), split(subject)) })
	if i < 0 {
		return nil
	}
	return &a.Exports[i]
}
