package asynciohttp_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/asynciohttp"
)

// A hostile server is bounded: floods of frames end the connection.
func TestTransportHTTP2_Floods(t *testing.T) {
	for name, frame := range map[string]func(p *h2Peer) error{
		"PING":            func(p *h2Peer) error { return p.WritePing(false, [8]byte{}) },
		"SETTINGS":        func(p *h2Peer) error { return p.WriteSettings() },
		"empty DATA":      func(p *h2Peer) error { return p.WriteData(1, false, nil) },
		"PRIORITY":        func(p *h2Peer) error { return p.WritePriority(1, http2.PriorityParam{StreamDep: 3}) },
		"WINDOW_UPDATE":   func(p *h2Peer) error { return p.WriteWindowUpdate(1, 1) },
		"unknown frames":  func(p *h2Peer) error { return p.WriteRawFrame(0xEE, 0, 0, nil) },
		"RST_STREAM":      func(p *h2Peer) error { return p.WriteRSTStream(1, http2.ErrCodeCancel) },
		"late HEADERS":    func(p *h2Peer) error { return p.respond(1, false) },
		"PING's answers":  func(p *h2Peer) error { return p.WritePing(true, [8]byte{}) },
		"1xx":             func(p *h2Peer) error { return p.send(3, false, ":status", "103") },
		"empty fragments": func(p *h2Peer) error { return p.WriteContinuation(3, false, nil) },
	} {
		t.Run(name, func(t *testing.T) {
			sent, then := 0, 0
			withPeer(t, func(ctx context.Context, p *h2Peer) error {
				if err := errors.Join(p.until("1 headers"), p.respond(1, false), p.until("3 headers")); err != nil {
					return err
				}
				if name == "RST_STREAM" || name == "late HEADERS" {
					if err := p.WriteRSTStream(1, http2.ErrCodeCancel); err != nil {
						return err
					}
				}
				if name == "empty fragments" {
					_ = p.WriteHeaders(http2.HeadersFrameParam{StreamID: 3, BlockFragment: p.encode(":status", "200")})
				}
				for sent = 0; sent < 200000; {
					w := new(bytes.Buffer)
					many := *p
					many.Framer = http2.NewFramer(w, nil)
					many.AllowIllegalWrites = true
					for range 100 {
						if err := frame(&many); err != nil {
							return err
						}
						sent++
					}
					if _, err := p.Conn.Write(w.Bytes()); err != nil {
						return io.EOF
					}
				}
				return nil
			}, nil, func(ctx context.Context, tr *asynciohttp.Transport) error {
				req, err := http.NewRequestWithContext(ctx, "GET", "http://srv/", nil)
				if err != nil {
					return err
				}
				resp, err := tr.RoundTrip(req)
				if err != nil {
					return err
				}
				defer resp.Body.Close()
				got := outcome(ctx, tr, "GET", nil)
				then = sent
				if !strings.HasPrefix(got, "error: ") || !strings.Contains(got, "ENHANCE_YOUR_CALM") && !strings.Contains(got, "PROTOCOL_ERROR") {
					t.Errorf("%d frames, and %s", sent, got)
				}
				return nil
			})
			t.Logf("%d frames", then)
			if then < 10000 && name != "1xx" || then > 60000 {
				t.Errorf("%d frames", then)
			}
		})
	}
}

// A hook that looks at 1xx decides about their number, and its error ends the request.
func TestTransportHTTP2_Hints(t *testing.T) {
	withPeer(t, func(ctx context.Context, p *h2Peer) error {
		for id := uint32(1); ; id += 2 {
			if err := p.until(fmt.Sprintf("%d headers", id)); err != nil {
				return err
			}
			for range 50 {
				if err := errors.Join(p.send(id, false, ":status", "103", "x", strings.Repeat("x", 100)), asyncio.Sleep(ctx, time.Millisecond)); err != nil {
					return err
				}
			}
			if err := p.okay(id, "hello"); err != nil {
				return err
			}
		}
	}, nil, func(ctx context.Context, tr *asynciohttp.Transport) error {
		tr.MaxResponseHeaderBytes = 1000
		n := 0
		var fail error
		traced := httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{Got1xxResponse: func(int, textproto.MIMEHeader) error { n++; return fail }})
		if got := outcome(traced, tr, "GET", nil); got != `200 "hello"` || n != 50 {
			t.Errorf("%s, %d hints", got, n)
		}
		fail = errors.New("enough")
		if got := outcome(traced, tr, "GET", nil); got != "error: enough" || n != 51 {
			t.Errorf("%s, %d hints", got, n)
		}
		return nil
	})
}

