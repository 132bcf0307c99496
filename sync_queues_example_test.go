package asyncio_test

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/goasyncio/asyncio"
)

func ExampleQueue() {
	_, err := asyncio.Run(background, asyncio.Do(func(ctx context.Context) error {
		queue := asyncio.NewQueue[string](1)
		asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
			defer queue.Shutdown(false)
			for _, page := range []string{"index", "about", "news"} {
				if err := queue.Put(ctx, page); err != nil {
					return err
				}
				fmt.Println("put", page)
			}
			return nil
		}))
		for page, err := range queue.All(ctx) {
			if err != nil {
				return err
			}
			fmt.Println("got", page)
			if err := asyncio.Sleep(ctx, time.Second); err != nil {
				return err
			}
		}
		return nil
	}))
	fmt.Println(err)
	// Output:
	// put index
	// got index
	// put about
	// got about
	// put news
	// got news
	// <nil>
}

func ExampleQueue_Join() {
	_, err := asyncio.Run(background, asyncio.Do(func(ctx context.Context) error {
		queue := asyncio.NewQueue[int](0)
		for n := range 3 {
			if err := queue.PutNowait(n); err != nil {
				return err
			}
		}
		worker := asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
			for n, err := range queue.All(ctx) {
				if err != nil {
					return err
				}
				fmt.Println("working on", n)
				queue.TaskDone()
			}
			return nil
		}))
		fmt.Println(queue)
		if err := queue.Join(ctx); err != nil {
			return err
		}
		fmt.Println("all done:", queue)
		worker.Cancel()
		return nil
	}))
	fmt.Println(err)
	// Output:
	// <Queue maxsize=0 _queue=[0, 1, 2] tasks=3>
	// working on 0
	// working on 1
	// working on 2
	// all done: <Queue maxsize=0 _getters[1]>
	// <nil>
}

func ExampleLifoQueue() {
	queue := asyncio.NewLifoQueue[string](0)
	for _, page := range []string{"first", "second", "third"} {
		_ = queue.PutNowait(page)
	}
	for !queue.Empty() {
		fmt.Println(queue.GetNowait())
	}
	fmt.Println(queue.GetNowait())
	// Output:
	// third <nil>
	// second <nil>
	// first <nil>
	//  asyncio: the queue is empty
}

func ExamplePriorityQueue() {
	type job struct {
		priority int
		name     string
	}
	queue := asyncio.NewPriorityQueue(0, func(a, b job) int { return cmp.Compare(a.priority, b.priority) })
	for _, j := range []job{{2, "sweep"}, {1, "cook"}, {2, "wash"}, {1, "eat"}} {
		_ = queue.PutNowait(j)
	}
	for !queue.Empty() {
		j, _ := queue.GetNowait()
		fmt.Println(j.name)
	}
	// Output:
	// cook
	// eat
	// sweep
	// wash
}

func ExampleQueueStatistics() {
	queue := asyncio.NewQueue[int](2)
	_ = queue.PutNowait(1)
	fmt.Printf("%+v\n", queue.Statistics())
	// Output: {Size:1 Maxsize:2 Getters:0 Putters:0 Joiners:0 Unfinished:1 ShutDown:false}
}

func ExampleRecv() {
	lines := make(chan string)
	go func() { // a goroutine that is not the loop's
		lines <- "hello"
		close(lines)
	}()
	_, err := asyncio.Run(background, asyncio.Do(func(ctx context.Context) error {
		for {
			line, ok, err := asyncio.Recv(ctx, lines)
			if err != nil || !ok {
				return err
			}
			fmt.Println(line)
		}
	}))
	fmt.Println(err)
	// Output:
	// hello
	// <nil>
}

func ExampleSend() {
	numbers := make(chan int)
	sum := make(chan int, 1)
	go func() { // a goroutine that is not the loop's
		total := 0
		for n := range numbers {
			total += n
		}
		sum <- total
	}()
	_, err := asyncio.Run(background, asyncio.Do(func(ctx context.Context) error {
		defer close(numbers)
		for n := range 5 {
			if err := asyncio.Send(ctx, numbers, n); err != nil {
				return err
			}
		}
		return nil
	}))
	fmt.Println(<-sum, err)
	// Output: 10 <nil>
}
