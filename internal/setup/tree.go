package setup

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode"
)

// ErrExists says that the target folder already holds something that would have to be
// overwritten. Nothing was changed.
var ErrExists = errors.New("already there, and nothing is ever overwritten")

// tree is the content of files by their slash-separated path below a folder.
type tree map[string]string

// line returns the seed as the content of a key file.
func (s Secret) line() string { return s.Reveal() + "\n" }

// absolute returns the absolute path of dir. Control characters are refused, because the
// path becomes part of configuration files.
func absolute(dir string) (string, error) {
	path, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("folder %q: %w", dir, err)
	}
	if strings.ContainsFunc(path, unicode.IsControl) {
		return "", fmt.Errorf("folder %q: %w: its path holds a control character", dir, ErrOptions)
	}
	return path, nil
}

// write makes the files and the extra folders below dir, all of them or none. What exists
// at the top level of dir under one of their names makes it fail with [ErrExists] before
// the first change.
func (t tree) write(dir string, folders ...string) error {
	files := slices.Sorted(maps.Keys(t))
	var found []string
	for _, top := range topLevel(append(slices.Clone(files), folders...)) {
		if _, err := os.Lstat(filepath.Join(dir, top)); err == nil {
			found = append(found, top)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("look into %s: %w", dir, err)
		}
	}
	if found != nil {
		return fmt.Errorf("%s in %s: %w: choose another folder, or move them away", strings.Join(found, ", "), dir, ErrExists)
	}
	w := writer{dir: dir}
	if err := w.write(t, files, folders); err != nil {
		w.undo()
		return err
	}
	return nil
}

// topLevel returns the first elements of paths, sorted, each once.
func topLevel(paths []string) []string {
	var tops []string
	for _, path := range paths {
		top, _, _ := strings.Cut(path, "/")
		tops = append(tops, top)
	}
	slices.Sort(tops)
	return slices.Compact(tops)
}

// writer remembers what it made, to be able to take it back.
type writer struct {
	dir  string
	made []string // in the order of making
}

func (w *writer) write(t tree, files, folders []string) error {
	if err := w.folder(w.dir); err != nil {
		return err
	}
	for _, folder := range folders {
		if err := w.folder(filepath.Join(w.dir, filepath.FromSlash(folder))); err != nil {
			return err
		}
	}
	for _, file := range files {
		path := filepath.Join(w.dir, filepath.FromSlash(file))
		if err := w.folder(filepath.Dir(path)); err != nil {
			return err
		}
		if err := w.file(path, t[file]); err != nil {
			return fmt.Errorf("write %s: %w", path, err)
		}
	}
	return nil
}

// folder makes a folder and those above it that are missing, all for their owner alone.
func (w *writer) folder(path string) error {
	if info, err := os.Stat(path); err == nil {
		if !info.IsDir() {
			return fmt.Errorf("%s is not a folder: %w", path, ErrExists)
		}
		return nil
	}
	if parent := filepath.Dir(path); parent != path {
		if err := w.folder(parent); err != nil {
			return err
		}
	}
	if err := os.Mkdir(path, 0o700); err != nil {
		return fmt.Errorf("make folder: %w", err)
	}
	w.made = append(w.made, path)
	return nil
}

// file makes a file that is either whole or absent, and never replaces one that somebody
// else made in the meantime: a hard link, unlike a rename, fails when its target exists.
func (w *writer) file(path, content string) (err error) {
	temp, err := os.CreateTemp(filepath.Dir(path), ".init-*") // 0600
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.Remove(temp.Name())) }()
	_, err = temp.WriteString(content)
	if err == nil {
		err = temp.Sync()
	}
	if err = errors.Join(err, temp.Close()); err != nil {
		return err
	}
	if err := os.Link(temp.Name(), path); err != nil {
		return err
	}
	w.made = append(w.made, path)
	return nil
}

// undo removes what was made, as far as it is still empty or a file of ours.
func (w *writer) undo() {
	for _, path := range slices.Backward(w.made) {
		_ = os.Remove(path) // what somebody else put into a folder of ours stays, and so does the folder
	}
}
