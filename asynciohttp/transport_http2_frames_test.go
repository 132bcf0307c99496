package asynciohttp_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/asynciohttp"
)

// An h2Peer is a server that speaks HTTP/2 frame by frame. It notes what the client sends.
type h2Peer struct {
	h2Client
	n    int // the number of the connection
	seen []string
}

// acceptHTTP2 takes the client's first frames and answers with settings.
func acceptHTTP2(n int, c *asyncio.Conn, br *bufio.Reader, settings ...http2.Setting) (*h2Peer, error) {
	p := &h2Peer{n: n}
	p.Conn = c
	p.Framer = http2.NewFramer(c, br)
	p.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	p.AllowIllegalWrites = true
	p.encoder = hpack.NewEncoder(&p.block)
	preface := make([]byte, len(http2.ClientPreface))
	if _, err := io.ReadFull(br, preface); err != nil || string(preface) != http2.ClientPreface {
		return nil, fmt.Errorf("%q: %w", preface, io.EOF)
	}
	return p, p.WriteSettings(settings...)
}

// until reads until a frame whose line begins with what is wanted.
func (p *h2Peer) until(want string) error {
	for {
		f, err := p.ReadFrame()
		if err != nil {
			return fmt.Errorf("%w: %q did not come, but %q", io.EOF, want, p.seen)
		}
		if s, ok := f.(*http2.SettingsFrame); ok && !s.IsAck() {
			_ = p.WriteSettingsAck()
		}
		if ping, ok := f.(*http2.PingFrame); ok && !ping.IsAck() {
			_ = p.WritePing(true, ping.Data)
		}
		line := frameLine(f)
		if line == "" {
			continue
		}
		if p.seen = append(p.seen, line); strings.HasPrefix(line, want) {
			return nil
		}
	}
}

// respond sends the head of a response.
func (p *h2Peer) respond(id uint32, end bool, fields ...string) error {
	return p.send(id, end, append([]string{":status", "200"}, fields...)...)
}

// okay answers a request.
func (p *h2Peer) okay(id uint32, body string) error {
	return errors.Join(p.respond(id, false), p.WriteData(id, true, []byte(body)))
}

// An h2Script is what a server does for a connection.
type h2Script func(ctx context.Context, p *h2Peer) error

// answerAll answers every request with the number of the connection and of the stream.
func answerAll(_ context.Context, p *h2Peer) error {
	for {
		if err := p.until(""); err != nil {
			return err
		}
		var id uint32
		if last := p.seen[len(p.seen)-1]; strings.HasSuffix(last, "end") {
			if _, err := fmt.Sscanf(last, "%d", &id); err == nil {
				if err := p.okay(id, fmt.Sprintf("%d.%d", p.n, id)); err != nil {
					return err
				}
			}
		}
	}
}

// withPeer runs body on a simulated host, and script on another one for each connection, after it
// has sent settings. It returns what the server has seen on each.
func withPeer(t *testing.T, script h2Script, settings []http2.Setting, body func(ctx context.Context, tr *asynciohttp.Transport) error) (seen [][]string) {
	t.Helper()
	scripted(t, func(ctx context.Context, n int, c *asyncio.Conn, br *bufio.Reader) error {
		p, err := acceptHTTP2(n, c, br, settings...)
		if err != nil {
			return err
		}
		for len(seen) <= n {
			seen = append(seen, nil)
		}
		err = script(ctx, p)
		if err == nil {
			err = p.until("never")
		}
		seen[n] = p.seen
		return err
	}, func(ctx context.Context, tr *asynciohttp.Transport) error {
		tr.Protocols, tr.DisableCompression = unencrypted(), true
		if err := body(ctx, tr); err != nil {
			return err
		}
		tr.CloseIdleConnections()
		return asyncio.Sleep(ctx, 5*time.Second) // the server notes the end
	})
	return seen
}

