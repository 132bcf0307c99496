//go:build unix

package interop

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"hash"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/interop/grpc_testing"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/sim"
	"github.com/goasyncio/asyncio/sim/simtest"
)

// A stack is a library that runs on goroutines, unmodified, in a simulation: a server on one host
// and clients on another.
type stack struct {
	serve func(ctx context.Context, ln net.Listener) // until ln is closed
	use   func(ctx context.Context, n *asyncio.Net, dial dialFunc) error

	// what is the same in two runs with the same seed: the trace, and besides it
	bytes bool // the bytes on the wire, and when they are sent,
	shape bool // or only how many they are
}

// stacks says of each what repeats. Of gRPC nothing does: runtime.Gosched in its writer puts it
// behind a queue at which the runtime looks after a number of steps that the process has made.
var stacks = map[string]stack{
	"go-redis":                  {serve: eachOn(serveStore), use: useRedis, bytes: true},
	"pgxpool":                   {serve: eachOn(servePostgresGoroutine), use: usePgxpool, shape: true},
	"database/sql, pgx":         {serve: eachOn(servePostgresGoroutine), use: useDatabaseSQL, shape: true},
	"net/http, HTTP/2 with TLS": {serve: serveHTTP2, use: useHTTP2, shape: true},
	"grpc-go":                   {serve: serveCalls, use: useGRPC},
}

// TestStacksInABubble: each stack works in a simulation, in every order, and two runs with the same
// seed are the same as far as the table says.
func TestStacksInABubble(t *testing.T) {
	seeds, runs := 3, 5
	if os.Getenv("ASYNCIO_EXPLORE") == "all" {
		seeds, runs = 10, 30
	}
	for name, s := range stacks {
		t.Run(name, func(t *testing.T) {
			runs := runs
			if s.bytes && seeds == 10 {
				runs = 100
			}
			shapes, bytes := 0, 0
			for seed := range uint64(seeds) {
				trace, first := s.run(t, seed)
				for range runs {
					again, tap := s.run(t, seed)
					if s.bytes || s.shape {
						if again != trace {
							t.Fatalf("seed %d: two traces differ:\n%s\n%s", seed, trace, again)
						}
					}
					if first.shape() != tap.shape() || again != trace {
						shapes++
					}
					if first.sum() != tap.sum() || again != trace {
						bytes++
					}
				}
			}
			t.Logf("of %d runs %d differ by shape and %d by bytes", seeds*runs, shapes, bytes)
			if s.bytes && bytes > 0 || s.shape && shapes > 0 {
				t.Error("they must not")
			}
			if s.bytes || s.shape {
				sim.Explore(t, s.main(new(wiretap)), simtest.Bubble(t), sim.Runs(10*runs))
			}
		})
	}
}

func (s stack) run(t *testing.T, seed uint64) (string, *wiretap) {
	t.Helper()
	tap := new(wiretap)
	trace, err := sim.Trace(s.main(tap), simtest.Bubble(t), sim.WithStrategy(sim.Random()), sim.Seed(seed))
	if err != nil {
		t.Fatalf("seed %d: %v", seed, err)
	}
	// The hash of the data is in the last line; the wiretap knows more about that.
	if at := strings.LastIndex(trace, ", data "); at >= 0 {
		trace = trace[:at]
	}
	return trace, tap
}

func (s stack) main(tap *wiretap) func(ctx context.Context) error {
	return func(ctx context.Context) error {
		tap.reset()
		server := sim.NewHost(ctx, "server", func(ctx context.Context) error {
			ln, err := asyncio.NetOf(ctx).Listen(ctx, "tcp", ":7000")
			if err != nil {
				return err
			}
			var served sync.WaitGroup
			served.Go(func() { s.serve(asyncio.Outside(ctx), ln) })
			//asynciovet:allow blocking the loop closes then, and the goroutines end by themselves
			defer served.Wait()
			defer ln.Close()
			_, err = asyncio.CreateFuture[asyncio.None](ctx).Await(ctx)
			return err
		})
		defer server.Kill()
		return sim.NewHost(ctx, "client", func(ctx context.Context) error {
			if err := asyncio.Sleep(ctx, time.Second); err != nil {
				return err
			}
			n := asyncio.NetOf(ctx)
			_, err := asyncio.ToThread(ctx, func(ctx context.Context) (asyncio.None, error) {
				return asyncio.None{}, s.use(ctx, n, tap.dial(n.DialContext))
			})
			return err
		}).Wait(ctx)
	}
}

