//go:build unix

package interop

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/rpc"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"golang.org/x/crypto/ssh"
	"golang.org/x/net/http2"

	"github.com/goasyncio/asyncio"
)

// These variables make a process use one library on a connection of the loop.
const (
	libraryVariable  = "INTEROP_LIBRARY"
	postgresVariable = "INTEROP_POSTGRES"
)

// users are libraries that read and write on goroutines of their own. A task uses each as an
// application would, on a connection that asyncio.Dial returns.
var users = map[string]func(ctx context.Context) error{
	"net/rpc": func(ctx context.Context) error {
		if err := rpc.Register(new(Arithmetic)); err != nil {
			return err
		}
		address, err := serve(func(c net.Conn) { rpc.ServeConn(c) })
		if err != nil {
			return err
		}
		c, err := asyncio.Dial(ctx, "tcp", address)
		if err != nil {
			return err
		}
		var product int
		//asynciovet:allow blocking this is how it fails
		return rpc.NewClient(c).Call("Arithmetic.Multiply", &[2]int{6, 7}, &product)
	},
	"http.Transport": func(ctx context.Context) error {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello") }))
		c, err := asyncio.Dial(ctx, "tcp", server.Listener.Addr().String())
		if err != nil {
			return err
		}
		//asynciovet:allow blocking this is how it fails
		return get(server.URL, func(context.Context, string, string) (net.Conn, error) { return c, nil })
	},
	"http.Transport, which dials": func(ctx context.Context) error {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello") }))
		return get(server.URL, func(_ context.Context, network, address string) (net.Conn, error) {
			return asyncio.Dial(ctx, network, address)
		})
	},
	"http2": func(ctx context.Context) error {
		address, err := serve(func(c net.Conn) {
			new(http2.Server).ServeConn(c, &http2.ServeConnOpts{Handler: http.NotFoundHandler()})
		})
		if err != nil {
			return err
		}
		c, err := asyncio.Dial(ctx, "tcp", address)
		if err != nil {
			return err
		}
		client, err := (&http2.Transport{AllowHTTP: true}).NewClientConn(c)
		if err != nil {
			return err
		}
		request, err := http.NewRequest("GET", "http://"+address, nil)
		if err != nil {
			return err
		}
		response, err := client.RoundTrip(request)
		if err != nil {
			return err
		}
		return response.Body.Close()
	},
	"ssh": func(ctx context.Context) error {
		_, key, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			return err
		}
		signer, err := ssh.NewSignerFromKey(key)
		if err != nil {
			return err
		}
		config := &ssh.ServerConfig{NoClientAuth: true}
		config.AddHostKey(signer)
		address, err := serve(func(c net.Conn) {
			if _, channels, requests, err := ssh.NewServerConn(c, config); err == nil {
				go ssh.DiscardRequests(requests)
				for range channels {
				}
			}
		})
		if err != nil {
			return err
		}
		c, err := asyncio.Dial(ctx, "tcp", address)
		if err != nil {
			return err
		}
		_, _, _, err = ssh.NewClientConn(c, address, &ssh.ClientConfig{User: "test", HostKeyCallback: ssh.InsecureIgnoreHostKey()})
		return err
	},
	"pgx CopyFrom": func(ctx context.Context) error {
		pool, err := pgxpool.ParseConfig(os.Getenv(postgresVariable))
		if err != nil {
			return err
		}
		config := pool.ConnConfig
		config.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
			return asyncio.Dial(ctx, network, address)
		}
		c, err := pgx.ConnectConfig(ctx, config)
		if err != nil {
			return err
		}
		if _, err := c.Exec(ctx, "create temp table t (a int)"); err != nil {
			return err
		}
		_, err = c.CopyFrom(ctx, pgx.Identifier{"t"}, []string{"a"}, pgx.CopyFromRows([][]any{{1}, {2}}))
		return err
	},
	"nats.go": func(ctx context.Context) error {
		server, err := natsserver.NewServer(&natsserver.Options{Host: "127.0.0.1", Port: natsserver.RANDOM_PORT, NoSigs: true, NoLog: true})
		if err != nil {
			return err
		}
		server.Start()
		if !server.ReadyForConnections(10 * time.Second) {
			return errors.New("the server does not start")
		}
		nc, err := nats.Connect(server.ClientURL(), nats.SetCustomDialer(dialer(func(network, address string) (net.Conn, error) {
			return asyncio.Dial(ctx, network, address)
		})), nats.NoReconnect())
		if err != nil {
			return err
		}
		defer nc.Close()
		if _, err := nc.Request("nobody", nil, time.Second); err != nil && !errors.Is(err, nats.ErrTimeout) {
			if last := nc.LastError(); last != nil {
				return last
			}
			return err
		}
		return nc.LastError()
	},
}

// Arithmetic is the service behind net/rpc.
type Arithmetic struct{}

func (*Arithmetic) Multiply(factors *[2]int, product *int) error {
	*product = factors[0] * factors[1]
	return nil
}

type dialer func(network, address string) (net.Conn, error)

func (d dialer) Dial(network, address string) (net.Conn, error) { return d(network, address) }

// serve serves connections on goroutines.
func serve(each func(net.Conn)) (address string, err error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go each(c)
		}
	}()
	return ln.Addr().String(), nil
}

func get(url string, dial func(ctx context.Context, network, address string) (net.Conn, error)) error {
	client := http.Client{Transport: &http.Transport{DialContext: dial}}
	response, err := client.Get(url)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	_, err = io.ReadAll(response.Body)
	return err
}

// TestMain runs one of the users if the environment says so, and the tests otherwise.
func TestMain(m *testing.M) {
	name := os.Getenv(libraryVariable)
	if name == "" {
		os.Exit(m.Run())
	}
	_, err := asyncio.Run(context.Background(), asyncio.Do(users[name]), asyncio.DebugMode(false))
	fmt.Println(err)
}

// TestGoroutinesOfOthers: a library that uses a connection of the loop on goroutines of its own is
// told so, every time. The report is in the error, or in the log, because some libraries return
// errors of their own instead. Each attempt has a process of its own, because a mistake here would
// end the process.
func TestGoroutinesOfOthers(t *testing.T) {
	url := startPostgres(t)
	for name := range users {
		t.Run(name, func(t *testing.T) {
			for range 20 {
				ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
				cmd := exec.CommandContext(ctx, os.Args[0])
				cmd.Env = append(os.Environ(), libraryVariable+"="+name, postgresVariable+"="+url)
				out, err := cmd.CombinedOutput()
				cancel()
				if err != nil || !strings.Contains(string(out), asyncio.ErrForeignGoroutine.Error()) {
					t.Fatalf("%v\n%s", err, out)
				}
			}
		})
	}
}
