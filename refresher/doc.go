// Package refresher keeps IAM tokens fresh: it decides when a token is minted,
// probed and published, and runs those decisions.
//
// The words: a token is a configured name; its value is the secret. A source
// mints values, a probe tries one on a real API and gives a verdict, a sink
// takes published versions. A candidate is a minted value that was not yet
// proven. A version is one published value, numbered within a lineage.
//
// The decisions are pure: [Decide] says what to do now from a [Policy], a
// [State] and a time; [State.After] says what a state becomes after an
// [Event]. The effects are thin: [Refresher] owns all states in one goroutine,
// starts workers for what was decided and feeds their results back as events.
//
// The package imports the standard library only. The cloud, files, HTTP and
// the operating system's clock are adapters behind [Source], [Probe], [Sink],
// [Store] and [Clock].
package refresher
