package measure

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Runners returns the process ids of the runner processes among the children of a process of genfn.
func Runners(pid int) (pids []int) {
	lists, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		return nil // only a bad pattern is an error
	}
	for _, list := range lists {
		raw, err := os.ReadFile(list)
		if err != nil {
			continue // the thread has ended
		}
		for child := range strings.FieldsSeq(string(raw)) {
			line, err := os.ReadFile("/proc/" + child + "/cmdline")
			n, bad := strconv.Atoi(child)
			if err == nil && bad == nil && strings.Contains(string(line), "\x00runner") {
				pids = append(pids, n)
			}
		}
	}
	return pids
}
