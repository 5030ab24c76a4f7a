package main

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"genfn/events"
	"genfn/functions/device/virtualgpu"
)

// maxCPUs bounds the instances on the CPU that a mistyped --instances starts.
const maxCPUs = 16

// instanceCounts are the values of --instances: how many instances of a class of device. A class that is not named has
// as many as it has by itself.
type instanceCounts struct{ counts map[string]int }

var _ pflag.Value = (*instanceCounts)(nil)

func (c *instanceCounts) Type() string { return "CLASS=N,..." }

func (c *instanceCounts) String() string {
	var words []string
	for _, class := range []string{events.DeviceGPU, events.DeviceCPU} {
		if n, ok := c.counts[class]; ok {
			words = append(words, class+"="+strconv.Itoa(n))
		}
	}
	return strings.Join(words, ",")
}

// Set reads a list such as gpu=2,cpu=2.
func (c *instanceCounts) Set(text string) error {
	counts := map[string]int{}
	for word := range strings.SplitSeq(text, ",") {
		class, number, _ := strings.Cut(word, "=")
		n, err := strconv.Atoi(number)
		least, most := 1, maxCPUs
		if class == events.DeviceGPU {
			least, most = 0, virtualgpu.MaxDevices
		}
		_, twice := counts[class]
		if class != events.DeviceGPU && class != events.DeviceCPU || err != nil || twice {
			return fmt.Errorf("%q: expected the classes gpu and cpu with numbers, such as gpu=2,cpu=2", text)
		}
		if n < least || n > most {
			return fmt.Errorf("%s=%d: expected %d to %d", class, n, least, most)
		}
		counts[class] = n
	}
	c.counts = counts
	return nil
}

// cpus is how many instances the CPU has.
func (c *instanceCounts) cpus() int { return max(1, c.counts[events.DeviceCPU]) }

// gpus is how many GPUs are to serve; ok is false if that is not said.
func (c *instanceCounts) gpus() (n int, ok bool) {
	n, ok = c.counts[events.DeviceGPU]
	return n, ok
}

// wantGPUs makes --devices and the virtual GPUs as --instances wants them.
func (f *upFlags) wantGPUs() error {
	n, ok := f.count.gpus()
	switch {
	case !ok:
		return nil
	case n == 0 && (f.virtual.on || f.cuda.virtual.on):
		return usageError{errors.New("--instances gpu=0 and --virtual-gpu or --virtual-cuda: expected one of them")}
	case n == 0:
		f.devices = []string{"CPU"}
	case slices.Equal(f.devices, []string{"CPU"}):
		f.devices = []string{allDevices}
	}
	switch {
	case f.virtual.on:
		f.virtual.devices = max(f.virtual.devices, n)
	case f.cuda.virtual.on:
		f.cuda.virtual.devices = max(f.cuda.virtual.devices, n)
	}
	return nil
}
