//go:build !linux

package store

const onReadOnly = "STORE_TEST_READ_ONLY"

func sayHowReadOnlyGoes(string) {}
