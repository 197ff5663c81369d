package resolver

import (
	"context"
	"time"

	"github.com/gatehouse-nats/gatehouse/policy"
)

// mostReadings bounds the accounts that are being asked for at once.
const mostReadings = 1024

// reading is an account that a server is being asked for.
type reading struct{ server, account string }

// Reading has the server asked what it has applied of an account that no configuration names, unless that is known: what
// it returns is closed once it is. It returns nil when there is nothing to wait for, and never blocks.
func (r *Resolver) Reading(server string, account *policy.Account) <-chan struct{} {
	if r.blind || account.ByName {
		return nil
	}
	of := reading{server, account.ID}
	r.mu.Lock()
	defer r.mu.Unlock()
	s, known := r.servers[server]
	if !known || r.closed {
		return nil
	}
	if _, needed := r.accounts[account.ID]; needed {
		return nil
	}
	if _, there := s.accounts[account.ID]; there {
		return nil
	}
	if done, there := r.readings[of]; there {
		return done
	}
	if _, there := r.keys.get(server, account.ID, time.Now()); there || len(r.readings) >= mostReadings || !r.nc.IsConnected() {
		return nil
	}
	done := make(chan struct{})
	r.readings[of] = done
	r.searches.Go(func() {
		defer close(done)
		r.readOnce(of)
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.readings, of)
	})
	return done
}

// ReadEverywhere returns once every server was asked what it has applied of an account that no configuration names, unless that is
// known, or when ctx ends.
func (r *Resolver) ReadEverywhere(ctx context.Context, account *policy.Account) {
	var pending []<-chan struct{}
	for _, s := range r.Servers() {
		if read := r.Reading(s.ID, account); read != nil {
			pending = append(pending, read)
		}
	}
	for _, read := range pending {
		select {
		case <-read:
		case <-ctx.Done():
			return
		}
	}
}

// readOnce asks for the account and keeps what it learns. A push that comes meanwhile voids it.
func (r *Resolver) readOnce(of reading) {
	ctx, cancel := context.WithTimeout(r.life, readTimeout)
	defer cancel()
	era := r.keys.era()
	state, err := r.read(ctx, of.server, of.account)
	if err != nil {
		r.log.Debug("an account could not be read back", "server_id", of.server, "account", of.account, "error", err)
		state = AccountState{Problem: "the server did not say what it has"}
	}
	if r.knows(of.server) {
		r.keys.putSince(era, of.server, of.account, state.slim(), time.Now())
	}
}

// Suspect has all that servers were seen to have asked for anew, as when one did not accept an answer.
func (r *Resolver) Suspect() {
	r.keys.clear()
	r.Wake()
}
