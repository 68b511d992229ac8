// Package simulation runs the refresher's own loop and decisions for 30 days of
// virtual time, with everything around them replaced and going wrong: sources,
// probes, sinks, state, clock, process, configuration. One seed is one run and
// always the same one. After every event of the loop, every call to a fake and
// at random moments of readers the promises are checked; see checks_test.go.
//
// All of it is test code, because virtual time (testing/synctest) lives in tests:
//
//	go test ./refresher/simulation -run TestSimulation -seeds 1000 -seed 1
//
// # What no daemon could do better
//
// Values are judged by true time, which is the servers'. These are not counted
// as broken promises, and nothing else is:
//
//   - Before the first answer with a Date since the start there is only the local
//     clock: a value is served as long as that says, be it behind.
//   - After a Date, time that both witnesses miss (the wall clock and the elapsed
//     clock: a paused machine until its clock is set, a clock that runs slow) is
//     lost until the next Date. A clock that was behind at the last Date and was
//     set since is one whose error is not known: what it misses is lost as well.
//   - A local clock that was at most 30 s behind at the last Date is believed
//     (promise 3). A Date is cut to a second, and may be as old as its exchange
//     was long.
package simulation
