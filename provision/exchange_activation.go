package provision

import (
	"context"
	"net/http"
	"slices"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"

	"github.com/gatehouse-nats/gatehouse/account"
	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/store"
)

// AccountActivate makes a token by which another account may import a private export.
func (s *Service) AccountActivate(ctx context.Context, c Caller, req api.ActivateRequest) (api.Activation, error) {
	return asParty(ctx, s, api.OpAccountActivate, c, req, func(ctx context.Context, p party, req api.ActivateRequest) (api.Activation, error) {
		importer, err := s.traderID(ctx, req.Importer)
		if err != nil {
			return api.Activation{}, err
		}
		if !req.Until.IsZero() && !req.Until.After(s.Now()) {
			return api.Activation{}, badRequest("until lies in the past: give a time to come")
		}
		pick := func(a *account.Account) (*account.Export, error) {
			i := slices.IndexFunc(a.Exports, func(o account.Export) bool { return o.Name == req.Export })
			if i < 0 {
				return nil, found(false, a, "export", req.Export)
			}
			return &a.Exports[i], nil
		}
		// The token may be kept: it is of use in the account that it is for alone, whose record holds it too.
		r := keyed[api.Activation](p, api.OpAccountActivate, req.IdempotencyKey, req)
		r.may = s.stillMay(ctx, p, act{op: r.op})
		return once(ctx, s, r, func() (out api.Activation, err error) {
			out, err = s.activate(ctx, p, req.Account, importer, req.Until, pick)
			r.about = out.Account
			return out, err
		})
	})
}

// activate makes a token for the export that pick finds, and notes it in the record of the exporter before anybody has it.
func (s *Service) activate(ctx context.Context, p party, exporter, importer string, until time.Time, pick func(*account.Account) (*account.Export, error)) (api.Activation, error) {
	out := api.Activation{Importer: importer, Until: until}
	c := act{op: api.OpAccountActivate, account: exporter, reason: "activation for " + importer}
	_, err := s.change(ctx, p, c, func(a *account.Account) error {
		e, err := pick(a)
		switch {
		case err != nil:
			return err
		case !e.Private:
			return badRequest("export %q of account %s is public: no token is needed", e.Name, a.Name)
		case importer == a.ID:
			return badRequest("an account cannot import from itself")
		case a.State == account.Deleting || a.State == account.Deleted:
			return wrongState(a, "an account that is deleted is changed no more")
		}
		if err := s.pastRevocation(ctx, a.ID, importer, e.Subject); err != nil {
			return err
		}
		out.Account, out.Subject, out.Type = a.ID, e.Subject, string(e.Type)
		if out.Token, err = s.signActivation(a, e, importer, until); err != nil {
			return err
		}
		if !a.Activate(account.Activation{Subject: e.Subject, Type: e.Type, Importer: importer, At: s.now(), Until: until, By: p.Actor}) {
			return refuse(http.StatusConflict, api.ReasonQuotaExceeded, "account %s has %d activations that have not ended: end some, with removing the export or by an end", a.Name, account.MaxActivations)
		}
		return nil
	})
	if err != nil {
		return api.Activation{}, err
	}
	return out, nil
}

// signActivation signs a token with a signing key of the exporter that is in use.
func (s *Service) signActivation(a *account.Account, e *account.Export, importer string, until time.Time) (string, error) {
	ring := s.Accounts.Keys()
	for _, public := range a.Current() {
		if key := ring.Key(public); key != nil {
			return account.ActivationClaims(a, e, importer, until).Encode(key)
		}
	}
	return "", again(http.StatusServiceUnavailable, string(policy.AccountUnready), "no signing key of account %s can be had: gatehouse keys list tells why", a.Name)
}

