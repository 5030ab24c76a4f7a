package runner

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"genfn/events"
	"genfn/functions/runner/protocol"
)

// maxSlots bounds the search of protocol.AnySlot.
const maxSlots = 256

// deviceLock keeps other runners off a slot of a device. The kernel holds it as long as the process lives,
// also while SIGKILL cannot end it.
type deviceLock struct {
	file *os.File
	slot int
}

// lockDevice locks a slot of device with a file in dir, or the first free one for protocol.AnySlot.
func lockDevice(dir, device string, slot int) (*deviceLock, error) {
	if err := MakePrivate(dir); err != nil {
		return nil, events.Errorf(events.CodeDeviceUnavailable, "the folder for device locks cannot be used: %w", err)
	}
	if slot != protocol.AnySlot {
		return lockSlot(dir, device, slot)
	}
	for slot := range maxSlots {
		l, err := lockSlot(dir, device, slot)
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return l, err
		}
	}
	return nil, inUse(device, fmt.Sprintf("all %d slots are taken", maxSlots), nil)
}

// MakePrivate makes dir if it is missing, and refuses one in which other users could put links and libraries: a
// folder among the temporary files may have been made by anybody.
func MakePrivate(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	switch {
	case !info.IsDir() || !ok:
		return fmt.Errorf("%s is not a folder but %s", dir, info.Mode().Type())
	case int(owner.Uid) != os.Geteuid() && owner.Uid != 0:
		return fmt.Errorf("%s belongs to user %d: expected one of user %d or root", dir, owner.Uid, os.Geteuid())
	case info.Mode().Perm()&0o002 != 0:
		return fmt.Errorf("%s can be written by everybody (mode %s): take that right away or choose another folder", dir, info.Mode().Perm())
	}
	return nil
}

func lockSlot(dir, device string, slot int) (*deviceLock, error) {
	name := strings.Map(func(r rune) rune {
		if strings.ContainsRune(`/\ :`, r) {
			return '_'
		}
		return r
	}, device)
	if name == "GPU" { // another name of the first
		name = "GPU.0"
	}
	path := filepath.Join(dir, fmt.Sprintf("device-%s-%d.lock", name, slot))
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, events.Errorf(events.CodeDeviceUnavailable, "the lock file of device %s cannot be opened: %w", device, err)
	}
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		owner, _ := os.ReadFile(path)
		file.Close()
		return nil, inUse(device, fmt.Sprintf("slot %d is taken by process %s (lock file %s)", slot, strings.TrimSpace(string(owner)), path), err)
	}
	if err := errors.Join(file.Truncate(0), writePID(file)); err != nil {
		return nil, errors.Join(events.Errorf(events.CodeDeviceUnavailable, "the lock file %s cannot be written: %w", path, err), file.Close())
	}
	return &deviceLock{file: file, slot: slot}, nil
}

func writePID(file *os.File) error {
	_, err := file.WriteAt(fmt.Appendln(nil, os.Getpid()), 0)
	return err
}

func inUse(device, why string, cause error) error {
	e := events.Errorf(events.CodeDeviceUnavailable, "device %s is in use: %s", device, why)
	e.Device, e.Cause = device, cause
	e.Advice = "Stop the instance that uses the device, or choose another device or slot. If that process is dead to every signal, its driver is stuck: restart the machine or the container."
	return e
}

// Close gives the device free. A nil lock is no lock.
func (l *deviceLock) Close() error {
	if l == nil {
		return nil
	}
	return l.file.Close()
}
