package session

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"

	"genfn/bindings/openvino"
)

// core is an OpenVINO core that is made when it is first needed. It is safe for concurrent use.
type core struct {
	device     string
	properties map[string]string // of what is imported; a compilation names its own
	open       func() (*openvino.Core, error)

	mu     sync.Mutex
	closed bool
	native *openvino.Core
	err    error // of open
	known  string
}

func (c *core) get() (*openvino.Core, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, errClosed
	}
	if c.native == nil && c.err == nil {
		c.native, c.err = c.open()
	}
	return c.native, c.err
}

// configure replaces the properties, which must not be in use yet.
func (c *core) configure(properties map[string]string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.known != "" {
		return errors.New("session: the device's properties are in use")
	}
	c.properties = properties
	return nil
}

// identity sets the properties and tells them, and of which processor the device is.
func (c *core) identity() (string, error) {
	native, err := c.get()
	if err != nil {
		return "", err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.known != "" {
		return c.known, nil
	}
	words := []string{c.device}
	for _, key := range slices.Sorted(maps.Keys(c.properties)) {
		if err := native.SetProperty(c.device, key, c.properties[key]); err != nil {
			return "", err
		}
		words = append(words, key, c.properties[key])
	}
	for _, key := range []string{"FULL_DEVICE_NAME", "OPTIMIZATION_CAPABILITIES"} {
		value, err := native.Property(c.device, key)
		if err != nil {
			return "", err
		}
		words = append(words, value)
	}
	c.known = strings.Join(words, "\x00")
	return c.known, nil
}

// close frees the core once what was made with it is closed. It may be called twice.
func (c *core) close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	if c.native == nil {
		return nil
	}
	return c.native.Close()
}
