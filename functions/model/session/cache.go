package session

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"genfn/bindings/openvino"
	"genfn/bindings/tensor"
	"genfn/functions/model"
)

// cache keeps compiled networks, and what is known of network files, on disk. OpenVINO's own cache (CACHE_DIR) needs
// the network read, reshaped and hashed before it can look, and fills itself while the request waits.
//
// Measured with OpenVINO 2026.4.1 on two cores, CPU milliseconds of read, reshape and compile: the demo model's UNet
// 763, with CACHE_DIR 405, imported from here 371; its tokenizer 60 and, imported, 13. The weights of an imported
// network stay in the mapped file.
//
// A file of the cache ends in a seal: a checksum of the content and the key that it was written under. One without
// the right seal is as good as none.
type cache struct{ dir string }

// seal is the trailer of a file: magic, length and CRC-32C of the content, 12 bytes of zeros, key.
const (
	sealMagic = "genfnnet"
	keyLength = 32
	sealBytes = 32 + keyLength
)

// unused is how long a file stays that nobody opens.
const unused = 30 * 24 * time.Hour

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// cacheKey is the name for what depends on exactly these words.
func cacheKey(words ...string) string {
	digest := sha256.Sum256([]byte(strings.Join(words, "\x00")))
	return hex.EncodeToString(digest[:keyLength/2])
}

// folderStamp tells whether a file in the folder of a network has changed: the network may lie in several.
func folderStamp(dir string) string {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err.Error()
	}
	var b strings.Builder
	for _, entry := range entries {
		var st unix.Stat_t
		if err := unix.Stat(filepath.Join(dir, entry.Name()), &st); err != nil {
			fmt.Fprintf(&b, "%s %v;", entry.Name(), err)
			continue
		}
		// A copy that keeps the time of modification has another inode and time of change.
		fmt.Fprintf(&b, "%s %d %d %d %d;", entry.Name(), st.Ino, st.Size, st.Mtim.Nano(), st.Ctim.Nano())
	}
	return b.String()
}

func (c *cache) path(key string) string { return filepath.Join(c.dir, key) }

func (c *cache) has(key string) bool {
	_, err := os.Stat(c.path(key))
	return err == nil
}

