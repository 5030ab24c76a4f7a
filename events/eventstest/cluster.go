package eventstest

import (
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/require"
)

// Cluster is three NATS servers with replicated JetStream in the test process.
type Cluster struct {
	t       testing.TB
	folder  string // of the servers' files
	servers []*server.Server
}

// StartCluster runs three servers and returns when they can make replicated
// streams. They end with the test.
func StartCluster(t testing.TB) *Cluster {
	t.Helper()
	// The folder is made before the clean-up is registered: it must go after the servers have ended.
	c := &Cluster{t: t, folder: t.TempDir()}
	t.Cleanup(func() {
		for _, s := range c.servers {
			s.Shutdown()
		}
		for _, s := range c.servers {
			s.WaitForShutdown()
		}
	})
	const tries = 5
	for n := 1; !c.start(t); n++ { // another process took a port meanwhile
		require.Less(t, n, tries, "the servers of the cluster did not start")
	}
	require.Eventually(t, c.ready, time.Minute, 5*time.Millisecond, "the cluster did not come together")
	return c
}

// start starts three servers on ports that are free at the moment, and reports whether all of them run.
func (c *Cluster) start(t testing.TB) bool {
	t.Helper()
	c.servers = nil
	ports := freePorts(t, 3)
	var routes []*url.URL
	for _, port := range ports {
		routes = append(routes, &url.URL{Scheme: "nats", Host: fmt.Sprintf("127.0.0.1:%d", port)})
	}
	for i, port := range ports {
		s, err := server.NewServer(&server.Options{
			ServerName: fmt.Sprintf("n%d", i), Host: "127.0.0.1", Port: server.RANDOM_PORT,
			JetStream: true, StoreDir: filepath.Join(c.folder, strconv.Itoa(port)), NoLog: true, NoSigs: true,
			Cluster: server.ClusterOpts{Name: "test", Host: "127.0.0.1", Port: port},
			Routes:  routes,
		})
		require.NoError(t, err)
		s.Start()
		c.servers = append(c.servers, s)
	}
	for _, s := range c.servers {
		if !s.ReadyForConnections(startTimeout) {
			for _, s := range c.servers {
				s.Shutdown()
			}
			return false
		}
	}
	return true
}

func freePorts(t testing.TB, n int) []int {
	t.Helper()
	ports := make([]int, n)
	for i := range ports {
		l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
		require.NoError(t, err)
		defer l.Close() // all at the end, so that no port is given twice
		ports[i] = l.Addr().(*net.TCPAddr).Port
	}
	return ports
}

// ready reports whether one server leads and knows that all others are there.
func (c *Cluster) ready() bool {
	for _, s := range c.servers {
		if s.JetStreamIsLeader() {
			return len(s.JetStreamClusterPeers()) == len(c.servers)
		}
	}
	return false
}

// URL returns the addresses of all servers.
func (c *Cluster) URL() string {
	urls := make([]string, len(c.servers))
	for i, s := range c.servers {
		urls[i] = s.ClientURL()
	}
	return strings.Join(urls, ",")
}

// KillLeader shuts down the server that leads a stream.
func (c *Cluster) KillLeader(stream string) {
	c.t.Helper()
	for _, s := range c.servers {
		if s.JetStreamIsStreamLeader(server.DEFAULT_GLOBAL_ACCOUNT, stream) {
			s.Shutdown()
			s.WaitForShutdown()
			return
		}
	}
	require.FailNow(c.t, "no server leads the stream "+stream)
}