// A wiretap notes what clients read and write.
type wiretap struct {
	mu           sync.Mutex
	whole, sizes hash.Hash
}

func (w *wiretap) reset() { w.whole, w.sizes = sha256.New(), sha256.New() }

func (w *wiretap) dial(inner dialFunc) dialFunc {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := inner(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return tapped{c, w}, nil
	}
}

func (w *wiretap) note(op string, p []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	fmt.Fprintf(w.whole, "%v %s %s\n", time.Now().UnixNano(), op, p)
	fmt.Fprintf(w.sizes, "%v %s %d\n", time.Now().UnixNano(), op, len(p))
}

func (w *wiretap) sum() string   { return string(w.whole.Sum(nil)) }
func (w *wiretap) shape() string { return string(w.sizes.Sum(nil)) }

type tapped struct {
	net.Conn
	tap *wiretap
}

func (c tapped) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.tap.note("read", p[:n])
	return n, err
}

func (c tapped) Write(p []byte) (int, error) {
	c.tap.note("write", p)
	return c.Conn.Write(p)
}

// eachOn serves each connection on a goroutine of its own.
func eachOn(serve func(c net.Conn) error) func(ctx context.Context, ln net.Listener) {
	return func(_ context.Context, ln net.Listener) {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_ = serve(c)
			}()
		}
	}
}

