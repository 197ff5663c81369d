package account

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode"
)

// Bounds of what people write beside an account.
const (
	MaxDescription = 1024 // bytes
	MaxTags        = 32
)

// ErrText says that a description or a tag cannot be kept.
var ErrText = errors.New("it cannot be kept")

// ErrLimits says that limits contradict themselves.
var ErrLimits = errors.New("not limits that an account can have")

// tag matches what a tag may be: claims keep them in small letters.
var tag = regexp.MustCompile(`^[a-z0-9][a-z0-9:._-]{0,63}$`)

// tier matches the names that nats-server gives replica tiers.
var tier = regexp.MustCompile(`^R[1-5]$`)

// CheckTexts returns an error that wraps [ErrText] unless the description is up to 1024 bytes of printable text and there are at
// most 32 different tags, each 1 to 64 of a-z 0-9 : . _ -, beginning with a letter or a digit.
func CheckTexts(description string, tags []string) error {
	switch {
	case len(description) > MaxDescription:
		return fmt.Errorf("%w: the description has %d bytes, use up to %d", ErrText, len(description), MaxDescription)
	case strings.ContainsFunc(description, func(r rune) bool { return !unicode.IsPrint(r) }):
		return fmt.Errorf("%w: the description holds what cannot be printed: write one line of text", ErrText)
	case len(tags) > MaxTags:
		return fmt.Errorf("%w: there are %d tags, use up to %d", ErrText, len(tags), MaxTags)
	}
	for i, t := range tags {
		switch {
		case !tag.MatchString(t):
			return fmt.Errorf("%w: tag %.80q: use 1 to 64 of a-z 0-9 : . _ -", ErrText, t)
		case slices.Contains(tags[:i], t):
			return fmt.Errorf("%w: tag %q is there twice", ErrText, t)
		}
	}
	return nil
}

// Check returns an error that wraps [ErrLimits] unless every limit is 0 or more or [NoLimit], JetStream is limited as a whole or
// by tier, and where it is, something can be stored.
func (l Limits) Check() error {
	for _, f := range []struct {
		name  string
		value int64
	}{
		{"connections", l.Connections}, {"leaf_nodes", l.LeafNodes}, {"subscriptions", l.Subscriptions}, {"payload", l.Payload},
		{"data", l.Data}, {"imports", l.Imports}, {"exports", l.Exports},
	} {
		if f.value < NoLimit {
			return fmt.Errorf("%w: %s is %d: use 0 or more, or -1 for no limit", ErrLimits, f.name, f.value)
		}
	}
	switch {
	case l.JetStream != nil && l.Tiers != nil:
		return fmt.Errorf("%w: give jetstream as a whole or by tiers: servers go by one or the other", ErrLimits)
	case l.LeafNodes != NoLimit && l.Connections != NoLimit && l.LeafNodes > l.Connections:
		return fmt.Errorf("%w: leaf_nodes is %d and connections %d, and leaf nodes are connections", ErrLimits, l.LeafNodes, l.Connections)
	case l.JetStream != nil:
		return l.JetStream.check("jetstream")
	}
	for name, js := range l.Tiers {
		if !tier.MatchString(name) {
			return fmt.Errorf("%w: tier %.20q: use R1 to R5", ErrLimits, name)
		}
		if err := js.check("tier " + name); err != nil {
			return err
		}
	}
	return nil
}

func (j JetStream) check(where string) error {
	for _, v := range []int64{j.Memory, j.Disk, j.Streams, j.Consumers} {
		if v < NoLimit {
			return fmt.Errorf("%w: %s holds %d: use 0 or more, or -1 for no limit", ErrLimits, where, v)
		}
	}
	if j.Memory == 0 && j.Disk == 0 && (j.Streams != 0 || j.Consumers != 0) {
		return fmt.Errorf("%w: %s lets streams be made, but gives them neither memory nor disk", ErrLimits, where)
	}
	return nil
}
