package capi

import (
	"fmt"
	"reflect"
	"strconv"
	"unsafe"

	"github.com/ebitengine/purego"

	"genfn/bindings/dynlib"
)

// Version of the API that is asked for, ORT_API_VERSION of the first release that has it (1.17). Newer releases have it too.
const Version = 17

// base is OrtApiBase.
type base struct {
	// const OrtApi* GetApi(uint32_t version);
	getAPI uintptr
	// const char* GetVersionString(void);
	getVersionString uintptr
}

// entry is the library's one symbol.
type entry struct {
	// const OrtApiBase* OrtGetApiBase(void);
	GetAPIBase uintptr `sym:"OrtGetApiBase"`
}

// Bind takes the table from a library and returns the version of the release.
func (a *API) Bind(library *dynlib.Library) (release string, err error) {
	var e entry
	if err := library.Bind(&e); err != nil {
		return "", err
	}
	r1, _, _ := purego.SyscallN(e.GetAPIBase)
	b := *(**base)(unsafe.Pointer(&r1))
	r1, _, _ = purego.SyscallN(b.getVersionString)
	release = dynlib.GoString(*(**byte)(unsafe.Pointer(&r1)))
	r1, _, _ = purego.SyscallN(b.getAPI, Version)
	if r1 == 0 {
		return release, fmt.Errorf("%s is release %s, expected one with version %d of the API (1.%d or later)", library.Path(), release, Version, Version)
	}
	return release, a.fill(*(*unsafe.Pointer)(unsafe.Pointer(&r1)))
}

// fill copies the addresses out of OrtApi, which is nothing but function pointers.
func (a *API) fill(functions unsafe.Pointer) error {
	table := reflect.ValueOf(&a.Table).Elem()
	for i := range table.NumField() {
		slot, err := strconv.ParseUint(table.Type().Field(i).Tag.Get("slot"), 10, 16)
		if err != nil {
			return fmt.Errorf("%s: %w", table.Type().Field(i).Name, err)
		}
		address := *(*uintptr)(unsafe.Add(functions, uintptr(slot)*unsafe.Sizeof(uintptr(0))))
		table.Field(i).SetUint(uint64(address))
	}
	return nil
}
