//go:build unix

package interop

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/goasyncio/asyncio"
)

func TestDNS(t *testing.T) {
	address, s := startDNS(t)
	runBattery(t, s, dnsRows(address))
}

// startDNS starts dnsmasq, which asks a server in this process: that answers for v1.ask.test at
// once, and for v1.hold.test when it is told to. The answer is the address 10.0.0.1.
func startDNS(t *testing.T) (address string, s server) {
	t.Helper()
	dnsmasq := program(t, "dnsmasq", "dnsmasq-base", "/usr/sbin/dnsmasq")
	g := newGate()
	answer := func(w dns.ResponseWriter, question *dns.Msg) {
		value, kind, _ := strings.Cut(question.Question[0].Name, ".")
		if kind == "hold.test." && g.wait(t.Context(), value) != nil {
			return
		}
		number, err := strconv.Atoi(strings.TrimPrefix(value, "v"))
		if err != nil {
			t.Error(err)
		}
		reply := new(dns.Msg).SetReply(question)
		if question.Question[0].Qtype == dns.TypeA {
			reply.Answer = []dns.RR{&dns.A{
				Hdr: dns.RR_Header{Name: question.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET},
				A:   net.IPv4(10, byte(number>>16), byte(number>>8), byte(number)),
			}}
		}
		if err := w.WriteMsg(reply); err != nil && !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	pc, err := net.ListenPacket("udp", ln.Addr().String())
	must(t, err)
	for _, upstream := range []*dns.Server{{Listener: ln}, {PacketConn: pc}} {
		started, ended := make(chan struct{}), make(chan error, 1)
		upstream.Handler = dns.HandlerFunc(answer)
		upstream.NotifyStartedFunc = func() { close(started) }
		go func() { ended <- upstream.ActivateAndServe() }()
		<-started
		t.Cleanup(func() { must(t, errors.Join(upstream.Shutdown(), <-ended)) })
	}
	_, upstreamPort, _ := net.SplitHostPort(ln.Addr().String())

	address = startAt(t, syscall.SIGTERM, func(port int) (*exec.Cmd, func() error) {
		args := []string{
			"--keep-in-foreground", "--conf-file=/dev/null", "--no-hosts", "--no-resolv", "--cache-size=0", "--pid-file=", "--log-facility=-",
			"--listen-address=127.0.0.1", "--bind-interfaces", "--port=" + strconv.Itoa(port), "--server=127.0.0.1#" + upstreamPort,
			"--dns-forward-max=1000",
		}
		if os.Getuid() == 0 {
			args = append(args, "--user=root", "--group=root") // otherwise it becomes another user
		}
		return exec.Command(dnsmasq, args...), accepts("tcp", "127.0.0.1:"+strconv.Itoa(port))
	})
	return address, g.server()
}

func dnsRows(address string) []row {
	return []row{
		{
			library: "miekg/dns, TCP", way: asItIs, sim: "yes",
			cancel: outcome{atOnce, runsOn, oneEach}, done: outcome{task: ignored}, closing: endsThem,
			open: func(context.Context, int) (*client, error) {
				var used connections
				return dnsClient(&used, func(ctx context.Context, name string) (string, error) {
					c, err := asyncio.Dial(ctx, "tcp", address)
					if err != nil {
						return "", err
					}
					defer used.use(c)()
					return lookUp(c, name)
				}), nil
			},
		},
		{
			library: "miekg/dns, UDP", way: asItIs, sim: "yes",
			cancel: outcome{atOnce, runsOn, oneEach}, done: outcome{task: ignored}, closing: endsThem,
			open: func(context.Context, int) (*client, error) {
				var used connections
				return dnsClient(&used, func(ctx context.Context, name string) (string, error) {
					c, err := asyncio.DialPacket(ctx, "udp", address)
					if err != nil {
						return "", err
					}
					defer used.use(c)()
					return lookUp(c, name)
				}), nil
			},
		},
		{
			library: "net.Resolver", way: inThread, sim: "no",
			cancel: outcome{atOnce, runsOn, oneEach}, done: outcome{atOnce, runsOn, oneEach}, closing: nothing,
			open: func(context.Context, int) (*client, error) {
				return resolverClient(new(net.Dialer).DialContext, address), nil
			},
		},
		{
			library: "net.Resolver, TCP", way: onView, sim: "no",
			cancel: outcome{atOnce, runsOn, oneEach}, done: outcome{atOnce, runsOn, oneEach}, closing: nothing,
			open: func(ctx context.Context, _ int) (*client, error) {
				dial := asyncio.ThreadsafeDialer(ctx)
				return resolverClient(func(ctx context.Context, _, address string) (net.Conn, error) {
					return dial(ctx, "tcp", address)
				}, address), nil
			},
		},
	}
}

// resolverClient asks the server at the address, whatever the system's is, on connections that dial
// makes.
func resolverClient(dial dialFunc, address string) *client {
	var used connections
	resolver := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		c, err := dial(ctx, network, address)
		if err == nil {
			used.use(c)
		}
		return c, err
	}}
	c := dnsClient(&used, func(ctx context.Context, name string) (string, error) {
		ips, err := asyncio.ToThread(ctx, func(ctx context.Context) ([]net.IP, error) { return resolver.LookupIP(ctx, "ip4", name) })
		if err != nil {
			return "", err
		}
		return ips[0].String(), nil
	})
	c.close = func(context.Context) error { return nil }
	return c
}

// dnsClient makes a client of a function that looks a name up.
func dnsClient(used *connections, resolve func(ctx context.Context, name string) (string, error)) *client {
	// look looks up the name with a value, and returns the value that belongs to the address.
	look := func(ctx context.Context, value, domain string) (string, error) {
		address, err := resolve(ctx, value+domain)
		if err != nil {
			return "", err
		}
		ip := net.ParseIP(address).To4()
		return "v" + strconv.Itoa(int(ip[1])<<16|int(ip[2])<<8|int(ip[3])), nil
	}
	return &client{
		ask:  func(ctx context.Context, value string) (string, error) { return look(ctx, value, ".ask.test.") },
		hold: func(ctx context.Context, value string) (string, error) { return look(ctx, value, ".hold.test.") },
		connection: func(ctx context.Context) (string, error) {
			_, err := resolve(ctx, "v0.ask.test.")
			return used.last, err
		},
		close: used.close,
	}
}

// lookUp asks a server for the address of a name in the calling task, on a connection of its own.
func lookUp(conn net.Conn, name string) (string, error) {
	defer conn.Close()
	c := dns.Client{Timeout: time.Hour}
	reply, _, err := c.ExchangeWithConn(new(dns.Msg).SetQuestion(name, dns.TypeA), &dns.Conn{Conn: conn})
	if err != nil {
		return "", err
	}
	if len(reply.Answer) != 1 {
		return "", fmt.Errorf("answer %v", reply)
	}
	return reply.Answer[0].(*dns.A).A.String(), nil
}
