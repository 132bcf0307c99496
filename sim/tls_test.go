package sim_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	crand "crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"testing"
	"testing/cryptotest"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/sim"
)

// Where the network has bandwidth, the length of a signature shows in the time. TLS draws from
// crypto/rand, so it takes a seed for that too.
func TestTLS_IsReproducible(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), crand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"server"}, NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1<<33, 0)}
	cert, err := x509.CreateCertificate(crand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	config := &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{cert}, PrivateKey: key}}}
	echo := func(ctx context.Context) error {
		s, err := asyncio.StartServer(ctx, func(ctx context.Context, r *asyncio.StreamReader, w *asyncio.StreamWriter) error {
			line, err := r.ReadLine(ctx)
			if err != nil {
				return err
			}
			_, err = w.Write(ctx, line)
			return err
		}, ":1", asyncio.StreamTLS(config))
		if err != nil {
			return err
		}
		return s.Serve(ctx)
	}
	main := func(ctx context.Context) error {
		sim.NetworkOf(ctx).SetLink(sim.Link{MinLatency: time.Millisecond, Bandwidth: 1 << 20})
		sim.NewHost(ctx, "server", echo)
		if err := asyncio.Sleep(ctx, time.Second); err != nil {
			return err
		}
		r, w, err := asyncio.OpenConnection(ctx, "server:1", asyncio.StreamTLS(&tls.Config{InsecureSkipVerify: true, ServerName: "server"}))
		if err != nil {
			return err
		}
		if _, err := w.Write(ctx, []byte("hello\n")); err != nil {
			return err
		}
		if line, err := r.ReadLine(ctx); err != nil || string(line) != "hello\n" {
			return fmt.Errorf("%q: %w", line, err)
		}
		return w.Close(ctx)
	}
	const explorations = 20
	differ := func(main func(ctx context.Context) error) (n int) {
		for range explorations {
			f := sim.Check(main, sim.Runs(2)).Failure
			if f != nil && !errors.Is(f, sim.ErrNotDeterministic) {
				t.Fatal(f)
			}
			if f != nil {
				n++
			}
		}
		return n
	}
	if n := differ(main); n == 0 {
		t.Error("without a seed for crypto/rand all runs are alike, so this test shows nothing")
	}
	if n := differ(func(ctx context.Context) error {
		cryptotest.SetGlobalRandom(t, asyncio.Rand(ctx).Uint64())
		return main(ctx)
	}); n > 0 {
		t.Errorf("%d of %d explorations differ", n, explorations)
	}
}
