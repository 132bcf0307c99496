//go:build unix

package interop

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/asynciohttp"
)

// completions streams an answer word by word, as OpenAI's interface does. pause comes before each.
func completions(pause func(r *http.Request) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		for _, word := range []string{"one ", "two ", "three"} {
			if pause(r) != nil {
				return
			}
			fmt.Fprintf(w, "data: {\"choices\": [{\"index\": 0, \"delta\": {\"content\": %q}}]}\n\n", word)
			w.(http.Flusher).Flush()
		}
		io.WriteString(w, "data: [DONE]\n\n")
	})
}

// readCompletion returns a streamed answer, and in how many pieces it came.
func readCompletion(ctx context.Context, url string) (text string, pieces int, err error) {
	tr := new(asynciohttp.Transport)
	defer tr.CloseIdleConnections()
	c := openai.NewClient(option.WithBaseURL(url), option.WithAPIKey("key"), option.WithHTTPClient(&http.Client{Transport: tr}), option.WithMaxRetries(0))
	stream := c.Chat.Completions.NewStreaming(ctx, openai.ChatCompletionNewParams{
		Model: "m", Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage("count")},
	})
	defer stream.Close()
	for stream.Next() {
		for _, choice := range stream.Current().Choices {
			text += choice.Delta.Content
			pieces++
		}
	}
	return text, pieces, stream.Err()
}

func TestTransport_OpenAI(t *testing.T) {
	besideServer(t, completions(func(*http.Request) error { return nil }), func(ctx context.Context, url string) error {
		if text, pieces, err := readCompletion(ctx, url); text != "one two three" || pieces != 3 || err != nil {
			t.Errorf("%q in %d pieces, %v", text, pieces, err)
		}
		return nil
	})
}

// On virtual time the words come as they are sent, and a time-out ends the stream.
func TestTransport_OpenAISimulated(t *testing.T) {
	h := completions(func(r *http.Request) error { return asyncio.Sleep(r.Context(), time.Minute) })
	besideSimulated(t, h, func(ctx context.Context, url string) error {
		if text, pieces, err := readCompletion(ctx, url); text != "one two three" || pieces != 3 || err != nil {
			t.Errorf("%q in %d pieces, %v", text, pieces, err)
		}
		var text string
		err := asyncio.FailAfter(ctx, 150*time.Second, func(ctx context.Context) (err error) {
			text, _, err = readCompletion(ctx, url)
			return err
		})
		if text != "one two " || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("with a limit: %q, %v", text, err)
		}
		return nil
	})
}

// connect-go calls the client in the task for unary calls and streams from the server, and on a
// goroutine of its own for streams from the client.
func TestTransport_Connect(t *testing.T) {
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
		return nil
	}))
	mux.Handle("/s/Up", connect.NewClientStreamHandler("/s/Up", func(_ context.Context, s *connect.ClientStream[text]) (*connect.Response[text], error) {
		all := ""
		for s.Receive() {
			all += s.Msg().Value
		}
		return connect.NewResponse(wrapperspb.String(all)), s.Err()
	}))
	besideServer(t, mux, func(ctx context.Context, url string) error {
		l, err := asyncio.GetRunningLoop(ctx)
		if err != nil {
			return err
		}
		tr := &asynciohttp.Transport{Loop: l}
		defer tr.CloseIdleConnections()
		client := func(path string) *connect.Client[text, text] {
			return connect.NewClient[text, text](&http.Client{Transport: tr}, url+path)
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
		if err := down.Err(); got != "a b c " || err != nil {
			t.Errorf("stream from the server: %q, %v", got, err)
		}
		if err := down.Close(); err != nil {
			return err
		}
		// Send waits for whoever reads the request's body, so it must not be called in a task.
		got, err = asyncio.ToThread(ctx, func(ctx context.Context) (string, error) {
			up := client("/s/Up").CallClientStream(ctx)
			for _, s := range []string{"a", "b", "c"} {
				if err := up.Send(wrapperspb.String(s)); err != nil {
					return "", err
				}
			}
			resp, err := up.CloseAndReceive()
			if err != nil {
				return "", err
			}
			return resp.Msg.Value, nil
		})
		if got != "abc" || err != nil {
			t.Errorf("stream from the client: %q, %v", got, err)
		}
		return nil
	})
}
