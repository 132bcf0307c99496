package main

import (
	"context"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/sim"
)

func payment(ctx context.Context) error {
	sim.NetworkOf(ctx).SetLink(sim.Link{MinLatency: time.Millisecond, Loss: 0.1})
	paid := 0
	sim.NewHost(ctx, "bank", func(ctx context.Context) error {
		conn, err := asyncio.ListenPacket(ctx, "udp", ":7000")
		for request := make([]byte, 100); err == nil; {
			var from net.Addr
			if _, from, err = conn.ReadFrom(request); err == nil {
				paid++
				_, err = conn.WriteTo([]byte("paid"), from)
			}
		}
		return err
	})
	conn, err := asyncio.DialPacket(ctx, "udp", "bank:7000")
	for answered := false; err == nil && !answered; {
		if _, err = conn.Write([]byte("pay the rent")); err == nil {
			answered = asyncio.FailAfter(ctx, time.Second, func(ctx context.Context) error {
				_, err := conn.ReadContext(ctx, make([]byte, 100))
				return err
			}) == nil
		}
	}
	if err == nil && paid != 1 {
		err = fmt.Errorf("the rent was paid %d times", paid)
	}
	return err
}

func Example_payment() {
	cause, _, _ := strings.Cut(sim.Check(payment).Failure.Error(), "\n\n")
	fmt.Println(cause)
	// Output:
	// It takes: first in, first out everywhere, except that
	//   at step 5 there was a fault: lose a datagram from bank to main (step 5, 'bank/main' from payment_test.go:21 to asyncio.(*PacketConn).ReadFrom at payment_test.go:21)
	// (of 2 deviations; no schedule with fewer fails)
	// It goes wrong in step 9, 'main' from payment_test.go:32 to its end:
	// main returned an error: the rent was paid 2 times
}
