package emulator_test

import (
	"testing"

	"iam-token-refresher/refresher/emulator"
)

// The figures hold the client's work, but not its RSA signature.

func BenchmarkCreate(b *testing.B) {
	c := start(b, emulator.Options{})
	raw := c.goodClaim().sign(b)
	for b.Loop() {
		if _, err := c.create(raw); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkMyself(b *testing.B) {
	c := start(b, emulator.Options{})
	value := c.mint().IamToken
	for b.Loop() {
		if a := c.myself(value); a.status != 200 {
			b.Fatal(a)
		}
	}
}
