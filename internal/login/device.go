package login

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/oauth2"
)

const (
	// maxDeviceWait bounds how long a person has on the other device, whatever the issuer says.
	maxDeviceWait = 15 * time.Minute
	// defaultInterval is between two questions of an issuer that names none (RFC 8628, section 3.2), in seconds.
	defaultInterval = 5
	maxUserCode     = 64 // characters
	maxAddress      = 2048
)

// ErrNoDevice says that the issuer offers no login by device code.
var ErrNoDevice = errors.New("the issuer offers no login by device code (its discovery document has no device_authorization_endpoint)")

// ErrDeviceKey says that a login by device code cannot bind the token to a key, since it sends no nonce.
var ErrDeviceKey = errors.New("a login by device code cannot bind the token to a key: log in with a browser on this machine, or do without the key (bind_key)")

// DeviceCode is what a person needs on the other device (RFC 8628, section 3.2). All of it is fit
// for a terminal.
type DeviceCode struct {
	Address  string    // the issuer's page; https or loopback
	UserCode string    // to enter there
	Complete string    // the page with the code filled in; empty where the issuer offers none
	Expires  time.Time // at most 15 minutes from now
}

// device is one try to log in by device code.
type device struct {
	attempt
	code     string
	interval int64 // seconds between two questions; less than the code's life
	shown    DeviceCode
}

// LoginByDevice has a person log in on any device with a browser and keeps the result in place of
// the one before (RFC 8628). It calls show once and then asks the issuer until the person has
// decided, at most until the code ends. The ID token carries no nonce: it is bound to this login
// by the device code alone, and never to a key. Errors wrap [ErrNoDevice] where the issuer offers no such login.
func (c *Client) LoginByDevice(ctx context.Context, show func(DeviceCode)) (Session, error) {
	if c.config.BindKey {
		return Session{}, ErrDeviceKey
	}
	issuer, err := c.discover(ctx)
	if err != nil {
		return Session{}, err
	}
	device, err := issuer.beginDevice(ctx)
	if err != nil {
		return Session{}, err
	}
	show(device.shown)
	kept, err := device.await(ctx)
	if err != nil {
		return Session{}, err
	}
	return kept.Session, c.keep(ctx, kept)
}

// beginDevice asks the issuer for a device code. The request is made here, since that of the
// oauth2 package (v0.37.0) ignores its context and panics when the answer is null.
func (i *issuer) beginDevice(ctx context.Context) (device, error) {
	endpoint := i.oauth2.Endpoint.DeviceAuthURL
	if endpoint == "" {
		return device{}, fmt.Errorf("%w: log in with the browser, or ask the admin of %s to enable it", ErrNoDevice, i.url)
	}
	d := device{attempt: attempt{issuer: i, verifier: oauth2.GenerateVerifier()}}
	challenge := oauth2.S256ChallengeFromVerifier(d.verifier)
	form := url.Values{
		"client_id": {i.oauth2.ClientID}, "scope": {strings.Join(i.oauth2.Scopes, " ")},
		// PKCE is not in RFC 8628, but some issuers demand it of all public clients; the others ignore it.
		"code_challenge": {challenge}, "code_challenge_method": {"S256"},
	}
	answer, err := i.askDevice(ctx, endpoint, form)
	if err != nil {
		return device{}, issuerError(ctx, "device authorization", err)
	}
	if err := d.adopt(answer, i.now()); err != nil {
		return device{}, fmt.Errorf("%w: device authorization: %w", ErrIssuer, err)
	}
	return d, nil
}

// deviceAnswer is the device authorization response (RFC 8628, section 3.2), or an error (RFC 6749, section 5.2).
type deviceAnswer struct {
	DeviceCode  string `json:"device_code"`
	UserCode    string `json:"user_code"`
	Address     string `json:"verification_uri"`
	Complete    string `json:"verification_uri_complete"`
	ExpiresIn   int64  `json:"expires_in"` // seconds
	Interval    int64  `json:"interval"`   // seconds
	Error       string `json:"error"`
	Description string `json:"error_description"`
}

