package sim_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/sim"
)

// listens returns a host's program that accepts connections at addresses.
func listens(network string, addresses ...string) func(ctx context.Context) error {
	return func(ctx context.Context) error {
		for _, a := range addresses {
			l, err := asyncio.Listen(ctx, network, a)
			if err != nil {
				return err
			}
			start(ctx, "accept "+a, func(ctx context.Context) error {
				for {
					c, err := l.AcceptContext(ctx)
					if err != nil {
						return nil
					}
					c.Close()
				}
			})
		}
		return asyncio.Sleep(ctx, time.Hour)
	}
}

// tries dials from main and says what came of it: the address that was reached, or the error, and
// how long that took.
func tries(ctx context.Context, network, address string) string {
	loop, err := asyncio.GetRunningLoop(ctx)
	if err != nil {
		return err.Error()
	}
	begun := loop.Time()
	c, err := asyncio.Dial(ctx, network, address)
	took := loop.Time().Sub(begun).Round(time.Millisecond)
	if err != nil {
		for _, is := range []error{syscall.ECONNREFUSED, syscall.ETIMEDOUT, syscall.ENETUNREACH} {
			if errors.Is(err, is) {
				err = is
			}
		}
		var dns *net.DNSError
		if errors.As(err, &dns) {
			err = errors.New(dns.Err)
		}
		return fmt.Sprintf("%v after %v", err, took)
	}
	defer c.Close()
	return fmt.Sprintf("%v after %v", c.RemoteAddr(), took)
}

