package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"strings"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/sim"
)

type account struct {
	balance int
	lock    asyncio.Lock
}

func deposit(ctx context.Context, a *account, amount int) error {
	seen := a.balance
	if err := asyncio.Sleep(ctx, 0); err != nil {
		return err
	}
	a.balance = seen + amount
	return nil
}

// depositLocked is deposit, corrected.
func depositLocked(ctx context.Context, a *account, amount int) error {
	if err := a.lock.Acquire(ctx); err != nil {
		return err
	}
	defer a.lock.Release()
	return deposit(ctx, a, amount)
}

type depositFunc func(ctx context.Context, a *account, amount int) error

func twoDeposits(ctx context.Context, a *account, deposit depositFunc) error {
	ten := asyncio.Do(func(ctx context.Context) error { return deposit(ctx, a, 10) })
	first := asyncio.CreateTask(ctx, ten, asyncio.TaskName("first"))
	if err := asyncio.Sleep(ctx, 0); err != nil {
		return err
	}
	second := asyncio.CreateTask(ctx, ten, asyncio.TaskName("second"))
	if _, err := first.Await(ctx); err != nil {
		return err
	}
	_, err := second.Await(ctx)
	return err
}

func program(ctx context.Context) error {
	a := new(account)
	if err := twoDeposits(ctx, a, deposit); err != nil {
		return err
	}
	fmt.Println("balance", a.balance)
	return nil
}

// check runs two deposits in every order of steps.
func check(deposit depositFunc) *sim.Report {
	return sim.Check(func(ctx context.Context) error {
		a := new(account)
		if err := twoDeposits(ctx, a, deposit); err != nil {
			return err
		}
		if a.balance != 20 {
			return fmt.Errorf("the balance is %d, and should be 20", a.balance)
		}
		return nil
	}, sim.WithStrategy(sim.Exhaustive(0)))
}

func explore() error {
	wrong := check(deposit).Failure
	if wrong == nil {
		return errors.New("the exploration found nothing")
	}
	fmt.Println("run", wrong.Run, "fails")
	why, _, _ := strings.Cut(wrong.Error(), "\n\n") // a trace follows
	fmt.Println(why)
	corrected := check(depositLocked)
	if corrected.Failure != nil {
		return corrected.Failure
	}
	fmt.Println("with a lock:", corrected.Coverage)
	return nil
}

func main() {
	if _, err := asyncio.Run(context.Background(), asyncio.Do(program)); err != nil {
		log.Fatal(err)
	}
	if err := explore(); err != nil {
		log.Fatal(err)
	}
}
