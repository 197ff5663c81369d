package main

import (
	"bufio"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

// cpu returns the processor time that a process has used, 0 when it is gone. The kernel
// counts in hundredths of a second (USER_HZ).
func cpu(pid int) time.Duration {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	// The command in parentheses may hold blanks; the fields after it are counted.
	f := strings.Fields(string(b)[strings.LastIndex(string(b), ")")+2:])
	u, _ := strconv.ParseInt(f[11], 10, 64)
	s, _ := strconv.ParseInt(f[12], 10, 64)
	return time.Duration(u+s) * 10 * time.Millisecond
}

// peakMemory returns the largest resident size that a process has had, as /proc words it.
func peakMemory(pid int) string {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	for l := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(l, "VmHWM:"); ok {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

// allocations returns how many objects a service of Go has allocated, as its metrics tell; false when it
// serves none.
func allocations(metrics string) (float64, bool) {
	client := http.Client{Timeout: 5 * time.Second}
	r, err := client.Get(metrics)
	if err != nil {
		return 0, false
	}
	defer r.Body.Close()
	lines := bufio.NewScanner(r.Body)
	for lines.Scan() {
		if v, ok := strings.CutPrefix(lines.Text(), "go_memstats_mallocs_total "); ok {
			count, err := strconv.ParseFloat(v, 64)
			return count, err == nil
		}
	}
	return 0, false
}
