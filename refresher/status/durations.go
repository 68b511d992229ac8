package status

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Durations counts how long mints and probes take, of all tokens together. Its
// methods may be called concurrently.
type Durations struct{ mint, probe prometheus.Histogram }

// NewDurations returns empty histograms.
func NewDurations() *Durations {
	return &Durations{
		mint: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "iam_token_mint_duration_seconds",
			Help:    "How long sources took to give a value or to fail.",
			Buckets: []float64{.01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
		}),
		probe: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "iam_token_probe_duration_seconds",
			Help:    "How long probes took to come to a verdict.",
			Buckets: []float64{.01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}),
	}
}

// Mint counts one mint.
func (d *Durations) Mint(took time.Duration) { d.mint.Observe(took.Seconds()) }

// Probe counts one probe.
func (d *Durations) Probe(took time.Duration) { d.probe.Observe(took.Seconds()) }
