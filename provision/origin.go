package provision

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/gatehouse-nats/gatehouse/api"
)

// Web is what calls over HTTP may come through.
type Web struct {
	Origins []string       // of the pages whose scripts may call, as browsers write them
	Proxies []netip.Prefix // whose X-Forwarded-For is believed
}

// web returns what is configured now.
func (s *Service) web() Web {
	if s.Web == nil {
		return Web{}
	}
	return s.Web()
}

// What browsers ask before a call, and how long they may keep the answer, in seconds.
const (
	allowedMethods = "GET, POST"
	allowedHeaders = "Authorization, Content-Type"
	exposedHeaders = "Retry-After"
	preflightLife  = "600"
)

// fromPages lets scripts of the configured origins call next, and refuses changes that another page asks for. Nothing is
// ever allowed with credentials of the browser: a call says who it is of by its token, which no browser adds by itself.
func (s *Service) fromPages(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Add("Vary", "Origin") // also without one: caches must not give a page the answer for others
		origins := r.Header.Values("Origin")
		switch {
		case len(origins) == 0: // no browser, or a page's own GET
		case len(origins) == 1 && slices.Contains(s.web().Origins, origins[0]):
			h.Set("Access-Control-Allow-Origin", origins[0])
			h.Set("Access-Control-Expose-Headers", exposedHeaders)
			if r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != "" {
				h.Set("Access-Control-Allow-Methods", allowedMethods)
				h.Set("Access-Control-Allow-Headers", allowedHeaders)
				h.Set("Access-Control-Max-Age", preflightLife)
				w.WriteHeader(http.StatusNoContent)
				return
			}
		case !readOnly(r.Method):
			writeError(w, newID(), refuse(http.StatusForbidden, api.ReasonOriginRefused,
				"pages of %.200q may not call this service: name the origin in http.origins if they are to", strings.Join(origins, ", ")))
			return
		}
		next.ServeHTTP(w, r)
	})
}

func readOnly(method string) bool {
	return method == http.MethodGet || method == http.MethodHead || method == http.MethodOptions
}

// source returns the address that a request comes from: the connection's, or, where that is of a proxy, the last one in
// X-Forwarded-For that is not of one. It is not valid when a proxy sent something else than addresses there.
func source(r *http.Request, proxies []netip.Prefix) netip.Addr {
	connection, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	addr := connection.Addr().Unmap()
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for i := len(hops) - 1; i >= 0 && ofProxy(addr, proxies); i-- {
		hop := strings.TrimSpace(hops[i])
		if hop == "" && len(hops) == 1 {
			break // it is the proxy itself that calls, or one that adds nothing
		}
		next, err := netip.ParseAddr(hop)
		if err != nil {
			return netip.Addr{}
		}
		addr = next.Unmap().WithZone("")
	}
	return addr
}

func ofProxy(addr netip.Addr, proxies []netip.Prefix) bool {
	return slices.ContainsFunc(proxies, func(n netip.Prefix) bool { return n.Contains(addr.WithZone("")) })
}
