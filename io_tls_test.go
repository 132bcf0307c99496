package asyncio_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"math/big"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
)

// authority signs certificates for tests.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	must(t, err)
	a := &authority{key: key, pool: x509.NewCertPool()}
	a.cert, err = x509.ParseCertificate(der)
	must(t, err)
	a.pool.AddCert(a.cert)
	return a
}

// sign returns a certificate for name, which may be an address.
func (a *authority) sign(t *testing.T, name string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if ip := net.ParseIP(name); ip != nil {
		template.IPAddresses = []net.IP{ip}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	must(t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// configs returns configurations of a client and a server that trust each other.
func configs(t *testing.T) (client, server *tls.Config) {
	t.Helper()
	a := newAuthority(t)
	client = &tls.Config{RootCAs: a.pool, ServerName: "localhost"}
	server = &tls.Config{Certificates: []tls.Certificate{a.sign(t, "localhost")}}
	return client, server
}

// connectTLS returns the two ends of a connection with TLS.
func connectTLS(t *testing.T, ctx context.Context, clientConfig, serverConfig *tls.Config) (client, server *asyncio.TLSConn) {
	t.Helper()
	c, s := connect(t, ctx)
	other := asyncio.CreateTask(ctx, func(ctx context.Context) (*asyncio.TLSConn, error) { return asyncio.TLSServer(ctx, s, serverConfig) })
	client, err := asyncio.TLSClient(ctx, c, clientConfig)
	if err != nil {
		t.Fatal(err)
	}
	if server, err = other.Await(ctx); err != nil {
		t.Fatal(err)
	}
	return client, server
}

// Data goes both ways at once. Each side has a reader and a writer that suspend in between. Then
// one side half-closes.
func TestTLS_BothDirections(t *testing.T) {
	clientConfig, serverConfig := configs(t)
	onSockets(t, func(t *testing.T, ctx context.Context) error {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			cc := clientConfig.Clone()
			cc.MinVersion, cc.MaxVersion = version, version
			client, server := connectTLS(t, ctx, cc, serverConfig)
			if v := server.ConnectionState().Version; v != version {
				t.Errorf("version %x, want %x", v, version)
			}
			want := pattern(2 << 20)
			var all []*asyncio.Task[asyncio.None]
			for _, c := range []*asyncio.TLSConn{client, server} {
				all = append(all, start(ctx, func(ctx context.Context) error {
					if n, err := c.Write(want); n != len(want) || err != nil {
						t.Errorf("Write = %d, %v", n, err)
					}
					return c.CloseWrite()
				}), start(ctx, func(ctx context.Context) error {
					got, err := io.ReadAll(c)
					if !bytes.Equal(got, want) || err != nil {
						t.Errorf("%x: read %d bytes, %v", version, len(got), err)
					}
					return nil
				}))
			}
			if _, err := asyncio.Gather(ctx, all...); err != nil {
				return err
			}
			if err := errors.Join(client.Close(), server.Close(), client.Close()); err != nil {
				t.Error(err)
			}
		}
		return nil
	})
}

// Readers are cancelled at any moment. Nothing is lost, and TLS goes on as before (tls 5).
func TestTLS_CancelledReadLosesNothing(t *testing.T) {
	clientConfig, serverConfig := configs(t)
	onSockets(t, func(t *testing.T, ctx context.Context) error {
		client, server := connectTLS(t, ctx, clientConfig, serverConfig)
		defer server.Close()
		want := pattern(200_000)
		writer := start(ctx, func(ctx context.Context) error {
			for at := 0; at < len(want); {
				n := min(1+at%9700, len(want)-at)
				if _, err := client.Write(want[at : at+n]); err != nil {
					return err
				}
				at += n
				if err := asyncio.Sleep(ctx, 0); err != nil {
					return err
				}
			}
			return client.Close()
		})
		var got []byte
		cancels := 0
		for i := 0; ; i++ {
			buf := make([]byte, 1+i*37%5000)
			reader := asyncio.CreateTask(ctx, func(ctx context.Context) (int, error) { return server.Read(buf) })
			for range i % 3 {
				if err := asyncio.Sleep(ctx, 0); err != nil {
					return err
				}
			}
			if i%2 == 0 {
				reader.Cancel()
			}
			n, err := reader.Await(ctx)
			if errors.Is(err, asyncio.ErrCancelled) {
				cancels++
				continue
			}
			got = append(got, buf[:n]...)
			if err == io.EOF {
				break
			} else if err != nil {
				return err
			}
		}
		if !bytes.Equal(got, want) || cancels == 0 {
			t.Errorf("%d bytes came of %d, or others; %d cancels", len(got), len(want), cancels)
		}
		return ended(ctx, writer)
	})
}

// The bytes that a cancelled Write counts as written arrive whole, with the next bytes written.
func TestTLS_CancelledWrite(t *testing.T) {
	clientConfig, serverConfig := configs(t)
	onSockets(t, func(t *testing.T, ctx context.Context) error {
		client, server := connectTLS(t, ctx, clientConfig, serverConfig)
		defer server.Close()
		want := pattern(64 << 20)
		var written int
		writer := start(ctx, func(ctx context.Context) (err error) {
			written, err = client.Write(want)
			return err
		})
		if err := stuck(ctx, client.NetConn()); err != nil {
			return err
		}
		if _, err := client.Write([]byte("x")); !errors.Is(err, asyncio.ErrBusy) {
			t.Errorf("a second Write: %v", err)
		}
		writer.Cancel()
		if err := ended(ctx, writer); !errors.Is(err, asyncio.ErrCancelled) || written == 0 || written == len(want) {
			t.Errorf("Write = %d, %v", written, err)
		}
		reader := asyncio.CreateTask(ctx, func(ctx context.Context) ([]byte, error) { return io.ReadAll(server) })
		if _, err := client.Write([]byte("the rest")); err != nil {
			return err
		}
		if err := client.Close(); err != nil {
			return err
		}
		got, err := reader.Await(ctx)
		if !bytes.Equal(got, append(want[:written:written], "the rest"...)) || err != nil {
			t.Errorf("%d bytes came, %v; want %d and the rest", len(got), err, written)
		}
		return nil
	})
}

func TestTLS_Negotiation(t *testing.T) {
	a := newAuthority(t)
	clientConfig := &tls.Config{RootCAs: a.pool, ServerName: "localhost", NextProtos: []string{"spdy/9", "chat/1"}}
	serverConfig := &tls.Config{
		Certificates: []tls.Certificate{a.sign(t, "localhost")}, NextProtos: []string{"chat/1"},
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: a.pool,
	}
	onSockets(t, func(t *testing.T, ctx context.Context) error {
		cc := clientConfig.Clone()
		cc.Certificates = []tls.Certificate{a.sign(t, "the client")}
		client, server := connectTLS(t, ctx, cc, serverConfig)
		if p := client.ConnectionState().NegotiatedProtocol; p != "chat/1" {
			t.Errorf("protocol %q", p)
		}
		if certs := server.ConnectionState().PeerCertificates; len(certs) != 1 || certs[0].Subject.CommonName != "the client" {
			t.Errorf("certificates of the client: %v", certs)
		}
		if err := errors.Join(client.Close(), server.Close()); err != nil {
			t.Error(err)
		}

		for name, broken := range map[string]*tls.Config{
			"no client certificate": clientConfig,
			"unknown authority":     {ServerName: "localhost", Certificates: cc.Certificates},
			"other name":            {RootCAs: a.pool, ServerName: "example.org", Certificates: cc.Certificates},
			"no common protocol":    {RootCAs: a.pool, ServerName: "localhost", NextProtos: []string{"spdy/9"}, Certificates: cc.Certificates},
		} {
			c, s := connect(t, ctx)
			served := start(ctx, func(ctx context.Context) error {
				s, err := asyncio.TLSServer(ctx, s, serverConfig)
				if err == nil {
					_, err = s.Read(make([]byte, 1)) // TLS 1.3 reports it here
					s.Close()
				}
				return err
			})
			client, err := asyncio.TLSClient(ctx, c, broken)
			if err == nil {
				_, err = client.Read(make([]byte, 1))
				client.Close()
			}
			if other := ended(ctx, served); err == nil || other == nil {
				t.Errorf("%s: client %v, server %v", name, err, other)
			}
			if _, err := c.Write(nil); !errors.Is(err, net.ErrClosed) {
				t.Errorf("%s: the connection was left open: %v", name, err)
			}
		}
		return nil
	})
}

// The handshake fails if the peer says nothing, sends nonsense, or goes away.
func TestTLS_HandshakeFails(t *testing.T) {
	clientConfig, serverConfig := configs(t)
	onSockets(t, func(t *testing.T, ctx context.Context) error {
		for name, start := range map[string]func(context.Context, *asyncio.Conn) (*asyncio.TLSConn, error){
			"client": func(ctx context.Context, c *asyncio.Conn) (*asyncio.TLSConn, error) {
				return asyncio.TLSClient(ctx, c, clientConfig)
			},
			"server": func(ctx context.Context, c *asyncio.Conn) (*asyncio.TLSConn, error) {
				return asyncio.TLSServer(ctx, c, serverConfig)
			},
		} {
			// The peer is silent until the time is up, by a context or a timeout, or until a
			// cancel.
			c, s := connect(t, ctx)
			limited, cancel := asyncio.WithTimeout(ctx, time.Millisecond)
			if _, err := start(limited, c); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s: %v", name, err)
			}
			cancel()
			if _, err := c.Read(nil); !errors.Is(err, net.ErrClosed) {
				t.Errorf("%s: the connection was left open: %v", name, err)
			}
			s.Close()

			c, s = connect(t, ctx)
			handshake := asyncio.CreateTask(ctx, func(ctx context.Context) (*asyncio.TLSConn, error) { return start(ctx, c) })
			settle(t, ctx)
			handshake.Cancel()
			if _, err := handshake.Await(ctx); !errors.Is(err, asyncio.ErrCancelled) {
				t.Errorf("%s: %v", name, err)
			}
			s.Close()

			c, s = connect(t, ctx)
			if _, err := s.Write([]byte("220 this is not TLS\r\n")); err != nil {
				return err
			}
			var record tls.RecordHeaderError
			if _, err := start(ctx, c); !errors.As(err, &record) {
				t.Errorf("%s: %v", name, err)
			}
			if name == "server" { // which can answer
				if record.Conn != c {
					t.Errorf("the connection of the error is %v", record.Conn)
				}
				if _, err := c.Write([]byte("speak TLS")); err != nil {
					t.Errorf("an answer: %v", err)
				}
				c.Close()
				if text, err := io.ReadAll(s); string(text) != "speak TLS" {
					t.Errorf("the client read %q, %v", text, err)
				}
			} else if _, err := c.Read(nil); !errors.Is(err, net.ErrClosed) {
				t.Errorf("%s: the connection was left open: %v", name, err)
			}
			s.Close()

			c, s = connect(t, ctx)
			s.Close()
			if _, err := start(ctx, c); err == nil {
				t.Errorf("%s: a handshake with nobody", name)
			}

			c, s = connect(t, ctx)
			if _, err := asyncio.TLSClient(ctx, c, nil); !errors.Is(err, asyncio.ErrInvalidArgument) {
				t.Errorf("no configuration: %v", err)
			}
			if _, err := c.Read(nil); !errors.Is(err, net.ErrClosed) {
				t.Errorf("%s: without a configuration the connection was left open: %v", name, err)
			}
			if _, err := asyncio.TLSClient(ctx, s, &tls.Config{Renegotiation: tls.RenegotiateFreelyAsClient}); !errors.Is(err, asyncio.ErrInvalidArgument) {
				t.Errorf("renegotiation: %v", err)
			}
		}
		return nil
	})
}

func TestTLS_CloseWakesAndDeadlines(t *testing.T) {
	clientConfig, serverConfig := configs(t)
	onSockets(t, func(t *testing.T, ctx context.Context) error {
		client, server := connectTLS(t, ctx, clientConfig, serverConfig)
		p := make([]byte, 10)
		client.SetReadDeadline(loop(t, ctx).Now().Add(time.Millisecond))
		if _, err := client.Read(p); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("deadline: %v", err)
		}
		client.SetReadDeadline(time.Time{})
		if _, err := server.Write([]byte("later")); err != nil {
			return err
		}
		if n, err := client.Read(p); string(p[:n]) != "later" || err != nil {
			t.Errorf("after the deadline: %q, %v", p[:n], err)
		}
		reader := start(ctx, func(ctx context.Context) error {
			_, err := client.Read(p)
			return err
		})
		settle(t, ctx)
		if _, err := client.Read(p); !errors.Is(err, asyncio.ErrBusy) {
			t.Errorf("a second Read: %v", err)
		}
		if err := client.Close(); err != nil {
			t.Error(err)
		}
		if err := ended(ctx, reader); !errors.Is(err, net.ErrClosed) {
			t.Errorf("closed meanwhile: %v", err)
		}
		if _, err := client.Write(p); !errors.Is(err, net.ErrClosed) {
			t.Errorf("closed: %v", err)
		}
		if _, err := server.Read(p); err != io.EOF {
			t.Errorf("the peer: %v", err)
		}
		return server.Abort()
	})
}