// activationRevoked returns when the tokens of an account for an export were last revoked; zero when they were not.
func (s *Service) activationRevoked(ctx context.Context, exporter, importer, subject string) (last time.Time, err error) {
	now := s.Now()
	f := store.RevocationFilter{Target: policy.Target{Account: exporter, Key: importer}, Kind: policy.Activation, InForceAt: now, Limit: store.MaxPage}
	list, _, err := s.Store.Revocations(ctx, f)
	if err != nil {
		return last, s.storeError(api.OpRevocations, err)
	}
	for _, r := range list {
		if r.Export == subject && r.At.After(last) {
			last = r.At
		}
	}
	return last, nil
}

// pastRevocation waits until a token that is made is younger than a revocation, which counts in seconds.
func (s *Service) pastRevocation(ctx context.Context, exporter, importer, subject string) error {
	at, err := s.activationRevoked(ctx, exporter, importer, subject)
	if err != nil {
		return err
	}
	for time.Now().Unix() <= at.Unix() {
		if time.Until(at) > time.Minute {
			return again(http.StatusServiceUnavailable, api.ReasonUnavailable, "the tokens of account %s for %s are revoked until %s: compare the clocks of the hosts", importer, subject, at.Format(time.RFC3339))
		}
		select {
		case <-ctx.Done():
			return again(http.StatusServiceUnavailable, api.ReasonUnavailable, "a revocation of this second ends tokens that are made now: call again")
		case <-time.After(time.Until(time.Unix(at.Unix()+1, 0))):
		}
	}
	return nil
}

// tokens gives imports of private exports that have no token that holds one, where the caller may make it: an admin, or
// an owner of the exporter. A token that was revoked is refused.
func (s *Service) tokens(ctx context.Context, p party, k *traders, a *account.Account, dryRun bool) error {
	for n := range a.Imports {
		i := &a.Imports[n]
		exporter, known := k.find(i.Account)
		if !known {
			continue // what is wrong is found with the rest
		}
		e := exporter.Exported(i.Type, i.Subject)
		if e == nil || !e.Private {
			continue
		}
		revoked, err := s.activationRevoked(ctx, exporter.ID, a.ID, e.Subject)
		if err != nil {
			return err
		}
		void := i.Token != "" && !revoked.IsZero() && issued(i.Token) <= revoked.Unix()
		if account.TokenHolds(i, a.ID, exporter, s.Now()) && !void {
			continue
		}
		if !exporter.State.InUse() && exporter.State != account.Creating || !s.mayActivate(p, exporter) {
			if void {
				return refuse(http.StatusConflict, api.ReasonExchangeInvalid, "import %q: the activation token was revoked at %s: ask an owner of account %s for a new one", i.Name, revoked.Format(time.RFC3339), exporter.Name)
			}
			continue
		}
		if i.Token, err = s.ownToken(ctx, p, exporter, e, a.ID, dryRun); err != nil {
			return err
		}
		if !dryRun {
			k.forget(exporter.ID) // that a token was made is in its record
		}
	}
	return nil
}

// issued returns the second in which a token was made; 0 when it cannot be read.
func issued(token string) int64 {
	c, err := jwt.DecodeActivationClaims(token)
	if err != nil {
		return 0
	}
	return c.IssuedAt
}

// mayActivate reports whether the caller may make tokens for exports of the account, and Gatehouse can.
func (s *Service) mayActivate(p party, exporter *account.Account) bool {
	return nkeys.IsValidPublicAccountKey(exporter.ID) && exporter.Revision > 0 && s.may(p, act{op: api.OpAccountActivate}, exporter) == nil
}

// ownToken makes a token for an import that is about to be stored. In a dry run nobody is told of it.
func (s *Service) ownToken(ctx context.Context, p party, exporter *account.Account, e *account.Export, importer string, dryRun bool) (string, error) {
	if dryRun {
		return s.signActivation(exporter, e, importer, time.Time{})
	}
	out, err := s.activate(ctx, p, exporter.ID, importer, time.Time{}, func(a *account.Account) (*account.Export, error) {
		if now := a.Exported(e.Type, e.Subject); now != nil {
			return now, nil
		}
		return nil, found(false, a, "export", e.Name)
	})
	return out.Token, err
}
