package main

import (
	"slices"
	"time"
)

// result is what storm prints.
type result struct {
	Admitted         int            `json:"admitted"`
	Failed           int64          `json:"failed"`
	Lost             int64          `json:"lost"` // refused twice in a row
	Retries          int64          `json:"retries"`
	BadAdmitted      int64          `json:"bad_admitted"`
	BadRefused       int64          `json:"bad_refused"`
	Seconds          float64        `json:"seconds"`
	PerSecond        float64        `json:"per_second"`
	P50MS            float64        `json:"p50_ms"`
	P99MS            float64        `json:"p99_ms"`
	MaxMS            float64        `json:"max_ms"`
	ServiceCPUMicros float64        `json:"service_cpu_us_each"`
	ServerCPUMicros  float64        `json:"server_cpu_us_each"`
	ServicePeakRSS   string         `json:"service_peak_rss"`
	Errors           map[string]int `json:"errors"`
}

// measure runs the load and returns what it and the processes at service and server went through.
func measure(l *load, service, server int) result {
	serviceCPU, serverCPU, start := cpu(service), cpu(server), time.Now()
	clients := *n
	if *burst > 0 {
		clients = *burst
		l.storm()
	} else {
		l.steady()
	}
	took := time.Since(start)
	for _, c := range l.held {
		c.Close()
	}
	serviceCPU, serverCPU = cpu(service)-serviceCPU, cpu(server)-serverCPU
	slices.Sort(l.latencies)
	return result{
		Admitted:         len(l.latencies),
		Failed:           l.fails.Load(),
		Lost:             l.lost.Load(),
		Retries:          l.retries.Load(),
		BadAdmitted:      l.badIn.Load(),
		BadRefused:       l.badOut.Load(),
		Seconds:          took.Seconds(),
		PerSecond:        float64(len(l.latencies)) / took.Seconds(),
		P50MS:            quantile(l.latencies, .5),
		P99MS:            quantile(l.latencies, .99),
		MaxMS:            quantile(l.latencies, 1),
		ServiceCPUMicros: float64(serviceCPU.Microseconds()) / float64(clients),
		ServerCPUMicros:  float64(serverCPU.Microseconds()) / float64(clients),
		ServicePeakRSS:   peakMemory(service),
		Errors:           l.errs,
	}
}

// quantile returns the p-quantile of sorted durations in milliseconds, -1 when there are none.
func quantile(sorted []time.Duration, p float64) float64 {
	if len(sorted) == 0 {
		return -1
	}
	return float64(sorted[int(float64(len(sorted)-1)*p)].Microseconds()) / 1000
}
