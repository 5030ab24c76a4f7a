package chaos

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// NodeConfig is a server of NATS in a process of its own.
type NodeConfig struct {
	Name        string   `json:"name"`
	Port        int      `json:"port"`
	StoreDir    string   `json:"store_dir"`
	Log         string   `json:"log"`          // file
	ClusterPort int      `json:"cluster_port"` // 0: no cluster
	Routes      []string `json:"routes"`       // host:port of the ways to the others
}

// nowhere is the address at which nodes tell each other that they can be reached: the only ways between them are the
// proxies of their routes.
const nowhere = "127.0.0.1:1"

// storeBytes is what a node lets its streams reserve. It is more than a small disk has: that one is to become full.
const storeBytes = 16 << 30

func (c NodeConfig) options() *server.Options {
	o := &server.Options{
		ServerName: c.Name, Host: "127.0.0.1", Port: c.Port,
		JetStream: true, StoreDir: c.StoreDir, JetStreamMaxStore: storeBytes, SyncAlways: true, NoSigs: true, LogFile: c.Log, Logtime: true,
		NoSublistCache: true, LameDuckDuration: 2 * time.Second, LameDuckGracePeriod: 100 * time.Millisecond,
	}
	if c.ClusterPort == 0 {
		return o
	}
	o.Cluster = server.ClusterOpts{Name: "chaos", Host: "127.0.0.1", Port: c.ClusterPort, Advertise: nowhere, NoAdvertise: true, PoolSize: -1}
	for _, route := range c.Routes {
		o.Routes = append(o.Routes, &url.URL{Scheme: "nats", Host: route})
	}
	return o
}

// RunNode runs a server with the settings of `genfn up`, every write synced, until ctx ends. It writes a line to ready
// when the server takes requests and, in a cluster, knows what the others have stored.
func RunNode(ctx context.Context, config string, ready io.Writer) error {
	var c NodeConfig
	if err := json.Unmarshal([]byte(config), &c); err != nil {
		return fmt.Errorf("node: expected a NodeConfig as JSON: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(c.Log), 0o755); err != nil {
		return err
	}
	s, err := server.NewServer(c.options())
	if err != nil {
		return err
	}
	s.ConfigureLogger()
	s.Start()
	defer func() {
		s.Shutdown()
		s.WaitForShutdown()
	}()
	if !s.ReadyForConnections(setUpTime) {
		return errors.New("node: it takes no connections")
	}
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for s.Healthz(nil).StatusCode != http.StatusOK {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
	}
	fmt.Fprintln(ready, "ready")
	<-ctx.Done()
	return nil
}
