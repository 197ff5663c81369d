package devstack

import (
	"bytes"
	"embed"
	"html/template"
	"net/http"
	"net/url"
)

const (
	loginPath  = "/login"
	devicePath = "/device"
	stylePath  = "/login.css"
)

//go:embed pages
var pageFiles embed.FS

var pages = template.Must(template.ParseFS(pageFiles, "pages/*.html"))

// loginPages are what a person sees: the form of a login or of a device code, and its outcome.
type loginPages struct {
	storage *storage
}

// form is the content of login.html.
type form struct {
	Device    bool   // asks for a device's code, and whether to let it in
	RequestID string // of a login
	UserCode  string // of a device
	Name      string
	Problem   string
	Users     []User
}

// notice is the content of notice.html.
type notice struct {
	Title, Text string
}

// handler serves the pages. Posts from other origins are refused, or any web site could log its visitor in.
func (p loginPages) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+loginPath, p.showLogin)
	mux.HandleFunc("POST "+loginPath, p.login)
	mux.HandleFunc("GET "+devicePath, p.showDevice)
	mux.HandleFunc("POST "+devicePath, p.device)
	mux.HandleFunc("GET "+stylePath, p.style)
	mux.HandleFunc("GET /{$}", p.about)
	return http.NewCrossOriginProtection().Handler(mux)
}

func (p loginPages) showLogin(w http.ResponseWriter, r *http.Request) {
	id := r.URL.Query().Get("id")
	login, err := p.storage.loginByID(id)
	if err != nil || login.Done() {
		p.staleLogin(w)
		return
	}
	p.render(w, http.StatusOK, "login.html", form{RequestID: id, Name: login.request.LoginHint, Users: p.storage.users})
}

func (p loginPages) login(w http.ResponseWriter, r *http.Request) {
	content := form{RequestID: r.PostFormValue("id"), Name: r.PostFormValue("username"), Users: p.storage.users}
	user, ok := p.authenticate(r)
	if !ok {
		p.refuse(w, http.StatusUnauthorized, content, wrongPassword)
		return
	}
	if err := p.storage.completeLogin(content.RequestID, user); err != nil {
		p.staleLogin(w)
		return
	}
	http.Redirect(w, r, callbackURL(content.RequestID), http.StatusSeeOther)
}

func (p loginPages) showDevice(w http.ResponseWriter, r *http.Request) {
	p.render(w, http.StatusOK, "login.html", form{Device: true, UserCode: r.URL.Query().Get("user_code"), Users: p.storage.users})
}

func (p loginPages) device(w http.ResponseWriter, r *http.Request) {
	content := form{
		Device: true, UserCode: r.PostFormValue("user_code"), Name: r.PostFormValue("username"), Users: p.storage.users,
	}
	user, ok := p.authenticate(r)
	if !ok {
		p.refuse(w, http.StatusUnauthorized, content, wrongPassword)
		return
	}
	approved := r.PostFormValue("decision") == "approve"
	if err := p.storage.completeDevice(content.UserCode, user, approved); err != nil {
		p.refuse(w, http.StatusNotFound, content, "No device waits with this code. Look at the device: the code may have expired.")
		return
	}
	if !approved {
		p.render(w, http.StatusOK, "notice.html", notice{"Device refused", "The device was not let in. You can close this page."})
		return
	}
	p.render(w, http.StatusOK, "notice.html", notice{"Device logged in", "The device goes on by itself. You can close this page."})
}

const wrongPassword = "User name or password is wrong. Each demo user's password is shown below."

func (p loginPages) authenticate(r *http.Request) (User, bool) {
	user, err := FindUser(p.storage.users, r.PostFormValue("username"))
	return user, err == nil && user.hasPassword(r.PostFormValue("password"))
}

func (p loginPages) refuse(w http.ResponseWriter, status int, content form, problem string) {
	content.Problem = problem
	p.render(w, status, "login.html", content)
}

func (p loginPages) staleLogin(w http.ResponseWriter) {
	p.render(w, http.StatusNotFound, "notice.html", notice{
		"Login not found", "This login was completed already or took too long. Start it again where you came from.",
	})
}

func (p loginPages) about(w http.ResponseWriter, _ *http.Request) {
	p.render(w, http.StatusOK, "notice.html", notice{
		"Gatehouse demo login", "This is the identity provider of gatehouse dev. Applications send you here to log in.",
	})
}

func (p loginPages) style(w http.ResponseWriter, r *http.Request) {
	http.ServeFileFS(w, r, pageFiles, "pages/login.css")
}

func (p loginPages) render(w http.ResponseWriter, status int, page string, content any) {
	var body bytes.Buffer
	if err := pages.ExecuteTemplate(&body, page, content); err != nil {
		http.Error(w, "the page could not be made", http.StatusInternalServerError)
		return
	}
	header := w.Header()
	header.Set("Content-Type", "text/html; charset=utf-8")
	header.Set("Cache-Control", "no-store")
	// No form-action here: browsers apply it to the redirect that follows the post, which leads to the client.
	header.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; base-uri 'none'; frame-ancestors 'none'")
	header.Set("Referrer-Policy", "no-referrer")
	w.WriteHeader(status)
	_, _ = body.WriteTo(w) // the reader may be gone
}

// callbackURL is where op goes on with a completed login.
func callbackURL(requestID string) string {
	return "/authorize/callback?id=" + url.QueryEscape(requestID)
}
