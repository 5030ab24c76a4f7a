package report

import (
	"bufio"
	"maps"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
)

// ThisMachine reads the facts of the machine from /proc; what cannot be read stays empty.
func ThisMachine(versions map[string]string) Machine {
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	kb, _ := strconv.ParseInt(strings.TrimSuffix(field("/proc/meminfo", "MemTotal"), " kB"), 10, 64)
	return Machine{
		CPU: field("/proc/cpuinfo", "model name"), Cores: runtime.NumCPU(), MemoryMB: kb >> 10,
		Kernel: strings.TrimSpace(string(kernel)), Versions: versions,
	}
}

// field returns the value of the first line "key : value" of a file under /proc.
func field(path, key string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if name, v, ok := strings.Cut(s.Text(), ":"); ok && strings.TrimSpace(name) == key {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

func sortedKeys(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }
