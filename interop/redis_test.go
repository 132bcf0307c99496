//go:build unix

package interop

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
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

// redisServer is what the battery needs: a BLPOP waits until there is something in its list.
func redisServer(t *testing.T, socket string) server {
	control := redis.NewClient(&redis.Options{Network: "unix", Addr: socket, PoolSize: 1})
	t.Cleanup(func() { must(t, control.Close()) })
	must(t, control.Ping(t.Context()).Err()) // so its connection is there before the battery counts
	return server{
		held: func() (int, error) {
			info, err := control.Info(context.Background(), "clients").Result()
			if err != nil {
				return 0, err
			}
			_, after, _ := strings.Cut(info, "blocked_clients:")
			number, _, _ := strings.Cut(after, "\r\n")
			return strconv.Atoi(number)
		},
		release: func(values ...string) error {
			for _, value := range values {
				if err := control.RPush(context.Background(), value, value).Err(); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

func redisRows(socket string) []row {
	return []row{
		{
			library: "go-redis", way: inThread, sim: "no",
			cancel: outcome{atOnce, runsOn, kept}, done: outcome{atOnce, runsOn, kept}, closing: endsThem,
			open: func(_ context.Context, conns int) (*client, error) {
				rdb := redis.NewClient(&redis.Options{Network: "unix", Addr: socket, PoolSize: conns})
				return &client{
					ask: func(ctx context.Context, value string) (string, error) {
						return asyncio.ToThread(ctx, func(ctx context.Context) (string, error) { return rdb.Echo(ctx, value).Result() })
					},
					hold: func(ctx context.Context, value string) (string, error) {
						return asyncio.ToThread(ctx, func(ctx context.Context) (string, error) { return popped(rdb.BLPop(ctx, 0, value).Result()) })
					},
					connection: func(ctx context.Context) (string, error) {
						id, err := asyncio.ToThread(ctx, func(ctx context.Context) (int64, error) { return rdb.ClientID(ctx).Result() })
						return strconv.FormatInt(id, 10), err
					},
					close: inThreadOnly(rdb.Close),
				}, nil
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
