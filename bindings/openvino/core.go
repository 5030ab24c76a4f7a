package openvino

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"unsafe"

	"genfn/bindings/dynlib"
	"genfn/bindings/openvino/internal/capi"
)

// Core knows the devices and their properties, reads models and compiles them.
type Core struct {
	object
	handle capi.Core

	mu        sync.Mutex
	supported map[string][]string // by device: names of its properties
}

// NewCore makes a Core. The caller closes it.
func (r *Runtime) NewCore() (*Core, error) {
	if err := r.use(); err != nil {
		return nil, err
	}
	handle := new(capi.Core)
	if err := r.call("create core", func(a *capi.API) capi.Status { return a.CoreCreate(handle) }); err != nil {
		return nil, err
	}
	c := &Core{handle: *handle, supported: map[string][]string{}}
	c.init(r, "core", "openvino", nil, func(d *domain) { d.api.CoreFree(c.handle) })
	return c, nil
}

func (c *Core) use() error {
	if c == nil {
		return closedError("core")
	}
	return c.object.use()
}

// Close frees the core once everything made from it is closed.
func (c *Core) Close() error {
	if c != nil {
		c.close()
	}
	return nil
}

// Devices returns the names of the devices OpenVINO can use: "CPU", "GPU" or "GPU.0" and "GPU.1".
func (c *Core) Devices() ([]string, error) {
	if err := c.use(); err != nil {
		return nil, err
	}
	defer c.done()
	d := c.runtime.domains.acquire()
	defer c.runtime.domains.release(d)
	list := new(capi.AvailableDevices)
	if code := d.api.CoreGetAvailableDevices(c.handle, list); code != capi.OK {
		return nil, d.failure("list devices", code)
	}
	defer d.api.AvailableDevicesFree(list)
	var names []string
	for _, name := range unsafe.Slice(list.Devices, list.Size) {
		names = append(names, dynlib.GoString(name))
	}
	return names, nil
}

// AddExtension loads a library of additional operations, such as the Runtime's TokenizersLibrary, for
// the models this Core reads afterwards.
func (c *Core) AddExtension(path string) error {
	if err := c.use(); err != nil {
		return err
	}
	defer c.done()
	if !c.runtime.takesExtension {
		return fmt.Errorf("openvino: release %s takes no extensions, so no tokenizers; %s", c.runtime.version, remedy)
	}
	if _, err := os.Stat(path); err != nil {
		return fmt.Errorf("openvino: add extension: %w", err)
	}
	file, err := cString(path)
	if err != nil {
		return err
	}
	return c.runtime.call("add extension "+path, func(a *capi.API) capi.Status {
		return a.CoreAddExtension(c.handle, file)
	})
}

// ReadModel reads a model: IR from an .xml file and its weights, or ONNX. bin names the weights of an
// IR; "" is the .bin beside the .xml. The caller closes the Model.
func (c *Core) ReadModel(path, bin string) (*Model, error) {
	if err := c.use(); err != nil {
		return nil, err
	}
	defer c.done()
	// OpenVINO takes IR whose .bin is missing, and fails at some operation later.
	for _, file := range []string{path, bin} {
		if _, err := os.Stat(file); file != "" && err != nil {
			return nil, fmt.Errorf("openvino: read model: %w", err)
		}
	}
	files, err := cStrings(path, bin)
	if err != nil {
		return nil, err
	}
	if bin == "" {
		files[1] = nil
	}
	handle := new(capi.Model)
	if err := c.runtime.call("read model "+path, func(a *capi.API) capi.Status {
		return a.CoreReadModel(c.handle, files[0], files[1], handle)
	}); err != nil {
		return nil, err
	}
	m := &Model{handle: *handle, name: filepath.Join(filepath.Base(filepath.Dir(path)), filepath.Base(path))}
	m.init(c.runtime, "model", m.name, &c.object, func(d *domain) { d.api.ModelFree(m.handle) })
	if err := m.readPorts(); err != nil {
		return nil, errors.Join(err, m.Close())
	}
	return m, nil
}