// Streams use TLS from the beginning, with a client and a server of package net.
func TestStreams_TLS(t *testing.T) {
	a := newAuthority(t)
	serverConfig := &tls.Config{Certificates: []tls.Certificate{a.sign(t, "127.0.0.1")}}
	clientConfig := &tls.Config{RootCAs: a.pool}
	onSystem(t, func(t *testing.T, ctx context.Context) error {
		s, err := asyncio.StartServer(ctx, shout, "127.0.0.1:0", asyncio.StreamTLS(serverConfig))
		if err != nil {
			return err
		}
		address := s.Addrs()[0].String()
		r, w, err := asyncio.OpenConnection(ctx, address, asyncio.StreamTLS(clientConfig))
		if err != nil {
			return err
		}
		if got, err := ask(ctx, r, w, "hello"); got != "HELLO" || err != nil {
			t.Errorf("%q, %v", got, err)
		}
		if err := w.StartTLS(ctx, clientConfig, false); !errors.Is(err, asyncio.ErrInvalidState) {
			t.Errorf("StartTLS twice: %v", err)
		}
		if err := w.Close(ctx); err != nil {
			t.Error(err)
		}
		got, err := asyncio.ToThread(ctx, func(context.Context) (string, error) {
			c, err := tls.Dial("tcp", address, clientConfig)
			if err != nil {
				return "", err
			}
			defer c.Close()
			if _, err := c.Write([]byte("from a goroutine\n")); err != nil {
				return "", err
			}
			if err := c.CloseWrite(); err != nil {
				return "", err
			}
			b, err := io.ReadAll(c)
			return string(b), err
		})
		if got != "FROM A GOROUTINE\n" || err != nil {
			t.Errorf("%q, %v", got, err)
		}
		// A peer that does not speak TLS affects only its own connection.
		bad, err := asyncio.Dial(ctx, "tcp", address)
		if err != nil {
			return err
		}
		if _, err := bad.Write([]byte("GET / HTTP/1.0\r\n\r\n")); err != nil {
			return err
		}
		if _, err := io.ReadAll(bad); err != nil {
			t.Error(err)
		}
		bad.Close()
		return s.Shutdown(ctx)
	})
}

