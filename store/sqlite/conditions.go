package sqlite

import (
	"strings"

	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/store/internal/row"
)

// conditions are what a filter asks for.
type conditions struct {
	terms []string
	args  []any
}

func (c *conditions) add(term string, args ...any) {
	c.terms = append(c.terms, term)
	c.args = append(c.args, args...)
}

// text asks for an exact value; an empty one asks for nothing.
func (c *conditions) text(column, value string) {
	if value != "" {
		c.add(column+` = ?`, row.Text(value))
	}
}

// unusual asks for an exact value of a column whose index leaves out what most logins have.
func (c *conditions) unusual(column, value string) {
	if value != "" && value != string(policy.Allowed) {
		c.add(column + ` <> 'allowed'`)
	}
}

// name asks for a principal name, which is found by its subject.
func (c *conditions) name(name string) {
	c.text(`name`, name)
	if subject, ok := row.NamedSubject(name); ok {
		c.text(`subject`, subject)
	} else if strings.Contains(name, row.HashedName) {
		c.add(`instr(name, '` + row.HashedName + `') > 0`)
	}
}

// account asks for what is of an account or done to it; empty values ask for nothing.
func (c *conditions) account(name, id string) {
	var either []string
	var args []any
	for _, one := range []struct{ column, value string }{{`account`, name}, {`target`, id}} {
		if one.value != "" {
			either = append(either, one.column+` = ?`, `instr(', ' || target || ',', ?) > 0`)
			args = append(args, row.Text(one.value), row.Text(", account "+one.value+","))
		}
	}
	if len(either) > 0 {
		c.add(`(`+strings.Join(either, ` OR `)+`)`, args...)
	}
}

// before asks for what comes after the cursor in a list that goes newest first.
func (c *conditions) before(cursor string) error {
	if cursor == "" {
		return nil
	}
	at, err := row.ParseCursor(cursor)
	if err == nil {
		c.add(`(at, id) < (?, ?)`, micros(at.At), row.Text(at.ID))
	}
	return err
}

func (c *conditions) String() string {
	if len(c.terms) == 0 {
		return ""
	}
	return " WHERE " + strings.Join(c.terms, " AND ")
}
