//go:build unix

package interop

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/asynciohttp"
)

// Streams in both directions at once, and gRPC, need HTTP/2. Calls from a task block nothing; a
// stream whose requests are sent bit by bit is for a thread.
func TestTransport_ConnectHTTP2(t *testing.T) {
	type text = wrapperspb.StringValue
	mux := http.NewServeMux()
	mux.Handle("/s/Unary", connect.NewUnaryHandler("/s/Unary", func(_ context.Context, r *connect.Request[text]) (*connect.Response[text], error) {
		return connect.NewResponse(wrapperspb.String(r.Msg.Value + "!")), nil
	}))
	mux.Handle("/s/Down", connect.NewServerStreamHandler("/s/Down", func(_ context.Context, r *connect.Request[text], s *connect.ServerStream[text]) error {
		for _, c := range r.Msg.Value {
			if err := s.Send(wrapperspb.String(string(c))); err != nil {
				return err
			}
		}
		return connect.NewError(connect.CodeDataLoss, errors.New("no more"))
	}))
	mux.Handle("/s/Both", connect.NewBidiStreamHandler("/s/Both", func(_ context.Context, s *connect.BidiStream[text, text]) error {
		for {
			msg, err := s.Receive()
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return err
			}
			if err := s.Send(wrapperspb.String("got " + msg.Value)); err != nil {
				return err
			}
		}
	}))
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	srv := httptest.NewUnstartedServer(mux)
	srv.Config.Protocols = protocols
	srv.Start()
	defer srv.Close()
	for name, options := range map[string][]connect.ClientOption{"Connect": nil, "gRPC": {connect.WithGRPC()}} {
		t.Run(name, func(t *testing.T) {
			_, err := asyncio.Run(t.Context(), asyncio.Do(func(ctx context.Context) error {
				l, err := asyncio.GetRunningLoop(ctx)
				if err != nil {
					return err
				}
				tr := &asynciohttp.Transport{Loop: l, Protocols: protocols}
				defer tr.CloseIdleConnections()
				client := func(path string) *connect.Client[text, text] {
					return connect.NewClient[text, text](&http.Client{Transport: tr}, srv.URL+path, options...)
				}
				resp, err := client("/s/Unary").CallUnary(ctx, connect.NewRequest(wrapperspb.String("hello")))
				if err != nil || resp.Msg.Value != "hello!" {
					t.Errorf("unary: %v, %v", resp, err)
				}
				down, err := client("/s/Down").CallServerStream(ctx, connect.NewRequest(wrapperspb.String("abc")))
				if err != nil {
					return err
				}
				got := ""
				for down.Receive() {
					got += down.Msg().Value + " "
				}
				if err := down.Err(); got != "a b c " || connect.CodeOf(err) != connect.CodeDataLoss {
					t.Errorf("stream from the server: %q, %v", got, err)
				}
				if err := down.Close(); err != nil {
					return err
				}
				_, err = asyncio.ToThread(ctx, func(ctx context.Context) (asyncio.None, error) {
					both := client("/s/Both").CallBidiStream(ctx)
					for _, s := range []string{"a", "b", "c"} {
						if err := both.Send(wrapperspb.String(s)); err != nil {
							return asyncio.None{}, err
						}
						msg, err := both.Receive()
						if err != nil {
							return asyncio.None{}, err
						}
						if msg.Value != "got "+s {
							t.Errorf("both ways: %q", msg.Value)
						}
					}
					return asyncio.None{}, errors.Join(both.CloseRequest(), both.CloseResponse())
				})
				return err
			}), asyncio.DebugMode(true))
			if err != nil {
				t.Error(err)
			}
		})
	}
}
