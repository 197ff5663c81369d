package login

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/gatehouse-nats/gatehouse"
)

// watchEvery is how often [Client.Watch] looks whether the token is due. It looks at the clock
// each time, since a machine that slept has missed its timers.
const watchEvery = 10 * time.Second

// Token returns a valid ID token of the login that is kept. One that ends within a minute, or
// within the last quarter of a shorter life, is renewed first; should that fail, it is
// returned for as long as it is usable. Errors wrap [ErrLoginNeeded] when only a person can help.
func (c *Client) Token(ctx context.Context) (string, error) {
	k, err := c.current(ctx)
	return k.IDToken, err
}

// current returns the login that is kept with a valid ID token.
func (c *Client) current(ctx context.Context) (kept, error) {
	k, err := c.cache.read()
	switch {
	case err != nil:
		return kept{}, err
	case c.config.BindKey && k.Key == "":
		return kept{}, fmt.Errorf("%w: the login of %s is not bound to a key", ErrLoginNeeded, k.Display)
	case k.fresh(c.now()):
		return k, nil
	}
	k, err = c.renew(ctx, k)
	if err != nil {
		return kept{}, err
	}
	return k, nil
}

// renew renews a login unless another process just has.
func (c *Client) renew(ctx context.Context, old kept) (kept, error) {
	renewed, err := c.renewLocked(ctx)
	if err != nil && old.usable(c.now()) {
		return old, nil
	}
	return renewed, err
}

func (c *Client) renewLocked(ctx context.Context) (kept, error) {
	unlock, err := c.cache.lock(ctx)
	if err != nil {
		return kept{}, err
	}
	defer unlock()
	k, err := c.cache.read()
	if err != nil || k.fresh(c.now()) {
		return k, err
	}
	if k.RefreshToken == "" {
		return kept{}, fmt.Errorf("%w: the login of %s ended at %s, and the issuer gave no refresh token",
			ErrLoginNeeded, k.Display, k.Expires.Local().Format(time.DateTime))
	}
	issuer, err := c.discover(ctx)
	if err != nil {
		return kept{}, err
	}
	renewed, err := issuer.renew(ctx, k)
	if renewed.RefreshToken != "" { // also beside an error, since the former one is void then
		err = errors.Join(err, c.cache.write(renewed))
	}
	return renewed, err
}

// KeyFile returns the file of the key that the token in a token file is bound to.
func KeyFile(tokenFile string) string { return tokenFile + ".nk" }

// WriteToken writes a token file for programs that read one, and returns the token: see [Client.Token].
// The file holds the token, in an envelope when an account is named. Where the token is bound to a key, its
// seed is in [KeyFile]. Both have mode 0600, are replaced at once, and end without a newline.
func (c *Client) WriteToken(ctx context.Context, path, account string) (string, error) {
	k, err := c.current(ctx)
	if err != nil {
		return "", err
	}
	return k.IDToken, k.writeToken(path, account)
}

// writeToken writes the key first: a token is of no use without it.
func (k kept) writeToken(path, account string) error {
	if k.KeySeed != "" {
		if err := WriteSecret(KeyFile(path), []byte(k.KeySeed)); err != nil {
			return fmt.Errorf("key file: %w", err)
		}
	}
	if err := WriteSecret(path, []byte(gatehouse.Envelope(k.IDToken, account))); err != nil {
		return fmt.Errorf("token file: %w", err)
	}
	return nil
}

// Watch keeps a token file, as [Client.WriteToken] writes it, fresh until ctx ends (it returns nil then) or only a person can help
// ([ErrLoginNeeded]). Other failures are reported and tried again; report is also called
// with nil when the file has been written.
func (c *Client) Watch(ctx context.Context, path, account string, report func(error)) error {
	ticker := time.NewTicker(watchEvery)
	defer ticker.Stop()
	for written := ""; ; {
		k, err := c.current(ctx)
		if err == nil && k.IDToken != written {
			if err = k.writeToken(path, account); err == nil {
				written = k.IDToken
				report(nil)
			}
		}
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, ErrLoginNeeded):
			return err
		case err != nil:
			report(err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}
