package blocking

import (
	"bufio"
	"context"
	"database/sql"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"sync"
	"time"

	"example.com/checked/helpers"
	"example.com/other"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/asynciohttp"
	"github.com/goasyncio/asyncio/sim"
)

// In each of the ways to get onto a loop.
func ways(ctx context.Context, l *asyncio.EventLoop) {
	asyncio.CreateTask(ctx, func(context.Context) (int, error) {
		time.Sleep(1) // want `time.Sleep blocks the loop \(it is given to asyncio.CreateTask\)`
		return 0, nil
	})
	asyncio.Run(ctx, asyncio.Do(func(context.Context) error {
		time.Sleep(1) // want `time.Sleep blocks the loop \(it is given to asyncio.Do\)`
		return nil
	}))
	l.CallSoon(func() { time.Sleep(1) })           // want `time.Sleep blocks the loop`
	l.CallSoonThreadsafe(func() { time.Sleep(1) }) // want `time.Sleep blocks the loop`
	l.CallLater(1, callback)
	sim.NewHost(ctx, "x", func(context.Context) error {
		time.Sleep(1) // want `time.Sleep blocks the loop`
		return nil
	})
	helpers.OnLoop(func(context.Context) error {
		time.Sleep(1) // want `time.Sleep blocks the loop \(it is given to helpers.OnLoop\)`
		return nil
	})
	later := func() { time.Sleep(1) } // want `time.Sleep blocks the loop`
	l.CallAt(l.Time(), later)
	_ = []asyncio.Coroutine[int]{func(context.Context) (int, error) {
		time.Sleep(1) // want `time.Sleep blocks the loop \(it is an asyncio.Coroutine\)`
		return 0, nil
	}}
	_ = map[string]asyncio.Coroutine[int]{"x": named}
	_ = program{main: func(context.Context) (int, error) {
		time.Sleep(1) // want `time.Sleep blocks the loop`
		return 0, nil
	}}
	asyncio.StartServer(ctx, serve, "localhost:0")
	onLoop(l, func() { time.Sleep(1) }) // want `time.Sleep blocks the loop \(it is given to blocking.onLoop\)`
	helpers.Each([]int{1}, func(int) {
		asyncio.CreateTask(ctx, asyncio.Do(func(context.Context) error {
			helpers.Each([]int{1}, func(int) {
				time.Sleep(1) // want `time.Sleep blocks the loop`
			})
			return nil
		}))
	})
	asynciohttp.Handler(l, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		time.Sleep(1) // want `time.Sleep blocks the loop \(it is given to asynciohttp.Handler\)`
	}))
	l.AddSignalHandler(os.Interrupt, method{}.handle)
	asyncio.CreateTask(ctx, wrap(helpers.Load)) // it cannot be seen what wrap does
}

type program struct{ main asyncio.Coroutine[int] }

type method struct{}

func (method) handle() {
	time.Sleep(1) // want `time.Sleep blocks the loop \(it is given to asyncio.EventLoop.AddSignalHandler\)`
}

func callback() {
	time.Sleep(1) // want `time.Sleep blocks the loop \(it is given to asyncio.EventLoop.CallLater\)`
}

func onLoop(l *asyncio.EventLoop, f func()) { l.CallSoon(func() { f() }) }

func named(context.Context) (int, error) {
	time.Sleep(1) // want `time.Sleep blocks the loop \(it is an asyncio.Coroutine\)`
	return 0, nil
}

func serve(context.Context, *asyncio.StreamReader, *asyncio.StreamWriter) error {
	time.Sleep(1) // want `time.Sleep blocks the loop \(it is given to asyncio.StartServer\)`
	return nil
}

func coroutine() asyncio.Coroutine[int] {
	return func(context.Context) (int, error) {
		time.Sleep(1) // want `time.Sleep blocks the loop`
		return 0, nil
	}
}

func wrap(func(string) ([]byte, error)) asyncio.Coroutine[int] { return nil }

