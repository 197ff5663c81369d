package account

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/nats-io/nkeys"
)

// MaxName bounds the name of an account in bytes.
const MaxName = 64

// Lengths of keys as text.
const (
	publicLen = 56
	seedLen   = 58
)

// The conditions that callers tell apart.
var (
	// ErrName says that a text is no name of an account.
	ErrName = errors.New("not a name of an account")
	// ErrReserved says that a name is not given out.
	ErrReserved = errors.New("the name is reserved")
)

// reserved are names, in lower case, that people would take for something else.
var reserved = []string{"lobby", "auth", "sys", "system", "operator", "operator-signing", "callout", "gatehouse", "default", "account"}

// CheckName returns an error that wraps [ErrName] or [ErrReserved] unless the text can name an account: 1 to 64 of A-Z a-z
// 0-9 . _ -, beginning and ending with a letter or a digit. There are no other letters, so that no name looks like
// another; those that differ in case alone are one name to the store. What reads as a key of NATS is none: accounts go by their
// id too, and whoever had another's id for a name would be taken for it.
func CheckName(name string) error {
	alnum := func(c byte) bool {
		return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
	}
	switch {
	case name == "" || len(name) > MaxName:
		return fmt.Errorf("%w: it has %d bytes, use 1 to %d", ErrName, len(name), MaxName)
	case !alnum(name[0]) || !alnum(name[len(name)-1]):
		return fmt.Errorf("%w: begin and end it with a letter or a digit", ErrName)
	}
	for i := range len(name) {
		if c := name[i]; !alnum(c) && c != '.' && c != '_' && c != '-' {
			return fmt.Errorf("%w: use letters from a to z, digits, dots, underscores and hyphens", ErrName)
		}
	}
	if n := len(name); (n == publicLen || n == seedLen) && nkeys.IsValidEncoding([]byte(strings.ToUpper(name))) {
		return fmt.Errorf("%w: it reads as a key", ErrName)
	}
	if slices.Contains(reserved, Key(name)) {
		return fmt.Errorf("%w: choose another one than %s", ErrReserved, name)
	}
	return nil
}

// CheckPlanName is [CheckName] for an account of a plan, whose names look like the pattern.
func CheckPlanName(name, pattern string) error {
	if err := CheckName(name); err != nil {
		return err
	}
	if !Fits(name, pattern) {
		return fmt.Errorf("%w: names of accounts of the plan look like %s", ErrName, pattern)
	}
	return nil
}

// Fits reports whether the name looks as the pattern asks, in which * stands for any characters; an empty pattern asks nothing.
func Fits(name, pattern string) bool {
	if pattern == "" {
		return true
	}
	parts := strings.Split(Key(pattern), "*")
	name = Key(name)
	if len(parts) == 1 {
		return name == parts[0]
	}
	rest, ok := strings.CutPrefix(name, parts[0])
	if !ok {
		return false
	}
	for _, part := range parts[1 : len(parts)-1] {
		if _, rest, ok = strings.Cut(rest, part); !ok {
			return false
		}
	}
	return strings.HasSuffix(rest, parts[len(parts)-1])
}
