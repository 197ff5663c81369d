package config

import (
	"context"
	"fmt"
	"path/filepath"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"
)

// settle is how long files are left alone after one of them changed, since editors and
// deployments write several, or one in parts.
const settle = 200 * time.Millisecond

// Update is the outcome of reading the configuration anew.
type Update struct {
	// Config is the new configuration; nil when it was refused and the old one stays.
	Config *Config
	// Err says why it was refused.
	Err error
	// Restart names the settings that differ from those the service started with and that it
	// takes over only when it is restarted, sorted.
	Restart []string
}

// Watcher reads the configuration anew when asked, and when one of its files changes.
type Watcher struct {
	started *Config
	env     []string
	updates chan Update
	notify  *fsnotify.Watcher
	cancel  context.CancelFunc
	done    sync.WaitGroup

	mu      sync.Mutex
	last    Update // what the newest reading came to
	watched map[string]bool
	folders map[string]bool
}

// NewWatcher returns a watcher of the configuration that the service starts with. Close it. It
// reports what changes on [Watcher.Updates], also for key files and creds. The variables of env
// stay as they are: a process cannot be given new ones.
func NewWatcher(started *Config, env []string) (*Watcher, error) {
	notify, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, fmt.Errorf("watch the configuration for changes: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	w := &Watcher{
		started: started, env: env, updates: make(chan Update), notify: notify, cancel: cancel,
		last: Update{Config: started}, watched: map[string]bool{}, folders: map[string]bool{},
	}
	if err := w.watch(started.files); err != nil {
		cancel()
		notify.Close()
		return nil, fmt.Errorf("watch the configuration for changes: %w", err)
	}
	w.done.Go(func() { w.run(ctx) })
	return w, nil
}

// Updates returns the channel of updates that file changes led to. One that reads the same as
// before is not reported. The channel is closed by [Watcher.Close].
func (w *Watcher) Updates() <-chan Update { return w.updates }

// Reload reads the configuration now and returns what came of it, changed or not.
func (w *Watcher) Reload() Update {
	u, _ := w.read()
	return u
}

// Close ends the watch and waits for it.
func (w *Watcher) Close() {
	w.cancel()
	w.done.Wait()
	w.notify.Close()
}

func (w *Watcher) run(ctx context.Context) {
	defer close(w.updates)
	// What changed since the configuration was loaded was not seen: look once.
	settled := time.After(settle)
	for {
		select {
		case <-ctx.Done():
			return
		case e := <-w.notify.Events:
			if settled == nil && w.concerns(e.Name) {
				settled = time.After(settle)
			}
		case <-w.notify.Errors:
			// Events may have been lost: look.
			settled = time.After(settle)
		case <-settled:
			settled = nil
			u, changed := w.read()
			if !changed {
				continue
			}
			select {
			case w.updates <- u:
			case <-ctx.Done():
				return
			}
		}
	}
}

// concerns reports whether a change of that file may change the configuration. Kubernetes
// replaces all files of a folder at once through the link ..data.
func (w *Watcher) concerns(path string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.watched[path] || filepath.Base(path) == "..data"
}

// read loads the configuration and says whether it differs from the last reading.
func (w *Watcher) read() (u Update, changed bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	c, files, err := load(w.started.path, w.env, false)
	_ = w.watchLocked(files) // a folder that is not there yet is looked for again next time
	u = Update{Config: c, Err: err}
	if c != nil {
		u.Restart = restarts(&w.started.File, &c.File)
	}
	changed = !same(u, w.last)
	w.last = u
	return u, changed
}

// same reports whether two readings came to the same.
func same(a, b Update) bool {
	if a.Err != nil && b.Err != nil {
		return a.Err.Error() == b.Err.Error()
	}
	return a.Err == nil && b.Err == nil && reflect.DeepEqual(a.Config.File, b.Config.File)
}

func (w *Watcher) watch(files []string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.watchLocked(files)
}

// watchLocked follows the configuration and the files that it names, by their folders: an
// editor replaces a file rather than writing it.
func (w *Watcher) watchLocked(files []string) error {
	var failed error
	for _, f := range append([]string{w.started.path}, files...) {
		w.watched[f] = true
		if dir := filepath.Dir(f); !w.folders[dir] {
			if err := w.notify.Add(dir); err != nil {
				failed = err
				continue
			}
			w.folders[dir] = true
		}
	}
	return failed
}

// restarts returns the paths of settings that differ and need a restart.
func restarts(old, now *File) []string {
	values := map[string]any{}
	walk(reflect.ValueOf(old), leaf{}, func(l leaf) {
		if l.isLeaf() && l.restart {
			values[l.path] = l.value.Interface()
		}
	})
	var paths []string
	walk(reflect.ValueOf(now), leaf{}, func(l leaf) {
		if l.isLeaf() && l.restart && !reflect.DeepEqual(values[l.path], l.value.Interface()) {
			paths = append(paths, l.path)
		}
	})
	slices.Sort(paths)
	return paths
}
