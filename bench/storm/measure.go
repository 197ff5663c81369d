package main

import (
	"slices"
	"time"

	"github.com/gatehouse-nats/gatehouse/bench/report"
)

// measure runs the load and returns what it and the processes at service and server went through.
func measure(l *load, service, server int) (report.Result, error) {
	// What comes before the measurement is no part of it.
	switch {
	case *client == library:
		if err := l.connectFleet(); err != nil {
			return report.Result{}, err
		}
	case *seen:
		if err := l.showTokens(); err != nil {
			return report.Result{}, err
		}
	}
	metrics := "http://" + l.world.MetricsListen + "/metrics"
	made, told := allocations(metrics)
	serviceCPU, serverCPU, start := cpu(service), cpu(server), time.Now()
	clients := *n
	switch {
	case *client == library:
		clients = *burst
		l.cutFleet()
	case *burst > 0:
		clients = *burst
		l.storm()
	case *pace > 0:
		clients = l.paced()
	default:
		l.steady()
	}
	took := time.Since(start)
	serviceCPU, serverCPU = cpu(service)-serviceCPU, cpu(server)-serverCPU
	if after, ok := allocations(metrics); told && ok {
		made = after - made
	} else {
		made = 0
	}
	peak := peakMemory(service)
	l.letGo()

	slices.Sort(l.latencies)
	slices.Sort(l.quiet)
	r := report.Result{
		Admitted:         len(l.latencies),
		Failed:           l.fails.Load(),
		Lost:             l.lost.Load(),
		Retries:          l.retries.Load(),
		BadAdmitted:      l.badIn.Load(),
		BadRefused:       l.badOut.Load(),
		Background:       l.disturbed.Load(),
		Good:             l.good(),
		Seconds:          took.Seconds(),
		PerSecond:        float64(len(l.latencies)) / took.Seconds(),
		P50MS:            report.Quantile(l.latencies, .5),
		P99MS:            report.Quantile(l.latencies, .99),
		MaxMS:            report.Quantile(l.latencies, 1),
		ServiceCPUMicros: float64(serviceCPU.Microseconds()) / float64(clients),
		ServerCPUMicros:  float64(serverCPU.Microseconds()) / float64(clients),
		AllocationsEach:  made / float64(clients),
		ServicePeakRSS:   peak,
		Errors:           l.errs,
	}
	if *burst > 0 {
		r.Curve = report.Curve(l.latencies, r.Good)
	}
	if *background > 0 {
		r.QuietP50MS, r.QuietP99MS = report.Quantile(l.quiet, .5), report.Quantile(l.quiet, .99)
	}
	return r, nil
}
