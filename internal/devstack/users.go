package devstack

import (
	"crypto/subtle"
	"fmt"
	"strings"
)

// User is a person whom the demo provider can log in. The password is no secret: it is shown on the login page
// and printed by gatehouse dev.
type User struct {
	Name     string   `json:"name"` // subject and preferred_username
	Password string   `json:"password"`
	Groups   []string `json:"groups"`
}

// DemoUsers returns the users of gatehouse dev: two developers' teams, an operator and an admin.
// Each password equals the name.
func DemoUsers() []User {
	return []User{
		{Name: "alice", Password: "alice", Groups: []string{"dev", "team-blue"}},
		{Name: "bob", Password: "bob", Groups: []string{"ops"}},
		{Name: "carol", Password: "carol", Groups: []string{"contractors", "team-red"}},
		{Name: "root", Password: "root", Groups: []string{"nats-admins", "dev"}},
	}
}

// FindUser returns the user of that exact name; the error names the users there are.
func FindUser(users []User, name string) (User, error) {
	names := make([]string, 0, len(users))
	for _, user := range users {
		if user.Name == name {
			return user, nil
		}
		names = append(names, user.Name)
	}
	return User{}, fmt.Errorf("no demo user %q; there are %s", name, strings.Join(names, ", "))
}

func (u User) hasPassword(password string) bool {
	return subtle.ConstantTimeCompare([]byte(u.Password), []byte(password)) == 1
}

func (u User) email() string { return u.Name + "@example.com" }

func (u User) displayName() string {
	return strings.ToUpper(u.Name[:1]) + u.Name[1:] + " Example"
}

// claims are what every token says of the user, whatever scopes were asked for: a demo should not fail for want of a scope.
func (u User) claims() map[string]any {
	return map[string]any{
		"email":              u.email(),
		"email_verified":     true,
		"name":               u.displayName(),
		"preferred_username": u.Name,
		"groups":             u.Groups,
	}
}
