package provision

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/gatehouse-nats/gatehouse/account"
	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/store"
)

// Bounds of how long an account that is deleted can be had back.
const (
	deleteGrace = 7 * 24 * time.Hour
	mostGrace   = 90 * 24 * time.Hour
)

// AccountDelete closes an account at once and deletes it when its grace ends.
func (s *Service) AccountDelete(ctx context.Context, c Caller, req api.AccountDeleteRequest) (api.AccountDeletion, error) {
	return asParty(ctx, s, api.OpAccountDelete, c, req, s.deleteAccount)
}

func (s *Service) deleteAccount(ctx context.Context, p party, req api.AccountDeleteRequest) (api.AccountDeletion, error) {
	grace, err := graceOf(p, req.Grace)
	if err != nil {
		return api.AccountDeletion{}, err
	}
	c := act{op: api.OpAccountDelete, account: req.Account, key: req.IdempotencyKey, request: req, reason: reasonOr(req.Reason, "deleted")}
	if !req.DryRun {
		// First: who owns an account that is being deleted may do nothing else to it.
		if _, first, err := s.once(ctx, p, c); first != nil || err != nil {
			return s.deletedBefore(ctx, p, c, first, err)
		}
	}
	a, err := s.find(ctx, p, api.OpAccountDelete, req.Account)
	if err == nil {
		err = s.may(p, c, &a)
	}
	if err != nil {
		return api.AccountDeletion{}, err
	}
	had, err := s.stored(ctx, &a)
	switch {
	case err != nil && !req.WithData:
		return api.AccountDeletion{}, err
	case (had.Streams > 0 || len(had.Unanswered) > 0) && !req.WithData && !req.DryRun:
		return api.AccountDeletion{}, hasData(&a, had)
	}
	out := api.AccountDeletion{Streams: had.Streams, Bytes: had.Bytes, Unanswered: had.Unanswered}
	if !req.DryRun {
		c.detail = fmt.Sprintf("%d streams, %d bytes", had.Streams, had.Bytes)
		if a, err = s.close(ctx, p, c, grace); err != nil {
			return api.AccountDeletion{}, err
		}
	}
	out.Account = s.wireAccount(&a)
	return out, nil
}

// deletedBefore answers a call that was made before; of what the account stores it says what servers say now.
func (s *Service) deletedBefore(ctx context.Context, p party, c act, first json.RawMessage, err error) (api.AccountDeletion, error) {
	a, err := s.answered(ctx, p, c, first, err)
	if err != nil {
		return api.AccountDeletion{}, err
	}
	out := api.AccountDeletion{Account: s.wireAccount(&a)}
	if had, err := s.stored(ctx, &a); err == nil {
		out.Streams, out.Bytes, out.Unanswered = had.Streams, had.Bytes, had.Unanswered
	}
	return out, nil
}

func graceOf(p party, text string) (time.Duration, error) {
	if text == "" {
		return deleteGrace, nil
	}
	if !p.admin {
		return 0, refuse(http.StatusForbidden, api.ReasonForbidden, "grace is for admins: an account of yours can be had back for %s", deleteGrace)
	}
	grace, err := time.ParseDuration(text)
	if err != nil || grace < 0 || grace > mostGrace {
		return 0, badRequest("grace %.40q is not one: use 0s to %s, such as 24h", text, mostGrace)
	}
	return grace, nil
}

// stored returns what the account has in JetStream: nothing while no server has it.
func (s *Service) stored(ctx context.Context, a *account.Account) (Stored, error) {
	if a.Applied == 0 {
		return Stored{}, nil
	}
	had, err := s.Accounts.Stored(ctx, a.ID)
	if err != nil {
		s.Logger.Error("the servers could not be asked what an account stores", "account_id", a.ID, "error", err)
		return had, again(http.StatusServiceUnavailable, api.ReasonUnavailable, "the servers could not be asked what account %s stores: call again, or set with_data to delete it whatever that is", a.Name)
	}
	return had, nil
}

func hasData(a *account.Account, had Stored) error {
	text := fmt.Sprintf("what account %s stores goes with it: %d bytes in streams, of which there are %d", a.Name, had.Bytes, had.Streams)
	if len(had.Unanswered) > 0 {
		text += "; no answer from " + strings.Join(had.Unanswered, ", ") + ", where there may be more"
	}
	return refuse(http.StatusConflict, api.ReasonHasData, "%s: set with_data if that is meant", text)
}

// close begins the deletion: nobody is let in from now on, and those who are in are closed.
func (s *Service) close(ctx context.Context, p party, c act, grace time.Duration) (account.Account, error) {
	c.closes = func(a *account.Account) *store.Revocation { return closing(a, p.Actor) }
	return s.change(ctx, p, c, func(a *account.Account) error {
		if a.State == account.Deleting {
			return wrongState(a, "it goes at "+a.DeleteAt.Format(time.RFC3339)+"; gatehouse account undelete takes that back")
		}
		if a.State == account.Deleted {
			return wrongState(a, "there is nothing left to delete")
		}
		if a.State == account.Requested { // no server has ever had it
			a.State = account.Deleted
			return nil
		}
		a.State, a.DeleteAt, a.Closing = account.Deleting, s.now().Add(grace), newID()
		return nil
	})
}

