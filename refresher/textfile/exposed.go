package textfile

import (
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
)

// WarnIfExposed logs when others than those who need it may read a file with a
// secret. kind is what the file is.
func WarnIfExposed(log *slog.Logger, kind, path string, info fs.FileInfo) {
	exposed := exposure(info.Mode().Perm(), owner(info), os.Geteuid())
	if dir := os.Getenv("CREDENTIALS_DIRECTORY"); dir != "" && filepath.Dir(path) == filepath.Clean(dir) {
		// systemd grants access by an ACL, whose mask shows as the group's bits.
		exposed &^= 0o040
	}
	if exposed == 0 {
		return
	}
	who := "its group"
	if exposed&0o004 != 0 {
		who = "everybody"
	}
	log.Warn("a secret file is readable by "+who+": chmod 600 it", "kind", kind, "file", path, "mode", fmt.Sprintf("%04o", info.Mode().Perm()))
}

// exposure is the bits of a mode that let others than those who need it read a
// file. Who reads a file of root's does it by its group or as anybody: so it is
// with a Secret of Kubernetes, which is 0440 and of the pod's fsGroup at best.
func exposure(mode fs.FileMode, owner, us int) fs.FileMode {
	if us != 0 && owner == 0 {
		return mode & 0o004
	}
	return mode & 0o044
}

func owner(info fs.FileInfo) int {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return int(st.Uid)
	}
	return -1
}
