// Command cgopeer makes the calls of `go run ./bench bindings` through cgo, as the peer of genfn's own bindings.
// The harness builds it with CGO_ENABLED=1 and runs it as a worker:
//
//	cgopeer KERNELS_LIBRARY OPENVINO_C_LIBRARY MODEL_XML
package main

import (
	"encoding/json"
	"fmt"
	"os"

	"genfn/bench/measure"
	"genfn/bench/worker"
)

// Request asks for a number of calls in a row.
type Request struct {
	Call string `json:"call"`
	N    int    `json:"n"`
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "cgopeer:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 3 {
		return fmt.Errorf("%d arguments, expected the kernels' library, OpenVINO's C library and a model", len(args))
	}
	calls, err := open(args[0], args[1], args[2])
	if err != nil {
		return err
	}
	return worker.Serve(os.Stdin, os.Stdout, worker.Answer{}, func(raw json.RawMessage) (map[string]float64, error) {
		var r Request
		if err := json.Unmarshal(raw, &r); err != nil {
			return nil, err
		}
		call := calls[r.Call]
		if call == nil {
			return nil, fmt.Errorf("unknown call %q", r.Call)
		}
		return measure.Calls(r.N, call)
	})
}