// Compile compiles a model for a device ("CPU", "GPU.1", ...). properties are checked against those the
// device supports. The Model may be closed afterwards; the caller closes the CompiledModel.
func (c *Core) Compile(m *Model, device string, properties map[string]string) (*CompiledModel, error) {
	if err := c.use(); err != nil {
		return nil, err
	}
	defer c.done()
	if err := m.use(); err != nil {
		return nil, err
	}
	defer m.done()
	keys := make([]string, 0, len(properties))
	for key := range properties {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	if err := c.checkSupported(device, keys); err != nil {
		return nil, err
	}
	if len(keys) > capi.MaxCompileProperties {
		return nil, fmt.Errorf("openvino: compile takes at most %d properties, not %d: set the others on the core",
			capi.MaxCompileProperties, len(keys))
	}
	var pinner runtime.Pinner
	defer pinner.Unpin()
	arguments := new([2 * capi.MaxCompileProperties]uintptr)
	for i, key := range keys {
		pair, err := cStrings(key, properties[key])
		if err != nil {
			return nil, err
		}
		for j, s := range pair {
			pinner.Pin(s)
			arguments[2*i+j] = uintptr(unsafe.Pointer(s))
		}
	}
	name, err := cString(device)
	if err != nil {
		return nil, err
	}
	return c.compile(m, device, func(a *capi.API, handle *capi.CompiledModel) capi.Status {
		return a.CoreCompileModel(c.handle, m.handle, name, capi.Size(2*len(keys)), handle, arguments)
	})
}

func (c *Core) compile(m *Model, device string, call func(*capi.API, *capi.CompiledModel) capi.Status) (*CompiledModel, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return c.compiled("compile "+m.name+" for "+device, m.name, device, call)
}

// Import makes a compiled model of what Export wrote, on the same device and with the same release of OpenVINO:
// content that is damaged or of others may fail or crash. Its properties are those set on the Core. name is for
// messages. The weights stay in content, which must not change until release, if not nil, is called: when the
// compiled model and its requests are freed, or at once if Import fails. The caller closes the CompiledModel.
func (c *Core) Import(content []byte, release func(), name, device string) (*CompiledModel, error) {
	cm, err := c.importModel(content, name, device)
	keep := func() {
		runtime.KeepAlive(content)
		if release != nil {
			release()
		}
	}
	if err != nil {
		keep()
		return nil, err
	}
	cm.freed = keep
	return cm, nil
}

func (c *Core) importModel(content []byte, name, device string) (*CompiledModel, error) {
	if err := c.use(); err != nil {
		return nil, err
	}
	defer c.done()
	if len(content) == 0 {
		return nil, fmt.Errorf("openvino: import %s: it is empty", name)
	}
	on, err := cString(device)
	if err != nil {
		return nil, err
	}
	return c.compiled("import "+name+" for "+device, name, device, func(a *capi.API, handle *capi.CompiledModel) capi.Status {
		return a.CoreImportModel(c.handle, &content[0], capi.Size(len(content)), on, handle)
	})
}

// compiled wraps the compiled model that a call makes.
func (c *Core) compiled(op, name, device string, call func(*capi.API, *capi.CompiledModel) capi.Status) (*CompiledModel, error) {
	handle := new(capi.CompiledModel)
	if err := c.runtime.call(op, func(a *capi.API) capi.Status { return call(a, handle) }); err != nil {
		return nil, err
	}
	cm := &CompiledModel{handle: *handle, name: name, device: device}
	cm.init(c.runtime, "compiled model", name, &c.object, func(d *domain) { d.api.CompiledModelFree(cm.handle) })
	if err := cm.readPorts(); err != nil {
		return nil, errors.Join(err, cm.Close())
	}
	return cm, nil
}

// Property reads a property of a device; device "" reads one of the core itself.
func (c *Core) Property(device, key string) (string, error) {
	if err := c.use(); err != nil {
		return "", err
	}
	defer c.done()
	names, err := cStrings(device, key)
	if err != nil {
		return "", err
	}
	return c.runtime.text(fmt.Sprintf("get property %s of %q", key, device), func(a *capi.API, value **byte) capi.Status {
		return a.CoreGetProperty(c.handle, names[0], names[1], value)
	})
}

// text makes a call that returns a C string to be freed.
func (r *Runtime) text(op string, call func(*capi.API, **byte) capi.Status) (string, error) {
	var text string
	err := r.call(op, func(a *capi.API) capi.Status {
		value := new(*byte)
		code := call(a, value)
		if code == capi.OK {
			text = dynlib.GoString(*value)
			a.Free(*value)
		}
		return code
	})
	return text, err
}

// SetProperty sets a property of a device, or with device "" of the core, for all that is compiled
// afterwards. A key the device does not
// support is an error that lists those it does.
func (c *Core) SetProperty(device, key, value string) error {
	if err := c.use(); err != nil {
		return err
	}
	defer c.done()
	if err := c.checkSupported(device, []string{key}); err != nil {
		return err
	}
	names, err := cStrings(device, key, value)
	if err != nil {
		return err
	}
	return c.runtime.call(fmt.Sprintf("set property %s=%s of %q", key, value, device), func(a *capi.API) capi.Status {
		return a.CoreSetProperty(c.handle, names[0], names[1], names[2])
	})
}

// coreProperties are the core's own, good for every device; OpenVINO does not list them.
var coreProperties = []string{"CACHE_DIR", "ENABLE_MMAP", "FORCE_TBB_TERMINATE"}

// SupportedProperties returns the names of a device's properties, with the core's own, sorted; device
// "" gives the core's own alone.
func (c *Core) SupportedProperties(device string) ([]string, error) {
	if err := c.use(); err != nil {
		return nil, err
	}
	defer c.done()
	c.mu.Lock()
	names, ok := c.supported[device]
	c.mu.Unlock()
	if ok {
		return slices.Clone(names), nil
	}
	text := ""
	if device != "" {
		var err error
		if text, err = c.Property(device, "SUPPORTED_PROPERTIES"); err != nil {
			return nil, err
		}
	}
	names = parseProperties(text)
	c.mu.Lock()
	c.supported[device] = names
	c.mu.Unlock()
	return slices.Clone(names), nil
}

// parseProperties reads a list of names separated by blanks, each perhaps with its mutability after a
// colon, and adds the core's.
func parseProperties(text string) []string {
	names := append(strings.Fields(text), coreProperties...)
	for i, name := range names {
		names[i], _, _ = strings.Cut(name, ":")
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func (c *Core) checkSupported(device string, keys []string) error {
	if len(keys) == 0 {
		return nil
	}
	supported, err := c.SupportedProperties(device)
	if err != nil {
		return err
	}
	for _, key := range keys {
		if _, found := slices.BinarySearch(supported, key); !found {
			return fmt.Errorf("openvino: device %q has no property %q; it has %s", device, key, strings.Join(supported, ", "))
		}
	}
	return nil
}
