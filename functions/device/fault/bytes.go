package fault

import (
	"math"
	"regexp"
	"strconv"
	"strings"
)

// The forms in which runtimes say how much memory was asked for (first group, with a unit where there is a second
// one) ...
var askedForms = []*regexp.Regexp{
	regexp.MustCompile(`(?i)\brequested (\d+) (bytes)\b`),                                        // OpenVINO: Exceeded max size of memory object allocation
	regexp.MustCompile(`(?i)\brequired (\d+) (bytes)\b`),                                         // OpenVINO: Exceeded max size of memory allocation
	regexp.MustCompile(`(?i)\bcan not allocate (\d+) (bytes)\b`),                                 // OpenVINO: unified shared memory
	regexp.MustCompile(`(?i)\btried to allocate (\d+(?:\.\d+)?) ?(bytes|[KMGT]i?B)\b`),           // PyTorch
	regexp.MustCompile(`(?i)\brequested buffer of size (\d+)()\b`),                               // ONNX Runtime
	regexp.MustCompile(`(?i)\brequested bytes of (\d+)()\b`),                                     // ONNX Runtime
	regexp.MustCompile(`(?i)\bcannot allocate (\d+)-(byte) block\b`),                             // Go
	regexp.MustCompile(`(?i)\ballocat(?:e|ing|ion of) (?:size )?(\d+(?:\.\d+)?) ?([KMGT]i?B)\b`), // several
}

// ... and the most that the device gives.
var limitForms = []*regexp.Regexp{
	regexp.MustCompile(`(?i)\bmax alloc size supported by device is (\d+) (bytes)\b`),                    // OpenVINO
	regexp.MustCompile(`(?i)\bavailable memory size is (\d+) (bytes)\b`),                                 // OpenVINO
	regexp.MustCompile(`(?i)\b(\d+(?:\.\d+)?) ?([KMGT]i?B) total capacity\b`),                            // PyTorch 1
	regexp.MustCompile(`(?i)\btotal capaci?ty of (\d+(?:\.\d+)?) ?([KMGT]i?B)\b`),                        // PyTorch 2 (some releases misspell it)
	regexp.MustCompile(`(?i)\bavailable memory of (\d+)() is smaller than requested bytes of (?:\d+)\b`), // ONNX Runtime
}

// bytesIn returns the first number of bytes in text that stands in one of forms; 0 if there is none, or it makes no
// sense.
func bytesIn(text string, forms []*regexp.Regexp) int64 {
	for _, form := range forms {
		if m := form.FindStringSubmatch(text); m != nil {
			return parseBytes(m[1], m[2])
		}
	}
	return 0
}

// parseBytes reads "264.00", "MiB". Runtimes write MB where they mean MiB, so both are taken for it.
func parseBytes(number, unit string) int64 {
	shift := 10 * (strings.IndexByte("KMGT", strings.ToUpper(unit + " ")[0]) + 1)
	if n, err := strconv.ParseInt(number, 10, 64); err == nil && n <= math.MaxInt64>>shift {
		return n << shift
	}
	f, err := strconv.ParseFloat(number, 64)
	f = math.Ldexp(f, shift)
	if err != nil || f < 1 || f >= math.MaxInt64 {
		return 0
	}
	return int64(f)
}

// sayBytes writes n bytes for people: "264 MiB", "26.7 GiB".
func sayBytes(n int64) string {
	units := []string{"bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"}
	f, i := float64(n), 0
	for f >= 1024 && i < len(units)-1 {
		f, i = f/1024, i+1
	}
	return strings.TrimSuffix(strconv.FormatFloat(f, 'f', 1, 64), ".0") + " " + units[i]
}
