//go:build !linux

package atomicfile

// isMountPoint leaves it to Write to find out: single files are mounted on
// Linux.
func isMountPoint(string) bool { return false }
