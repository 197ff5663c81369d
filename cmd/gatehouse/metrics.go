package main

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/gatehouse-nats/gatehouse/policy/oidc"
	"github.com/gatehouse-nats/gatehouse/store/stream"
)

func newRegistry() *prometheus.Registry {
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return reg
}

// fetchMetrics counts what is asked of issuers.
type fetchMetrics struct{ fetches *prometheus.CounterVec }

func newFetchMetrics(reg prometheus.Registerer) *fetchMetrics {
	m := &fetchMetrics{fetches: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "gatehouse_jwks_fetches_total",
		Help: "Attempts to load an issuer's keys, by issuer and result (ok, failed).",
	}, []string{"issuer", "result"})}
	reg.MustRegister(m.fetches)
	return m
}

func (m *fetchMetrics) observe(f oidc.Fetch) {
	result := "ok"
	if f.Err != nil {
		result = "failed"
	}
	m.fetches.WithLabelValues(f.Issuer, result).Inc()
}

// storeMetrics counts the failures of the store.
type storeMetrics struct{ errors *prometheus.CounterVec }

func newStoreMetrics(reg prometheus.Registerer) *storeMetrics {
	m := &storeMetrics{errors: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "gatehouse_store_errors_total",
		Help: "Calls of the store that failed: read (the state), record (audit entries, which wait in the spool).",
	}, []string{"op"})}
	reg.MustRegister(m.errors)
	for _, op := range []string{"read", "record"} {
		m.errors.WithLabelValues(op) // there from the start, for alerts
	}
	return m
}

func (m *storeMetrics) observe(op string) func(error) {
	return func(error) { m.errors.WithLabelValues(op).Inc() }
}

// watchDaemon registers the gauges of a replica.
func watchDaemon(reg prometheus.Registerer, d *daemon) {
	for _, g := range []struct {
		name, help string
		value      func() float64
	}{
		{"gatehouse_snapshot_age_seconds", "Time since the store last confirmed the state that decisions read.",
			func() float64 { return d.mirror.Age().Seconds() }},
		{"gatehouse_spool_bytes", "Audit entries that wait for the store, in bytes.",
			func() float64 { return float64(d.spool.Pending().Bytes) }},
		{"gatehouse_claims_accounts", "Accounts whose claims are kept as revocations ask; 0 on replicas that do not write them.",
			func() float64 { return float64(d.claims.Status().Accounts) }},
		{"gatehouse_claims_settled", "Of gatehouse_claims_accounts, those as they are to be on every server.",
			func() float64 { return float64(d.claims.Status().Settled) }},
		{"gatehouse_accounts_self_service", "Self-service accounts whose claims are kept; 0 on replicas that do not write them.",
			func() float64 { return float64(d.claims.Status().SelfService) }},
		{"gatehouse_accounts_waiting", "Of gatehouse_accounts_self_service, those not confirmed on every server as they are to be.",
			func() float64 { return float64(d.claims.Status().Waiting) }},
		{"gatehouse_accounts_unknown", "Accounts that servers store and that are neither configured nor those of sign-up; they are not touched.",
			func() float64 { return float64(len(d.claims.Status().Unknown)) }},
		{"gatehouse_claims_writer", "1 on the replica that writes account claims.",
			func() float64 {
				if d.claims.Status().Holder {
					return 1
				}
				return 0
			}},
		{"gatehouse_ready", "1 when nothing keeps this replica from answering logins.",
			func() float64 {
				if len(notReady(d.readiness())) > 0 {
					return 0
				}
				return 1
			}},
	} {
		reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: g.name, Help: g.help}, g.value))
	}
	reg.MustRegister(&serverCollector{d: d})
}

// watchCopier registers the gauges of the copy of the audit trail.
func watchCopier(reg prometheus.Registerer, c *stream.Copier) {
	reg.MustRegister(
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "gatehouse_audit_stream_copied_total", Help: "Audit entries that this replica has copied into the stream.",
		}, func() float64 { return float64(c.Status().Copied) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "gatehouse_audit_stream_waiting", Help: "1 while audit entries cannot be copied into the stream and wait in the store.",
		}, func() float64 {
			if c.Status().Error != "" {
				return 1
			}
			return 0
		}),
	)
}

// serverCollector reports the clocks of the servers that are known now.
type serverCollector struct{ d *daemon }

var clockOffset = prometheus.NewDesc("gatehouse_server_clock_offset_seconds",
	"A server's clock less this host's.", []string{"server"}, nil)

// Describe implements prometheus.Collector.
func (c *serverCollector) Describe(ch chan<- *prometheus.Desc) { ch <- clockOffset }

// Collect implements prometheus.Collector.
func (c *serverCollector) Collect(ch chan<- prometheus.Metric) {
	seen := map[string]bool{}
	for _, s := range c.d.resolver.Servers() {
		if seen[s.Name] {
			continue // a restarted server is there twice until the old id is forgotten
		}
		seen[s.Name] = true
		ch <- prometheus.MustNewConstMetric(clockOffset, prometheus.GaugeValue, s.Offset.Round(time.Microsecond).Seconds(), s.Name)
	}
}
