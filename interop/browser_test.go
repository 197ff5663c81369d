package interop

import (
	"fmt"
	"html"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"testing"
	"time"
)

// person is somebody at a browser.
type person struct {
	name, password string
	connector      string       // of Dex
	browser        *http.Client // with cookies of before; nil for a new one
}

var (
	formOf      = regexp.MustCompile(`(?s)<form\b([^>]*)>(.*?)</form>`)
	inputOf     = regexp.MustCompile(`<input\b[^>]*>`)
	connectorOf = regexp.MustCompile(`href="([^"]*/auth/([a-z]+)\?[^"]*)"`)
)

// attribute returns the value of an attribute of a tag, unescaped; empty when there is none.
func attribute(tag, name string) string {
	found := regexp.MustCompile(`\b` + name + `="([^"]*)"`).FindStringSubmatch(tag)
	if found == nil {
		return ""
	}
	return html.UnescapeString(found[1])
}

func newBrowser(t testing.TB) *http.Client {
	t.Helper()
	jar, err := cookiejar.New(nil)
	must(t, err)
	return &http.Client{Jar: jar, Timeout: 20 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
}

// answer opens an address and answers every page, until one asks for nothing; it returns that one.
func (p person) answer(t testing.TB, address string) string {
	t.Helper()
	browser := p.browser
	if browser == nil {
		browser = newBrowser(t)
	}
	resp, err := browser.Get(address)
	for range 10 {
		must(t, err)
		body, readErr := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		must(t, readErr)
		page, at := string(body), resp.Request.URL
		if resp.StatusCode != http.StatusOK {
			t.Fatalf("%s: %s\n%s", at, resp.Status, page)
		}
		if action, values, ok := p.fillIn(at, page); ok {
			resp, err = browser.PostForm(action, values)
			continue
		}
		link := p.choose(at, page)
		if link == "" {
			return page
		}
		resp, err = browser.Get(link)
	}
	t.Fatalf("%s asks again and again", address)
	return ""
}

// fillIn returns what the first form of a page sends, and where to.
func (p person) fillIn(at *url.URL, page string) (action string, values url.Values, ok bool) {
	form := formOf.FindStringSubmatch(page)
	if form == nil {
		return "", nil, false
	}
	to, err := at.Parse(attribute(form[1], "action"))
	if err != nil {
		return "", nil, false
	}
	if attribute(form[1], "action") == "" {
		to = at
	}
	// Buttons stand for the decision on the demo provider's page of device codes, and on oidc-provider's of logging out.
	values = url.Values{"decision": {"approve"}, "logout": {"yes"}}
	for _, input := range inputOf.FindAllString(form[2], -1) {
		switch name := attribute(input, "name"); name {
		case "":
		case "login", "username":
			values.Set(name, p.name)
		case "password":
			values.Set(name, p.password)
		default:
			values.Set(name, attribute(input, "value"))
		}
	}
	return to.String(), values, true
}

// choose returns the link to the person's connector, on Dex's page of them.
func (p person) choose(at *url.URL, page string) string {
	for _, link := range connectorOf.FindAllStringSubmatch(page, -1) {
		if link[2] != p.connector {
			continue
		}
		if to, err := at.Parse(html.UnescapeString(link[1])); err == nil {
			return to.String()
		}
	}
	return ""
}

func (p person) String() string { return fmt.Sprintf("%s at %q", p.name, p.connector) }
