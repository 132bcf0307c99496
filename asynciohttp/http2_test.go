package asynciohttp_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/asynciohttp"
	"github.com/goasyncio/asyncio/sim"
)

// An h2Client speaks HTTP/2 frame by frame, as a test wants it.
type h2Client struct {
	net.Conn
	*http2.Framer
	encoder *hpack.Encoder
	block   bytes.Buffer
}

// dialHTTP2 connects to the server and sends the client's first frames.
func dialHTTP2(ctx context.Context, address string, settings ...http2.Setting) (*h2Client, error) {
	conn, err := asyncio.Dial(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	c := &h2Client{Conn: conn}
	c.Framer = http2.NewFramer(conn, conn)
	c.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	c.AllowIllegalWrites = true
	c.encoder = hpack.NewEncoder(&c.block)
	if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
		return nil, err
	}
	return c, c.WriteSettings(settings...)
}

// send sends HEADERS. The fields are names and values.
func (c *h2Client) send(id uint32, end bool, fields ...string) error {
	return c.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: c.encode(fields...), EndHeaders: true, EndStream: end})
}

func (c *h2Client) encode(fields ...string) []byte {
	c.block.Reset()
	for i := 0; i < len(fields); i += 2 {
		_ = c.encoder.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	return c.block.Bytes()
}

// request returns the fields of a request, with further ones.
func request(method, path string, more ...string) []string {
	return append([]string{":method", method, ":scheme", "http", ":authority", "server", ":path", path}, more...)
}

func (c *h2Client) get(id uint32, path string) error {
	return c.send(id, true, request("GET", path)...)
}

// frames reads until the server closes the connection or sends nothing for the given time. It
// returns a line for each frame, without acknowledgements, our first window and the server's
// settings.
func (c *h2Client) frames(ctx context.Context, silence time.Duration) (lines []string) {
	l, _ := asyncio.GetRunningLoop(ctx)
	for {
		_ = c.SetReadDeadline(l.Now().Add(silence))
		f, err := c.ReadFrame()
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return lines
		case err == io.EOF:
			return append(lines, "EOF")
		case err != nil:
			return append(lines, "error: "+err.Error())
		}
		if line := frameLine(f); line != "" {
			lines = append(lines, line)
		}
	}
}

// frameLine says what a frame is. Acknowledgements, windows of the connection and SETTINGS are not
// worth a line.
func frameLine(f http2.Frame) string {
	end := ""
	if f.Header().Flags.Has(http2.FlagDataEndStream) {
		end = " end"
	}
	id := f.Header().StreamID
	switch f := f.(type) {
	case *http2.MetaHeadersFrame:
		line := fmt.Sprintf("%d headers", id)
		for _, field := range f.Fields {
			if field.Name != "date" {
				line += fmt.Sprintf(" %s=%s", strings.TrimPrefix(field.Name, ":"), field.Value)
			}
		}
		return line + end
	case *http2.DataFrame:
		data := string(f.Data())
		if len(data) > 40 {
			data = fmt.Sprintf("(%d bytes)", len(data))
		}
		return fmt.Sprintf("%d data %q%s", id, data, end)
	case *http2.RSTStreamFrame:
		return fmt.Sprintf("%d reset %v", id, f.ErrCode)
	case *http2.GoAwayFrame:
		return fmt.Sprintf("goaway %d %v", f.LastStreamID, f.ErrCode)
	case *http2.WindowUpdateFrame:
		if id != 0 {
			return fmt.Sprintf("%d window", id)
		}
	case *http2.PingFrame:
		if !f.IsAck() {
			return "ping"
		}
	}
	return ""
}

// h2Config returns a configuration for HTTP/2 without TLS. Its log goes to the test's.
func h2Config(t *testing.T, h http.HandlerFunc) *http.Server {
	config := &http.Server{Handler: h, Protocols: new(http.Protocols), ErrorLog: log.New(t.Output(), "", 0)}
	config.Protocols.SetHTTP1(true)
	config.Protocols.SetUnencryptedHTTP2(true)
	return config
}

// overHTTP2 serves on a simulated host and runs client on another.
func overHTTP2(t *testing.T, config *http.Server, client func(ctx context.Context, c *h2Client) error, settings ...http2.Setting) {
	t.Helper()
	sim.Run(t, func(ctx context.Context) error {
		sim.NewHost(ctx, "server", func(ctx context.Context) error {
			l, err := asyncio.Listen(ctx, "tcp", ":80")
			if err != nil {
				return err
			}
			return asynciohttp.NewServer(config).Serve(ctx, l)
		})
		return sim.NewHost(ctx, "client", func(ctx context.Context) error {
			c, err := dialHTTP2(ctx, "server:80", settings...)
			if err != nil {
				return err
			}
			defer c.Close()
			return client(ctx, c)
		}).Wait(ctx)
	})
}

