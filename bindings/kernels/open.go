package kernels

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"unsafe"

	"github.com/ebitengine/purego"

	"genfn/bindings/dynlib"
)

// The folder always holds a README, so that this compiles before the library was built.
//
//go:embed lib
var embedded embed.FS

const libraryName = "libgenfn_kernels.so"

// Open loads the C library that is embedded in this binary, after unpacking it to cacheDir (created if it does not
// exist) under a name that contains its checksum. A file that is already there is used if its SHA-256 is right and
// replaced if it is not; any number of processes may do this at once. The error is ErrNotBuilt if the binary was
// built without the library; callers then use Reference.
//
// The library stays loaded until the process ends.
func Open(cacheDir string) (*Set, error) {
	data, err := embedded.ReadFile("lib/" + libraryName)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNotBuilt
	} else if err != nil {
		return nil, fmt.Errorf("kernels: embedded library: %w", err)
	}
	digest := sha256.Sum256(data)
	path, err := unpack(cacheDir, data, digest)
	if err != nil {
		return nil, err
	}
	native, isa, err := load(path)
	if err != nil {
		return nil, err
	}
	return &Set{info: Info{Backend: "native", Path: path, SHA256: hex.EncodeToString(digest[:]), ISA: isa}, native: native}, nil
}

// unpack returns the path of a file in dir with exactly these bytes.
func unpack(dir string, data []byte, digest [sha256.Size]byte) (string, error) {
	if dir == "" {
		return "", errors.New("kernels: no cache folder given to unpack the C library to")
	}
	dir, err := filepath.Abs(dir) // the loader looks a name without a slash up elsewhere
	if err != nil {
		return "", fmt.Errorf("kernels: cache folder: %w", err)
	}
	path := filepath.Join(dir, fmt.Sprintf("libgenfn_kernels-%x.so", digest[:8]))
	if found, err := os.ReadFile(path); err == nil && sha256.Sum256(found) == digest {
		return path, nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("kernels: cache folder: %w", err)
	}
	if err := writeFile(path, data); err != nil {
		return "", fmt.Errorf("kernels: unpacking the C library: %w", err)
	}
	return path, nil
}

// writeFile puts a file of mode 0500 at path in one step, whatever is there.
func writeFile(path string, data []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".libgenfn_kernels-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	_, err = f.Write(data)
	err = errors.Join(err, f.Chmod(0o500), f.Close())
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// load opens a library and makes sure that both sides mean the same by its functions and structs.
func load(path string) (_ *library, isa string, err error) {
	handle, err := dynlib.Open("genfn's C kernels", []string{path})
	if notFound := (*dynlib.NotFoundError)(nil); errors.As(err, &notFound) {
		notFound.Remedy = "if the folder is mounted noexec, choose another cache folder"
	}
	if err != nil {
		return nil, "", fmt.Errorf("kernels: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, handle.Close())
		}
	}()
	l := new(library)
	if err := handle.Bind(&l.table); err != nil {
		return nil, "", fmt.Errorf("kernels: %w", err)
	}
	if abi, _, _ := purego.SyscallN(l.table.ABI); uint32(abi) != abiVersion {
		return nil, "", fmt.Errorf("kernels: %s has ABI %d, expected %d: run `make native build`", path, uint32(abi), abiVersion)
	}
	isa, err = l.describe(path)
	return l, isa, err
}

func (l *library) describe(path string) (isa string, err error) {
	d := new(description)
	purego.SyscallN(l.table.Describe, uintptr(unsafe.Pointer(d)))
	expected := description{
		step:  uint32(unsafe.Sizeof(stepArgs[unsafe.Pointer]{})),
		scale: uint32(unsafe.Sizeof(scaleArgs[unsafe.Pointer]{})),
		image: uint32(unsafe.Sizeof(imageArgs[unsafe.Pointer]{})),
		count: uint32(unsafe.Sizeof(countArgs[unsafe.Pointer]{})),
		blend: uint32(unsafe.Sizeof(blendArgs{})),
		fill:  uint32(unsafe.Sizeof(fillArgs{})),
		torch: uint32(unsafe.Sizeof(torchState{})),
		std:   uint32(unsafe.Sizeof(stdState{})),

		convert:          uint32(unsafe.Sizeof(convertArgs[unsafe.Pointer]{})),
		mix:              uint32(unsafe.Sizeof(mixArgs[unsafe.Pointer]{})),
		composite:        uint32(unsafe.Sizeof(compositeArgs[unsafe.Pointer]{})),
		resample:         uint32(unsafe.Sizeof(resampleArgs[unsafe.Pointer]{})),
		difference:       uint32(unsafe.Sizeof(differenceArgs[unsafe.Pointer]{})),
		differenceResult: uint32(unsafe.Sizeof(difference{})),
		philox:           uint32(unsafe.Sizeof(philoxArgs[unsafe.Pointer]{})),

		isa: d.isa,
	}
	if *d != expected {
		return "", fmt.Errorf("kernels: %s has structs of %v bytes, expected %v: run `make native build`", path, *d, expected)
	}
	names := [...]string{"baseline", "avx2"}
	if int(d.isa) >= len(names) {
		return "", fmt.Errorf("kernels: %s names instruction set %d, expected less than %d", path, d.isa, len(names))
	}
	return names[d.isa], nil
}