// StartTLS comes in the middle of a conversation.
func TestStreamWriter_StartTLS(t *testing.T) {
	clientConfig, serverConfig := configs(t)
	onSockets(t, func(t *testing.T, ctx context.Context) error {
		s, err := asyncio.StartServer(ctx, func(ctx context.Context, r *asyncio.StreamReader, w *asyncio.StreamWriter) error {
			if _, err := r.ReadLine(ctx); err != nil {
				return err
			}
			if _, err := w.Write(ctx, []byte("GO AHEAD\n")); err != nil {
				return err
			}
			if err := w.StartTLS(ctx, serverConfig, true); err != nil {
				return err
			}
			return shout(ctx, r, w)
		}, "127.0.0.1:0")
		if err != nil {
			return err
		}
		r, w, err := asyncio.OpenConnection(ctx, s.Addrs()[0].String())
		if err != nil {
			return err
		}
		if got, err := ask(ctx, r, w, "STARTTLS"); got != "GO AHEAD" || err != nil {
			t.Errorf("%q, %v", got, err)
		}
		if err := w.StartTLS(ctx, clientConfig, false); err != nil {
			return err
		}
		if _, ok := w.Conn().(*asyncio.TLSConn); !ok {
			t.Errorf("the connection is a %T", w.Conn())
		}
		if got, err := ask(ctx, r, w, "secret"); got != "SECRET" || err != nil {
			t.Errorf("%q, %v", got, err)
		}
		if err := errors.Join(w.Close(ctx), s.Shutdown(ctx)); err != nil {
			t.Error(err)
		}

		cr, cw, _, sw := streams(t, ctx)
		reader := start(ctx, func(ctx context.Context) error {
			_, err := cr.ReadExactly(ctx, 100)
			return err
		})
		settle(t, ctx)
		if err := cw.StartTLS(ctx, clientConfig, false); !errors.Is(err, asyncio.ErrBusy) {
			t.Errorf("while somebody reads: %v", err)
		}
		sw.Abort()
		cw.Abort()
		_ = ended(ctx, reader)
		return nil
	})
}