// outcome makes a request and says what came of it.
func outcome(ctx context.Context, tr *asynciohttp.Transport, method string, body io.Reader, header ...string) string {
	req, err := http.NewRequestWithContext(ctx, method, "http://srv/", body)
	if err != nil {
		return err.Error()
	}
	req.Header.Set("User-Agent", "")
	resp, got, err := exchange(tr.RoundTrip, req, header...)
	if resp == nil {
		return fmt.Sprintf("error: %v", err)
	}
	s := fmt.Sprintf("%d %q", resp.StatusCode, got)
	if len(got) > 100 {
		s = fmt.Sprintf("%d (%d bytes)", resp.StatusCode, len(got))
	}
	if len(resp.Trailer) > 0 {
		s += fmt.Sprintf(" %v", resp.Trailer)
	}
	if err != nil {
		s += fmt.Sprintf(" %v", err)
	}
	return s
}

const helloRequest = "headers authority=srv method=GET path=/ scheme=http end"

// TestTransportHTTP2_Frames: what the client makes of a server that answers frame by frame, and
// what the server sees. The connection must be sound afterwards, unless its end is expected.
func TestTransportHTTP2_Frames(t *testing.T) {
	post := func(body string) func() io.Reader { return func() io.Reader { return strings.NewReader(body) } }
	for _, test := range []struct {
		name     string
		settings []http2.Setting
		method   string
		body     func() io.Reader
		header   []string
		tr       func(tr *asynciohttp.Transport)
		answer   h2Script // after the headers of the request
		want     string
		frames   []string // besides the request's headers
		ends     bool     // the connection
	}{{
		name:   "a response",
		answer: func(_ context.Context, p *h2Peer) error { return p.okay(1, "hello") },
		want:   `200 "hello"`,
	}, {
		name:   "a response without a body",
		answer: func(_ context.Context, p *h2Peer) error { return p.respond(1, true) },
		want:   `200 ""`,
	}, {
		name: "a padded response in parts, with a trailer",
		answer: func(_ context.Context, p *h2Peer) error {
			return errors.Join(p.respond(1, false, "trailer", "after"), p.WriteDataPadded(1, false, []byte("hel"), make([]byte, 20)),
				p.WriteData(1, false, nil), p.WriteData(1, false, []byte("lo")), p.send(1, true, "after", "x", "other", "y"))
		},
		want: `200 "hello" map[After:[x] Other:[y]]`,
	}, {
		name: "a head in many frames",
		answer: func(_ context.Context, p *h2Peer) error {
			block := slices.Clone(p.encode(":status", "200", "x", strings.Repeat("x", 100)))
			err := p.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block[:1]})
			for _, b := range block[1:] {
				err = errors.Join(err, p.WriteContinuation(1, false, []byte{b}))
			}
			return errors.Join(err, p.WriteContinuation(1, true, nil), p.WriteData(1, true, nil))
		},
		want: `200 ""`,
	}, {
		name:   "a connection's fields",
		answer: func(_ context.Context, p *h2Peer) error { return p.respond(1, true, "connection", "close", "x", "y") },
		want:   `200 ""`,
	}, {
		name: "1xx", answer: func(_ context.Context, p *h2Peer) error {
			return errors.Join(p.send(1, false, ":status", "103"), p.send(1, false, ":status", "100"), p.okay(1, "hello"))
		},
		want: `200 "hello"`,
	}, {
		name:   "1xx that ends the stream",
		answer: func(_ context.Context, p *h2Peer) error { return p.send(1, true, ":status", "103") },
		want:   "error: stream error: stream ID 1; PROTOCOL_ERROR; the response ends with a status of 1xx",
		frames: []string{"1 reset PROTOCOL_ERROR"},
	}, {
		name: "too many 1xx", answer: func(_ context.Context, p *h2Peer) error {
			var err error
			for range 100 {
				err = errors.Join(err, p.send(1, false, ":status", "103", "x", strings.Repeat("x", 100)))
			}
			return err
		},
		tr:     func(tr *asynciohttp.Transport) { tr.MaxResponseHeaderBytes = 1000 },
		want:   "error: stream error: stream ID 1; PROTOCOL_ERROR; asynciohttp: MaxResponseHeaderBytes: server response headers exceeded 1000 bytes",
		frames: []string{"1 reset PROTOCOL_ERROR"},
	}, {
		name: "too large a head",
		answer: func(_ context.Context, p *h2Peer) error {
			return p.respond(1, true, "x", strings.Repeat("x", 500), "y", strings.Repeat("y", 500))
		},
		tr:     func(tr *asynciohttp.Transport) { tr.MaxResponseHeaderBytes = 1000 },
		want:   "error: stream error: stream ID 1; PROTOCOL_ERROR; asynciohttp: MaxResponseHeaderBytes: server response headers exceeded 1000 bytes",
		frames: []string{"1 reset PROTOCOL_ERROR"},
	}, {
		name:   "no status",
		answer: func(_ context.Context, p *h2Peer) error { return p.send(1, true, "x", "y") },
		want:   `error: stream error: stream ID 1; PROTOCOL_ERROR; malformed response: status ""`,
		frames: []string{"1 reset PROTOCOL_ERROR"},
	}, {
		name:   "a bad status",
		answer: func(_ context.Context, p *h2Peer) error { return p.send(1, true, ":status", "20") },
		want:   `error: stream error: stream ID 1; PROTOCOL_ERROR; malformed response: status "20"`,
		frames: []string{"1 reset PROTOCOL_ERROR"},
	}, {
		name:   "a pseudo-header of requests",
		answer: func(_ context.Context, p *h2Peer) error { return p.respond(1, true, ":path", "/") },
		want:   `error: stream error: stream ID 1; PROTOCOL_ERROR; mix of request and response pseudo headers`,
		frames: []string{"1 reset PROTOCOL_ERROR"},
	}, {
		name:   "a field in capital letters",
		answer: func(_ context.Context, p *h2Peer) error { return p.respond(1, true, "X", "y") },
		want:   `error: stream error: stream ID 1; PROTOCOL_ERROR; invalid header field name "X"`,
		frames: []string{"1 reset PROTOCOL_ERROR"},
	}, {
		name:   "DATA before the head",
		answer: func(_ context.Context, p *h2Peer) error { return p.WriteData(1, true, []byte("x")) },
		want:   "error: stream error: stream ID 1; PROTOCOL_ERROR; DATA before HEADERS",
		frames: []string{"1 reset PROTOCOL_ERROR"},
	}, {
		name: "DATA after the end",
		answer: func(_ context.Context, p *h2Peer) error {
			return errors.Join(p.okay(1, "hello"), p.WriteData(1, true, []byte("x")))
		},
		want: `200 "hello"`,
	}, {
		name:   "DATA for HEAD",
		method: "HEAD",
		answer: func(_ context.Context, p *h2Peer) error {
			return errors.Join(p.respond(1, false, "content-length", "5"), p.WriteData(1, true, []byte("hello")))
		},
		want:   `200 ""`,
		frames: []string{"1 reset PROTOCOL_ERROR"},
	}, {
		name:   "HEAD whose stream ends later",
		method: "HEAD",
		answer: func(_ context.Context, p *h2Peer) error {
			return errors.Join(p.respond(1, false, "content-length", "5"), p.WriteData(1, true, nil))
		},
		want: `200 ""`,
	}, {
		name: "too long a body",
		answer: func(_ context.Context, p *h2Peer) error {
			return errors.Join(p.respond(1, false, "content-length", "3"), p.WriteData(1, false, []byte("abc")), p.WriteData(1, true, []byte("d")))
		},
		want:   `200 "abc" asynciohttp: the body is longer than its Content-Length`,
		frames: []string{"1 reset PROTOCOL_ERROR"},
	}, {
		name: "too short a body",
		answer: func(_ context.Context, p *h2Peer) error {
			return errors.Join(p.respond(1, false, "content-length", "5"), p.WriteData(1, true, []byte("abc")))
		},
		want:   `200 "abc" asynciohttp: the body is shorter than its Content-Length: unexpected EOF`,
		frames: []string{"1 reset PROTOCOL_ERROR"},
	}, {
		name:   "no body in spite of a Content-Length",
		answer: func(_ context.Context, p *h2Peer) error { return p.respond(1, true, "content-length", "5") },
		want:   `200 "" asynciohttp: the body is shorter than its Content-Length: unexpected EOF`,
	}, {
		name: "a trailer that does not end the stream",
		answer: func(_ context.Context, p *h2Peer) error {
			return errors.Join(p.respond(1, false), p.send(1, false, "after", "x"))
		},
		want:   `200 "" stream error: stream ID 1; PROTOCOL_ERROR; a malformed trailer`,
		frames: []string{"1 reset PROTOCOL_ERROR"},
	}, {
		name: "a status in a trailer",
		answer: func(_ context.Context, p *h2Peer) error {
			return errors.Join(p.respond(1, false), p.respond(1, true))
		},
		want:   `200 "" stream error: stream ID 1; PROTOCOL_ERROR; a malformed trailer`,
		frames: []string{"1 reset PROTOCOL_ERROR"},
	}, {
		name: "a reset",
		answer: func(_ context.Context, p *h2Peer) error {
			return errors.Join(p.respond(1, false), p.WriteData(1, false, []byte("hel")), p.WriteRSTStream(1, http2.ErrCodeInternal))
		},
		want: `200 "hel" stream error: stream ID 1; INTERNAL_ERROR; received from the peer`,
	}, {
		name:   "a reset instead of a response",
		answer: func(_ context.Context, p *h2Peer) error { return p.WriteRSTStream(1, http2.ErrCodeInternal) },
		want:   `error: stream error: stream ID 1; INTERNAL_ERROR; received from the peer`,
	}, {
		name:   "a short body",
		method: "POST", body: post("0123456789"),
		answer: func(ctx context.Context, p *h2Peer) error {
			return errors.Join(p.until("1 data"), p.okay(1, "all"))
		},
		want:   `200 "all"`,
		frames: []string{`1 data "0123456789" end`},
	}, {
		name:   "a response of 200 while the body is sent",
		method: "POST", body: post(strings.Repeat("x", 70000)),
		answer: func(ctx context.Context, p *h2Peer) error {
			return errors.Join(p.okay(1, "early"), pause(ctx), p.WriteWindowUpdate(0, 1<<20), p.WriteWindowUpdate(1, 1<<20))
		},
		want:   `200 "early"`,
		frames: []string{"1 data", "1 data", "1 data", "1 data", "1 reset CANCEL"}, // at Close
	}, {
		name:   "a response of 200, and no interest in the body",
		method: "POST", body: post(strings.Repeat("x", 70000)),
		answer: func(ctx context.Context, p *h2Peer) error {
			return errors.Join(p.okay(1, "early"), p.WriteRSTStream(1, http2.ErrCodeNo))
		},
		want:   `200 "early"`,
		frames: []string{"1 data", "1 data", "1 data", "1 data"},
	}, {
		name:   "a refusal while the body is sent",
		method: "POST", body: post(strings.Repeat("x", 70000)),
		answer: func(ctx context.Context, p *h2Peer) error {
			return errors.Join(p.send(1, false, ":status", "413"), pause(ctx), p.WriteData(1, true, []byte("too much")))
		},
		want:   `413 "too much"`,
		frames: []string{"1 data", "1 data", "1 data", "1 data", "1 reset NO_ERROR"},
	}, {
		name:   "100-continue",
		method: "POST", body: post("body"), header: []string{"Expect", "100-continue"},
		tr: func(tr *asynciohttp.Transport) { tr.ExpectContinueTimeout = time.Hour },
		answer: func(ctx context.Context, p *h2Peer) error {
			return errors.Join(pause(ctx), p.send(1, false, ":status", "100"), p.until("1 data"), p.okay(1, "hello"))
		},
		want:   `200 "hello"`,
		frames: []string{`1 data "body"`, `1 data "" end`},
	}, {
		name:   "100-continue that does not come",
		method: "POST", body: post("body"), header: []string{"Expect", "100-continue"},
		tr: func(tr *asynciohttp.Transport) { tr.ExpectContinueTimeout = time.Second },
		answer: func(ctx context.Context, p *h2Peer) error {
			return errors.Join(p.until("1 data"), p.okay(1, "hello"))
		},
		want:   `200 "hello"`,
		frames: []string{`1 data "body"`, `1 data "" end`},
	}, {
		name:   "a refusal instead of 100-continue",
		method: "POST", body: post("body"), header: []string{"Expect", "100-continue"},
		tr: func(tr *asynciohttp.Transport) { tr.ExpectContinueTimeout = time.Hour },
		answer: func(ctx context.Context, p *h2Peer) error {
			return p.send(1, true, ":status", "417")
		},
		want:   `417 ""`,
		frames: []string{"1 reset NO_ERROR"},
	}, {
		name: "no head in time",
		tr:   func(tr *asynciohttp.Transport) { tr.ResponseHeaderTimeout = time.Second },
		answer: func(ctx context.Context, p *h2Peer) error {
			return errors.Join(p.until("1 reset"), p.okay(1, "late")) // which is dropped
		},
		want:   "error: asynciohttp: timeout awaiting response headers (ResponseHeaderTimeout)",
		frames: []string{"1 reset CANCEL"},
	}, {
		name:     "too large a request",
		settings: []http2.Setting{{ID: http2.SettingMaxHeaderListSize, Val: 300}},
		answer: func(_ context.Context, p *h2Peer) error {
			return errors.Join(p.okay(1, "hello"))
		},
		want: `200 "hello"`,
	}, {
		name: "an unknown frame, and PRIORITY",
		answer: func(_ context.Context, p *h2Peer) error {
			return errors.Join(p.WriteRawFrame(0xEE, 0, 0, []byte("x")), p.WritePriority(1, http2.PriorityParam{StreamDep: 0, Weight: 3}), p.okay(1, "hello"))
		},
		want: `200 "hello"`,
	}, {
		name:   "a window that is too large for the stream",
		answer: func(_ context.Context, p *h2Peer) error { return p.WriteWindowUpdate(1, 1<<31-1) },
		want:   "error: stream error: stream ID 1; FLOW_CONTROL_ERROR",
		frames: []string{"1 reset FLOW_CONTROL_ERROR"},
	}, {
		name:   "a window that is too large",
		answer: func(_ context.Context, p *h2Peer) error { return p.WriteWindowUpdate(0, 1<<31-1) },
		want:   "error: asynciohttp: the server breaks the rules of HTTP/2: FLOW_CONTROL_ERROR: connection error: FLOW_CONTROL_ERROR",
		frames: []string{"goaway 1 FLOW_CONTROL_ERROR"}, ends: true,
	}, {
		name: "a push",
		answer: func(_ context.Context, p *h2Peer) error {
			return p.WritePushPromise(http2.PushPromiseParam{StreamID: 1, PromiseID: 2, EndHeaders: true, BlockFragment: p.encode(request("GET", "/")...)})
		},
		want:   "error: asynciohttp: the server breaks the rules of HTTP/2: PROTOCOL_ERROR: connection error: PROTOCOL_ERROR",
		frames: []string{"goaway 1 PROTOCOL_ERROR"}, ends: true,
	}, {
		name:   "a stream of the server's",
		answer: func(_ context.Context, p *h2Peer) error { return p.respond(2, true) },
		want:   "error: asynciohttp: the server breaks the rules of HTTP/2: PROTOCOL_ERROR: connection error: PROTOCOL_ERROR",
		frames: []string{"goaway 1 PROTOCOL_ERROR"}, ends: true,
	}, {
		name:   "DATA for a stream that there is not",
		answer: func(_ context.Context, p *h2Peer) error { return p.WriteData(3, true, nil) },
		want:   "error: asynciohttp: the server breaks the rules of HTTP/2: PROTOCOL_ERROR: connection error: PROTOCOL_ERROR",
		frames: []string{"goaway 1 PROTOCOL_ERROR"}, ends: true,
	}, {
		name: "a block that is none",
		answer: func(_ context.Context, p *h2Peer) error {
			return p.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: bytes.Repeat([]byte{0xff}, 5), EndHeaders: true})
		},
		want:   "error: asynciohttp: the server breaks the rules of HTTP/2: COMPRESSION_ERROR: connection error: COMPRESSION_ERROR",
		frames: []string{"goaway 1 COMPRESSION_ERROR"}, ends: true,
	}, {
		name: "more data than the window allows",
		answer: func(_ context.Context, p *h2Peer) error {
			err := p.respond(1, false)
			for range 3 {
				err = errors.Join(err, p.WriteData(1, false, make([]byte, 1000)))
			}
			return err
		},
		tr:     func(tr *asynciohttp.Transport) { tr.HTTP2 = &http.HTTP2Config{MaxReceiveBufferPerStream: 1500} },
		want:   `200 (1000 bytes) stream error: stream ID 1; FLOW_CONTROL_ERROR`,
		frames: []string{"1 reset FLOW_CONTROL_ERROR"},
	}, {
		name:   "too large a frame",
		answer: func(_ context.Context, p *h2Peer) error { return p.WriteRawFrame(0, 0, 1, make([]byte, 20000)) },
		want:   "error: asynciohttp: the server breaks the rules of HTTP/2: FRAME_SIZE_ERROR: the frame is larger than allowed",
		frames: []string{"goaway 1 FRAME_SIZE_ERROR"}, ends: true,
	}, {
		name:   "an end",
		answer: func(_ context.Context, p *h2Peer) error { return p.Close() },
		want:   "error: unexpected EOF", ends: true,
	}, {
		name: "an end in the body",
		answer: func(_ context.Context, p *h2Peer) error {
			return errors.Join(p.respond(1, false), p.WriteData(1, false, []byte("hel")), p.Close())
		},
		want: `200 "hel" unexpected EOF`, ends: true,
	}, {
		name: "GOAWAY and an end",
		answer: func(_ context.Context, p *h2Peer) error {
			return errors.Join(p.WriteGoAway(1, http2.ErrCodeEnhanceYourCalm, []byte("calm")), p.Close())
		},
		want: `error: asynciohttp: the server has sent GOAWAY and closed the connection: LastStreamID=1, ErrCode=ENHANCE_YOUR_CALM, debug="calm"`, ends: true,
	}, {
		name: "GOAWAY with an error for the first request",
		answer: func(_ context.Context, p *h2Peer) error {
			return p.WriteGoAway(0, http2.ErrCodeInadequateSecurity, []byte("weak"))
		},
		want: `error: asynciohttp: the server has answered the first request with GOAWAY: INADEQUATE_SECURITY: "weak"`, ends: true,
	}, {
		name: "a PING",
		answer: func(_ context.Context, p *h2Peer) error {
			return errors.Join(p.WritePing(false, [8]byte{1}), p.okay(1, "x"))
		},
		want: `200 "x"`,
	}} {
		t.Run(test.name, func(t *testing.T) {
			method := test.method
			if method == "" {
				method = "GET"
			}
			conns := 0
			seen := withPeer(t, func(ctx context.Context, p *h2Peer) error {
				if conns++; p.n > 0 {
					return answerAll(ctx, p)
				}
				if err := errors.Join(p.until("1 headers"), test.answer(ctx, p)); err != nil {
					return err
				}
				return answerAll(ctx, p)
			}, test.settings, func(ctx context.Context, tr *asynciohttp.Transport) error {
				if test.tr != nil {
					test.tr(tr)
				}
				var body io.Reader
				if test.body != nil {
					body = test.body()
				}
				if got := outcome(ctx, tr, method, body, test.header...); got != test.want {
					t.Errorf("got  %s\nwant %s", got, test.want)
				}
				if err := pause(ctx); err != nil {
					return err
				}
				want := `200 "0.3"`
				if test.ends {
					want = `200 "1.1"`
				}
				if got := outcome(ctx, tr, "GET", nil); got != want {
					t.Errorf("then %s, want %s", got, want)
				}
				return nil
			})
			if (conns == 2) != test.ends {
				t.Errorf("%d connections", conns)
			}
			if len(seen) == 0 || len(seen[0]) == 0 {
				t.Fatal("the server has seen nothing")
			}
			got := seen[0][1:]
			if !test.ends {
				if last := len(got) - 1; last < 0 || got[last] != "3 "+helloRequest {
					t.Errorf("the server saw %q", got)
				} else {
					got = got[:last]
				}
			}
			if !slices.EqualFunc(got, test.frames, func(a, b string) bool { return a == b || strings.HasSuffix(b, "data") && strings.HasPrefix(a, b) }) {
				t.Errorf("the server saw %q\nwant            %q", got, test.frames)
			}
		})
	}
}
