package callout

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/gatehouse-nats/gatehouse/policy"
)

// stages of a login, as labels.
const (
	stageVerify = "verify"
	stageDecide = "decide"
	stageMint   = "mint"
	stageRecord = "record"
	stageTotal  = "total"
)

// Metrics are what the callout counts. Labels are bounded: reasons and stages are constants,
// issuers are the configured names.
type Metrics struct {
	registry   prometheus.Registerer
	logins     *prometheus.CounterVec
	stages     map[string]prometheus.Observer
	rejections *prometheus.CounterVec
}

// NewMetrics registers the callout's metrics.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		registry: reg,
		logins: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gatehouse_logins_total",
			Help: "Logins by how they ended: outcome (allowed, refused, silent), reason code, and issuer where the token's signature verified.",
		}, []string{"outcome", "reason", "issuer"}),
		rejections: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gatehouse_server_rejections_total",
			Help: "Logins that servers report as not admitted: refused (by this service), timeout (no answer in time), limit (the account's connections are used up), rejected (the server did not accept the answer).",
		}, []string{"kind"}),
		stages: map[string]prometheus.Observer{},
	}
	durations := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "gatehouse_login_stage_seconds",
		Help:    "Time that the stages of a login take; total is from the request's arrival to the answer.",
		Buckets: []float64{.00005, .0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2},
	}, []string{"stage"})
	for _, s := range []string{stageVerify, stageDecide, stageMint, stageRecord, stageTotal} {
		m.stages[s] = durations.WithLabelValues(s)
	}
	reg.MustRegister(m.logins, m.rejections, durations)
	return m
}

// watch registers the gauges of a queue.
func (m *Metrics) watch(q *queue, now func() time.Time) {
	m.registry.MustRegister(
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "gatehouse_queue_depth",
			Help: "Logins that wait for a worker.",
		}, func() float64 {
			n, _ := q.depth()
			return float64(n)
		}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "gatehouse_queue_oldest_seconds",
			Help: "Age of the oldest login that waits to be opened.",
		}, func() float64 {
			_, oldest := q.depth()
			if oldest.IsZero() {
				return 0
			}
			return now().Sub(oldest).Seconds()
		}),
	)
}

func (m *Metrics) login(r policy.Reason, issuer string) {
	m.logins.WithLabelValues(string(r.Outcome()), string(r), issuer).Inc()
}

func (m *Metrics) stage(name string, d time.Duration) { m.stages[name].Observe(d.Seconds()) }

func (m *Metrics) rejection(kind string) { m.rejections.WithLabelValues(kind).Inc() }