// closing returns the suspension by which connections and direct users of an account that is being deleted end as well; nil where
// the account is not.
func closing(a *account.Account, actor string) *store.Revocation {
	if a.State != account.Deleting {
		return nil
	}
	return &store.Revocation{
		Revocation: policy.Revocation{ID: a.Closing, Kind: policy.Suspension, Target: policy.Target{Account: a.ID}, At: a.Updated},
		Reason:     "the account is being deleted", Actor: actor,
	}
}

// AccountUndelete takes a deletion back while its grace lasts.
func (s *Service) AccountUndelete(ctx context.Context, c Caller, req api.AccountActRequest) (api.Account, error) {
	return asParty(ctx, s, api.OpAccountUndelete, c, req, s.undelete)
}

func (s *Service) undelete(ctx context.Context, p party, req api.AccountActRequest) (api.Account, error) {
	c := act{op: api.OpAccountUndelete, account: req.Account, closed: true, key: req.IdempotencyKey, request: req, reason: reasonOr(req.Reason, "taken back")}
	var lifts []string
	c.lifts = func() []string { return lifts }
	return s.opening(ctx, p, c, func(a *account.Account) error {
		if a.State != account.Deleting {
			return wrongState(a, "only one that is being deleted can be had back")
		}
		lifts = []string{a.Closing}
		a.State, a.DeleteAt, a.Closing = account.Creating, time.Time{}, ""
		return nil
	})
}

const (
	// endEvery is how often all accounts that are being deleted are looked at, and endDueEvery those whose grace is over, each of
	// them again after endAgain while it cannot be ended.
	endEvery    = time.Minute
	endDueEvery = time.Second
	endAgain    = 10 * time.Second
	// leaveEvery is how often the members who have left are looked for.
	leaveEvery = time.Second
)

// Tend ends the accounts whose grace is over, closes what members who were removed still had, and takes rotations of signing
// keys on, until ctx ends; it returns nil then.
func (s *Service) Tend(ctx context.Context) error {
	if s.Accounts == nil {
		return nil
	}
	end, due, leave, turn := time.NewTicker(endEvery), time.NewTicker(endDueEvery), time.NewTicker(leaveEvery), time.NewTicker(turnEvery)
	defer end.Stop()
	defer due.Stop()
	defer leave.Stop()
	defer turn.Stop()
	defer s.leaveTurns()
	defer s.leaveLeft()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-end.C:
			if err := s.EndAccounts(ctx); err != nil && ctx.Err() == nil {
				s.Logger.Error("accounts whose grace is over could not be ended; trying again", "error", err, "in", endEvery)
			}
		case <-due.C:
			if err := s.EndDue(ctx); err != nil && ctx.Err() == nil {
				s.Logger.Error("accounts whose grace is over could not be ended; trying again", "error", err, "in", endAgain)
			}
		case <-leave.C:
			if err := s.CloseLeft(ctx); err != nil && ctx.Err() == nil {
				s.Logger.Error("what removed members had open could not be closed; trying again", "error", err, "in", leaveEvery)
			}
		case <-turn.C:
			if err := s.TurnKeys(ctx); err != nil && ctx.Err() == nil {
				s.Logger.Error("a rotation of signing keys could not be taken on; trying again", "error", err, "in", turnEvery)
			}
		}
	}
}

// FollowDeleted is told which accounts have changed, all of them after a load.
func (s *Service) FollowDeleted(changed []account.Account, all bool) {
	s.ending.follow(changed, all, func(a *account.Account) (time.Time, bool) { return a.DeleteAt, a.State == account.Deleting })
}

// EndDue makes those accounts deleted that [Service.FollowDeleted] was told of and whose grace is over.
func (s *Service) EndDue(ctx context.Context) error {
	var errs []error
	for _, id := range s.ending.at(s.now()) {
		s.ending.postpone(id, s.now(), s.now().Add(endAgain))
		a, err := s.lookUp(ctx, api.OpAccountDelete, id)
		if err == nil && a.State == account.Deleting {
			err = s.tend(ctx, &a)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("account %s: %w", id, err))
		}
	}
	return errors.Join(errs...)
}

// EndAccounts makes those accounts deleted whose grace is over.
func (s *Service) EndAccounts(ctx context.Context) error {
	f := store.AccountFilter{State: account.Deleting}
	for {
		list, next, err := s.Store.Accounts(ctx, f)
		if err != nil {
			return err
		}
		for i := range list {
			if err := s.tend(ctx, &list[i]); err != nil {
				return fmt.Errorf("account %s: %w", list[i].Name, err)
			}
		}
		if f.Cursor = next; next == "" {
			return nil
		}
	}
}

// tend ends an account whose grace is over.
func (s *Service) tend(ctx context.Context, a *account.Account) error {
	if s.now().Before(a.DeleteAt) {
		return nil
	}
	by := party{Caller: Caller{Actor: "gatehouse", RequestID: newID()}, admin: true}
	_, err := s.change(ctx, by, act{op: api.OpAccountDelete, account: a.ID, revision: a.Revision, reason: "the grace is over"}, func(a *account.Account) error {
		a.State = account.Deleted
		return nil
	})
	if changed(err) {
		return nil // taken back this moment, or ended by another replica
	}
	return err
}

func changed(err error) bool {
	e, ok := errors.AsType[*api.Error](err)
	return ok && e.Reason == api.ReasonChanged
}
