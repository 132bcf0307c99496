package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"slices"
	"strings"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/sim"
)

// bank adds to paid, which is the test's, whenever it pays. What it has paid is its own.
func bank(paid *int, remembers bool) func(ctx context.Context) error {
	return func(ctx context.Context) error {
		var done []string
		conn, err := asyncio.ListenPacket(ctx, "udp", ":7000")
		if err != nil {
			return err
		}
		defer conn.Close()
		for request := make([]byte, 100); ; {
			n, client, err := conn.ReadFrom(request)
			if err != nil {
				return err
			}
			payment := string(request[:n])
			if !(remembers && slices.Contains(done, payment)) {
				done = append(done, payment)
				*paid++
			}
			if _, err := conn.WriteTo([]byte("paid"), client); err != nil {
				return err
			}
		}
	}
}

func pay(ctx context.Context, payment string) error {
	conn, err := asyncio.DialPacket(ctx, "udp", "bank:7000")
	if err != nil {
		return err
	}
	defer conn.Close()
	for {
		if _, err := conn.Write([]byte(payment)); err != nil {
			return err
		}
		err := asyncio.FailAfter(ctx, time.Second, func(ctx context.Context) error {
			_, err := conn.ReadContext(ctx, make([]byte, 100))
			return err
		})
		if !errors.Is(err, asyncio.ErrTimeout) {
			return err
		}
	}
}

// check runs a bank and a client on hosts of their own, many times, and a network between them that
// loses one datagram in ten.
func check(remembers bool) *sim.Report {
	return sim.Check(func(ctx context.Context) error {
		sim.NetworkOf(ctx).SetLink(sim.Link{MinLatency: time.Millisecond, Loss: 0.1})
		paid := 0
		sim.NewHost(ctx, "bank", bank(&paid, remembers))
		client := sim.NewHost(ctx, "client", func(ctx context.Context) error { return pay(ctx, "rent 1") })
		if err := client.Wait(ctx); err != nil {
			return err
		}
		if paid != 1 {
			return fmt.Errorf("the rent was paid %d times", paid)
		}
		return nil
	})
}

func explore() error {
	wrong := check(false).Failure
	if wrong == nil {
		return errors.New("the exploration found nothing")
	}
	fmt.Println("remembers: false, run", wrong.Run, "fails")
	why, _, _ := strings.Cut(wrong.Error(), "\n\n") // a trace follows
	fmt.Println(why)
	corrected := check(true)
	if corrected.Failure != nil {
		return corrected.Failure
	}
	fmt.Println("remembers: true,", corrected.Runs, "runs, and none fails")
	for _, fault := range corrected.Faults {
		fmt.Println(fault)
	}
	return nil
}

func main() {
	if err := explore(); err != nil {
		log.Fatal(err)
	}
}
