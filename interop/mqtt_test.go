//go:build unix

package interop

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/goasyncio/asyncio"
)

func TestMQTT(t *testing.T) {
	address := startMosquitto(t)
	runBattery(t, mqttServer(t, address), mqttRows(address))
}

// startMosquitto starts a broker.
func startMosquitto(t *testing.T) (address string) {
	t.Helper()
	mosquitto := program(t, "mosquitto", "mosquitto", "/usr/sbin/mosquitto")
	dir := directory(t)
	return startAt(t, syscall.SIGTERM, func(port int) (*exec.Cmd, func() error) {
		config := filepath.Join(dir, "config")
		text := fmt.Sprintf("listener %d 127.0.0.1\nallow_anonymous true\npersistence false\nset_tcp_nodelay true\n", port)
		if os.Getuid() == 0 {
			text += "user root\n" // otherwise it becomes a user that may not exist
		}
		must(t, os.WriteFile(config, []byte(text), 0o644))
		return exec.Command(mosquitto, "-c", config), accepts("tcp", "127.0.0.1:"+strconv.Itoa(port))
	})
}

var mqttClients atomic.Int64 // for their names

func mqttOptions(address string) *mqtt.ClientOptions {
	return mqtt.NewClientOptions().AddBroker("tcp://" + address).SetClientID("client" + strconv.FormatInt(mqttClients.Add(1), 10))
}

// mqttServer is a client of the broker that answers what is published to "ask" at once, and what is
// published to "hold" when it is told to, at "answer/VALUE".
func mqttServer(t *testing.T, address string) server {
	control := mqtt.NewClient(mqttOptions(address).SetOrderMatters(false))
	wait := func(token mqtt.Token) {
		token.Wait()
		must(t, token.Error())
	}
	wait(control.Connect())
	t.Cleanup(func() { control.Disconnect(0) })
	g := newGate()
	answer := func(m mqtt.Message) {
		control.Publish("answer/"+string(m.Payload()), 1, false, m.Payload())
	}
	wait(control.Subscribe("ask", 1, func(_ mqtt.Client, m mqtt.Message) { answer(m) }))
	wait(control.Subscribe("hold", 1, func(_ mqtt.Client, m mqtt.Message) {
		if g.wait(t.Context(), string(m.Payload())) == nil {
			answer(m)
		}
	}))
	return g.server()
}

func mqttRows(address string) []row {
	left := outcome{atOnce, runsOn, kept}
	return []row{
		{
			library: "paho.mqtt.golang", way: callbacks, sim: "no", cancel: left, done: left, closing: endsThem,
			open: func(ctx context.Context, _ int) (*client, error) { return mqttClient(ctx, mqttOptions(address)) },
		},
		{
			library: "paho.mqtt.golang", way: onView, sim: "no", cancel: left, done: left, closing: endsThem,
			open: func(ctx context.Context, _ int) (*client, error) {
				dial := asyncio.ThreadsafeDialer(ctx)
				return mqttClient(ctx, mqttOptions(address).SetCustomOpenConnectionFn(func(uri *url.URL, _ mqtt.ClientOptions) (net.Conn, error) {
					return dial(context.Background(), "tcp", uri.Host)
				}))
			},
		},
	}
}

// sent suspends the calling task until the client has done what call asks of it. The call itself
// blocks while the connection accepts no more, so a thread makes it. No thread waits for the
// broker.
func sent(ctx context.Context, call func() mqtt.Token) error {
	token, err := asyncio.ToThread(ctx, func(context.Context) (mqtt.Token, error) { return call(), nil })
	if err != nil {
		return err
	}
	if _, _, err := asyncio.Recv(ctx, token.Done()); err != nil {
		return err
	}
	return token.Error()
}

// mqttClient makes a client that gets its answers by a subscription, whose handler runs on a
// goroutine of the library's.
func mqttClient(ctx context.Context, options *mqtt.ClientOptions) (*client, error) {
	loop, err := asyncio.GetRunningLoop(ctx)
	if err != nil {
		return nil, err
	}
	answers, connections := make(waiters), 0
	options.SetOnConnectHandler(func(mqtt.Client) { loop.CallSoonThreadsafe(func() { connections++ }) })
	mc := mqtt.NewClient(options)
	if err := sent(ctx, mc.Connect); err != nil {
		return nil, err
	}
	heard := func(_ mqtt.Client, m mqtt.Message) {
		loop.CallSoonThreadsafe(func() { answers.deliver(string(m.Payload())) })
	}
	if err := sent(ctx, func() mqtt.Token { return mc.Subscribe("answer/+", 1, heard) }); err != nil {
		return nil, err
	}
	request := func(ctx context.Context, topic, value string) (string, error) {
		return answers.wait(ctx, value, func() error {
			return sent(ctx, func() mqtt.Token { return mc.Publish(topic, 1, false, value) })
		})
	}
	return &client{
		ask:        func(ctx context.Context, value string) (string, error) { return request(ctx, "ask", value) },
		hold:       func(ctx context.Context, value string) (string, error) { return request(ctx, "hold", value) },
		connection: func(context.Context) (string, error) { return strconv.Itoa(connections), nil },
		close: func(ctx context.Context) error {
			answers.fail(mqtt.ErrNotConnected)
			return inThreadOnly(func() error { mc.Disconnect(uint(time.Second.Milliseconds())); return nil })(ctx)
		},
	}, nil
}
