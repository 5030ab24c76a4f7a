// Package cgroup reads the memory counters of a process's control group, version 1 or 2, whichever the machine has.
// They tell a process that the out-of-memory killer ended from one that somebody else did.
package cgroup

// Memory is what a control group's memory controller counts. The zero value means that nothing could be read.
type Memory struct {
	Version   int    `json:"version"`    // of the control group: 1 or 2; 0: none found
	Path      string `json:"path"`       // of the control group, below its mount point
	OOMKills  int64  `json:"oom_kills"`  // processes of this group that the out-of-memory killer ended; -1: not told
	LimitHits int64  `json:"limit_hits"` // how often the group's limit refused memory
	Usage     int64  `json:"usage"`      // bytes charged now
	Limit     int64  `json:"limit"`      // bytes; 0: no limit
	// SystemOOMKills counts the same for the whole machine, for processes whose group does not tell; -1: not told.
	SystemOOMKills int64 `json:"system_oom_kills"`
}
