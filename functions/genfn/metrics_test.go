package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/rogpeppe/go-internal/testscript"
	"github.com/stretchr/testify/require"

	"genfn/bindings/checkout"
	"genfn/functions/controller"
	"genfn/functions/instance"
)

// lintMetrics passes a page of metrics, on which some must have samples, through promtool's linter:
// `lintmetrics URL NAME...`.
func lintMetrics(ts *testscript.TestScript, _ bool, args []string) {
	answer, err := http.Get(args[0]) //nolint:noctx // of a server that the script has started
	ts.Check(err)
	defer answer.Body.Close()
	page, err := io.ReadAll(answer.Body)
	ts.Check(err)
	for _, name := range args[1:] {
		if !bytes.Contains(page, []byte("\n"+name+"{")) {
			ts.Fatalf("%s has no sample", name)
		}
	}
	problems, err := promlint.New(bytes.NewReader(page)).Lint()
	ts.Check(err)
	for _, p := range problems {
		ts.Fatalf("%s: %s", p.Metric, p.Text)
	}
}

// definitions is a registry that only remembers what it is given.
type definitions struct{ rows []string }

var definition = regexp.MustCompile(`^Desc\{fqName: "([^"]+)", help: (".*"), constLabels: \{\}, variableLabels: \{([^}]*)\}\}$`)

func (d *definitions) Register(c prometheus.Collector) error {
	kind := "gauge"
	switch c.(type) {
	case *prometheus.CounterVec:
		kind = "counter"
	case *prometheus.HistogramVec:
		kind = "histogram"
	}
	all := make(chan *prometheus.Desc, 1)
	c.Describe(all)
	m := definition.FindStringSubmatch((<-all).String())
	if m == nil {
		return fmt.Errorf("%T has a description of an unknown form", c)
	}
	var help string
	if _, err := fmt.Sscanf(m[2], "%q", &help); err != nil {
		return err
	}
	d.rows = append(d.rows, fmt.Sprintf("| `%s` | %s | %s | %s |", m[1], kind, strings.ReplaceAll(m[3], ",", ", "), help))
	return nil
}

func (d *definitions) MustRegister(...prometheus.Collector) { panic("not used") }
func (d *definitions) Unregister(prometheus.Collector) bool { panic("not used") }

// TestMetricReference: deploy/METRICS.md lists the metrics that there are, and the alerts use no others. Each alert has a
// test.
func TestMetricReference(t *testing.T) {
	var d definitions
	_, err := instance.NewMetrics(&d)
	require.NoError(t, err)
	_, err = controller.NewMetrics(&d)
	require.NoError(t, err)
	page, err := os.ReadFile(checkout.Path(t, "deploy", "METRICS.md"))
	require.NoError(t, err)
	var rows []string
	for line := range strings.Lines(string(page)) {
		if strings.HasPrefix(line, "| `") {
			rows = append(rows, strings.TrimSuffix(line, "\n"))
		}
	}
	slices.Sort(rows)
	slices.Sort(d.rows)
	require.Equal(t, d.rows, rows, "the rows that deploy/METRICS.md should have:\n%s", strings.Join(d.rows, "\n"))

	alerts, err := os.ReadFile(checkout.Path(t, "deploy", "alerts", "genfn.yml"))
	require.NoError(t, err)
	used := regexp.MustCompile(`\bgenfn_[a-z_]+\b[^.]`).FindAllString(string(alerts), -1)
	require.NotEmpty(t, used)
	for _, name := range used {
		name = strings.TrimSuffix(name[:len(name)-1], "_bucket")
		require.Contains(t, string(page), "`"+name+"`", "an alert uses what is not measured")
	}
	tests, err := os.ReadFile(checkout.Path(t, "deploy", "alerts", "genfn_test.yml"))
	require.NoError(t, err)
	for _, m := range regexp.MustCompile(`- alert: (\w+)`).FindAllStringSubmatch(string(alerts), -1) {
		require.Contains(t, string(tests), "- alertname: "+m[1]+"\n", "a test in which it fires")
	}
}
