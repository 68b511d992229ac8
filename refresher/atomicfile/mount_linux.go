package atomicfile

import "golang.org/x/sys/unix"

// isMountPoint tells whether rename(2) over path would say EBUSY. Kernels
// before 5.8 do not know: there Write finds out.
func isMountPoint(path string) bool {
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, path, unix.AT_SYMLINK_NOFOLLOW, 0, &st); err != nil {
		return false
	}
	return st.Attributes&st.Attributes_mask&unix.STATX_ATTR_MOUNT_ROOT != 0
}
