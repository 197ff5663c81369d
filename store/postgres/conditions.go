package postgres

import (
	"strconv"
	"strings"

	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/store/internal/row"
)

// conditions are what a filter asks for.
type conditions struct {
	terms []string
	args  []any
}

// add adds a term in which each ? stands for the next argument.
func (c *conditions) add(term string, args ...any) {
	for _, arg := range args {
		c.args = append(c.args, arg)
		term = strings.Replace(term, "?", "$"+strconv.Itoa(len(c.args)), 1)
	}
	c.terms = append(c.terms, term)
}

// text asks for an exact value; an empty one asks for nothing.
func (c *conditions) text(column, value string) {
	if value != "" {
		c.add(column+` = ?`, row.Text(value))
	}
}

// long asks for an exact value of a column that is indexed by its first 128 characters.
func (c *conditions) long(column, value string) {
	if value != "" {
		c.add(`left(`+column+`, 128) = left(?, 128) AND `+column+` = ?`, row.Text(value), row.Text(value))
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
	c.long(`name`, name)
	if subject, ok := row.NamedSubject(name); ok {
		c.long(`subject`, subject)
	} else if strings.Contains(name, row.HashedName) {
		c.add(`position('` + row.HashedName + `' IN name) > 0`)
	}
}

// account asks for what is of an account or done to it; empty values ask for nothing.
func (c *conditions) account(name, id string) {
	var either []string
	var args []any
	for _, one := range []struct{ column, value string }{{`account`, name}, {`target`, id}} {
		if one.value != "" {
			either = append(either, one.column+` = ?`, `position(? IN ', ' || target || ',') > 0`)
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
		c.add(`(at, id) < (?, ?)`, timestamp(at.At), row.Text(at.ID))
	}
	return err
}

func (c *conditions) String() string {
	if len(c.terms) == 0 {
		return ""
	}
	return " WHERE " + strings.Join(c.terms, " AND ")
}