// open maps the content that was written under key; nil if there is none. release unmaps it.
func (c *cache) open(key string) (content []byte, release func()) {
	f, err := os.Open(c.path(key))
	if err != nil {
		return nil, nil
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil || st.Size() <= sealBytes {
		return nil, nil
	}
	mapped, err := unix.Mmap(int(f.Fd()), 0, int(st.Size()), unix.PROT_READ, unix.MAP_PRIVATE|unix.MAP_POPULATE)
	if err != nil {
		return nil, nil
	}
	content = mapped[:len(mapped)-sealBytes]
	if !slices.Equal(sealOf(content, key), mapped[len(content):]) {
		_ = unix.Munmap(mapped)
		return nil, nil
	}
	if now := time.Now(); now.Sub(st.ModTime()) > unused/10 {
		_ = os.Chtimes(c.path(key), now, now)
	}
	return content, func() { _ = unix.Munmap(mapped) }
}

func sealOf(content []byte, key string) []byte {
	seal := make([]byte, 0, sealBytes)
	seal = append(seal, sealMagic...)
	seal = binary.LittleEndian.AppendUint64(seal, uint64(len(content)))
	seal = binary.LittleEndian.AppendUint32(seal, crc32.Checksum(content, castagnoli))
	seal = append(seal, make([]byte, 12)...)
	return append(seal, key...)
}

// write has fill write the content to a file and keeps it under key.
func (c *cache) write(key string, fill func(path string) error) error {
	if err := os.MkdirAll(c.dir, 0o755); err != nil {
		return err
	}
	c.sweep()
	temporary, err := os.CreateTemp(c.dir, "new-*")
	if err != nil {
		return err
	}
	err = errors.Join(temporary.Close(), fill(temporary.Name()))
	if err == nil {
		err = addSeal(temporary.Name(), key)
	}
	if err == nil {
		err = os.Rename(temporary.Name(), c.path(key))
	}
	if err != nil {
		return errors.Join(err, os.Remove(temporary.Name()))
	}
	return nil
}

func addSeal(path, key string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	content, err := unix.Mmap(int(f.Fd()), 0, int(st.Size()), unix.PROT_READ, unix.MAP_PRIVATE)
	if err != nil {
		return err
	}
	seal := sealOf(content, key)
	_, err = f.Write(seal)
	return errors.Join(err, unix.Munmap(content), f.Close())
}

// sweep removes what has not been used for long, and what a process that died left half written.
func (c *cache) sweep() {
	entries, err := os.ReadDir(c.dir)
	if err != nil {
		return
	}
	for _, entry := range entries {
		info, err := entry.Info()
		if err != nil {
			continue
		}
		age := time.Since(info.ModTime())
		if age > unused || age > time.Hour && strings.HasPrefix(entry.Name(), "new-") {
			_ = os.Remove(c.path(entry.Name()))
		}
	}
}

func (c *cache) remove(key string) error {
	err := os.Remove(c.path(key))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// ports are the inputs and outputs of a network as its file declares them.
type ports struct{ Inputs, Outputs []tensor.Port }

// portsKey names what is known of a network's file.
func (l *Loader) portsKey(c model.Component) string {
	return cacheKey("ports", c.Path, folderStamp(filepath.Dir(c.Path)), l.runtime.Version())
}

// knownPorts returns the ports of a network that was read before and is the same still.
func (l *Loader) knownPorts(c model.Component) (known ports, ok bool) {
	if l.cache == nil {
		return known, false
	}
	content, release := l.cache.open(l.portsKey(c))
	if content == nil {
		return known, false
	}
	defer release()
	return known, json.Unmarshal(content, &known) == nil && len(known.Inputs) > 0
}

func (l *Loader) rememberPorts(c model.Component, known ports) {
	if l.cache == nil {
		return
	}
	data, err := json.Marshal(known)
	if err == nil {
		err = l.cache.write(l.portsKey(c), func(path string) error { return os.WriteFile(path, data, 0o600) })
	}
	if err != nil {
		l.options.Logger.Warn("the cache of compiled networks cannot be written", "error", err)
	}
}

// compiledKey names a compiled form: of other files, shapes, releases, processors or properties it is another.
// "": it is not kept.
func (l *Loader) compiledKey(on *core, c model.Component, shapes string) string {
	if l.cache == nil || on.device != "CPU" {
		return "" // the plugins of other devices keep more than the network in OpenVINO's cache
	}
	identity, err := on.identity()
	if err != nil {
		return ""
	}
	return cacheKey("compiled", c.Path, folderStamp(filepath.Dir(c.Path)), shapes, l.runtime.Version(), identity)
}

// imported returns the compiled form that is kept under key; nil if there is none. Its import is noted in the
// journal, so that one that ends the process is not tried again.
func (l *Loader) imported(on *core, c model.Component, shapes, key string) *openvino.CompiledModel {
	if key == "" {
		return nil
	}
	l.compiling.RLock()
	defer l.compiling.RUnlock()
	content, release := l.cache.open(key)
	if content == nil {
		return nil
	}
	refuse := func(why any) *openvino.CompiledModel {
		l.options.Logger.Warn("a compiled network of the cache cannot be used", "component", c.Name, "shapes", shapes, "cause", why)
		if err := l.cache.remove(key); err != nil {
			l.options.Logger.Warn("the cache of compiled networks cannot be written", "error", err)
		}
		return nil
	}
	if why, suspected := l.journal.bad(key); why != "" || suspected {
		release()
		return refuse("its import ended the process")
	}
	mark, err := l.journal.begin(key, entry{Component: c.Path, Shapes: shapes, Device: on.device, OpenVINO: l.runtime.Version()}, false)
	if err != nil {
		release()
		return nil
	}
	native, err := on.get()
	if err != nil {
		release()
		return refuse(errors.Join(err, mark.end()))
	}
	compiled, err := native.Import(content, release, c.Name, on.device)
	if err := errors.Join(err, mark.end()); err != nil {
		if compiled != nil {
			err = errors.Join(err, compiled.Close())
		}
		return refuse(err)
	}
	return compiled
}

// keep writes a compiled form to the cache under key, "" for not. An export or import that ended a process is not
// tried again.
func (l *Loader) keep(key string, c model.Component, compiled *openvino.CompiledModel) {
	if key == "" {
		return
	}
	if why, suspected := l.journal.bad(key); why != "" || suspected {
		return
	}
	mark, err := l.journal.begin(key, entry{Component: c.Path, Device: "export", OpenVINO: l.runtime.Version()}, false)
	if err == nil {
		err = errors.Join(l.cache.write(key, compiled.Export), mark.end())
	}
	if err != nil {
		l.options.Logger.Warn("a compiled network cannot be kept", "component", c.Name, "error", err)
	}
}
