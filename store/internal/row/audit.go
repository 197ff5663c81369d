package row

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/gatehouse-nats/gatehouse/account"
	"github.com/gatehouse-nats/gatehouse/store"
)

// AuditColumns are the columns of an audit entry, in the order of [AuditValues] and [AuditTargets].
const AuditColumns = `id, at, kind, outcome, reason, detail,
	issuer, subject, name, display, token_id, session_id, issued, claims, claims_cut,
	account, roles, bindings, expires,
	server_id, server_name, cid, user_key, source, connection_type, client, asked,
	actor, op, target, revision, state, replica, rules, count`

// AuditValues appends the values to store, plain ones that need no conversion; at makes one of a time, which
// the databases keep differently.
func AuditValues(to []any, e *store.AuditEntry, at func(time.Time) any) []any {
	return append(to,
		escape(e.ID), at(e.At), string(e.Kind), escape(e.Outcome), escape(e.Reason), escape(e.Detail),
		escape(e.Issuer), escape(e.Subject), escape(e.Name), mapValue(e.Display), escape(e.TokenID), escape(e.SessionID), at(e.Issued), escape(string(e.Claims)), e.ClaimsCut,
		escape(e.Account), listValue(e.Roles), listValue(e.Bindings), at(e.Expires),
		escape(e.ServerID), escape(e.ServerName), int64(e.CID), escape(e.UserKey), escape(e.Source), escape(e.ConnType), escape(e.Client), escape(e.Asked),
		escape(e.Actor), escape(e.Op), escape(e.Target), e.Revision, escape(e.State), escape(e.Replica), escape(e.Rules), int64(e.Count),
	)
}

// AuditTargets returns where a row is scanned to; at makes a target of a time.
func AuditTargets(e *store.AuditEntry, at func(*time.Time) any) []any {
	return []any{
		(*Text)(&e.ID), at(&e.At), (*string)(&e.Kind), (*Text)(&e.Outcome), (*Text)(&e.Reason), (*Text)(&e.Detail),
		(*Text)(&e.Issuer), (*Text)(&e.Subject), (*Text)(&e.Name), (*Map)(&e.Display), (*Text)(&e.TokenID), (*Text)(&e.SessionID), at(&e.Issued), (*object)(&e.Claims), &e.ClaimsCut,
		(*Text)(&e.Account), (*List)(&e.Roles), (*List)(&e.Bindings), at(&e.Expires),
		(*Text)(&e.ServerID), (*Text)(&e.ServerName), (*unsigned)(&e.CID), (*Text)(&e.UserKey), (*Text)(&e.Source), (*Text)(&e.ConnType), (*Text)(&e.Client), (*Text)(&e.Asked),
		(*Text)(&e.Actor), (*Text)(&e.Op), (*Text)(&e.Target), &e.Revision, (*Text)(&e.State), (*Text)(&e.Replica), (*Text)(&e.Rules), &e.Count,
	}
}

// unsigned scans the two's complement of an unsigned number.
type unsigned uint64

func (u *unsigned) Scan(src any) error {
	n, ok := src.(int64)
	if !ok {
		return typeError("number", src)
	}
	*u = unsigned(n)
	return nil
}

// RevokeEntry returns the audit entry of making r.
func RevokeEntry(r store.Revocation, now time.Time) *store.AuditEntry {
	e := adminEntry("revoke", r, now)
	e.Actor, e.Reason = r.Actor, r.Reason
	if r.Programs {
		e.Detail += " with programs"
	}
	if !r.Until.IsZero() {
		e.Detail += " until " + r.Until.Format(time.RFC3339)
	}
	return e
}

// LiftEntry returns the audit entry of lifting r.
func LiftEntry(r store.Revocation, now time.Time) *store.AuditEntry {
	e := adminEntry("revoke.lift", r, now)
	e.Actor, e.Reason = r.LiftedBy, r.LiftNote
	return e
}

// ActiveEntries returns the audit entry of an account that is active, or published, from now on, none where it was so before.
func ActiveEntries(before account.State, a *account.Account, now time.Time) []store.AuditEntry {
	if before == a.State || !a.State.InUse() {
		return nil
	}
	return []store.AuditEntry{{
		ID: uuid.Must(uuid.NewV7()).String(), At: Time(now), Kind: store.AdminEntry, Outcome: "done", Reason: "every server has applied it",
		Actor: "gatehouse", Op: "account." + string(a.State), Account: a.Name, Target: a.ID, Revision: a.Applied, State: string(a.State),
	}}
}

func adminEntry(op string, r store.Revocation, now time.Time) *store.AuditEntry {
	return &store.AuditEntry{
		ID:        uuid.Must(uuid.NewV7()).String(),
		At:        now,
		Kind:      store.AdminEntry,
		Outcome:   "done",
		Detail:    string(r.Kind) + " " + r.ID,
		Issuer:    r.Issuer,
		Subject:   r.Subject,
		SessionID: r.Session,
		TokenID:   r.Token,
		Op:        op,
		Target:    r.Target.String(),
	}
}

// Connections returns the servers' ids and the cids as columns hold them, and an error when there are
// more than may be asked for at a time.
func Connections(list []store.ConnectionID) (servers []string, cids []int64, err error) {
	if len(list) > store.MaxPage {
		return nil, nil, fmt.Errorf("%d connections are asked for at a time, and %d are the most", len(list), store.MaxPage)
	}
	for _, c := range list {
		servers, cids = append(servers, escape(c.ServerID)), append(cids, int64(c.CID))
	}
	return servers, cids, nil
}

// AuditCursor returns the place of an entry in the list.
func AuditCursor(e store.AuditEntry) Cursor { return Cursor{e.At, e.ID} }

// object scans a JSON object that is kept as text; what is none counts as not there.
type object json.RawMessage

func (o *object) Scan(src any) error {
	var text Text
	if err := text.Scan(src); err != nil {
		return err
	}
	*o = nil
	if json.Valid([]byte(text)) {
		*o = object(text)
	}
	return nil
}
