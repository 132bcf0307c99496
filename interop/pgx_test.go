//go:build unix

package interop

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/goasyncio/asyncio"
)

// query suspends the calling task while fn talks to the database.
func query[T any](ctx context.Context, pool *pgxpool.Pool, fn func(ctx context.Context, c *pgxpool.Conn) (T, error)) (T, error) {
	return asyncio.ToThread(ctx, func(ctx context.Context) (v T, err error) {
		err = pool.AcquireFunc(ctx, func(c *pgxpool.Conn) error {
			v, err = fn(ctx, c)
			return err
		})
		return v, err
	})
}

// one is query for a single value.
func one[T any](ctx context.Context, pool *pgxpool.Pool, sql string, args ...any) (T, error) {
	return query(ctx, pool, func(ctx context.Context, c *pgxpool.Conn) (v T, err error) {
		err = c.QueryRow(ctx, sql, args...).Scan(&v)
		return v, err
	})
}

func TestPostgres(t *testing.T) {
	url := startPostgres(t)
	for name, test := range map[string]func(*testing.T, context.Context, *pgxpool.Pool) error{
		"queries of many tasks": queriesOfManyTasks, "transactions": transactions, "the loop goes on": theLoopGoesOn, "a cancel": aCancel, "notifications": notifications,
	} {
		t.Run(name, func(t *testing.T) {
			_, err := asyncio.Run(t.Context(), asyncio.Do(func(ctx context.Context) error {
				return asyncio.Timeout(ctx, time.Minute, func(ctx context.Context, _ *asyncio.TimeoutScope) error {
					pool, err := pgxpool.New(asyncio.Outside(ctx), url+" pool_max_conns=8")
					if err != nil {
						return err
					}
					err = test(t, ctx, pool)
					_, e := asyncio.ToThread(ctx, func(context.Context) (int, error) { pool.Close(); return 0, nil })
					return errors.Join(err, e)
				})
			}), asyncio.DebugMode(true))
			if err != nil {
				t.Error(err)
			}
		})
	}
}

// Each task gets its own answers; what the tasks share needs no lock.
func queriesOfManyTasks(t *testing.T, ctx context.Context, pool *pgxpool.Pool) error {
	const tasks, each = 50, 10
	sum := 0
	err := asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg *asyncio.TaskGroup) error {
		for i := range tasks {
			tg.CreateTask(ctx, func(ctx context.Context) error {
				for j := range each {
					got, err := one[int](ctx, pool, "select $1::int * 1000 + $2::int", i, j)
					if err != nil || got != i*1000+j {
						return fmt.Errorf("%d, %w, want %d", got, err, i*1000+j)
					}
					sum += got
				}
				return nil
			})
		}
		return nil
	})
	if want := 1000*each*tasks*(tasks-1)/2 + tasks*each*(each-1)/2; sum != want {
		t.Errorf("sum %d, want %d", sum, want)
	}
	return err
}

// A transaction whose function fails leaves nothing behind. An error of the server is returned
// unchanged.
func transactions(t *testing.T, ctx context.Context, pool *pgxpool.Pool) error {
	insert := func(value string, fail error) error {
		_, err := query(ctx, pool, func(ctx context.Context, c *pgxpool.Conn) (int, error) {
			return 0, pgx.BeginFunc(ctx, c, func(tx pgx.Tx) error {
				_, err := tx.Exec(ctx, "insert into kept values ($1)", value)
				return errors.Join(err, fail)
			})
		})
		return err
	}
	if _, err := query(ctx, pool, func(ctx context.Context, c *pgxpool.Conn) (pgconn.CommandTag, error) {
		return c.Exec(ctx, "create table kept (value text primary key)")
	}); err != nil {
		return err
	}
	if err := insert("first", nil); err != nil {
		return err
	}
	failure := errors.New("not this one")
	if err := insert("second", failure); !errors.Is(err, failure) {
		t.Errorf("%v, want %v", err, failure)
	}
	var refused *pgconn.PgError
	if err := insert("first", nil); !errors.As(err, &refused) || refused.Code != "23505" {
		t.Errorf("%v, want a unique_violation", err)
	}
	all, err := one[string](ctx, pool, "select string_agg(value, ',') from kept")
	if all != "first" {
		t.Errorf("kept: %q", all)
	}
	return err
}

// A query that waits in the server, for a lock that another task holds, does not hold up the loop.
func theLoopGoesOn(t *testing.T, ctx context.Context, pool *pgxpool.Pool) error {
	holder, err := asyncio.ToThread(ctx, pool.Acquire)
	if err != nil {
		return err
	}
	defer holder.Release()
	exec := func(sql string) error {
		_, err := asyncio.ToThread(ctx, func(ctx context.Context) (pgconn.CommandTag, error) { return holder.Exec(ctx, sql) })
		return err
	}
	if err := exec("select pg_advisory_lock(1)"); err != nil {
		return err
	}
	waiter := asyncio.CreateTask(ctx, func(ctx context.Context) (bool, error) {
		return one[bool](ctx, pool, "select pg_advisory_lock(1) is not null")
	})
	if err := until(ctx, pool, 1, "select count(*) from pg_locks where locktype = 'advisory' and not granted"); err != nil {
		return err
	}
	if waiter.Done() {
		t.Error("the second got the lock")
	}
	if err := exec("select pg_advisory_unlock(1)"); err != nil {
		return err
	}
	_, err = waiter.Await(ctx)
	return err
}

// until repeats the query until the answer is want.
func until(ctx context.Context, pool *pgxpool.Pool, want int, sql string) error {
	for {
		n, err := one[int](ctx, pool, sql)
		if err != nil || n == want {
			return err
		}
	}
}

// A cancelled task does not wait for the server, and takes its query back. The pool stays usable.
func aCancel(t *testing.T, ctx context.Context, pool *pgxpool.Pool) error {
	sleeping := asyncio.CreateTask(ctx, func(ctx context.Context) (string, error) {
		return one[string](ctx, pool, "select pg_sleep(600)::text")
	})
	const asleep = "select count(*) from pg_stat_activity where query like 'select pg_sleep%' and state = 'active'"
	if err := until(ctx, pool, 1, asleep); err != nil {
		return err
	}
	sleeping.Cancel()
	if _, err := sleeping.Await(ctx); !errors.Is(err, asyncio.ErrCancelled) {
		t.Errorf("%v, want the cancel", err)
	}
	return until(ctx, pool, 0, asleep)
}

// A task waits for a notification that another one sends through the server.
func notifications(t *testing.T, ctx context.Context, pool *pgxpool.Pool) error {
	var listening asyncio.Event
	loop, err := asyncio.GetRunningLoop(ctx)
	if err != nil {
		return err
	}
	hearing := asyncio.CreateTask(ctx, func(ctx context.Context) (string, error) {
		return query(ctx, pool, func(ctx context.Context, c *pgxpool.Conn) (string, error) {
			if _, err := c.Exec(ctx, "listen news"); err != nil {
				return "", err
			}
			if _, err := loop.CallSoonThreadsafe(listening.Set); err != nil {
				return "", err
			}
			n, err := c.Conn().WaitForNotification(ctx)
			if err != nil {
				return "", err
			}
			return n.Payload, nil
		})
	})
	if err := listening.Wait(ctx); err != nil {
		return err
	}
	if _, err := one[string](ctx, pool, "select pg_notify('news', 'hello')::text"); err != nil {
		return err
	}
	heard, err := hearing.Await(ctx)
	if heard != "hello" {
		t.Errorf("heard %q", heard)
	}
	return err
}