// What a name leads to, with and without IPv6, and how the families and addresses are tried.
func TestDNS_Dial(t *testing.T) {
	const latency = 10 * time.Millisecond
	both := listens("tcp", ":7")
	for _, c := range []struct {
		name             string
		ipv6             bool
		a, b             func(ctx context.Context) error
		set              func(n *sim.Network)
		network, address string
		want             string
	}{
		{"a host", false, both, both, nil, "tcp", "a:7", "10.0.0.2:7 after 20ms"},
		{"an unknown name", false, both, both, nil, "tcp", "c:7", "no such host after 0s"},
		{"a host, with IPv6", true, both, both, nil, "tcp", "a:7", "[fd00::2]:7 after 20ms"},
		{"IPv4 of a host with IPv6", true, both, both, nil, "tcp4", "a:7", "10.0.0.2:7 after 20ms"},
		{"IPv6 only", true, both, both, nil, "tcp6", "a:7", "[fd00::2]:7 after 20ms"},
		{"IPv6 of a network without", false, both, both, nil, "tcp6", "a:7", "dial tcp6: address a: no suitable address found after 0s"},
		{"an address of IPv6", true, both, both, nil, "tcp", "[fd00::3]:7", "[fd00::3]:7 after 20ms"},
		{"an address of IPv6 without IPv6", false, both, both, nil, "tcp", "[fd00::3]:7", "dial tcp: address fd00::3: there is no IPv6 in this network (sim.Network.SetIPv6) after 0s"},
		{"a listener of IPv4 refuses the other family", true, listens("tcp4", ":7"), both, nil, "tcp", "a:7", "10.0.0.2:7 after 40ms"},
		{"a listener at 0.0.0.0", true, listens("tcp", "0.0.0.0:7"), both, nil, "tcp", "a:7", "10.0.0.2:7 after 40ms"},
		{"a listener at both, each by itself", true, listens("tcp", "0.0.0.0:7", "[fd00::2]:7"), both, nil, "tcp", "a:7", "[fd00::2]:7 after 20ms"},
		{"IPv6 is lost", true, both, both, func(n *sim.Network) {
			n.AddRule(sim.Rule{Kinds: []sim.MessageKind{sim.KindRequest}, Match: func(m sim.Message) bool { return m.Destination.Addr().Is6() }, Do: sim.Drop})
		}, "tcp", "a:7", "10.0.0.2:7 after 320ms"},
		{"IPv6 is slow, and comes first nevertheless", true, both, both, func(n *sim.Network) {
			n.AddRule(sim.Rule{Kinds: []sim.MessageKind{sim.KindRequest}, Match: func(m sim.Message) bool { return m.Destination.Addr().Is6() && m.To == "a" }, Do: sim.Delay, Delay: 290 * time.Millisecond})
		}, "tcp", "a:7", "[fd00::2]:7 after 310ms"},
		{"a name of two hosts", false, both, both, func(n *sim.Network) { n.SetName("ab", "a", "b") }, "tcp", "ab:7", "10.0.0.2:7 after 20ms"},
		{"the first of two hosts refuses", false, listens("tcp", ":8"), both, func(n *sim.Network) { n.SetName("ab", "a", "b") }, "tcp", "ab:7", "10.0.0.3:7 after 40ms"},
		{"both refuse", false, both, both, func(n *sim.Network) { n.SetName("ab", "a", "b") }, "tcp", "ab:8", "connection refused after 40ms"},
		{"both refuse, in both families", true, both, both, func(n *sim.Network) { n.SetName("ab", "a", "b") }, "tcp", "ab:8", "connection refused after 80ms"},
		{"an address that nobody has, then one of another family", true, both, both, func(n *sim.Network) { n.SetName("ab", "192.0.2.1", "fd00::3") }, "tcp", "ab:7", "[fd00::3]:7 after 320ms"},
		{"an address that nobody has, then one of the same family", false, both, both, func(n *sim.Network) { n.SetName("ab", "192.0.2.1", "b") }, "tcp", "ab:7", "10.0.0.3:7 after 2m7.02s"},
		{"a name with an address of IPv6 without IPv6", false, both, both, func(n *sim.Network) { n.SetName("ab", "fd00::2") }, "tcp", "ab:7", "network is unreachable after 0s"},
		{"a name that has been taken away", false, both, both, func(n *sim.Network) { n.SetName("a") }, "tcp", "a:7", "no such host after 0s"},
		{"a lookup takes time", false, both, both, func(n *sim.Network) { n.SetDNS(sim.DNS{MinLatency: time.Second}) }, "tcp", "a:7", "10.0.0.2:7 after 1.02s"},
		{"a lookup that finds nothing takes time", false, both, both, func(n *sim.Network) { n.SetDNS(sim.DNS{MinLatency: time.Second}) }, "tcp", "c:7", "no such host after 1s"},
		{"an address is not looked up", false, both, both, func(n *sim.Network) { n.SetDNS(sim.DNS{MinLatency: time.Second}) }, "tcp", "10.0.0.3:7", "10.0.0.3:7 after 20ms"},
		{"not found", false, both, both, func(n *sim.Network) { n.SetDNS(sim.DNS{NotFound: 1}) }, "tcp", "a:7", "no such host after 0s"},
		{"the name server fails", false, both, both, func(n *sim.Network) { n.SetDNS(sim.DNS{Fails: 1}) }, "tcp", "a:7", "server misbehaving after 0s"},
		{"slow", false, both, both, func(n *sim.Network) { n.SetDNS(sim.DNS{Slow: 1}) }, "tcp", "a:7", "10.0.0.2:7 after 5.02s"},
		{"stale", false, both, both, func(n *sim.Network) {
			n.SetName("db", "a")
			n.SetName("db", "b")
			n.SetDNS(sim.DNS{Stale: 1})
		}, "tcp", "db:7", "10.0.0.2:7 after 20ms"},
		{"no fault is left", false, both, both, func(n *sim.Network) { n.SetDNS(sim.DNS{NotFound: 0.5, Fails: 0.5, Stale: 0.5, Slow: 0.5}) }, "tcp", "a:7", "10.0.0.2:7 after 20ms"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := ""
			sim.Run(t, func(ctx context.Context) error {
				n := sim.NetworkOf(ctx)
				n.SetIPv6(c.ipv6)
				n.SetLink(sim.Link{MinLatency: latency})
				sim.NewHost(ctx, "a", c.a)
				sim.NewHost(ctx, "b", c.b)
				if err := asyncio.Sleep(ctx, time.Second); err != nil {
					return err
				}
				if c.set != nil {
					c.set(n)
				}
				got = tries(ctx, c.network, c.address)
				return nil
			})
			if got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
		})
	}
}

// A cancel in the middle of a lookup, or of attempts side by side, leaves nothing behind: the run
// comes to rest.
func TestDNS_CancelledDial(t *testing.T) {
	for _, after := range []time.Duration{500 * time.Millisecond, 1100 * time.Millisecond, 1400 * time.Millisecond, 10 * time.Second} {
		sim.Run(t, func(ctx context.Context) error {
			n := sim.NetworkOf(ctx)
			n.SetIPv6(true)
			n.SetDNS(sim.DNS{MinLatency: time.Second})
			n.SetLink(sim.Link{MinLatency: 10 * time.Millisecond})
			sim.NewHost(ctx, "a", listens("tcp", ":7"))
			n.Isolate("a")
			if _, err := asyncio.WaitFor(ctx, asyncio.Do(func(ctx context.Context) error {
				_, err := asyncio.Dial(ctx, "tcp", "a:7")
				return err
			}), after); !errors.Is(err, asyncio.ErrTimeout) {
				return fmt.Errorf("%v, want a timeout", err)
			}
			return asyncio.Sleep(ctx, time.Minute)
		})
	}
}

