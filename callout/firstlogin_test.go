package callout

import (
	"net/netip"
	"testing"
	"time"

	"github.com/gatehouse-nats/gatehouse/internal/setup"
	"github.com/gatehouse-nats/gatehouse/policy"
)

// founder has accounts made when the test says so.
type founder struct {
	asked   chan *policy.Creation
	done    chan struct{}
	refusal *policy.Refusal // written before done is closed
}

func withFounder(f *founder) with {
	f.asked, f.done = make(chan *policy.Creation, 8), make(chan struct{})
	return func(_ *system, _ *setup.Options, o *Options) {
		o.Found = func(_ *policy.Identity, _ netip.Addr, c *policy.Creation) (<-chan struct{}, func() *policy.Refusal) {
			f.asked <- c
			return f.done, func() *policy.Refusal { return f.refusal }
		}
	}
}

const newcomer = secret + "newcomer"

// leadToTeams has members of teams led to accounts that are named by their groups' claim, and returns the entry of that of team
// blue, which is the servers' account APP.
func (s *system) leadToTeams(t *testing.T) policy.Entry {
	t.Helper()
	rules := s.rules(t)
	app := rules.Accounts["APP"]
	role := rules.Bindings["corp"][0].Grant.Role
	delete(rules.Accounts, "APP")
	rules.Bindings = nil
	name, err := policy.ParseNameTemplate("team-{{claim.team}}")
	if err != nil {
		t.Fatal(err)
	}
	rules.Plans = map[string]*policy.Plan{"team": {Name: "team", Roles: map[string]*policy.Role{role.Name: role}, TTL: time.Hour}}
	rules.Creates = map[string][]*policy.Binding{"corp": {{
		Name: "teams", Issuer: "corp", TTL: time.Hour, Create: &policy.Create{Plan: "team", Role: role, Name: name},
	}}}
	s.state.Store(&policy.Snapshot{Rules: rules})
	s.tokens.set(newcomer, func() (*policy.Identity, *policy.Refusal, <-chan struct{}) {
		id, r, pending := valid("alice")()
		id.Claims["team"] = "blue"
		return id, r, pending
	})
	return policy.Entry{
		Account: policy.Account{Name: "team-blue", ID: app.ID, SigningKeys: app.SigningKeys}, Plan: "team", State: "active", Open: true,
		Origin: &policy.Origin{Issuer: issuer, Template: "team-{{claim.team}}", Claims: `["blue"]`},
	}
}

// A login waits aside for the account that it leads to: the only worker takes others meanwhile.
func TestLoginWaitsForItsAccount(t *testing.T) {
	t.Parallel()
	founder := &founder{}
	s, f := member(t, withWorkers(1), withFounder(founder))
	entry := s.leadToTeams(t)
	c := f.claims(t, newcomer)
	f.send(t, f.seal(t, f.sign(t, c)))
	if asked := await(t, founder.asked); asked.Name != "team-blue" || asked.Binding != "teams" || asked.Own {
		t.Errorf("asked for %+v", asked)
	}
	eventually(t, func() error { return check(s.forFirst.Load() == 1, "the login does not wait") })
	if got := f.answered(t, secret+"forged"); got.Error == "" {
		t.Errorf("another login was not answered meanwhile: %+v", got)
	}
	s.state.Store(&policy.Snapshot{Rules: s.state.Load().Rules, Accounts: policy.NewDirectory([]policy.Entry{entry})})
	close(founder.done)
	if got := f.next(t); got.Subject != c.UserNkey || got.Jwt == "" {
		t.Errorf("the login that waited got %+v", got)
	}
	if e := s.records.only(t, policy.Allowed); e.Account != "team-blue" || e.Bindings[0] != "teams" {
		t.Errorf("entry %+v", e)
	}
}

// One that is not to have an account is refused; one whose account was not ready in time is left to try again, and asks for it once.
func TestLoginWithoutItsAccount(t *testing.T) {
	t.Parallel()
	for name, r := range map[string]*policy.Refusal{
		"refused": policy.Refuse(policy.AccountForeign, "it was deleted"), "late": nil, "failed": policy.Refuse(policy.AccountCreating, "no store"),
	} {
		founder := &founder{refusal: r}
		s, f := member(t, withFounder(founder))
		s.leadToTeams(t)
		f.send(t, f.request(t, newcomer, nil))
		await(t, founder.asked)
		close(founder.done)
		if r != nil && !r.Reason.Silent() {
			if got := f.next(t); got.Error == "" {
				t.Errorf("%s: %+v", name, got)
			}
			s.records.only(t, r.Reason)
		} else {
			s.awaitEnd(t, policy.AccountCreating, "corp", 1)
			f.silence(t, name)
		}
		if len(founder.asked) != 0 || s.forFirst.Load() != 0 {
			t.Errorf("%s: asked %d times more, %d wait", name, len(founder.asked), s.forFirst.Load())
		}
	}
}