// Bytes that came after a line, before the call of StartTLS, belong to TLS (tls 7): a client's
// hello in one segment with the line, and with TLS 1.2 the whole rest of a conversation that did
// not wait.
func TestStreamWriter_StartTLSInOneSegment(t *testing.T) {
	clientConfig, serverConfig := configs(t)
	onSockets(t, func(t *testing.T, ctx context.Context) error {
		s, err := asyncio.StartServer(ctx, func(ctx context.Context, r *asyncio.StreamReader, w *asyncio.StreamWriter) error {
			if line, err := r.ReadLine(ctx); string(line) != "PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n" || err != nil {
				t.Errorf("%q, %v", line, err)
			}
			if r.Buffered() == 0 {
				t.Error("the hello has not come with the header")
			}
			if err := w.StartTLS(ctx, serverConfig, true); err != nil {
				return err
			}
			if n := r.Buffered(); n != 0 {
				t.Errorf("%d bytes that came in the clear are data", n)
			}
			return shout(ctx, r, w)
		}, "127.0.0.1:0")
		if err != nil {
			return err
		}
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			c, err := asyncio.Dial(ctx, "tcp", s.Addrs()[0].String())
			if err != nil {
				return err
			}
			config := clientConfig.Clone()
			config.MaxVersion = version
			// crypto/tls runs on a connection that puts the header before its first write, so both
			// are in one segment.
			proxied := &headed{Conn: c, head: []byte("PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n")}
			client := tls.Client(proxied, config)
			if _, err := client.Write([]byte("hello\n")); err != nil {
				return err
			}
			answer := make([]byte, 6)
			if _, err := io.ReadFull(client, answer); string(answer) != "HELLO\n" || err != nil {
				t.Errorf("%x: %q, %v", version, answer, err)
			}
			client.Close()
		}
		return s.Shutdown(ctx)
	})
}

