// Package fleet runs ten thousand daemons of one token, as the sidecars of one
// cluster, in virtual time: what do they ask of the cloud together? Each is a
// [refresher.Refresher] with the schedules of the configuration.
//
// All of it is test code, because virtual time (testing/synctest) lives in tests:
//
//	go test ./refresher/simulation/fleet -v -sidecars 10000
package fleet
