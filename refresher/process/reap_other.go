//go:build !linux

package process

import (
	"context"
	"os/exec"
)

// dieWithUs: there is nothing of the kind here. A program outlives us when we
// are killed.
func dieWithUs(*exec.Cmd) {}

// awaitEnd: an end cannot be seen here without waiting for it.
func awaitEnd(int) (ok, seen bool) { return false, false }

// Reap does nothing: we are never init here.
func (o *Owner) Reap(context.Context) {}
