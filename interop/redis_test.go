//go:build unix

package interop

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	redigo "github.com/gomodule/redigo/redis"
	"github.com/redis/go-redis/v9"

	"github.com/goasyncio/asyncio"
)

func TestRedis(t *testing.T) {
	socket := startRedis(t)
	runBattery(t, redisServer(t, socket), redisRows(socket))
}

// startRedis starts a server at a Unix socket.
func startRedis(t *testing.T) (socket string) {
	t.Helper()
	socket = filepath.Join(directory(t), "redis")
	cmd := exec.Command(program(t, "redis-server", "redis-server"), "--port", "0", "--unixsocket", socket, "--save", "", "--appendonly", "no")
	cmd.Dir = filepath.Dir(socket)
	start(t, cmd, syscall.SIGTERM, accepts("unix", socket))
	return socket
}

// redisServer is what the battery needs: a BLPOP waits until there is something in its list, and a
// subscriber of hold:VALUE until something is published.
func redisServer(t *testing.T, socket string) server {
	control, err := redigo.Dial("unix", socket)
	must(t, err)
	t.Cleanup(func() { must(t, control.Close()) })
	var mu sync.Mutex
	do := func(command string, args ...any) (any, error) {
		mu.Lock()
		defer mu.Unlock()
		return control.Do(command, args...)
	}
	return server{
		held: func() (int, error) {
			info, err := redigo.String(do("INFO", "clients"))
			if err != nil {
				return 0, err
			}
			_, after, _ := strings.Cut(info, "blocked_clients:")
			number, _, _ := strings.Cut(after, "\r\n")
			blocked, err := strconv.Atoi(number)
			channels, e := redigo.Strings(do("PUBSUB", "CHANNELS", "hold:*"))
			return blocked + len(channels), errors.Join(err, e)
		},
		release: func(values ...string) error {
			for _, value := range values {
				// a list for those who pop, a message for those who have subscribed
				_, err := do("RPUSH", value, value)
				_, e := do("PUBLISH", "hold:"+value, value)
				if err := errors.Join(err, e); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

func redisRows(socket string) []row {
	stays := outcome{atOnce, runsOn, kept}
	return []row{
		{
			library: "go-redis", way: inThread, sim: "no", cancel: stays, done: stays, closing: endsThem,
			open: func(_ context.Context, conns int) (*client, error) {
				return goRedisClient(redis.NewClient(&redis.Options{Network: "unix", Addr: socket, PoolSize: conns})), nil
			},
		},
		{
			library: "go-redis", way: onView, sim: "no", cancel: stays, done: stays, closing: endsThem,
			open: func(ctx context.Context, conns int) (*client, error) {
				options := &redis.Options{Network: "unix", Addr: socket, PoolSize: conns}
				options.Dialer = asyncio.ThreadsafeDialer(ctx)
				return goRedisClient(redis.NewClient(options)), nil
			},
		},
		{
			library: "go-redis, subscription", way: callbacks, sim: "no",
			cancel: outcome{atOnce, takenBack, oneEach}, done: outcome{atOnce, takenBack, oneEach}, closing: endsThem,
			open: func(_ context.Context, _ int) (*client, error) {
				return subscriberClient(redis.NewClient(&redis.Options{Network: "unix", Addr: socket})), nil
			},
		},
		{
			library: "go-redis, subscription", way: onView, sim: "no",
			cancel: outcome{atOnce, takenBack, oneEach}, done: outcome{atOnce, takenBack, oneEach}, closing: endsThem,
			open: func(ctx context.Context, _ int) (*client, error) {
				return subscriberClient(redis.NewClient(&redis.Options{Network: "unix", Addr: socket, Dialer: asyncio.ThreadsafeDialer(ctx)})), nil
			},
		},
		{
			library: "redigo", way: asItIs, sim: "yes",
			cancel: outcome{atOnce, takenBack, replaced}, done: outcome{task: ignored}, closing: leavesThem,
			open: func(_ context.Context, conns int) (*client, error) {
				pool := &redigo.Pool{
					MaxIdle: conns,
					DialContext: func(ctx context.Context) (redigo.Conn, error) {
						return redigo.DialContext(ctx, "unix", socket, redigo.DialContextFunc(asyncio.DialContext))
					},
				}
				return redigoClient(pool), nil
			},
		},
	}
}

func goRedisClient(rdb *redis.Client) *client {
	return &client{
		ask: func(ctx context.Context, value string) (string, error) {
			return asyncio.ToThread(ctx, func(ctx context.Context) (string, error) {
				return rdb.Echo(ctx, value).Result()
			})
		},
		hold: func(ctx context.Context, value string) (string, error) {
			return asyncio.ToThread(ctx, func(ctx context.Context) (string, error) { return popped(rdb.BLPop(ctx, 0, value).Result()) })
		},
		connection: func(ctx context.Context) (string, error) {
			id, err := asyncio.ToThread(ctx, func(ctx context.Context) (int64, error) { return rdb.ClientID(ctx).Result() })
			return strconv.FormatInt(id, 10), err
		},
		close:     inThreadOnly(rdb.Close),
		goroutine: func(ctx context.Context, value string) (string, error) { return rdb.Echo(ctx, value).Result() },
	}
}

// subscriberClient gets its answers by subscriptions, each of which has a connection of its own.
// What it asks for it publishes itself, and what is held back the server publishes.
func subscriberClient(rdb *redis.Client) *client {
	open := make(map[*redis.PubSub]bool)
	listen := func(ctx context.Context, channel string, subscribed func(ctx context.Context) error) (string, error) {
		sub := rdb.Subscribe(asyncio.Outside(ctx)) // to nothing, so it does not dial yet
		open[sub] = true
		defer func() {
			delete(open, sub)
			go sub.Close() // it may wait for Subscribe
		}()
		if err := subscribe(ctx, sub, channel); err != nil {
			return "", err
		}
		if err := subscribed(ctx); err != nil {
			return "", err
		}
		message, ok, err := asyncio.Recv(ctx, sub.Channel())
		if !ok {
			return "", errors.Join(err, redis.ErrClosed)
		}
		return message.Payload, nil
	}
	return &client{
		ask: func(ctx context.Context, value string) (string, error) {
			return listen(ctx, "ask:"+value, func(ctx context.Context) error {
				_, err := asyncio.ToThread(ctx, func(ctx context.Context) (int64, error) { return rdb.Publish(ctx, "ask:"+value, value).Result() })
				return err
			})
		},
		hold: func(ctx context.Context, value string) (string, error) {
			return listen(ctx, "hold:"+value, func(context.Context) error { return nil })
		},
		connection: func(ctx context.Context) (string, error) { return strconv.FormatInt(lastValue.Add(1), 10), nil },
		close: func(ctx context.Context) error {
			subs := slices.Collect(maps.Keys(open))
			return inThreadOnly(func() (err error) {
				for _, sub := range subs {
					err = errors.Join(err, sub.Close())
				}
				return errors.Join(err, rdb.Close())
			})(ctx)
		},
	}
}

// subscribe suspends the calling task until the server has confirmed a subscription.
func subscribe(ctx context.Context, sub *redis.PubSub, channel string) error {
	_, err := asyncio.ToThread(ctx, func(ctx context.Context) (any, error) {
		if err := sub.Subscribe(ctx, channel); err != nil {
			return nil, err
		}
		return sub.Receive(ctx)
	})
	return err
}

func redigoClient(pool *redigo.Pool) *client {
	do := func(ctx context.Context, command string, args ...any) (any, error) {
		c, err := pool.GetContext(ctx)
		if err != nil {
			return nil, err
		}
		defer c.Close()
		return c.Do(command, args...)
	}
	return &client{
		ask: func(ctx context.Context, value string) (string, error) { return redigo.String(do(ctx, "ECHO", value)) },
		hold: func(ctx context.Context, value string) (string, error) {
			return popped(redigo.Strings(do(ctx, "BLPOP", value, 0)))
		},
		connection: func(ctx context.Context) (string, error) {
			id, err := redigo.Int64(do(ctx, "CLIENT", "ID"))
			return strconv.FormatInt(id, 10), err
		},
		close: func(context.Context) error { return pool.Close() },
	}
}

// popped is the answer of a BLPOP, which is the list's name and the element.
func popped(answer []string, err error) (string, error) {
	if err != nil {
		return "", err
	}
	if len(answer) != 2 {
		return "", fmt.Errorf("answer %q", answer)
	}
	return answer[1], nil
}