// headed is a connection that sends head before its first write.
type headed struct {
	*asyncio.Conn
	head []byte
}

func (h *headed) Write(p []byte) (int, error) {
	head := h.head
	h.head = nil
	if _, err := h.Conn.Write(append(head, p...)); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Clear text that somebody injects between a line and TLS is never taken for data. The handshake
// fails with an error (tls 7).
func TestStreamWriter_StartTLSInjected(t *testing.T) {
	clientConfig, serverConfig := configs(t)
	onSockets(t, func(t *testing.T, ctx context.Context) error {
		for _, asServer := range []bool{false, true} {
			for _, injected := range []string{"DELETE everything\r\n", "x"} {
				r, w, _, peer := streams(t, ctx)
				if _, err := peer.Write(ctx, []byte("go ahead\n"+injected)); err != nil {
					return err
				}
				if _, err := r.ReadLine(ctx); err != nil {
					return err
				}
				config := clientConfig
				start := asyncio.TLSServer
				if asServer {
					config, start = serverConfig, asyncio.TLSClient
				}
				other := asyncio.CreateTask(ctx, func(ctx context.Context) (*asyncio.TLSConn, error) {
					config := serverConfig
					if asServer {
						config = clientConfig
					}
					return start(ctx, peer.Conn().(*asyncio.Conn), config)
				})
				var record tls.RecordHeaderError
				if err := w.StartTLS(ctx, config, asServer); !errors.As(err, &record) || !strings.Contains(err.Error(), "came before it was started") {
					t.Errorf("as server %v, %q: %v", asServer, injected, err)
				}
				if p, err := r.Read(ctx, -1); len(p) > 0 || err == nil {
					t.Errorf("as server %v, %q: %q is data, %v", asServer, injected, p, err)
				}
				if _, err := other.Await(ctx); err == nil {
					t.Error("the peer's handshake is done")
				}
			}
		}
		return nil
	})
}
