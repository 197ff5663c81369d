//go:build unix

package config

import (
	"io/fs"
	"os"
	"syscall"
)

// writable reports whether everybody may write a file.
func writable(info fs.FileInfo) bool { return info.Mode().Perm()&0o002 != 0 }

// exposed says who else may read a file with a secret; empty when nobody. Root's files may be
// readable for a group: that is how Kubernetes hands a secret to a service that is not root.
func exposed(info fs.FileInfo) string {
	mode := info.Mode().Perm()
	if mode&0o007 != 0 {
		return "can be read or written by every user of this host"
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	ofRoot := ok && owner.Uid == 0 && os.Geteuid() != 0
	if mode&0o070 != 0 && !(ofRoot && mode&0o030 == 0) {
		return "can be read or written by a group"
	}
	return ""
}