// together calls fn on three goroutines, which begin at different times.
func together(fn func(i int) error) error {
	var all sync.WaitGroup
	errs := make([]error, 3)
	for i := range errs {
		all.Go(func() {
			time.Sleep(time.Duration(i) * 137 * time.Microsecond)
			errs[i] = fn(i)
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

// serveStore is as much of Redis as the test needs.
func serveStore(c net.Conn) error {
	r := bufio.NewReader(c)
	values := make(map[string]int)
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return err
		}
		n, err := strconv.Atoi(strings.TrimSpace(line[1:]))
		if err != nil {
			return err
		}
		args := make([]string, n)
		for i := range args {
			if _, err := r.ReadString('\n'); err != nil {
				return err
			}
			if args[i], err = r.ReadString('\n'); err != nil {
				return err
			}
			args[i] = strings.TrimSpace(args[i])
		}
		answer := "-ERR unknown command\r\n"
		switch strings.ToLower(args[0]) {
		case "ping":
			answer = "+PONG\r\n"
		case "echo":
			answer = fmt.Sprintf("$%d\r\n%s\r\n", len(args[1]), args[1])
		case "incr":
			values[args[1]]++
			answer = fmt.Sprintf(":%d\r\n", values[args[1]])
		}
		time.Sleep(50 * time.Microsecond)
		if _, err := io.WriteString(c, answer); err != nil {
			return err
		}
	}
}

func useRedis(ctx context.Context, _ *asyncio.Net, dial dialFunc) error {
	rdb := redis.NewClient(&redis.Options{
		Addr: "server:7000", Dialer: dial, Protocol: 2, DisableIdentity: true, PoolSize: 2,
		// Its goroutines wait for a mutex, for which a bubble never comes to rest.
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
	defer rdb.Close()
	return together(func(i int) error {
		for j := range 5 {
			want := fmt.Sprint(i, " ", j)
			if got, err := rdb.Echo(ctx, want).Result(); got != want || err != nil {
				return fmt.Errorf("%q came back as %q, %w", want, got, err)
			}
		}
		return rdb.Incr(ctx, "n").Err()
	})
}

func servePostgresGoroutine(c net.Conn) error { return servePostgres(context.Background(), c) }

func pgConfig(n *asyncio.Net, dial dialFunc) (*pgxpool.Config, error) {
	config, err := pgxpool.ParseConfig("host=server port=7000 user=u dbname=d sslmode=disable pool_max_conns=2")
	if err != nil {
		return nil, err
	}
	config.ConnConfig.DialFunc, config.ConnConfig.LookupFunc = pgconn.DialFunc(dial), n.LookupHost
	config.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
	return config, nil
}

func usePgxpool(ctx context.Context, n *asyncio.Net, dial dialFunc) error {
	config, err := pgConfig(n, dial)
	if err != nil {
		return err
	}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return err
	}
	defer pool.Close()
	return together(func(int) error {
		for range 3 {
			var value string
			if err := pool.QueryRow(ctx, "select 'hello'").Scan(&value); value != "hello" || err != nil {
				return fmt.Errorf("got %q, %w", value, err)
			}
		}
		return nil
	})
}

func useDatabaseSQL(ctx context.Context, n *asyncio.Net, dial dialFunc) error {
	config, err := pgConfig(n, dial)
	if err != nil {
		return err
	}
	db := stdlib.OpenDB(*config.ConnConfig)
	defer db.Close()
	db.SetMaxOpenConns(2)
	return together(func(int) error {
		for range 3 {
			var value string
			if err := db.QueryRowContext(ctx, "select 'hello'").Scan(&value); value != "hello" || err != nil {
				return fmt.Errorf("got %q, %w", value, err)
			}
		}
		return nil
	})
}

// bubbleCertificate is for the host server; it is made outside of every bubble.
var bubbleCertificate = sync.OnceValues(func() (tls.Certificate, *x509.CertPool) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "server"}, DNSNames: []string{"server"},
		NotBefore: time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, private)
	if err != nil {
		panic(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(cert)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: private}, roots
})

func serveHTTP2(_ context.Context, ln net.Listener) {
	cert, _ := bubbleCertificate()
	s := &http.Server{
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{cert}},
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(time.Duration(len(r.URL.Path)) * 100 * time.Microsecond)
			fmt.Fprintf(w, "%s %s", r.Proto, strings.Repeat("x", 3000))
		}),
	}
	_ = s.ServeTLS(ln, "", "")
	_ = s.Close()
}

func useHTTP2(ctx context.Context, _ *asyncio.Net, dial dialFunc) error {
	_, roots := bubbleCertificate()
	tr := &http.Transport{DialContext: dial, ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{RootCAs: roots}}
	defer tr.CloseIdleConnections()
	hc := &http.Client{Transport: tr, Timeout: 10 * time.Second}
	return together(func(i int) error {
		for j := range 3 {
			got, err := getText(ctx, hc, "https://server:7000/"+strings.Repeat("a", 3*i+j))
			if err != nil || !strings.HasPrefix(got, "HTTP/2.0 ") {
				return fmt.Errorf("got %.20q, %w", got, err)
			}
		}
		return nil
	})
}

func serveCalls(_ context.Context, ln net.Listener) {
	gs := grpc.NewServer()
	grpc_testing.RegisterTestServiceServer(gs, &grpcService{})
	_ = gs.Serve(ln)
	gs.Stop()
}

func useGRPC(ctx context.Context, _ *asyncio.Net, dial dialFunc) error {
	cc, err := grpc.NewClient("passthrough:server:7000", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) { return dial(ctx, "tcp", address) }))
	if err != nil {
		return err
	}
	defer cc.Close()
	return together(func(i int) error {
		for j := range 3 {
			want := fmt.Sprint(i, " ", j)
			r, err := grpc_testing.NewTestServiceClient(cc).UnaryCall(ctx, &grpc_testing.SimpleRequest{Payload: &grpc_testing.Payload{Body: []byte(want)}})
			if err != nil || string(r.Payload.Body) != want {
				return fmt.Errorf("%q came back as %v, %w", want, r, err)
			}
		}
		return nil
	})
}