func (i *issuer) askDevice(ctx context.Context, endpoint string, form url.Values) (deviceAnswer, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, endpoint, strings.NewReader(form.Encode()))
	if err != nil {
		return deviceAnswer{}, err
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.Header.Set("Accept", "application/json")
	resp, err := i.http.Do(request)
	if err != nil {
		return deviceAnswer{}, err
	}
	defer resp.Body.Close()
	var a deviceAnswer
	err = json.NewDecoder(resp.Body).Decode(&a)
	switch {
	case resp.StatusCode != http.StatusOK || a.Error != "":
		return deviceAnswer{}, &oauth2.RetrieveError{Response: resp, ErrorCode: a.Error, ErrorDescription: a.Description}
	case err != nil:
		return deviceAnswer{}, fmt.Errorf("its answer is no device authorization: %w", err)
	}
	return a, nil
}

// adopt takes over an answer, or says what is wrong with it: it is shown to a person, who is to
// follow it, and it says how long to wait.
func (d *device) adopt(a deviceAnswer, now time.Time) error {
	life := min(a.ExpiresIn, int64(maxDeviceWait/time.Second))
	interval := cmp.Or(a.Interval, defaultInterval)
	switch {
	case a.DeviceCode == "":
		return errors.New("it gave no device_code")
	case a.UserCode == "" || plain(a.UserCode) != a.UserCode || utf8.RuneCountInString(a.UserCode) > maxUserCode:
		return fmt.Errorf("its user_code %q cannot be shown and typed", plain(a.UserCode))
	case life <= 0:
		return errors.New("its code has ended already (expires_in)")
	case interval < 0 || interval >= life:
		return fmt.Errorf("it wants to be asked every %d s for a code that is good for %d s (interval)", a.Interval, life)
	}
	if err := checkAddress(a.Address); err != nil {
		return fmt.Errorf("verification_uri: %w", err)
	}
	if a.Complete != "" {
		if err := checkAddress(a.Complete); err != nil {
			return fmt.Errorf("verification_uri_complete: %w", err)
		}
	}
	d.code, d.interval = a.DeviceCode, interval
	d.shown = DeviceCode{
		Address: a.Address, UserCode: a.UserCode, Complete: a.Complete,
		Expires: now.Add(time.Duration(life) * time.Second),
	}
	return nil
}

// checkAddress returns what keeps an address from being shown to a person who is to open it. Addresses
// are ASCII (RFC 3986), so nothing in one can move the cursor or turn the text around.
func checkAddress(address string) error {
	unfit := func(r rune) bool { return r <= ' ' || r > '~' }
	if len(address) > maxAddress || strings.ContainsFunc(address, unfit) {
		return fmt.Errorf("%q is not an address that can be shown", plain(address))
	}
	return checkURL(address)
}

// await asks until the person has decided, and turns the decision into a login.
func (d *device) await(ctx context.Context) (kept, error) {
	ctx, cancel := context.WithDeadlineCause(ctx, d.shown.Expires, errors.New("nobody entered the code in time: run the command again"))
	defer cancel()
	tokens, err := d.ask(ctx)
	if err != nil {
		return kept{}, issuerError(ctx, "device login", err)
	}
	return d.accept(ctx, tokens)
}

// ask polls the token endpoint. An issuer that cannot be reached for a while is asked ever more
// rarely (RFC 8628, section 3.5).
func (d *device) ask(ctx context.Context) (*oauth2.Token, error) {
	requests := context.WithValue(ctx, oauth2.HTTPClient, d.issuer.http)
	for interval := d.interval; ; interval *= 2 {
		tokens, err := d.issuer.oauth2.DeviceAccessToken(requests,
			&oauth2.DeviceAuthResponse{DeviceCode: d.code, Interval: interval}, oauth2.VerifierOption(d.verifier))
		if err == nil || !passing(err) || ctx.Err() != nil {
			return tokens, err
		}
	}
}

// passing reports whether a failure may be over soon.
func passing(err error) bool {
	if refused, ok := errors.AsType[*oauth2.RetrieveError](err); ok {
		return refused.ErrorCode == "" && refused.Response.StatusCode >= http.StatusInternalServerError
	}
	_, unreachable := errors.AsType[*url.Error](err)
	return unreachable
}
