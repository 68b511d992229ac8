//go:build race

package simulation

// The race detector makes a run ten times slower; it needs few.
const defaultSeeds, sameSeeds = 3, 1