// A body that is not read holds the windows, and gives them back when it is closed.
func TestTransportHTTP2_Windows(t *testing.T) {
	sent := 0
	withPeer(t, func(ctx context.Context, p *h2Peer) error {
		if err := errors.Join(p.until("1 headers"), p.respond(1, false)); err != nil {
			return err
		}
		for ; sent < 64<<10; sent += 1 << 10 {
			if err := p.WriteData(1, false, make([]byte, 1<<10)); err != nil {
				return err
			}
		}
		// the window of the connection is closed now; the reset of stream 1 opens it again
		if err := errors.Join(p.until("1 reset CANCEL"), p.until("3 headers"), p.respond(3, false)); err != nil {
			return err
		}
		for range 60 {
			if err := p.WriteData(3, false, make([]byte, 1<<10)); err != nil {
				return err
			}
		}
		return p.WriteData(3, true, nil)
	}, nil, func(ctx context.Context, tr *asynciohttp.Transport) error {
		tr.HTTP2 = &http.HTTP2Config{MaxReceiveBufferPerConnection: 64 << 10, MaxReceiveBufferPerStream: 1 << 20}
		req, err := http.NewRequestWithContext(ctx, "GET", "http://srv/", nil)
		if err != nil {
			return err
		}
		resp, err := tr.RoundTrip(req)
		if err != nil {
			return err
		}
		if err := asyncio.Sleep(ctx, time.Second); err != nil {
			return err
		}
		var some [10]byte
		if _, err := io.ReadFull(resp.Body, some[:]); err != nil || sent != 64<<10 {
			t.Errorf("%v, %d bytes sent", err, sent)
		}
		resp.Body.Close()
		if _, err := resp.Body.Read(some[:]); err == nil {
			t.Error("a body that is closed can be read")
		}
		if got := outcome(ctx, tr, "GET", nil); got != fmt.Sprintf("200 (%d bytes)", 60<<10) {
			t.Error(got)
		}
		return nil
	})
}

// A request's body goes out as the windows open.
func TestTransportHTTP2_SmallWindows(t *testing.T) {
	seen := withPeer(t, func(ctx context.Context, p *h2Peer) error {
		return errors.Join(p.until("1 headers"), p.okay(1, "hello"), p.until("3 data"), p.WriteWindowUpdate(3, 3), p.until("3 data"),
			p.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 5}), p.until("3 data"), p.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0}),
			p.WriteWindowUpdate(3, 5), pause(ctx), p.WriteWindowUpdate(3, 95), p.until("3 data"), p.until("3 data"), p.okay(3, "all"))
	}, []http2.Setting{{ID: http2.SettingInitialWindowSize, Val: 4}}, func(ctx context.Context, tr *asynciohttp.Transport) error {
		if got := outcome(ctx, tr, "GET", nil); got != `200 "hello"` {
			t.Error(got)
		}
		if err := pause(ctx); err != nil { // the settings are known then
			return err
		}
		if got := outcome(ctx, tr, "POST", strings.NewReader("0123456789abcdef")); got != `200 "all"` {
			t.Error(got)
		}
		return nil
	})
	want := []string{"1 " + helloRequest, "3 headers authority=srv method=POST path=/ scheme=http content-length=16",
		`3 data "0123"`, `3 data "456"`, `3 data "7"`, `3 data "89abcdef"`, `3 data "" end`}
	if !slices.Equal(seen[0], want) {
		t.Errorf("the server saw %q\nwant            %q", seen[0], want)
	}
}

// The settings that the client sends.
func TestTransportHTTP2_Settings(t *testing.T) {
	for name, c := range map[string]struct {
		tr   *asynciohttp.Transport
		want string
	}{
		"defaults": {&asynciohttp.Transport{}, "[ENABLE_PUSH = 0] [INITIAL_WINDOW_SIZE = 4194304] [MAX_FRAME_SIZE = 16384] [MAX_HEADER_LIST_SIZE = 10485760] window 1073676289"},
		"own": {&asynciohttp.Transport{MaxResponseHeaderBytes: 5000, HTTP2: &http.HTTP2Config{MaxDecoderHeaderTableSize: 100, MaxReadFrameSize: 1 << 20, MaxReceiveBufferPerConnection: 1 << 20, MaxReceiveBufferPerStream: 1000}},
			"[ENABLE_PUSH = 0] [INITIAL_WINDOW_SIZE = 1000] [MAX_FRAME_SIZE = 1048576] [MAX_HEADER_LIST_SIZE = 5000] [HEADER_TABLE_SIZE = 100] window 983041"},
	} {
		t.Run(name, func(t *testing.T) {
			got := ""
			scripted(t, func(ctx context.Context, n int, conn *asyncio.Conn, br *bufio.Reader) error {
				p, err := acceptHTTP2(n, conn, br)
				if err != nil {
					return err
				}
				for range 2 {
					f, err := p.ReadFrame()
					if err != nil {
						return err
					}
					switch f := f.(type) {
					case *http2.SettingsFrame:
						_ = f.ForeachSetting(func(s http2.Setting) error { got += s.String() + " "; return nil })
					case *http2.WindowUpdateFrame:
						got += fmt.Sprintf("window %d", f.Increment)
					}
				}
				return answerAll(ctx, p)
			}, func(ctx context.Context, tr *asynciohttp.Transport) error {
				own := c.tr.Clone()
				own.Protocols = unencrypted()
				defer own.CloseIdleConnections()
				if s := outcome(ctx, own, "GET", nil); s != `200 "0.1"` {
					t.Error(s)
				}
				return nil
			})
			if got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}
