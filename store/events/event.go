package events

import (
	"strings"
	"time"

	"github.com/gatehouse-nats/gatehouse/account"
	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/store"
)

// Event is something that happened to a self-service account.
type Event struct {
	ID       string    `json:"id"`   // of the audit entry; the same whenever it is sent
	Type     string    `json:"type"` // account. and one of [Names]
	Time     time.Time `json:"time"`
	Account  string    `json:"account"`  // public key
	Name     string    `json:"name"`     // that the account had then
	Revision int64     `json:"revision"` // of its record, after the change
	Data     Data      `json:"data"`
}

// Data is what else there is to say.
type Data struct {
	State  string `json:"state,omitempty"` // of the account since then
	Actor  string `json:"actor,omitempty"` // who did it
	Reason string `json:"reason,omitempty"`
	Detail string `json:"detail,omitempty"`
}

// The names of events.
const (
	Created       = "created"
	Approved      = "approved"
	Rejected      = "rejected"
	Active        = "active"
	Published     = "published"
	Changed       = "changed"
	Suspended     = "suspended"
	Resumed       = "resumed"
	Deleting      = "deleting"
	Restored      = "restored"
	Deleted       = "deleted"
	MemberAdded   = "member_added"
	MemberInvited = "member_invited"
	MemberJoined  = "member_joined"
	MemberRemoved = "member_removed"
	Drift         = "drift"
)

// Names returns those of all events.
func Names() []string {
	return []string{
		Created, Approved, Rejected, Active, Published, Changed, Suspended, Resumed, Deleting, Restored, Deleted,
		MemberAdded, MemberInvited, MemberJoined, MemberRemoved, Drift,
	}
}

// The operations of audit entries that no caller calls.
const (
	OpActive    = "account.active"
	OpPublished = "account.published"
	OpDrift     = "account.drift"
)

// prefix is what the types of events and their subjects have before the name.
const prefix = "account."

var named = map[string]string{
	api.OpAccountSignup: Created, api.OpAccountApprove: Approved, api.OpAccountReject: Rejected, OpActive: Active, OpPublished: Published,
	api.OpAccountDelete: Deleting, api.OpAccountUndelete: Restored, OpDrift: Drift,
	api.OpMemberAdd: MemberAdded, api.OpMemberInvite: MemberInvited, api.OpMemberAccept: MemberJoined, api.OpMemberRemove: MemberRemoved,
}

// Short returns the name of the event, one of [Names].
func (e *Event) Short() string { return strings.TrimPrefix(e.Type, prefix) }

// of returns the event that an audit entry tells of; false when it tells of none. Of suspensions and drift
// the account's revision is not in the entry.
func of(e *store.AuditEntry) (Event, bool) {
	event := Event{
		ID: e.ID, Time: e.At.UTC(), Account: e.Target, Name: e.Account, Revision: e.Revision,
		Data: Data{State: e.State, Actor: e.Actor, Reason: e.Reason, Detail: e.Detail},
	}
	name := named[e.Op]
	switch {
	case e.Op == api.OpRevoke || e.Op == api.OpRevokeLift:
		id, whole := strings.CutPrefix(e.Target, "account ")
		if !whole || !strings.HasPrefix(e.Detail, string(policy.Suspension)+" ") || strings.Contains(id, " ") {
			return event, false
		}
		event.Account, name = id, Suspended
		if e.Op == api.OpRevokeLift {
			name = Resumed
		}
	case e.Target == "" || e.Revision == 0 && e.Op != OpDrift, e.Op == api.OpAccountResume: // what that lifts is told of
		return event, false
	case name == Deleting && e.State == string(account.Deleted):
		name = Deleted
	case name == "" && strings.HasPrefix(e.Op, "account."):
		name = Changed
	}
	event.Type = prefix + name
	return event, name != ""
}