// Datagrams take the first address, and sockets of the two families do not mix.
func TestDNS_Datagrams(t *testing.T) {
	sim.Run(t, func(ctx context.Context) error {
		n := sim.NetworkOf(ctx)
		n.SetIPv6(true)
		n.SetDNS(sim.DNS{MinLatency: time.Second})
		var from []string
		host := sim.NewHost(ctx, "a", func(ctx context.Context) error {
			c, err := asyncio.ListenPacket(ctx, "udp", ":7")
			if err != nil {
				return err
			}
			for p := make([]byte, 10); ; {
				_, addr, err := c.ReadFrom(p)
				if err != nil {
					return err
				}
				from = append(from, addr.String())
			}
		})
		for _, network := range []string{"udp", "udp4", "udp6"} {
			c, err := asyncio.DialPacket(ctx, network, "a:7")
			if err != nil {
				return err
			}
			defer c.Close()
			if _, err := c.Write([]byte("x")); err != nil {
				return err
			}
		}
		four, err := asyncio.ListenPacket(ctx, "udp4", ":9")
		if err != nil {
			return err
		}
		defer four.Close()
		if _, err := four.WriteTo([]byte("x"), net.UDPAddrFromAddrPort(netip.AddrPortFrom(host.Addr6(), 7))); err == nil {
			return errors.New("a socket of IPv4 has sent to IPv6")
		}
		six, err := asyncio.ListenPacket(ctx, "udp", "[fd00::1]:9")
		if err != nil {
			return err
		}
		defer six.Close()
		if _, err := six.WriteTo([]byte("x"), net.UDPAddrFromAddrPort(netip.AddrPortFrom(host.Addr(), 7))); err == nil {
			return errors.New("a socket of IPv6 has sent to IPv4")
		}
		if _, err := six.WriteTo([]byte("x"), net.UDPAddrFromAddrPort(netip.AddrPortFrom(host.Addr6(), 7))); err != nil {
			return err
		}
		if err := asyncio.Sleep(ctx, time.Second); err != nil {
			return err
		}
		got := strings.Join(from, " ")
		if want := "[fd00::1]:32768 10.0.0.1:32769 [fd00::1]:32770 [fd00::1]:9"; got != want {
			return fmt.Errorf("from %s, want %s", got, want)
		}
		return nil
	})
}

// A failover changes an address, and one lookup gets the old answer: the fault is found, and named.
func TestDNS_FaultsAreFound(t *testing.T) {
	for what, dns := range map[string]sim.DNS{
		"lookup: main: the answer for db is stale":   {Stale: 0.05},
		"lookup: main: db is not found":              {NotFound: 0.05},
		"lookup: main: the name server fails for db": {Fails: 0.05},
		"lookup: main: db takes 30s longer":          {Slow: 0.05, SlowTime: 30 * time.Second},
		"lookup: main: db took 40s instead of 1ms":   {MinLatency: time.Millisecond, MaxLatency: 40 * time.Second},
	} {
		f := sim.Check(func(ctx context.Context) error {
			n := sim.NetworkOf(ctx)
			sim.NewHost(ctx, "old", listens("tcp", ":8"))
			sim.NewHost(ctx, "new", listens("tcp", ":7"))
			n.SetName("db", "old")
			if err := asyncio.Sleep(ctx, time.Second); err != nil {
				return err
			}
			n.SetName("db", "new")
			n.SetDNS(dns)
			for range 20 {
				if _, err := asyncio.WaitFor(ctx, asyncio.Do(func(ctx context.Context) error {
					c, err := asyncio.Dial(ctx, "tcp", "db:7")
					if err == nil {
						c.Close()
					}
					return err
				}), 20*time.Second); err != nil {
					return err
				}
			}
			return nil
		}, sim.WithStrategy(sim.Exhaustive(1)), sim.Runs(500)).Failure
		if f == nil || len(f.Deviations) != 1 || !strings.Contains(f.Deviations[0], what) {
			t.Errorf("want %q: %v", what, f)
		}
	}
}

func TestDNS_Misuse(t *testing.T) {
	for want, do := range map[string]func(n *sim.Network){
		"2 is not a probability":     func(n *sim.Network) { n.SetDNS(sim.DNS{Slow: 2}) },
		"a time is negative":         func(n *sim.Network) { n.SetDNS(sim.DNS{SlowTime: -1}) },
		"is less than MinLatency":    func(n *sim.Network) { n.SetDNS(sim.DNS{MinLatency: 2, MaxLatency: 1}) },
		`"a b" is no name`:           func(n *sim.Network) { n.SetName("a b", "main") },
		`"localhost" is no name`:     func(n *sim.Network) { n.SetName("localhost", "main") },
		`"10.0.0.9" is an address`:   func(n *sim.Network) { n.SetName("10.0.0.9", "main") },
		`there is no host "missing"`: func(n *sim.Network) { n.SetName("db", "missing") },
	} {
		f := sim.Check(func(ctx context.Context) error { do(sim.NetworkOf(ctx)); return nil }).Failure
		if !errors.Is(f, asyncio.ErrInvalidArgument) || !strings.Contains(f.Error(), want) {
			t.Errorf("%v, want %q", f, want)
		}
	}
}