func hello(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	fmt.Fprintf(w, "hello %s", r.URL.Path)
}

const helloHeaders = "headers status=200 content-type=text/plain; charset=utf-8 content-length=8"

// TestHTTP2_Frames: what the server answers to a client that follows the rules, and to one that
// does not.
func TestHTTP2_Frames(t *testing.T) {
	for _, test := range []struct {
		name     string
		settings []http2.Setting
		handler  http.HandlerFunc
		config   func(config *http.Server)
		send     func(ctx context.Context, c *h2Client) error
		want     []string
	}{{
		name: "a request",
		send: func(ctx context.Context, c *h2Client) error { return c.get(1, "/a") },
		want: []string{"1 " + helloHeaders, `1 data "hello /a" end`},
	}, {
		name: "requests answered in another order",
		handler: func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/a" {
				_ = asyncio.Sleep(r.Context(), time.Second)
			}
			hello(w, r)
		},
		send: func(ctx context.Context, c *h2Client) error { return errors.Join(c.get(1, "/a"), c.get(3, "/b")) },
		want: []string{"3 " + helloHeaders, `3 data "hello /b" end`, "1 " + helloHeaders, `1 data "hello /a" end`},
	}, {
		name: "a body and trailers, both ways",
		handler: func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Trailer", "After")
			body, err := io.ReadAll(r.Body)
			fmt.Fprintf(w, "%s %v %d", body, err, r.ContentLength)
			w.Header().Set("After", r.Trailer.Get("Behind"))
			w.Header().Set(http.TrailerPrefix+"Unannounced", "yes")
		},
		send: func(ctx context.Context, c *h2Client) error {
			return errors.Join(c.send(1, false, request("POST", "/", "trailer", "behind")...), c.WriteData(1, false, []byte("bo")),
				c.WriteDataPadded(1, false, []byte("dy"), make([]byte, 10)), c.send(1, true, "behind", "it"))
		},
		want: []string{"1 headers status=200 trailer=After content-type=text/plain; charset=utf-8",
			`1 data "body <nil> -1"`, "1 headers after=it unannounced=yes end"},
	}, {
		name:     "a window that opens slowly",
		settings: []http2.Setting{{ID: http2.SettingInitialWindowSize, Val: 3}},
		send: func(ctx context.Context, c *h2Client) error {
			return errors.Join(c.get(1, "/a"), pause(ctx), c.WriteWindowUpdate(1, 3), pause(ctx), c.WriteWindowUpdate(1, 10))
		},
		want: []string{"1 " + helloHeaders, `1 data "hel"`, `1 data "lo "`, `1 data "/a" end`},
	}, {
		name:     "a window that shrinks below zero and opens again",
		settings: []http2.Setting{{ID: http2.SettingInitialWindowSize, Val: 5}},
		send: func(ctx context.Context, c *h2Client) error {
			return errors.Join(c.get(1, "/a"), pause(ctx), c.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0}),
				c.WriteWindowUpdate(1, 5), c.WriteWindowUpdate(1, 3))
		},
		want: []string{"1 " + helloHeaders, `1 data "hello"`, `1 data " /a" end`},
	}, {
		name:    "HEAD",
		handler: func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello /a") },
		send:    func(ctx context.Context, c *h2Client) error { return c.send(1, true, request("HEAD", "/")...) },
		want:    []string{"1 " + helloHeaders + " end"},
	}, {
		name: "204, with a body that is refused",
		handler: func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(204)
			if _, err := io.WriteString(w, "x"); err != http.ErrBodyNotAllowed {
				panic(err)
			}
		},
		send: func(ctx context.Context, c *h2Client) error { return c.get(1, "/") },
		want: []string{"1 headers status=204 end"},
	}, {
		name: "100 Continue and early hints",
		handler: func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Link", "</style.css>")
			w.WriteHeader(103)
			body, _ := io.ReadAll(r.Body)
			w.Write(body)
		},
		send: func(ctx context.Context, c *h2Client) error {
			return errors.Join(c.send(1, false, request("POST", "/", "expect", "100-continue")...), c.WriteData(1, true, []byte("ok")))
		},
		want: []string{"1 headers status=103 link=</style.css>", "1 headers status=100",
			"1 headers status=200 link=</style.css> content-type=text/plain; charset=utf-8 content-length=2", `1 data "ok" end`},
	}, {
		name:    "a response before the body was sent",
		handler: func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello /a") },
		send:    func(ctx context.Context, c *h2Client) error { return c.send(1, false, request("POST", "/")...) },
		want:    []string{"1 " + helloHeaders, `1 data "hello /a" end`, "1 reset NO_ERROR"},
	}, {
		name:    "a panic",
		handler: func(http.ResponseWriter, *http.Request) { panic("a fault in a handler") },
		send:    func(ctx context.Context, c *h2Client) error { return c.get(1, "/") },
		want:    []string{"1 reset INTERNAL_ERROR"},
	}, {
		name: "a handler that gives up behind a part of the response",
		handler: func(w http.ResponseWriter, _ *http.Request) {
			io.WriteString(w, "part")
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		},
		send: func(ctx context.Context, c *h2Client) error { return c.get(1, "/") },
		want: []string{"1 headers status=200 content-type=text/plain; charset=utf-8", `1 data "part"`, "1 reset INTERNAL_ERROR"},
	}, {
		name: "less than the declared length",
		handler: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "5")
			io.WriteString(w, "part")
		},
		send: func(ctx context.Context, c *h2Client) error { return c.get(1, "/") },
		want: []string{"1 reset INTERNAL_ERROR"},
	}, {
		name:    "Connection: close",
		handler: func(w http.ResponseWriter, r *http.Request) { w.Header().Set("Connection", "close"); hello(w, r) },
		send:    func(ctx context.Context, c *h2Client) error { return c.get(1, "/a") },
		want:    []string{"goaway 1 NO_ERROR", "1 " + helloHeaders, `1 data "hello /a" end`, "EOF"},
	}, {
		name: "requests on their way when the server says goodbye",
		handler: func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/last" {
				w.Header().Set("Connection", "close")
				w.WriteHeader(200)
				_ = asyncio.Sleep(r.Context(), 3*time.Second)
			}
		},
		send: func(ctx context.Context, c *h2Client) error {
			return errors.Join(c.get(1, "/last"), pause(ctx), c.send(3, false, request("POST", "/")...), c.WriteData(3, false, []byte("body")),
				c.WriteWindowUpdate(3, 1), c.WriteRSTStream(3, http2.ErrCodeCancel), c.send(5, false, request("POST", "/")...), c.WriteData(5, true, nil))
		},
		want: []string{"goaway 1 NO_ERROR", "1 headers status=200 content-length=0 end", "EOF"},
	}, {
		name:   "no request in time",
		config: func(config *http.Server) { config.IdleTimeout = time.Second },
		send:   func(ctx context.Context, c *h2Client) error { return c.get(1, "/a") },
		want:   []string{"1 " + helloHeaders, `1 data "hello /a" end`, "goaway 1 NO_ERROR", "EOF"},
	}, {
		name: "a client that does not answer",
		config: func(config *http.Server) {
			config.HTTP2 = &http.HTTP2Config{SendPingTimeout: time.Second, PingTimeout: time.Second}
		},
		send: func(context.Context, *h2Client) error { return nil },
		want: []string{"ping", "EOF"},
	}, {
		name:   "a handler that is late",
		config: func(config *http.Server) { config.WriteTimeout = time.Second },
		handler: func(_ http.ResponseWriter, r *http.Request) {
			_ = asyncio.Sleep(r.Context(), time.Minute)
		},
		send: func(ctx context.Context, c *h2Client) error { return c.get(1, "/") },
		want: []string{"1 reset INTERNAL_ERROR"},
	}, {
		name:   "a body that is late",
		config: func(config *http.Server) { config.ReadTimeout = time.Second },
		handler: func(w http.ResponseWriter, r *http.Request) {
			_, err := io.ReadAll(r.Body)
			fmt.Fprint(w, err)
		},
		send: func(ctx context.Context, c *h2Client) error { return c.send(1, false, request("POST", "/")...) },
		want: []string{"1 headers status=200 content-type=text/plain; charset=utf-8 content-length=11", `1 data "i/o timeout" end`, "1 reset NO_ERROR",
			"goaway 1 NO_ERROR", "EOF"},
	}, {
		name: "more data than the declared length",
		send: func(ctx context.Context, c *h2Client) error {
			return errors.Join(c.send(1, false, request("POST", "/", "content-length", "1")...), c.WriteData(1, true, []byte("ab")))
		},
		handler: func(_ http.ResponseWriter, r *http.Request) { _, _ = io.ReadAll(r.Body) },
		want:    []string{"1 reset PROTOCOL_ERROR"},
	}, {
		name: "less data than the declared length",
		send: func(ctx context.Context, c *h2Client) error {
			return errors.Join(c.send(1, false, request("POST", "/", "content-length", "3")...), c.WriteData(1, true, []byte("ab")))
		},
		handler: func(_ http.ResponseWriter, r *http.Request) { _, _ = io.ReadAll(r.Body) },
		want:    []string{"1 reset PROTOCOL_ERROR"},
	}, {
		name:   "a header that is too large",
		config: func(config *http.Server) { config.MaxHeaderBytes = 1000 },
		send: func(ctx context.Context, c *h2Client) error {
			return c.send(1, true, request("GET", "/", strings.Fields(strings.Repeat("x xxxxxxxxxxxxxxxxxxxxxxxxxxxxxx ", 40))...)...)
		},
		want: []string{"1 headers status=431 content-type=text/plain; charset=utf-8 x-content-type-options=nosniff content-length=36",
			`1 data "431 Request Header Fields Too Large\n" end`},
	}, {
		name: "a header that does not end",
		send: func(ctx context.Context, c *h2Client) error {
			err := c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: c.encode(request("GET", "/")...)})
			for i := 0; i < 2000 && err == nil; i++ {
				err = c.WriteContinuation(1, false, c.encode("x", strings.Repeat("x", 8000)))
			}
			if err != nil && strings.Contains(err.Error(), "reset") {
				err = nil // the server has closed the connection meanwhile
			}
			return err
		},
		want: []string{"goaway 0 PROTOCOL_ERROR", "EOF"},
	}, {
		name:   "streams that are opened and reset",
		config: func(config *http.Server) { config.HTTP2 = &http.HTTP2Config{MaxConcurrentStreams: 10} },
		handler: func(_ http.ResponseWriter, r *http.Request) {
			_ = asyncio.Sleep(context.WithoutCancel(r.Context()), time.Hour)
		},
		send: func(ctx context.Context, c *h2Client) (err error) {
			for id := uint32(1); id < 1000 && err == nil; id += 2 {
				err = errors.Join(c.get(id, "/"), pause(ctx))
				if err == nil {
					err = c.WriteRSTStream(id, http2.ErrCodeCancel)
				}
			}
			return nil // the server closes the connection meanwhile
		},
		want: []string{"goaway 101 ENHANCE_YOUR_CALM", "EOF"},
	}, {
		name: "a flood of pings that nobody reads",
		send: func(ctx context.Context, c *h2Client) (err error) {
			for i := 0; i < 20000 && err == nil; i++ {
				err = c.WritePing(false, [8]byte{})
			}
			return nil // the server closes the connection meanwhile
		},
		want: []string{"error: unexpected EOF"}, // it cannot even be told why
	}, {
		name: "a flood of empty data",
		send: func(ctx context.Context, c *h2Client) error {
			err := c.send(1, false, request("POST", "/")...)
			for i := 0; i < 20000 && err == nil; i++ {
				err = c.WriteData(1, false, nil)
			}
			return nil
		},
		handler: func(_ http.ResponseWriter, r *http.Request) { _, _ = io.ReadAll(r.Body) },
		want:    []string{"goaway 1 ENHANCE_YOUR_CALM", "EOF"},
	}, {
		name:     "a write that the handler gives up, and says nothing of",
		settings: []http2.Setting{{ID: http2.SettingInitialWindowSize, Val: 3}},
		handler: func(w http.ResponseWriter, r *http.Request) {
			_ = asyncio.Timeout(r.Context(), time.Second, func(context.Context, *asyncio.TimeoutScope) error {
				io.WriteString(w, "hello")
				return http.NewResponseController(w).Flush()
			})
		},
		send: func(ctx context.Context, c *h2Client) error { return c.get(1, "/") },
		want: []string{"1 headers status=200 content-type=text/plain; charset=utf-8", `1 data "hel"`, "1 reset INTERNAL_ERROR"},
	}, {
		name:     "windows that open byte by byte for a long response",
		settings: []http2.Setting{{ID: http2.SettingInitialWindowSize, Val: 0}},
		handler:  func(w http.ResponseWriter, _ *http.Request) { w.Write(make([]byte, 12000)) },
		send: func(ctx context.Context, c *h2Client) (err error) {
			err = c.get(1, "/")
			for i := 0; i < 12000 && err == nil; i++ {
				if err = c.WriteWindowUpdate(1, 1); i%100 == 0 {
					err = errors.Join(err, asyncio.Sleep(ctx, 10*time.Millisecond))
				}
			}
			all := 0
			for all < 12000 && err == nil {
				var f http2.Frame
				if f, err = c.ReadFrame(); err == nil {
					if d, ok := f.(*http2.DataFrame); ok {
						all += len(d.Data())
					}
				}
			}
			return err
		},
		want: []string{`1 data "" end`},
	}, {
		name:   "pings for minutes, whose answers nobody reads",
		config: func(config *http.Server) { config.IdleTimeout = time.Hour },
		send: func(ctx context.Context, c *h2Client) (err error) {
			for i := 0; i < 100000 && err == nil; i++ {
				if err = c.WritePing(false, [8]byte{}); i%1000 == 0 {
					err = errors.Join(err, asyncio.Sleep(ctx, 2*time.Second))
				}
			}
			if err == nil {
				return errors.New("the server takes 100,000 pings")
			}
			return nil
		},
		want: []string{"error: unexpected EOF"},
	}, {
		name:   "more than the stream's window",
		config: func(config *http.Server) { config.HTTP2 = &http.HTTP2Config{MaxReceiveBufferPerStream: 100} },
		send: func(ctx context.Context, c *h2Client) error {
			return errors.Join(c.send(1, false, request("POST", "/")...), c.WriteSettingsAck(), c.WriteData(1, true, make([]byte, 101)))
		},
		want: []string{"1 reset FLOW_CONTROL_ERROR"},
	}, {
		name:    "more than the connection's window",
		config:  func(config *http.Server) { config.HTTP2 = &http.HTTP2Config{MaxReceiveBufferPerConnection: 1 << 16} },
		handler: func(_ http.ResponseWriter, r *http.Request) { _ = asyncio.Sleep(r.Context(), time.Hour) },
		send: func(ctx context.Context, c *h2Client) error {
			err := c.send(1, false, request("POST", "/")...)
			for range 5 {
				err = errors.Join(err, c.WriteData(1, false, make([]byte, 1<<14)))
			}
			return err
		},
		want: []string{"goaway 1 FLOW_CONTROL_ERROR", "EOF"},
	}, {
		name:    "more streams than are allowed",
		config:  func(config *http.Server) { config.HTTP2 = &http.HTTP2Config{MaxConcurrentStreams: 2} },
		handler: func(_ http.ResponseWriter, r *http.Request) { _ = asyncio.Sleep(r.Context(), time.Hour) },
		send: func(ctx context.Context, c *h2Client) error {
			return errors.Join(c.get(1, "/"), c.get(3, "/"), c.get(5, "/"), pause(ctx), c.WriteSettingsAck(), c.get(7, "/"))
		},
		want: []string{"5 reset REFUSED_STREAM", "7 reset PROTOCOL_ERROR"},
	}, {
		name:    "headers for a stream that the client has reset",
		handler: func(_ http.ResponseWriter, r *http.Request) { _ = asyncio.Sleep(r.Context(), time.Hour) },
		send: func(ctx context.Context, c *h2Client) error {
			return errors.Join(c.get(1, "/"), c.WriteRSTStream(1, http2.ErrCodeCancel), c.get(1, "/"))
		},
		want: []string{"1 reset STREAM_CLOSED"},
	}, {
		name: "headers for a stream that has ended",
		send: func(ctx context.Context, c *h2Client) error {
			return errors.Join(c.get(1, "/a"), pause(ctx), c.get(1, "/a"))
		},
		want: []string{"1 " + helloHeaders, `1 data "hello /a" end`, "goaway 1 STREAM_CLOSED", "EOF"},
	}, {
		name:    "data for a stream that the server has reset",
		handler: func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		send: func(ctx context.Context, c *h2Client) error {
			return errors.Join(c.send(1, false, request("POST", "/")...), pause(ctx), c.WriteData(1, true, []byte("late")), c.get(3, "/"))
		},
		want: []string{"1 reset INTERNAL_ERROR", "3 reset INTERNAL_ERROR"},
	}, {
		name: "no preface",
		send: func(ctx context.Context, c *h2Client) error {
			_, err := c.Write([]byte("PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n"))
			return err
		},
		want: []string{"goaway 0 FRAME_SIZE_ERROR", "EOF"},
	}} {
		t.Run(test.name, func(t *testing.T) {
			if test.handler == nil {
				test.handler = hello
			}
			config := h2Config(t, test.handler)
			if test.config != nil {
				test.config(config)
			}
			overHTTP2(t, config, func(ctx context.Context, c *h2Client) error {
				if err := test.send(ctx, c); err != nil {
					return err
				}
				if got := c.frames(ctx, 30*time.Second); strings.Join(got, "\n") != strings.Join(test.want, "\n") {
					t.Errorf("the server sends\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(test.want, "\n\t"))
				}
				return nil
			}, test.settings...)
		})
	}
}

// pause lets the server do what it has to do.
func pause(ctx context.Context) error { return asyncio.Sleep(ctx, time.Second) }
