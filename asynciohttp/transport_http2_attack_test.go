package asynciohttp_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/asynciohttp"
)

// An idle connection whose server answers each PING stays, whichever of the two times is longer.
func TestTransportHTTP2_HealthyIdle(t *testing.T) {
	for _, config := range []http.HTTP2Config{
		{SendPingTimeout: 10 * time.Second},
		{SendPingTimeout: time.Second, PingTimeout: time.Minute},
		{SendPingTimeout: time.Minute, PingTimeout: time.Second},
	} {
		seen := withPeer(t, answerAll, nil, func(ctx context.Context, tr *asynciohttp.Transport) error {
			tr.HTTP2 = &config
			if got := outcome(ctx, tr, "GET", nil); got != `200 "0.1"` {
				t.Error(got)
			}
			if err := asyncio.Sleep(ctx, 10*time.Minute+500*time.Millisecond); err != nil {
				return err
			}
			if got := outcome(ctx, tr, "GET", nil); got != `200 "0.3"` {
				t.Errorf("%v, %v: %s", config.SendPingTimeout, config.PingTimeout, got)
			}
			return nil
		})
		pings := strings.Count(strings.Join(seen[0], "\n"), "ping")
		if want := int(10 * time.Minute / config.SendPingTimeout); pings < want-1 || pings > want {
			t.Errorf("%v: %d pings, want %d", config.SendPingTimeout, pings, want)
		}
	}
}
