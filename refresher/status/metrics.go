package status

import (
	"runtime"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"iam-token-refresher/refresher"
)

// collector makes the metrics of the snapshots when it is asked: a metric
// object for each token and series would take 4.6 KB a token, for good.
type collector struct {
	source Source

	expiry, version, state, verified, next *prometheus.Desc
	refreshes, probes, sinkVersion, reads  *prometheus.Desc
	hooks, reloads, skew, build            *prometheus.Desc
}

func newCollector(s Source) *collector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, labels, nil)
	}
	return &collector{
		source:      s,
		expiry:      desc("iam_token_expiry_timestamp_seconds", "When the published value expires; absent when nobody knows.", "token"),
		version:     desc("iam_token_version", "Number of the published version; 0 before the first.", "token"),
		state:       desc("iam_token_state", "1 for the state that the token is in, 0 for the others.", "token", "state"),
		verified:    desc("iam_token_last_verified_timestamp_seconds", "When the published value was last accepted by its probe; absent if never.", "token"),
		next:        desc("iam_token_next_refresh_timestamp_seconds", "When the source is asked next; absent when that is not planned.", "token"),
		refreshes:   desc("iam_token_refreshes_total", "Refreshes by how they ended.", "token", "result"),
		probes:      desc("iam_token_probes_total", "Probes by their verdict.", "token", "verdict"),
		sinkVersion: desc("iam_token_sink_version", "Number of the version that the sink holds; 0 if none.", "token", "sink"),
		reads:       desc("iam_token_reads_total", "Requests for the value by how they were answered.", "token", "sink", "result"),
		hooks:       desc("iam_token_hook_failures_total", "Hooks that failed.", "token"),
		reloads:     desc("iam_token_config_reloads_total", "Reloads of the configuration by how they ended.", "result"),
		skew:        desc("iam_token_clock_skew_seconds", "How far the local clock is ahead of the servers'."),
		build:       desc("iam_token_refresher_build_info", "1, with what the program was built from.", "version", "goversion"),
	}
}

// Describe implements [prometheus.Collector].
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range [...]*prometheus.Desc{
		c.expiry, c.version, c.state, c.verified, c.next, c.refreshes, c.probes, c.sinkVersion, c.reads,
		c.hooks, c.reloads, c.skew, c.build,
	} {
		ch <- d
	}
	if d := c.source.Durations; d != nil {
		d.mint.Describe(ch)
		d.probe.Describe(ch)
	}
}

// Collect implements [prometheus.Collector].
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	now := c.source.Now()
	for _, s := range c.source.Snapshots() {
		c.collectToken(ch, s, now)
	}
	if c.source.Reloads != nil {
		for result, n := range c.source.Reloads() {
			count(ch, c.reloads, n, result)
		}
	}
	if c.source.ClockSkew != nil {
		gauge(ch, c.skew, c.source.ClockSkew().Seconds())
	}
	gauge(ch, c.build, 1, c.source.Version, runtime.Version())
	if d := c.source.Durations; d != nil {
		d.mint.Collect(ch)
		d.probe.Collect(ch)
	}
}

// probeVerdicts are those that a probe ends with.
var probeVerdicts = [...]refresher.Verdict{refresher.Accepted, refresher.RejectedToken, refresher.RejectedAccess, refresher.Unknown}

func (c *collector) collectToken(ch chan<- prometheus.Metric, s refresher.Status, now time.Time) {
	n := uint64(0)
	if s.Version != nil {
		n = s.Version.N
		timestamp(ch, c.expiry, s.Version.ExpiresAt, s.Token)
	}
	gauge(ch, c.version, float64(n), s.Token)
	timestamp(ch, c.verified, s.VerifiedAt, s.Token)
	timestamp(ch, c.next, s.NextRefresh, s.Token)
	health := s.HealthAt(now)
	for _, h := range refresher.Healths {
		is := 0.0
		if h == health {
			is = 1
		}
		gauge(ch, c.state, is, s.Token, string(h))
	}
	for _, r := range refresher.RefreshResults {
		count(ch, c.refreshes, s.Refreshes.Of(r), s.Token, string(r))
	}
	if s.Probe != "" {
		for _, v := range probeVerdicts {
			count(ch, c.probes, s.Probes[v], s.Token, v.String())
		}
	}
	for _, sink := range s.Sinks {
		gauge(ch, c.sinkVersion, float64(sink.N), s.Token, sink.ID)
		if c.source.Reads != nil {
			for result, n := range c.source.Reads(s.Token, sink.ID) {
				count(ch, c.reads, n, s.Token, sink.ID, result)
			}
		}
	}
	if c.source.HookFailures != nil {
		if n, ok := c.source.HookFailures(s.Token); ok {
			count(ch, c.hooks, n, s.Token)
		}
	}
}

func gauge(ch chan<- prometheus.Metric, d *prometheus.Desc, v float64, labels ...string) {
	send(ch, d, prometheus.GaugeValue, v, labels)
}

func count(ch chan<- prometheus.Metric, d *prometheus.Desc, n uint64, labels ...string) {
	send(ch, d, prometheus.CounterValue, float64(n), labels)
}

// timestamp leaves out what has no time: 0 would be an alarm, 1970.
func timestamp(ch chan<- prometheus.Metric, d *prometheus.Desc, t time.Time, labels ...string) {
	if !t.IsZero() {
		send(ch, d, prometheus.GaugeValue, float64(t.UnixMilli())/1000, labels)
	}
}

func send(ch chan<- prometheus.Metric, d *prometheus.Desc, kind prometheus.ValueType, v float64, labels []string) {
	for i, l := range labels {
		// A path may be any bytes; a label may not.
		labels[i] = strings.ToValidUTF8(l, "\ufffd")
	}
	m, err := prometheus.NewConstMetric(d, kind, v, labels...)
	if err != nil {
		m = prometheus.NewInvalidMetric(d, err)
	}
	ch <- m
}