// What blocks.
func calls(ctx context.Context, wg *sync.WaitGroup, cond *sync.Cond, db *sql.DB, client *http.Client, conn *net.TCPConn) error {
	if err := asyncio.Sleep(ctx, time.Second); err != nil {
		return err
	}
	net.Dial("tcp", "localhost:1")                         // want `net.Dial blocks the loop`
	(&net.Dialer{}).DialContext(ctx, "tcp", "localhost:1") // want `net.Dialer.DialContext blocks the loop`
	net.LookupHost("localhost")                            // want `net.LookupHost blocks the loop`
	exec.Command("true").Run()                             // want `exec.Cmd.Run blocks the loop.*: use asyncio.CreateSubprocessExec`
	wg.Wait()                                              // want `sync.WaitGroup.Wait blocks the loop`
	cond.Wait()                                            // want `sync.Cond.Wait blocks the loop.*: use asyncio.Condition`
	db.QueryContext(ctx, "select")                         // want `sql.DB.QueryContext blocks the loop.*: use package asynciosql`
	client.Get("http://localhost")                         // it may have any transport
	http.DefaultClient.Get("http://localhost")             // want `http.Client.Get blocks the loop.*: use an http.Client with an asynciohttp.Transport`
	(&http.Client{Timeout: 1}).Get("http://localhost")     // want `http.Client.Get blocks the loop`
	plain := &http.Client{Transport: &http.Transport{}}
	plain.Head("http://localhost") // want `http.Client.Head blocks the loop`
	var zero http.Client
	zero.Get("http://localhost") // a later assignment may give it a transport
	ours := http.Client{Transport: &asynciohttp.Transport{}}
	ours.Get("http://localhost")
	new(http.Client).Get("http://localhost") // want `http.Client.Get blocks the loop`
	http.ListenAndServe(":80", nil)          // want `http.ListenAndServe blocks the loop`
	conn.Read(nil)                           // want `net.TCPConn.Read blocks the loop`
	fmt.Scanln()                             // want `fmt.Scanln blocks the loop`
	fmt.Fscanln(os.Stdin)                    // want `fmt.Fscanln blocks the loop`
	io.ReadAll(os.Stdin)                     // want `io.ReadAll blocks the loop`
	os.Stdin.Read(nil)                       // want `os.File.Read blocks the loop`
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() { // want `bufio.Scanner.Scan blocks the loop`
	}
	var in = bufio.NewReader(os.Stdin)
	in.ReadString('\n')                                    // want `bufio.Reader.ReadString blocks the loop`
	helpers.Load("x")                                      // want `exec.Cmd.Output blocks the loop.*helpers.Load → exec.Cmd.Output`
	helpers.Retry(func() error { return nil })             // want `time.Sleep blocks the loop.*helpers.Retry → helpers.pause → time.Sleep`
	new(helpers.Group).Wait()                              // want `sync.WaitGroup.Wait blocks the loop`
	asyncio.RunCoroutineThreadsafe(named, nil).Result(ctx) // want `asyncio.ConcurrentFuture.Result blocks the loop.*: use Await`
	new(other.Client).Connect("localhost:1")               // want `net.Dial blocks the loop.*other.Client.Connect → net.Dial`
	new(other.Client).Close()                              // it waits for its own goroutines
	defer wg.Wait()                                        // want `sync.WaitGroup.Wait blocks the loop`
	twice()                                                // want `time.Sleep blocks the loop.*blocking.twice → blocking.once → time.Sleep`
	(func() {
		time.Sleep(1) // want `time.Sleep blocks the loop`
	})()
	time.Sleep(1) //asynciovet:allow blocking it is a nanosecond
	//asynciovet:allow blocking it is a nanosecond
	time.Sleep(1)
	allowed()
	helpers.Short()
	return nil
}

func once()  { time.Sleep(1) }
func twice() { once() }

func allowed() {
	//asynciovet:allow blocking it is a nanosecond
	time.Sleep(1)
}

// What does not, or not for certain.
func others(ctx context.Context, c net.Conn, l net.Listener, mu *sync.Mutex, ch chan int) error {
	mu.Lock()
	mu.Unlock()
	c.Read(nil) // it may be the library's
	l.Accept()
	os.ReadFile("config")
	net.Dial("udp", "localhost:1")
	strings := bufio.NewScanner(c)
	strings.Scan()
	<-ch
	ch <- 1
	select {
	case ch <- 1:
	default:
	}
	go time.Sleep(1)
	go func() { time.Sleep(1) }()
	time.AfterFunc(1, func() { time.Sleep(1) })
	asyncio.RunInExecutor(ctx, nil, func() (int, error) {
		time.Sleep(1)
		return 0, nil
	})
	return asyncio.Sleep(ctx, 1)
}

// Operations on channels that are certain to wait.
func channels(ctx context.Context, t *time.Timer, ch chan int) error {
	<-time.After(time.Second) // want `waiting for time.After blocks the loop`
	<-t.C                     // want `waiting for a timer blocks the loop`
	<-ctx.Done()              // want `waiting for the end of a context blocks the loop`
	select {                  // want `a select without a default blocks the loop`
	case ch <- 1:
	case <-ctx.Done():
	}
	go func() {
		select {}
	}()
	return asyncio.Sleep(ctx, 1)
}

// Not on a loop.
func main() {
	time.Sleep(1)
	asyncio.Sleep(context.Background(), 1)
	_, err := asyncio.Run(context.Background(), named)
	fmt.Println(err)
}
