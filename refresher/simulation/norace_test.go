//go:build !race

package simulation

const defaultSeeds, sameSeeds = 20, 3
