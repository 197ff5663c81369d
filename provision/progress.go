package provision

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/store"
)

const (
	maxWait = 8 // seconds: an answer must come before a transport gives up
	// watchEvery is how often the store is asked how far a revocation is: another replica may be at work on it.
	watchEvery = 50 * time.Millisecond
)

// Progress says how far a revocation is carried out; it waits for the end for as long as is asked.
func (s *Service) Progress(ctx context.Context, c Caller, req api.RevocationProgressRequest) (api.Progress, error) {
	if err := c.admin(); err != nil {
		return api.Progress{}, err
	}
	if req.Wait < 0 || req.Wait > maxWait {
		return api.Progress{}, badRequest("wait is 0 to %d seconds", maxWait)
	}
	deadline := time.After(time.Duration(req.Wait) * time.Second)
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		progress, err := s.progress(ctx, req.ID)
		if err != nil || progress.Done {
			return progress, err
		}
		select {
		case <-deadline:
			return progress, nil
		case <-ctx.Done():
			return progress, nil
		case <-tick.C:
		}
	}
}

func (s *Service) progress(ctx context.Context, id string) (api.Progress, error) {
	var out api.Progress
	if id == "" {
		return out, badRequest("id is empty: give the id of a revocation")
	}
	list, _, err := s.Store.Revocations(ctx, store.RevocationFilter{ID: id, Limit: 1})
	switch {
	case err != nil:
		return out, s.storeError(api.OpProgress, err)
	case len(list) == 0:
		return out, refuse(http.StatusNotFound, api.ReasonNotFound, "there is no revocation with that id")
	case !list[0].LiftedAt.IsZero():
		return out, refuse(http.StatusConflict, api.ReasonConflict, "the revocation was lifted by %s: what it had not ended stays", list[0].LiftedBy)
	case len(list[0].Progress) == 0:
		return out, nil // nobody has begun
	}
	if err := json.Unmarshal(list[0].Progress, &out); err != nil {
		return out, s.storeError(api.OpProgress, err)
	}
	out.Done = !list[0].DoneAt.IsZero()
	return out, nil
}

// Identities lists who has logged in.
func (s *Service) Identities(ctx context.Context, c Caller, req api.IdentitiesRequest) (api.IdentitiesPage, error) {
	if err := c.admin(); err != nil {
		return api.IdentitiesPage{}, err
	}
	f := store.IdentityFilter{Display: req.Display, Subject: req.Subject, Limit: req.Limit, Cursor: req.Cursor}
	if req.Issuer != "" {
		url, err := s.storedIssuerURL(req.Issuer)
		if err != nil {
			return api.IdentitiesPage{}, err
		}
		f.Issuer = url
	}
	list, next, err := s.Store.Identities(ctx, f)
	if err != nil {
		return api.IdentitiesPage{}, s.storeError(api.OpIdentities, err)
	}
	page := api.IdentitiesPage{Identities: []api.KnownIdentity{}, Cursor: next}
	for _, i := range list {
		page.Identities = append(page.Identities, api.KnownIdentity(i))
	}
	return page, nil
}
