//go:build !unix

package config

import "io/fs"

// exposed knows of permissions on Unix only.
func exposed(fs.FileInfo) string { return "" }

func writable(fs.FileInfo) bool { return false }
